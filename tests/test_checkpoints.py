"""Checkpoints: round trips, and one line for everything that can be wrong with a file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from qrnn_deploy.checkpoints import formats, load_checkpoint, save_checkpoint
from qrnn_deploy.errors import CheckpointError
from qrnn_deploy.nn import QRNN, QRNNLanguageModel, QRNNLayer

CONTAINERS = [".safetensors", ".pt"]
TIED = {"tied": True, "vocabulary": ["a", "\n", "\N{REPLACEMENT CHARACTER}"]}


def stack() -> QRNN:
    torch.manual_seed(0)
    return QRNN(3, [4, 5], window=[2, 1], pooling="ifo")


def refuse(path: Path, **options: Any) -> str:
    """Load, and return the one line that the file was refused with."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) - len(str(path)) < 400, message
    assert message.startswith(f"{path}: "), message
    return message.removeprefix(f"{path}: ")


def write(path: Path, tensors: Any, header: Any) -> Path:
    """A native checkpoint with any header and tensors, in the container of the suffix."""
    if path.suffix == ".safetensors":
        path.write_bytes(
            safetensors.torch.save(tensors, metadata={"qrnn_deploy": json.dumps(header)})
        )
    else:
        torch.save({"qrnn_deploy": header, "state_dict": tensors}, path)
    return path


def edited(
    folder: Path, suffix: str, edit: Callable[[dict[str, Any], dict[str, Any]], Any]
) -> Path:
    """A checkpoint of :func:`stack` after ``edit(tensors, header)``."""
    module = stack()
    tensors, header = dict(module.state_dict()), {"version": 1, "config": module.config()}
    edit(tensors, header)
    return write(folder / f"edited{suffix}", tensors, header)


@pytest.mark.parametrize("suffix", [*CONTAINERS, ".pth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    "build",
    [stack, lambda: QRNNLayer(2, 3, bias=False), lambda: QRNNLanguageModel(3, 4, 4, **TIED)],
    ids=["stack", "layer", "tied model"],
)
def test_round_trip(
    build: Callable[[], Any], dtype: torch.dtype, suffix: str, tmp_path: Path
) -> None:
    module, path = build().to(dtype), tmp_path / f"model{suffix}"
    save_checkpoint(module, path)
    loaded = load_checkpoint(str(path))
    assert type(loaded.module) is type(module) and not loaded.module.training
    assert loaded.config == module.config() == loaded.module.config()
    assert loaded.format == "native" and loaded.notes == () and loaded.path == path
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = module.state_dict()
    assert loaded.module.state_dict().keys() == expected.keys()
    for name, tensor in loaded.module.state_dict().items():
        assert tensor.dtype == dtype and torch.equal(tensor, expected[name])
    assert all(p.requires_grad and not p.is_meta for p in loaded.module.parameters())
    assert os.listdir(tmp_path) == [path.name]


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_checkpoint(stack(), tmp_path / name)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_refused_saves_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot save a Linear, .*qrnn_deploy\.export\("):
        save_checkpoint(torch.nn.Linear(1, 1), tmp_path / "a.pt")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors, \.pt or \.pth"):
        save_checkpoint(stack(), tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match="cannot be written: No such file or directory"):
        save_checkpoint(stack(), tmp_path / "absent" / "a.pt")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written: Is a directory"):
        save_checkpoint(stack(), tmp_path / "folder.pt")
    assert os.listdir(tmp_path) == ["folder.pt"]


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_full_disk_leaves_the_old_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    save_checkpoint(QRNNLayer(1, 1), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot be written: File too large"):
            save_checkpoint(QRNNLayer(64, 64), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_absent_folder_fifo_and_unreadable(tmp_path: Path) -> None:
    assert refuse(tmp_path / "absent.pt") == "no such file, expected a checkpoint"
    (tmp_path / "folder.pt").mkdir()
    assert "is a folder" in refuse(tmp_path / "folder.pt")
    os.mkfifo(tmp_path / "fifo.pt")
    assert "is not a regular file" in refuse(tmp_path / "fifo.pt")
    loop = tmp_path / "loop.pt"
    loop.symlink_to(loop)
    assert "no such file" in refuse(loop) or "cannot be read" in refuse(loop)
    assert "cannot be read" in refuse(tmp_path / ("x" * 300))


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_truncation_is_refused(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    save_checkpoint(stack(), whole)
    data, path = whole.read_bytes(), tmp_path / f"cut{suffix}"
    path.write_bytes(b"")
    assert refuse(path) == "is empty, expected a checkpoint"
    for cut in [*range(1, 40, 3), *range(40, len(data), max(1, len(data) // 60)), len(data) - 1]:
        path.write_bytes(data[:cut])
        message = refuse(path)
        assert "truncated or damaged" in message or "expected a .safetensors or" in message, cut


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_damaged_bytes_never_escape_as_another_error(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    save_checkpoint(stack(), whole)
    data, path = whole.read_bytes(), tmp_path / f"damaged{suffix}"
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        spoiled = bytearray(data)
        for position in rng.integers(0, len(data), 8):
            spoiled[position] = rng.integers(256)
        path.write_bytes(spoiled)
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20  # many flips hit only weights, which no format can tell


def _torch_bytes(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(2))
    return buffer.getvalue()


def _zip(compression: int, name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, b"x" * 100)
    return buffer.getvalue()


def _torchscript() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", b"x")
        archive.writestr("model/constants.pkl", b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "looks like an HDF5 file"),
        (b"\x93NUMPY\x01\x00" + bytes(40), "looks like a NumPy .npy array"),
        (_npz(), "is a NumPy .npz archive that holds a, which no known format"),
        (_zip(zipfile.ZIP_STORED, "notes.txt"), "looks like a zip archive"),
        (_zip(zipfile.ZIP_DEFLATED, "model/data.pkl"), "has compressed entries"),
        (_torchscript(), "is a TorchScript archive, expected weights"),
        (b"\x08\x0a\x12\x07pytorch" + bytes(40), "looks like an ONNX model"),
        (b'{"vocab": 3}', "looks like a JSON document"),
        (b"<!DOCTYPE html><html>", "looks like an HTML or XML document"),
        (b"version https://git-lfs.github.com/spec/v1\n", "looks like a Git LFS pointer"),
        (b"just some words", "looks like a text file"),
        (bytes(range(200, 256)), "looks like no known format"),
        (_torch_bytes({"w": torch.zeros(2), "b": 1}), "is a PyTorch file that holds w, b, which"),
        (_torch_bytes(torch.zeros(2)), "is a PyTorch file that holds a Tensor, which no known"),
        (_torch_bytes({}), "is a PyTorch file that holds nothing, which no known"),
        (
            _torch_bytes({"w": torch.zeros(2)}, _use_new_zipfile_serialization=False),
            "is a PyTorch file that holds w, which",
        ),
        (
            safetensors.torch.save({f"layer.{n}": torch.zeros(1) for n in range(5)}),
            "is a safetensors file that holds layer.0, layer.1, layer.2, ..., which",
        ),
        (struct.pack("<Q", 2**60) + b"{}", "truncated or damaged safetensors file: its header"),
    ],
)
def test_foreign_files_are_named(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign.bin"
    path.write_bytes(data)
    assert message in refuse(path)


class Trap:
    """Unpickling it would create the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def test_a_pickle_that_runs_code_does_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    trap = Trap(canary)
    files = {
        "zip.pt": _torch_bytes({"qrnn_deploy": {"version": 1, "config": {}}, "state_dict": trap}),
        "bare.pt": _torch_bytes(trap),
        "legacy.pt": _torch_bytes(trap, _use_new_zipfile_serialization=False),
        **{f"pickle{n}.pkl": pickle.dumps(trap, protocol=n) for n in range(6)},
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        message = refuse(tmp_path / name)
        assert not canary.exists(), name
        if name.endswith(".pt"):
            assert "asks for posix.system, which could run code: refused" in message
        else:
            assert "Python pickle" in message or "expected a .safetensors or" in message
    # The trap is armed: an ordinary unpickler sets it off.
    command = [sys.executable, "-c", "import pickle,sys; pickle.load(open(sys.argv[1], 'rb'))"]
    subprocess.run([*command, str(tmp_path / "pickle4.pkl")], check=True)
    assert canary.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    torch.save(stack(), path)
    message = refuse(path)
    assert "asks for qrnn_deploy.nn.stack.QRNN" in message
    assert "load it where its code is" in message and "state_dict" not in message
    assert_names_both_ways(message)


def assert_names_both_ways(message: str) -> None:
    """The two calls that help with a model in memory."""
    assert "qrnn_deploy.save_checkpoint(model, path) for a model of qrnn_deploy.nn" in message
    assert "qrnn_deploy.export(module, path, args) for a network of your own" in message


@pytest.mark.parametrize("wrap", [dict, lambda tensors: {"epoch": 3, "model": tensors}])
def test_a_state_dict_is_told_what_it_lacks(wrap: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(wrap(stack().state_dict()), path)
    message = refuse(path)
    assert "weights without a configuration: build the model yourself" in message
    assert "load_state_dict()" in message
    assert_names_both_ways(message)
    # What it says works.
    module = QRNN(3, [4, 5], window=[2, 1], pooling="ifo")
    content = torch.load(path, weights_only=True)
    module.load_state_dict(content.get("model", content))
    save_checkpoint(module, tmp_path / "whole.pt")
    assert load_checkpoint(tmp_path / "whole.pt").config == stack().config()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_named_safetensors_is_called_a_pickle(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"w": [0.0] * 40}, protocol=protocol))
    message = refuse(path)
    assert message.startswith("is named .safetensors but looks like a Python pickle")
    assert "truncated" not in message
    assert_names_both_ways(message)


def test_a_path_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.pt")
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"bytes in its path that are not UTF-8.*rename it"):
        load_checkpoint(path)


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda t, h: t.update({"layers.1.weight": torch.zeros(20, 7)}),
            "tensor layers.1.weight has shape [20, 7], expected [20, 4] by the configuration",
        ),
        (lambda t, h: t.pop("layers.0.bias"), "lacks tensor layers.0.bias: weights and config"),
        (lambda t, h: t.clear(), "lacks tensors layers.0.bias, layers.0.weight, "),
        (
            lambda t, h: t.update(extra=torch.zeros(1)),
            "has unexpected tensor extra: weights and configuration (QRNN)",
        ),
        (
            lambda t, h: t.update({"layers.0.bias": torch.zeros(16, dtype=torch.int32)}),
            "tensor layers.0.bias is torch.int32",
        ),
        (
            lambda t, h: t.update({"layers.1.bias": torch.zeros(20).half()}),
            "tensor layers.1.bias is torch.float16 and layers.0.weight is torch.float32",
        ),
        (
            lambda t, h: t.update({"layers.1.bias": torch.full((20,), float("nan"))}),
            "tensor layers.1.bias holds NaN or infinity",
        ),
        (
            lambda t, h: t.update({"layers.1.bias": torch.full((20,), float("inf"))}),
            "allow_non_finite=True (--allow-non-finite) loads it all the same",
        ),
        (
            lambda t, h: h.update(version=2),
            "is of format version 2, this qrnn-deploy reads up to 1",
        ),
        (lambda t, h: h.update(version="1"), "holds no version number"),
        (lambda t, h: h.update(version=0), "holds no version number"),
        (lambda t, h: h.update(config=[1]), "holds no configuration"),
        (
            lambda t, h: h["config"].update(architecture="Transformer"),
            "its configuration is not usable: architecture is 'Transformer', expected one of",
        ),
        (lambda t, h: h["config"].update(window="2"), "window is '2', expected a whole number"),
        (lambda t, h: h["config"].update(hidden_size={"a": 1}), "hidden_size is {'a': 1}"),
        (lambda t, h: h["config"].pop("dense"), "configuration of QRNN lacks 'dense'"),
        (lambda t, h: h["config"].update(zoneout=5), "zoneout is 5, expected a number in"),
        (lambda t, h: h["config"].update(input_size=2**24), "expected [16, 33554432] by the conf"),
        (lambda t, h: h["config"].update(input_size=2**40), "input_size is 1099511627776"),
        (lambda t, h: h["config"].update(hidden_size=2**24), "would hold"),
        (lambda t, h: h["config"].update(num_layers=10**30), "num_layers is 1000"),
    ],
)
def test_wrong_contents(
    edit: Callable[..., Any], message: str, suffix: str, tmp_path: Path
) -> None:
    assert message in refuse(edited(tmp_path, suffix, edit))


def test_non_finite_weights_can_be_allowed(tmp_path: Path) -> None:
    def edit(tensors: dict[str, Any], header: Any) -> None:
        tensors["layers.1.bias"][3] = float("nan")

    path = edited(tmp_path, ".safetensors", edit)
    loaded = load_checkpoint(path, allow_non_finite=True)
    assert loaded.notes == ("NaN or infinity in layers.1.bias was allowed.",)
    assert torch.isnan(loaded.module.state_dict()["layers.1.bias"][3])


def test_sizes_beyond_the_tensors_allocate_nothing(tmp_path: Path) -> None:
    # 2**24 inputs are 1 GiB for the first layer: refused before any such allocation.
    path = edited(tmp_path, ".pt", lambda t, h: h["config"].update(input_size=2**24))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuse(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_a_tensor_must_hold_its_elements(tmp_path: Path) -> None:
    # One float behind 2**29 elements, as stride 0 makes it: 2 GiB if it were ever copied.
    def edit(tensors: dict[str, Any], header: dict[str, Any]) -> None:
        header["config"]["input_size"] = 2**24
        tensors["layers.0.weight"] = torch.zeros(1).expand(16, 2**25)

    message = refuse(edited(tmp_path, ".pt", edit))
    assert "tensor layers.0.weight of shape [16, 33554432] does not hold its elements" in message


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", '"x"', "9" * 5000, "NaN"])
def test_damaged_json(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, metadata={"qrnn_deploy": text}))
    message = refuse(path)
    assert "is not readable JSON" in message or "holds no version number" in message


@pytest.mark.parametrize(
    "content",
    [
        {"qrnn_deploy": None, "state_dict": {}},
        {"qrnn_deploy": {"version": 1, "config": {}}},
        {"qrnn_deploy": {"version": 1, "config": {}}, "state_dict": [1]},
        {"qrnn_deploy": {"version": 1, "config": {}}, "state_dict": {"a": 1}},
        {"qrnn_deploy": {"version": 1, "config": {}}, "state_dict": {1: torch.zeros(1)}},
    ],
)
def test_pt_files_of_wrong_form(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(content, path)
    message = refuse(path)
    assert "holds no version number" in message or "holds no tensors by name" in message


def test_formats_have_names_and_descriptions() -> None:
    assert next(iter(formats())) == "native" and len(formats()) >= 9
    assert all(text and "\n" not in text for text in formats().values())
