"""Arrays out of a .npz file that nobody vouches for: bounded before anything is unpacked.

``numpy.load`` believes what a file says of its own size. Here the sizes in the archive's directory
are bounded first, the header of each array must agree with them to the byte, and nothing is
unpickled. Who calls it makes the message: a recording and a checkpoint are different mistakes.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from ._metadata_check import shown

MAX_ARRAYS = 10_000

MAX_DIRECTORY = 2**24
"""Bytes of the archive's directory; Python needs some ten times as much to hold it."""

HARMLESS_BYTES = 2**26
"""As much as any machine has: below, it does not matter how well it was packed."""

MAX_GROWTH = 100
"""Times that a larger file may grow. Zeros pack a thousandfold, numbers from training hardly."""

MAX_RANK = 32

ADVICE = "write it with numpy.savez"

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""The versions of the .npy format that hold plain arrays; 3.0 is for names of fields."""

_DAMAGE = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, tokenize.TokenError),
    *(EOFError, KeyError, IndexError, ValueError, TypeError, SyntaxError, NotImplementedError),
    *(RuntimeError, OverflowError, MemoryError),
)
"""What :mod:`zipfile` and NumPy raise at a file that is damaged or made to hurt."""


class NpzError(ValueError):
    """No .npz file, or one that is not read; the text says why, to follow the file's name."""


def read_npz(path: Path, most_bytes: int | None = None) -> dict[str, NDArray[Any]]:
    """All arrays of a .npz file by name, in the order of the file.

    Args:
        path: written by ``numpy.savez`` or ``numpy.savez_compressed``.
        most_bytes: of all arrays together; None for what the machine has.

    Returns:
        Arrays in memory of their own, C-contiguous and in the machine's byte order. Names are as
        they were given, also with a ``/`` in them.

    Raises:
        NpzError: the file is no .npz file, damaged, larger than allowed, would grow more than
            numbers do, or holds Python objects.
        OSError: it cannot be read.
    """
    try:
        with GuardedFile(path) as stream, zipfile.ZipFile(stream) as archive:
            stream.most = None
            members = _members(archive, path.stat().st_size, most_bytes)
            return {name: _array(archive, name, info) for name, info in members.items()}
    except (OSError, NpzError):
        raise
    except _DAMAGE as error:
        whole = "is damaged" if zipfile.is_zipfile(path) else "is no .npz file"
        raise NpzError(f"{whole} ({_one_line(error)})") from None


class GuardedFile(io.FileIO):
    """A file that refuses large reads until ``most`` is None, for ``zipfile.ZipFile``.

    That reads the archive's directory in one call and makes an object of every entry, which takes
    eight bytes of memory for each one in the file.
    """

    most: int | None = MAX_DIRECTORY

    def read(self, size: int | None = -1, /) -> Any:
        """As any file's, or ``BadZipFile``."""
        if self.most is not None and size is not None and size > self.most:
            raise zipfile.BadZipFile(f"its directory has {size} bytes")
        return super().read(-1 if size is None else size)


def _members(
    archive: zipfile.ZipFile, file_bytes: int, most_bytes: int | None
) -> dict[str, zipfile.ZipInfo]:
    """The arrays in the archive's directory, whose sizes are within bounds."""
    entries = archive.infolist()
    if not entries or len(entries) > MAX_ARRAYS:
        raise NpzError(f"holds {len(entries)} arrays, expected 1 to {MAX_ARRAYS}")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in entries:
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            raise NpzError(
                f"holds {shown(name)}, which is no array (.npy); torch.save writes zip files too"
            )
        if name in members:
            raise NpzError(f"holds {shown(name)} twice")
        packed = info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if packed or info.flag_bits & 1:
            raise NpzError(f"has {shown(name)} encrypted or packed in an unusual way")
        members[name] = info
    total = sum(info.file_size for info in entries)
    if most_bytes is not None and total > most_bytes:
        raise NpzError(f"holds {total} bytes of arrays, expected at most {most_bytes}")
    if total > HARMLESS_BYTES and total > MAX_GROWTH * file_bytes:
        raise NpzError(
            f"would grow from {file_bytes} bytes to {total}, more than {MAX_GROWTH} times, as "
            "numbers from a network do not"
        )
    return members


def _array(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array, read whole."""
    try:
        with archive.open(info) as member:
            shape, fortran, dtype = _header(member)
            wanted = math.prod(shape) * dtype.itemsize
            # NumPy sets aside what the header asks for, whatever is there.
            if wanted != info.file_size - member.tell():
                raise ValueError("its header tells another size")
            data = bytearray(wanted)
            view, done = memoryview(data), 0
            # To the end and once more: the archive's check sum is compared there.
            # typeshed gives only the name of an entry's reader, which is a BufferedIOBase.
            while count := cast(io.BufferedIOBase, member).readinto(view[done:]):
                done += count
            if done != wanted or member.read(1):
                raise ValueError("it ends early")
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
        result: NDArray[Any] = array.astype(dtype.newbyteorder("="), order="C", copy=False)
        return result
    except _DAMAGE as error:
        raise NpzError(
            f"holds {shown(name)}, which is no readable array ({_one_line(error)})"
        ) from None


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type; NumPy bounds the text that it evaluates."""
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"it is of version {version} of the .npy format")
    shape, fortran, dtype = _HEADERS[version](member)
    if dtype.hasobject:
        raise ValueError("Python objects, which are never unpickled")
    if len(shape) > MAX_RANK or not all(0 <= size <= 2**40 for size in shape):
        raise ValueError("its header tells an impossible shape")
    return shape, fortran, dtype


def _one_line(error: BaseException, limit: int = 120) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
