"""Files that are whole or absent, and what is no file but can be written to."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file beside ``path`` to write to; it takes its place when the block ends well.

    Whatever ends the block otherwise, an interrupt included, leaves ``path`` as it was. A symbolic
    link stays, and what it leads to is replaced. An earlier file hands on its permissions.

    Raises:
        OSError: the folder cannot be written, the disk is full, or ``path`` is a folder, a device
            or a pipe, which no file may replace. The error names ``path``.
    """
    target = Path(path)
    beside: Path | None = None
    try:
        target = real_path(path)
        mode = _mode(target)
        handle, name = tempfile.mkstemp(prefix=beside_prefix(target), dir=target.parent)
        beside = Path(name)
        os.close(handle)
        yield beside
        beside.chmod(mode)  # mkstemp's 0600 is for secrets, not for results
        beside.replace(target)
    except OSError as error:
        # A failed write does not know where it went; the file beside is not one the user named.
        named = None if error.filename is None else Path(os.fsdecode(error.filename))
        if beside is None or named in (None, beside, target):
            error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


@contextmanager
def opened_for_writing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """``path`` to write bytes to: a file by way of :func:`replacing`, anything else as it is.

    Devices, pipes and open descriptors (``/dev/fd/3``) are written straight into.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    try:
        descriptor = _own_descriptor(Path(path))
        if descriptor is not None:
            with os.fdopen(os.dup(descriptor), "wb") as handle:
                yield handle
        elif is_special(path):
            with open(path, "wb") as handle:
                yield handle
        else:
            with replacing(path) as beside, beside.open("wb") as handle:
                yield handle
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def real_path(path: str | os.PathLike[str]) -> Path:
    """Where a symbolic link leads to, whether it is there or not; any other path as it is.

    Raises:
        OSError: the link leads in a circle.
    """
    if not os.path.islink(path):
        return Path(path)
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        real.stat()
    return real


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether there is something at ``path`` that is neither a file nor a folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def beside_prefix(target: Path) -> str:
    """How a temporary name beside ``target`` begins: hidden, and never too long."""
    return f".{target.name[:40]}."


def reason(error: OSError) -> str:
    """What went wrong, also where no system call says it: NumPy counts what it could not write."""
    if error.strerror:
        return error.strerror
    return f"{error or type(error).__name__} (is the disk full?)"


def golden_folder(model: Path) -> Path:
    """Where the golden vectors of the ONNX file ``model`` are: ``model.golden`` beside it."""
    return model.with_name(f"{model.stem}.golden")


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether a path is UTF-8: ONNX and safetensors open no other, and no file can record one."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(path: str | os.PathLike[str]) -> str:
    """A path for people, also where it is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _mode(target: Path) -> int:
    """Permissions of the file that is to be at ``target``: the earlier one's, else as usual.

    Raises:
        OSError: what is there is not a file.
    """
    try:
        found = target.stat().st_mode
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found):
        raise OSError(errno.EINVAL, "Is a device or a pipe, expected the name of a file")
    return stat.S_IMODE(found)


def _own_descriptor(path: Path) -> int | None:
    """The descriptor of this process that ``path`` leads to by links, as ``/dev/stdout`` does."""
    if not os.path.exists(path):
        return None
    own = Path(f"/proc/{os.getpid()}/fd")
    while path.is_symlink():
        folder = Path(os.path.realpath(path.parent))
        if folder == own:
            return int(path.name)
        path = folder / os.readlink(path)
    return None
