"""Weights out of TensorFlow's own checkpoints, and one line for everything that can be wrong.

The files were written by TensorFlow (tests/data/quasi_rnn/make.py).
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from qrnn_deploy.checkpoints.tensorflow_file import MAGIC, is_tensorflow, read_tensorflow
from qrnn_deploy.errors import CheckpointError

DATA = Path(__file__).parent / "data" / "quasi_rnn"
INDEX = "model.ckpt-1200.index"
CONTENT = "model.ckpt-1200.data-00000-of-00001"


def copied(folder: Path) -> Path:
    """A checkpoint that may be spoiled: its index, the data beside it."""
    shutil.copytree(DATA / "fo", folder, dirs_exist_ok=True)
    return folder / INDEX


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_tensorflow(path)
    message = str(caught.value)
    assert message.isprintable() and len(message.replace(str(path.parent), "")) < 400, message
    return message


def varint(value: int) -> bytes:
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(
    dtype: int = 1, shape: tuple[int, ...] = (2,), shard: int = 0, offset: int = 0, size: int = 8
) -> bytes:
    dims = b"".join(field(2, field(1, n)) for n in shape)
    fields = (field(1, dtype), field(2, dims), field(3, shard), field(4, offset), field(5, size))
    return b"".join(fields)


def block(entries: dict[bytes, bytes], packing: int = 0) -> bytes:
    rows = (varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in entries.items())
    return b"".join(rows) + struct.pack("<II", 0, 1) + bytes([packing]) + bytes(4)


HEADER = field(1, 1)


def table(entries: dict[bytes, bytes], packing: int = 0) -> bytes:
    """An index of one block."""
    first = block(entries, packing)
    second = block({b"~": varint(0) + varint(len(first) - 5)})
    footer = varint(0) * 2 + varint(len(first)) + varint(len(second) - 5)
    return first + second + footer.ljust(40, b"\0") + MAGIC


def written(folder: Path, entries: dict[bytes, bytes], content: bytes = bytes(8)) -> Path:
    (folder / INDEX).write_bytes(table({b"": HEADER, **entries}))
    (folder / CONTENT).write_bytes(content)
    return folder / INDEX


@pytest.mark.parametrize("case", ["f", "fo", "ifo"])
def test_equal_to_what_tensorflow_reads(case: str) -> None:
    wanted = np.load(DATA / f"{case}.npz")
    found = read_tensorflow(DATA / case / INDEX)
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        assert tuple(found[name].shape) == value.shape
        assert found[name].numpy().dtype == value.dtype
        assert np.array_equal(found[name].numpy(), value)


def test_types_shapes_and_several_data_files(tmp_path: Path) -> None:
    entries = {
        b"": field(1, 2),
        b"bfloat": entry(14, (2, 1), 1, 0, 4),
        b"empty": entry(1, (0, 3), 0, 0, 0),
        b"long": entry(9, (), 0, 0, 8),
        b"text": entry(7, (1,), 1, 0, 4),
    }
    (tmp_path / INDEX).write_bytes(table(entries))
    (tmp_path / "model.ckpt-1200.data-00000-of-00002").write_bytes(struct.pack("<q", -5))
    (tmp_path / "model.ckpt-1200.data-00001-of-00002").write_bytes(bytes.fromhex("803f 0040") * 2)
    found = read_tensorflow(tmp_path / INDEX)
    assert list(found) == ["bfloat", "empty", "long"]  # strings are left out
    assert torch.equal(found["bfloat"], torch.tensor([[1.0], [2.0]], dtype=torch.bfloat16))
    assert found["empty"].shape == (0, 3) and found["long"].item() == -5


def test_recognised_by_its_last_bytes(tmp_path: Path) -> None:
    assert is_tensorflow(DATA / "fo" / INDEX) and is_tensorflow(DATA / "f" / "v1.ckpt-1200")
    assert not is_tensorflow(DATA / "fo" / CONTENT)
    assert not is_tensorflow(tmp_path) and not is_tensorflow(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"a")
    assert not is_tensorflow(tmp_path / "short")


def test_files_that_are_something_else(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.index")
    assert "Is a directory" in refused(tmp_path)
    old = refused(DATA / "f" / "v1.ckpt-1200")
    assert "old format V1" in old and "docs/checkpoints-quasi-rnn.md" in old
    assert "expected NAME.index" in refused(DATA / "fo" / CONTENT)
    path = copied(tmp_path)
    (tmp_path / CONTENT).unlink()
    assert CONTENT in refused(path) and "No such file" in refused(path)
    path.write_bytes(bytes(2**24 - 4) + MAGIC)
    assert "expected NAME.index" in refused(path)


@pytest.mark.parametrize(
    "entries, words",
    [
        ({b"a": entry(shape=(3,))}, "'a' has another size than its shape"),
        ({b"a": entry(shard=1)}, "'a' has another size than its shape"),
        ({b"a": entry(offset=1)}, "'a' lies outside of"),
        ({b"a": entry(shape=(2**30,), size=2**32)}, "is shorter than the index says"),
        ({b"a": entry(), b"b": entry()}, "is shorter than the index says"),
        ({b"a": entry(shape=(2**63,), size=2**63)}, "impossible shape"),
        ({b"a": entry(shape=(1,) * 9)}, "impossible shape"),
        ({b"a": entry(offset=2**64 - 1)}, "'a' lies outside of"),
        ({b"a": entry() + field(7, b"")}, "stored in slices"),
        ({b"a": field(1, b"x")}, "of another type"),
        ({b"a": b"\x0b"}, "no protocol buffer"),
        ({b"a": b"\x12\x7f"}, "no protocol buffer"),
        ({b"a": b"\xff" * 11}, "more than 64 bits"),
        ({b"a": b"\xff"}, "damaged"),
        ({b"\xff": entry()}, "damaged"),
        ({b"a" * 1001: entry()}, "does not fit into it"),
        ({b"": field(1, 1) + field(2, 1)}, "big-endian"),
        ({b"": field(1, 0)}, "speaks of 0 data files"),
        ({b"": field(1, 10**9)}, "speaks of 1000000000 data files"),
        ({b"%d" % n: entry(shape=(0,), size=0) for n in range(10_001)}, "more than 10000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_entries_that_lie(entries: dict[bytes, bytes], words: str, tmp_path: Path) -> None:
    assert words in refused(written(tmp_path, entries))


def test_blocks_that_are_read_again_and_again(tmp_path: Path) -> None:
    first = block({b"": HEADER})
    handles = {b"%d" % n: varint(0) + varint(len(first) - 5) for n in range(100)}
    second = block(handles)
    footer = varint(0) * 2 + varint(len(first)) + varint(len(second) - 5)
    path = tmp_path / INDEX
    path.write_bytes(first + second + footer.ljust(40, b"\0") + MAGIC)
    assert "upon each other" in refused(path)


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda index: table({b"": HEADER}, packing=1), "compressed"),
        (lambda index: index[:-48] + b"\xff" * 40 + MAGIC, "more than 64 bits"),
        (lambda index: index[:-48] + b"\x7f" * 40 + MAGIC, "damaged"),
        (lambda index: index[:-48] + bytes(40) + MAGIC, "damaged"),
        (
            lambda index: index[:-48] + b"\x00\x00\xff\xff\xff\x7f\x05" + bytes(33) + MAGIC,
            "outside",
        ),
        (lambda index: MAGIC, "damaged"),
        (lambda index: bytes(2**24) + MAGIC, "expected NAME.index"),
    ],
    ids=range(7),
)
def test_tables_that_lie(edit: Callable[[bytes], bytes], words: str, tmp_path: Path) -> None:
    path = copied(tmp_path)
    path.write_bytes(edit(path.read_bytes()))
    assert words in refused(path)


def test_cut_and_spoiled_anywhere(tmp_path: Path) -> None:
    """Every cut is refused; a changed byte is refused, or gives arrays within the same bounds."""
    path = copied(tmp_path)
    whole, content = path.read_bytes(), (tmp_path / CONTENT).read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path)
    path.write_bytes(whole)
    (tmp_path / CONTENT).write_bytes(content[:-1])
    refused(path)
    (tmp_path / CONTENT).write_bytes(content)
    rng = np.random.default_rng(0)
    for position in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[position] ^= int(rng.integers(1, 256))
        path.write_bytes(spoiled)
        try:
            found = read_tensorflow(path)
        except CheckpointError as error:
            assert str(error).isprintable()
        else:
            assert sum(value.nbytes for value in found.values()) <= len(content)
