"""A file that is no ONNX model is called what it looks like, by every command alike."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from qrnn_deploy.cli import main
from qrnn_deploy.model_file import is_checkpoint


def saved(write, *arguments, **options):
    buffer = io.BytesIO()
    write(*arguments, buffer, **options)
    return buffer.getvalue()


def legacy():
    return saved(torch.save, {"w": torch.zeros(2)}, _use_new_zipfile_serialization=False)


def npz():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", b"")
    return buffer.getvalue()


CHECKPOINT = "looks like a checkpoint, expected an ONNX file: export it first, qrnn-deploy export "
SAFETENSORS = (16).to_bytes(8, "little") + b'{"__metadata__":' + bytes(600)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(500), "looks like an HDF5 file (Keras?): expected"),
        ("m.onnx", b"\x89HDF\r\n\x1a\n" + bytes(500), "looks like an HDF5 file (Keras?): expected"),
        ("m.pkl", pickle.dumps([1, 2]), "looks like a Python pickle, which could run code"),
        ("m.txt", b"hello, world\n", "looks like a text file: expected an ONNX file"),
        ("m.json", b'{"a": 1}', "looks like a JSON document: expected an ONNX file"),
        ("m.npy", saved(lambda b: np.save(b, np.zeros(3))), "looks like a NumPy .npy array"),
        ("m.onnx", b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull`"),
        ("m.onnx", saved(torch.save, {"w": torch.zeros(2)}), CHECKPOINT),
        ("m.onnx", legacy(), CHECKPOINT),
        ("m.onnx", npz(), CHECKPOINT),
        ("m.onnx", SAFETENSORS, CHECKPOINT),
        ("m.onnx", bytes(range(200, 256)), "is not a whole ONNX file, it may be truncated"),
        ("m.onnx", b"\x08\x0a\x12\x07pytorch", "holds no ONNX graph: export the model again"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("m.") else "",
)
def test_every_command_names_what_it_is(tmp_path, capsys, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    np.save(tmp_path / "x.npy", np.zeros((3, 4), np.float32))
    for command in (["inspect"], ["run", tmp_path / "x.npy"], ["verify"]):
        with pytest.raises(SystemExit) as end:
            main([command[0], str(path), *map(str, command[1:])])
        error = capsys.readouterr().err
        assert end.value.code == 2 and message in error, error
        assert str(path) in error and error.count("\n") == 1


def test_a_checkpoint_in_place_of_the_model(tmp_path, capsys):
    """By its name too, where its bytes tell nothing; and the name is quoted for the shell."""
    path = tmp_path / "my model.ckpt"
    path.write_bytes(bytes(range(200, 256)))
    for command in ("run", "verify"):
        with pytest.raises(SystemExit):
            main([command, str(path)])
        assert f"{CHECKPOINT}'{path}' -o MODEL.onnx\n" in capsys.readouterr().err
    assert is_checkpoint(path) and not is_checkpoint(tmp_path / "m.onnx")
