"""Files that are whole or absent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file beside ``path`` to write to; it takes its place when the block ends well.

    Whatever ends the block otherwise, an interrupt included, leaves ``path`` as it was.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)  # mkstemp's 0600 is for secrets, not for results
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


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
