"""Writing a set of files so that either all of them appear or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import ExportError


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that is gone after the block, whatever happens.

    Raises:
        ExportError: the folder cannot be written to, or the disk fills up in the block.
    """
    parent = target.parent
    if not parent.is_dir():
        raise ExportError(f"output folder {parent} does not exist: create it first")
    if target.is_dir():
        raise ExportError(f"output {target} is a folder: expected a file name such as model.onnx")
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
        yield folder
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ExportError(f"cannot write {target}: {reason}; nothing was written") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path, names: Sequence[str], stale: Sequence[str]) -> None:
    """Move ``names`` out of ``folder`` to beside ``target``, in order, replacing what is there.

    Args:
        folder: the staging folder.
        target: the main file; it is among ``names`` and best the last one.
        names: files and folders to move.
        stale: names beside ``target`` that an earlier export may have left and this one lacks.
    """
    for name in stale:
        _remove(target.parent / name)
    for name in names:
        destination = target.parent / name
        if destination.is_dir():
            _remove(destination)
        os.replace(folder / name, destination)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()
