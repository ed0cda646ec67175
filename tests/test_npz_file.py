"""Weights out of .npz files: what is read, and one line for everything that can be wrong."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qrnn_deploy.checkpoints.npz_file import read_npz
from qrnn_deploy.errors import CheckpointError


def refused(path: Path) -> str:
    """Read, and return the one line that the file was refused with."""
    with pytest.raises(CheckpointError) as caught:
        read_npz(path)
    message = str(caught.value)
    assert message.isprintable() and len(message) - len(str(path)) < 400, message
    assert message.startswith(f"{path}: "), message
    return message.removeprefix(f"{path}: ")


def npy(value: Any, header: bytes | None = None) -> bytes:
    """An array as .npy, perhaps under another header."""
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=True)
    data = stream.getvalue()
    if header is None:
        return data
    content = data[10 + struct.unpack("<H", data[8:10])[0] :]
    return data[:8] + struct.pack("<H", len(header)) + header + content


def described(shape: str, dtype: str = "<f4", fortran: str = "False") -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()


def archive(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as target:
        for name, content in entries.items():
            target.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_round_trip(save: Any, tmp_path: Path) -> None:
    arrays = {
        "QRNN_LM/word_W": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "swapped": np.arange(4, dtype=">f4"),
        "scalar": np.float16(3),
        "none": np.zeros((0, 3), np.int64),
        "flags": np.array([True, False]),
        "large": np.random.default_rng(0).standard_normal((400, 500)).astype(np.float32),
    }
    save(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, value in arrays.items():
        assert found[name].shape == np.shape(value) and found[name].is_contiguous()
        assert (
            found[name].dtype
            == torch.from_numpy(np.asarray(value).astype(value.dtype.newbyteorder("="))).dtype
        )
        assert np.array_equal(found[name].numpy(), value)
    found["large"].zero_()  # memory of its own, and writable


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    assert "No such file" in refused(path)
    assert "Is a directory" in refused(tmp_path)
    path.write_bytes(b"")
    assert "not a zip file" in refused(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert "not a zip file" in refused(path)
    torch.save({"a": torch.ones(2)}, path)
    assert "data.pkl', which is no array (.npy); torch.save writes zip files too" in refused(path)
    zipfile.ZipFile(path, "w").close()
    assert "holds 0 arrays, expected 1 to" in refused(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path, mark = tmp_path / "a.npz", tmp_path / "mark"

    class Harm:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(mark),)

    np.savez(path, a=np.array([Harm()], object))
    assert "'a', which is no readable array (Python objects, which are never unpickled)" in refused(
        path
    )
    archive(path, a=npy(np.ones(2, np.float32))[:128] + pickle.dumps(Harm()))
    refused(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content, words",
    [
        (npy(np.array(["text"])), "holds '<U4', expected numbers (float32)"),
        (npy(np.ones(2, np.complex64)), "holds 'complex64'"),
        (npy(np.ones(2, [("a", "f4"), ("b", "f4")])), "holds \"[('a'"),
        (npy(np.ones(2, "V2")), "holds '|V2'"),
        (npy(np.ones(2, np.longdouble)), "expected numbers"),
        (b"no array", "is no readable array"),
        (b"", "is no readable array"),
        (npy(np.ones(3, np.float32))[:-1], "its header tells another size"),
        (npy(np.ones(3, np.float32)) + b"x", "its header tells another size"),
        (npy(np.ones(3, np.float32), described("(4,)")), "its header tells another size"),
        (npy(np.ones(3, np.float32), described("(10**12,)")), "is no readable array"),
        (npy(np.ones(3, np.float32), described("(1000000000000,)")), "another size"),
        (npy(np.ones(3, np.float32), described("(-3,)")), "impossible shape"),
        (npy(np.ones(0, np.float32), described(f"(0, {2**62})")), "impossible shape"),
        (npy(np.ones(1, np.float32), described("(1,) * 9")), "is no readable array"),
        (npy(np.ones(1, np.float32), described("(" + "1," * 33 + ")")), "impossible shape"),
        (npy(np.ones(3, np.float32), b"[" * 9000), "is no readable array"),
        (npy(np.ones(3, np.float32), b"__import__('os').abort()\n"), "is no readable array"),
        (npy(np.ones(3, np.float32), b" " * 20000), "is no readable array"),
        (b"\x93NUMPY\x03\x00" + npy(np.ones(3))[8:], "version (3, 0)"),
        (b"\x93NUMPY\x09\x00" + npy(np.ones(3))[8:], "version (9, 0)"),
    ],
)
def test_arrays_that_are_none(content: bytes, words: str, tmp_path: Path) -> None:
    assert words in refused(archive(tmp_path / "a.npz", a=content))


def test_entries_of_the_archive(tmp_path: Path) -> None:
    path, array = tmp_path / "a.npz", npy(np.ones(3, np.float32))
    with zipfile.ZipFile(path, "w") as target, pytest.warns(UserWarning, match="Duplicate"):
        target.writestr("a.npy", array)
        target.writestr("a.npy", array)
    assert "holds 'a' twice" in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as target:
        target.writestr("a.npy", array)
    assert "packed in an unusual way" in refused(path)
    archive(path, a=array)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(np.ones(3, np.float32).tobytes(), np.zeros(3, "f4").tobytes()))
    assert "Bad CRC-32" in refused(path)
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("\n" * 500 + "\x1b.npy", b"")
    refused(path)


def test_a_file_cut_or_spoiled_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    """Every cut is refused; a changed byte may fall on something that nobody reads."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(50, dtype=np.float32), b=np.zeros((3, 4)))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path)
    rng = np.random.default_rng(0)
    for position in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[position] ^= int(rng.integers(1, 256))
        path.write_bytes(spoiled)
        try:
            read_npz(path)
        except CheckpointError as error:
            assert str(error).isprintable()


BOUNDED = """
import resource, sys
from pathlib import Path
from qrnn_deploy.checkpoints.npz_file import read_npz
from qrnn_deploy.errors import CheckpointError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        read_npz(Path(path))
    except CheckpointError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_bombs_cost_no_memory(tmp_path: Path) -> None:
    # 256 MB of zeros in 1 MB.
    packed = tmp_path / "packed.npz"
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
        target.open("a.npy", "w") as member,
    ):
        member.write(npy(np.ones(0, np.float32), described(f"({2**26},)")))
        for _ in range(2**28 // 2**24):
            member.write(bytes(2**24))
    assert packed.stat().st_size < 2**21

    # A directory of far too many entries, each of 46 bytes.
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", *[20] * 2, *[0] * 12, *[0] * 2)
    directory = entry * (2**25 // len(entry))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, len(directory), 0, 0)
    crowded = tmp_path / "crowded.npz"
    crowded.write_bytes(directory + end)

    command = [sys.executable, "-c", BOUNDED, str(packed), str(crowded)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    first, second, kilobytes = done.stdout.splitlines()
    assert "more than 100 times" in first and "its directory has" in second
    assert int(kilobytes) < 2**15
