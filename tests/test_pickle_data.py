"""The reader of PyTorch's files agrees with ``torch.load(weights_only=True)``, bit for bit."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pickle_assembler import (
    FOUR,
    Entry,
    archive,
    call,
    entries,
    get,
    legacy,
    mapping,
    named,
    number,
    persistent,
    plain,
    put,
    shell,
    tensor,
    text,
    whole,
    zipped,
)
from torch import Tensor, nn
from torch.utils.serialization.config import save as save_config

from qrnn_deploy.checkpoints.candidate import open_candidate
from qrnn_deploy.checkpoints.pickle_data import MAX_BYTES, read_pickle
from qrnn_deploy.checkpoints.pickle_names import PickleDamage, PickleRefusal, Shell
from qrnn_deploy.checkpoints.stored import StorageDamage, StoredTensor
from qrnn_deploy.errors import CheckpointError

UPSTREAM = Path(__file__).parent / "data" / "upstream"
DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)
ZIP, LEGACY = True, False


def bits(value: Tensor) -> bytes:
    return value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """What this reader gives, and what PyTorch gives."""
    if isinstance(theirs, Tensor):
        assert isinstance(ours, StoredTensor), where
        loaded = ours.load()
        assert (loaded.dtype, loaded.shape) == (theirs.dtype, theirs.shape), where
        assert bits(loaded) == bits(theirs), where
    elif isinstance(theirs, dict):
        assert isinstance(ours, dict) and list(ours) == list(theirs), where
        for key, value in theirs.items():
            assert_same(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, (list, tuple)):
        assert type(ours) is (tuple if isinstance(theirs, tuple) else list), where
        assert len(ours) == len(theirs), where
        for index, value in enumerate(theirs):
            assert_same(ours[index], value, f"{where}.{index}")
    else:
        assert type(ours) is type(theirs) and ours == theirs, where


def assert_agrees(path: Path) -> None:
    assert_same(open_candidate(path).content, torch.load(path, weights_only=True))


def saved(path: Path, value: Any, container: bool = ZIP, protocol: int = 2) -> Path:
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=container)
    return path


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        open_candidate(path)
    return str(caught.value)


def _loads(path: Path) -> bool:
    """Whether ``weights_only`` reads it; it refuses whole modules and lists of fastcore."""
    try:
        torch.load(path, weights_only=True)
    except pickle.UnpicklingError:
        return False
    return True


RECORDED = sorted(path.name for path in UPSTREAM.glob("*.pt") if _loads(path))


def test_there_are_recorded_files() -> None:
    assert len(RECORDED) >= 23


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_files(name: str, tmp_path: Path) -> None:
    assert_agrees(UPSTREAM / name)
    content = torch.load(UPSTREAM / name, weights_only=True)
    assert_agrees(saved(tmp_path / "zip.pt", content, ZIP))
    assert_agrees(saved(tmp_path / "legacy.pt", content, LEGACY))


def values() -> dict[str, Any]:
    """One of everything that a checkpoint holds."""
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    adam = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(adam.parameters())
    adam(torch.ones(3)).sum().backward()
    optimizer.step()
    return {
        **{f"{dtype}": (torch.randn(3, 2) * 50).to(dtype) for dtype in DTYPES},
        "views": [base[1], base[:, 2:4], base.t(), base[::2, ::3], base[-1:, -1:], base.view(-1)],
        "again": base,
        "expanded": torch.arange(3.0).expand(1, 3),
        "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
        "empty": [torch.zeros(0), torch.zeros(3, 0, 2), base[:0]],
        "scalar": [torch.tensor(2.5), torch.tensor(3), base[2, 3]],
        "parameter": nn.Parameter(torch.randn(2)),
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "ordered": OrderedDict(b=torch.zeros(1), a=torch.ones(1)),
        "plain": [None, True, False, 0, -1, 2**40, 2**200, 0.5, "text", "é\n", (), (1, [2, (3,)])],
        "keys": {1: "a", (1, "b"): 2, 0.5: 3, None: 4},
        "size": torch.Size([2, 3]),
        "state": nn.BatchNorm1d(3).state_dict(),
        "optimizer": optimizer.state_dict(),
    }


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("container", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_every_kind_of_value(container: bool, protocol: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", values(), container, protocol)
    # weights_only knows no opcode of protocol 4; it is our own file, so nothing hostile is in it.
    theirs = torch.load(path, weights_only=protocol < 4)
    ours = open_candidate(path).content
    size, ours_size = theirs.pop("size"), ours.pop("size")
    assert ours_size == tuple(size)
    assert_same(ours, theirs)


def test_a_large_storage_behind_small_views(tmp_path: Path) -> None:
    base = torch.arange(10_000.0)
    path = saved(tmp_path / "x.pt", {"a": base[5:8], "b": base[9_000::500], "all": base})
    content = open_candidate(path).content
    for name, values in (("a", [5, 6, 7]), ("b", [9000, 9500])):
        loaded = content[name].load()
        assert loaded.tolist() == values and loaded.is_contiguous()
        assert loaded.untyped_storage().nbytes() == 4 * len(values)
    assert content["a"].storage is content["all"].storage


@pytest.mark.parametrize("container", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_tied_tensors_are_told_and_loaded_apart(container: bool, tmp_path: Path) -> None:
    shared, equal = torch.ones(2, 3), torch.ones(2, 3)
    tied = {"a": shared, "b": shared, "view": shared.view(-1), "equal": equal}
    content = open_candidate(saved(tmp_path / "x.pt", tied, container)).content
    assert content["a"].is_same(content["b"])
    assert not content["a"].is_same(content["view"]) and not content["a"].is_same(content["equal"])
    first, second = content["a"].load(), content["b"].load()
    first.zero_()
    assert second.eq(1).all() and content["a"].load().eq(1).all()


@pytest.mark.parametrize("container", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_a_module_gives_the_names_of_its_state_dict(container: bool, tmp_path: Path) -> None:
    inner = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    module = nn.Sequential(inner, nn.Dropout(), nn.ModuleList([nn.Conv1d(2, 2, 1), inner[0]]))
    (table,) = open_candidate(saved(tmp_path / "x.pt", module, container)).tables
    expected = module.state_dict()
    assert table.tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert_same(table.tensors[name], value)
    assert table.attribute("0.0", "in_features") == 2
    assert table.attribute("0.0", "class") == "torch.nn.modules.linear.Linear"


def test_big_endian_numbers_are_refused(tmp_path: Path) -> None:
    content = mapping({"a": tensor()})
    parts = entries(content)
    parts[1] = Entry(b"archive/byteorder", b"big")
    system = pickle.dumps({"little_endian": False}, 2)
    for data in (archive(parts), legacy(content, system=system)):
        message = refused(tmp_path / "x.pt", data)
        assert "its numbers are not in little-endian order: save it on such a CPU" in message


def test_check_sums(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.arange(100.0), "b": torch.zeros(3)})
    data = path.read_bytes()
    at = data.index(torch.arange(100.0).numpy().tobytes())
    path.write_bytes(data[:at] + b"x" + data[at + 1 :])
    content = open_candidate(path).content
    with pytest.raises(StorageDamage, match=r"check sum of a tensor is wrong \(CRC-32; torch.save"):
        content["a"].load()
    assert content["b"].load().eq(0).all()
    at = data.index(b"\x80\x02") + 20
    assert "the check sum of x/data.pkl is wrong (saved with" in refused(
        path, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    )


def test_files_without_check_sums_are_told_how_to_get_them(tmp_path: Path) -> None:
    before = save_config.compute_crc32
    save_config.compute_crc32 = False
    try:
        path = saved(tmp_path / "x.pt", {"a": torch.zeros(1)})
    finally:
        save_config.compute_crc32 = before
    message = refused(path, path.read_bytes())
    assert message.endswith("(saved with compute_crc32 = False? Save it again with True)")


def _negative() -> Tensor:
    value = torch.tensor([1 + 2j]).conj().imag
    assert value.is_neg()
    return value


@pytest.mark.parametrize("container", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: torch.zeros(2, dtype=torch.complex64), "asks for torch.ComplexFloatStorage, "),
        (lambda: torch.zeros(2, dtype=torch.uint16), "asks for torch.uint16, "),
        (lambda: torch.zeros(2).to(torch.float8_e4m3fn), "asks for torch.float8_e4m3fn, "),
        (lambda: torch.zeros(2, 2).to_sparse(), "asks for torch._utils._rebuild_sparse_tensor, "),
        (lambda: nn.Linear(1, 1).forward, "asks for builtins.getattr, "),
        (lambda: Path("x"), "asks for pathlib.PosixPath, "),
        (lambda: np.zeros(2), r"multiarray._reconstruct, "),
        (lambda: OurOwn(), "asks for test_pickle_data.OurOwn, "),
        (_negative, "a view of negative or conjugate numbers: save a clone()"),
    ],
)
def test_what_is_refused(
    build: Callable[[], Any], says: str, container: bool, tmp_path: Path
) -> None:
    path = saved(tmp_path / "x.pt", {"weight": torch.zeros(2), "x": build()}, container)
    assert says in refused(path, path.read_bytes())


class OurOwn:
    """A class that no table has."""


def test_what_stands_for_what_is_not_read(tmp_path: Path) -> None:
    value = [np.float32(1.5), b"raw", torch.device("cpu"), torch.float32, {1}, nn.Linear(1, 1)]
    content = open_candidate(saved(tmp_path / "x.pt", value)).content
    number, raw, device, dtype, members, module = content
    assert isinstance(number, Shell) and isinstance(raw, Shell) and device == "device"
    assert dtype.text == "torch.float32" and members == [1]
    assert isinstance(module, Shell) and module.cls == "torch.nn.modules.linear.Linear"


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**250), 2**250)
    | st.floats(allow_nan=False)
    | st.text(st.characters()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(-(2**60), 2**60), inner)
    ),
)


@given(PLAIN, st.integers(0, 5))
def test_plain_values_in_every_protocol(value: Any, protocol: int) -> None:
    assert_same(read_pickle(io.BytesIO(pickle.dumps(value, protocol))), value)


def read(content: bytes) -> Any:
    return read_pickle(io.BytesIO(whole(content)))


_LINEAR = named("torch.nn.modules.linear", "Linear")
_ENTRIES = mapping({str(n): b"N" for n in range(2000)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"N0" * 1_000_001 + b"N", "more than 2000000 opcodes"),
        (text("x" * MAX_BYTES), f"expected {MAX_BYTES} bytes"),
        (number(2**256), "a number of 257 bits"),
        (b"V" + b"x" * 2**16 + b"\n", "no newline found"),
        (mapping([(number(2**64), b"N")]), "a key of 65 bits"),
        (mapping([(text("x" * 4097), b"N")]), "a key of 4097 characters"),
        (mapping([(plain(tuple(range(9))), b"N")]), "a key of type tuple"),
        (mapping([(number(n), b"N") for n in range(65_537)]), "65536 keys that are no text"),
        (mapping([(plain((n, 0)), b"N") for n in range(4097)]), "65536 keys that are no text"),
        (
            named("collections", "OrderedDict")
            + put(1)
            + _ENTRIES
            + put(2)
            + b"00("
            + (get(1) + get(2) + b"\x85R") * 1001
            + b"t",
            "copy more than 2000000 entries",
        ),
        (
            _LINEAR
            + put(1)
            + _ENTRIES
            + put(2)
            + b"00("
            + (get(1) + b")\x81" + get(2) + b"b") * 1001
            + b"t",
            "copy more than 2000000 entries",
        ),
        (_LINEAR + b")\x81" + mapping([(number(1), b"N")]) + b"b", "an attribute is no text"),
        (b"]" * 66 + b"a" * 65, "nested more than 64 deep"),
        (b"]" + put(1) + get(1) + b"a", "contains itself"),
        (b"](" + (text("x" * 2**20) + put(1)) + get(1) * 40 + b"e", "hold each other too often"),
        (persistent(), "refers to something outside"),
        (call(b"N"), "calls something that is no function"),
        (b"", "does not end with one value"),
        (b"0", "pop from empty list"),
        (b"t", "a mark is missing"),
    ],
)
def test_bounds(content: bytes, message: str) -> None:
    with pytest.raises(PickleDamage, match=message):
        read(content)


def test_what_stays_within_the_bounds_is_read() -> None:
    assert len(read(b"](" + b"N" * 1_990_000 + b"e")) == 1_990_000
    assert read(number(2**256 - 1)) == 2**256 - 1
    assert len(read(mapping([(number(n), b"N") for n in range(65_536)]))) == 65_536
    assert read(b"]" * 64 + b"a" * 63) == json.loads("[" * 64 + "]" * 64)
    long = "x" * 4096
    assert read(mapping({long: b"N"})) == {long: None}


def test_long_names_are_refused_in_short() -> None:
    with pytest.raises(PickleRefusal) as caught:
        read(text("torch.nn.modules.a") + text("A" * 10**6) + b"\x93")
    assert str(caught.value).startswith("torch.nn.modules.a.AAAA") and len(str(caught.value)) == 80
    assert read(text("torch.nn.modules.a") + text("A" * 200) + b"\x93").text.endswith("A" * 200)


def test_shells_may_contain_each_other() -> None:
    state = mapping({"me": get(1), "you": shell("torch.nn.modules.linear.Linear")})
    first = read(_LINEAR + b")\x81" + put(1) + state + b"b")
    assert first.state["me"] is first
    assert repr(first) == "Shell(cls='torch.nn.modules.linear.Linear')"


def test_storages_may_not_lie_over_each_other(tmp_path: Path) -> None:
    content = mapping({"a": tensor(), "b": tensor(persistent(text("1")))})
    parts = entries(content, {"0": FOUR, "1": FOUR})
    path = tmp_path / "x.pt"
    path.write_bytes(archive(parts))
    assert sorted(open_candidate(path).content) == ["a", "b"]
    with zipfile.ZipFile(path) as packed:
        at = packed.getinfo("archive/data/0").header_offset
    parts[3] = Entry(parts[3].name, FOUR, offset=at)
    assert "two storages lie over each other" in refused(path, archive(parts))


def test_the_assembler_writes_what_torch_reads(tmp_path: Path) -> None:
    """Or the tests of hostile files would test nothing."""
    new, old = tensor(), tensor(persistent(more=b"N"))
    for data in (zipped(mapping({"a": new})), legacy(mapping({"a": old}))):
        path = tmp_path / "x.pt"
        path.write_bytes(data)
        assert torch.load(path, weights_only=True)["a"].tolist() == [[1, 2], [3, 4]]
        assert_agrees(path)
