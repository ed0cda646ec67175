"""Writing a set of files so that either all of them appear or none."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .._files import beside_prefix, is_special, is_text, printable, real_path, reason
from ..errors import ExportError


def checked_output(path: str | os.PathLike[str]) -> Path:
    """Where to write the ONNX file: ``path``, or what it leads to as a symbolic link.

    Raises:
        ExportError: no ONNX file can be written there.
    """
    with writing(Path(path)):
        target = real_path(path)
    if not is_text(target.absolute()):  # temporary names are absolute
        raise ExportError(
            f"output {printable(target.absolute())} has bytes in its path that are not UTF-8, "
            "which ONNX cannot write: expected plain text; rename the folder or choose another name"
        )
    if target.name == ".onnx":
        raise ExportError(f"output {target} has no name before .onnx: expected one like model.onnx")
    if target.suffix != ".onnx":
        raise ExportError(f"output {target} does not end in .onnx: expected a name like model.onnx")
    if target.is_dir():
        raise ExportError(f"output {target} is a folder: expected a file name such as model.onnx")
    if is_special(target):
        raise ExportError(
            f"output {target} is a device or a pipe, expected the name of a file: an export writes "
            "several files and replaces them as one"
        )
    parent = target.parent
    if not parent.is_dir():
        problem = "is not a folder" if parent.exists() else "does not exist: create it first"
        raise ExportError(f"output folder {parent} {problem}")
    return target


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Report a failed write: only around our own writes, never around a user's code.

    Raises:
        ExportError: the block raised OSError.
    """
    try:
        yield
    except OSError as error:
        raise ExportError(f"cannot write {target}: {reason(error)}; nothing was written") from error


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that is gone after the block, whatever happens.

    Raises:
        ExportError: the folder cannot be made.
    """
    with writing(target):
        folder = Path(tempfile.mkdtemp(prefix=beside_prefix(target), dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path, names: Sequence[str], stale: Sequence[str]) -> None:
    """Move ``names`` out of ``folder`` to beside ``target``, replacing what is there.

    ``target`` comes last, by one rename, which decides: an error or an interrupt before it puts
    everything back, one after it changes nothing more. Files keep the permissions of those that
    they replace. Where another file of the model (external
    data) is replaced too, the earlier ``target`` steps aside first, so that at no moment it could
    be read together with data that are not its own.

    Args:
        folder: the staging folder.
        target: the main file; its name is among ``names``.
        names: files and folders to move.
        stale: names beside ``target`` that an earlier export may have left and this one lacks.

    Raises:
        ExportError: a file cannot be moved. The message says what is there now.
    """
    others = [name for name in names if name != target.name]
    aside = list(others)
    if any((folder / name).is_file() for name in others):
        aside.insert(0, target.name)
    with writing(target):
        earlier = Path(
            tempfile.mkdtemp(prefix=f"{beside_prefix(target)}earlier.", dir=target.parent)
        )
    moves = [
        (target.parent / name, earlier / name)
        for name in aside
        if os.path.lexists(target.parent / name)
    ]
    moves += [(folder / name, target.parent / name) for name in (*others, target.name)]
    started: list[tuple[Path, Path]] = []
    try:
        with writing(target):
            _keep_modes(folder, target, names)
            for move in moves:
                started.append(move)  # before it: an interrupt may come right behind it
                os.replace(*move)
    except BaseException:
        if os.path.lexists(folder / target.name):
            _undo(started, target, earlier)
        raise
    finally:
        if not os.path.lexists(folder / target.name) or not any(earlier.iterdir()):
            shutil.rmtree(earlier, ignore_errors=True)
    _remove_stale(target, stale)


def _keep_modes(folder: Path, target: Path, names: Sequence[str]) -> None:
    """Give new files the permissions of those that they replace."""
    for name in names:
        if (target.parent / name).exists():
            (folder / name).chmod(stat.S_IMODE((target.parent / name).stat().st_mode))


def _undo(started: Sequence[tuple[Path, Path]], target: Path, earlier: Path) -> None:
    try:
        for source, destination in reversed(started):
            if os.path.lexists(destination) and not os.path.lexists(source):
                os.replace(destination, source)
    except OSError as error:
        raise ExportError(
            f"cannot write {target}, nor put the earlier files back: {reason(error)}; they are in "
            f"{earlier}: move them from there by hand"
        ) from error


def _remove_stale(target: Path, stale: Sequence[str]) -> None:
    for name in stale:
        path = target.parent / name
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise ExportError(
                f"wrote {target}, but {path} of an earlier export cannot be removed: "
                f"{reason(error)}; "
                "remove it by hand"
            ) from error
