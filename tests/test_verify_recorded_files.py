"""Files that are no recordings, damaged, or made to hurt: one line, status 2, nothing unpacked."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch
from recordings import Exports, noise, run_cli

import qrnn_deploy
from qrnn_deploy import npz
from qrnn_deploy.errors import InputError
from qrnn_deploy.verifier.recorded import npz as recorded_npz
from qrnn_deploy.verifier.recorded import read_recording


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return Exports(tmp_path_factory.mktemp("files"))


def npy(array=None, **header):
    """A .npy file: of an array, or of a header and two numbers."""
    data = io.BytesIO()
    if array is not None:
        np.lib.format.write_array(data, array)
    else:
        fields = {"descr": "<f4", "fortran_order": False, "shape": (2,)} | header
        np.lib.format.write_array_header_1_0(data, fields)
        data.write(bytes(8))
    return data.getvalue()


def archive(*members, **options):
    """A zip file of (name, bytes)."""
    data = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(data, "w", **options) as handle:
        warnings.simplefilter("ignore")  # of names that are there already
        for name, content in members:
            handle.writestr(name, content)
    return data.getvalue()


def saved(value):
    data = io.BytesIO()
    torch.save(value, data)
    return data.getvalue()


def encrypted(data):
    """With the bit that says so, in both headers."""
    raw = bytearray(data)
    raw[6] |= 1
    raw[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


class Code:
    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "r.npz is no .npz file"),
        (
            npy(np.ones(3)),
            "r.npz is no .npz file (File is not a zip file): write it with numpy.savez",
        ),
        (archive(), "r.npz holds 0 arrays, expected 1 to"),
        (
            saved({"x": torch.ones(3)}),
            "is no array (.npy); torch.save writes zip files too: write it with",
        ),
        (archive(("x.npy", npy()), ("x.npy", npy())), "r.npz holds 'x' twice"),
        (
            archive(("x.npy", npy(np.array([Code()])))),
            "no readable array (Python objects, which are never unpickled)",
        ),
        (
            archive(("x.npy", npy(shape=(2**40, 2**20)))),
            "holds 'x', which is no readable array (its header tells another size)",
        ),
        (archive(("x.npy", npy(shape=(-2,)))), "array (its header tells an impossible shape)"),
        (
            archive(("x.npy", npy(shape=(3,)))),
            "is no readable array (its header tells another size)",
        ),
        (
            archive(("x.npy", npy(descr="|O"))),
            "no readable array (Python objects, which are never unpickled)",
        ),
        (archive(("x.npy", b"\x93NUMPY\x03\x00" + bytes(99))), "is no readable array"),
        (archive(("x.npy", b"hello")), "is no readable array"),
        (archive(("x.npy", npy()), compression=zipfile.ZIP_LZMA), "packed in an unusual way"),
        (encrypted(archive(("x.npy", npy()))), "has 'x' encrypted or packed in an unusual way"),
        (archive(("x\n\x1b.npy", npy())), r"r.npz holds 'x\n\x1b', expected names of the model"),
    ],
    ids=range(15),
)
def test_files_that_are_no_recordings(exports, data, message):
    assert message in exports.refusal(data)


def test_files_that_are_not_there(exports, tmp_path):
    for path, message in (
        (tmp_path / "absent.npz", "is missing: expected a .npz file"),
        (tmp_path, "is no file: expected a .npz file"),
        ("/dev/zero", "is no file: expected a .npz file"),
    ):
        code, out, err = run_cli(exports["separate"], "--reference", path)
        assert (code, out) == (2, "") and err.startswith(f"error: {path} {message}")
    with pytest.raises(InputError, match="reference is 3, expected the path of a file"):
        qrnn_deploy.verify(exports["separate"], reference=3)


def test_sizes_are_bounded_before_anything_is_unpacked(exports, monkeypatch):
    monkeypatch.setattr(npz, "_array", lambda *a, **k: pytest.fail("was unpacked"))
    zeros = archive(("x.npy", npy(np.zeros(10**6))), compression=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(npz, "HARMLESS_BYTES", 2**20)
    line = exports.refusal(zeros)
    assert "would grow from" in line and "more than 100 times" in line
    plain = archive(*((f"x.{n}.npy", npy()) for n in range(20)))
    monkeypatch.setattr(recorded_npz, "MOST_BYTES", 20 * len(npy()) - 1)
    assert "bytes of arrays, expected at most" in exports.refusal(plain)
    monkeypatch.setattr(npz, "MAX_ARRAYS", 19)
    assert "holds 20 arrays, expected 1 to 19" in exports.refusal(plain)
    monkeypatch.setattr(npz.GuardedFile, "most", 100)
    assert "its directory has" in exports.refusal(plain)


def test_a_size_in_the_directory_that_is_a_lie(exports):
    """Zeros that unpack to more than the directory says are never unpacked beyond it."""
    data = bytearray(archive(("x.npy", npy(np.zeros(1000))), compression=zipfile.ZIP_DEFLATED))
    for at, mark in ((22, b"PK\x03\x04"), (24, b"PK\x01\x02")):
        struct.pack_into("<I", data, data.index(mark) + at, 128 + 80)
    assert "r.npz" in exports.refusal(bytes(data))


def test_every_damage_is_one_line(tmp_path):
    """Cut anywhere, or with a byte changed anywhere, a file is refused or reads as it was."""
    path = tmp_path / "r.npz"
    np.savez_compressed(path, **{name: noise(3, 2, 6) for name in ("x", "y", "c_out")})
    data, whole = path.read_bytes(), read_recording(path).arrays
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=r"r\.npz"):
            read_recording(path)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 400):
        raw = bytearray(data)
        raw[at] ^= 1 << rng.integers(8)
        path.write_bytes(raw)
        try:
            found = read_recording(path).arrays
        except InputError as error:
            assert "\n" not in str(error)
        else:
            same = [name for name in found if name in whole]
            assert all(np.array_equal(found[name], whole[name]) for name in same)
