"""Writing an engine and its manifest: both of them or none, and never over a user's own file."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .._files import beside_prefix
from ..errors import EngineError
from .manifest import KIND, MAX_BYTES, manifest_path


def check_output(target: Path, sources: Iterable[Path]) -> None:
    """Refuse a place that cannot be written to, or that holds something else than an engine.

    Args:
        target: the engine to write.
        sources: files that the engine is built from.

    Raises:
        EngineError: saying what is in the way.
    """
    if not target.name:  # ".", "/", or the empty name of an unset variable
        raise EngineError(
            f"output {str(target)!r} is a folder: expected a name such as model.engine"
        )
    if not target.parent.is_dir():
        raise EngineError(f"output folder {target.parent} does not exist: create it first")
    if not os.access(target.parent, os.W_OK):
        raise EngineError(f"output folder {target.parent} cannot be written to: choose another")
    beside = manifest_path(target)
    for path in (target, beside):
        if path.is_dir():
            raise EngineError(f"output {path} is a folder: expected a name such as model.engine")
        for source in sources:
            if path.exists() and source.exists() and path.samefile(source):
                raise EngineError(
                    f"output {path} is the same file as {source}, which the engine is built from: "
                    "name another"
                )
    if os.path.lexists(beside):
        if not _is_manifest(beside):
            raise EngineError(
                f"{beside} is in the way: expected nothing or the manifest of an earlier engine; "
                "move it elsewhere, or give another output name"
            )
    elif os.path.lexists(target):
        raise EngineError(
            f"{target} is in the way: expected nothing or an earlier engine with its manifest "
            f"{beside.name}; move it elsewhere, or give another output name"
        )


def check_timing_cache(path: Path, outputs: Iterable[Path]) -> None:
    """Refuse a timing cache that could not be written when the engine is done.

    Raises:
        EngineError: its folder does not exist, or it is no regular file or one of the outputs.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise EngineError(f"timing cache {path} is a folder or in none: expected a file's name")
    if path.exists() and not path.is_file():
        raise EngineError(f"timing cache {path} is not a regular file: expected a file's name")
    if any(path.absolute() == output.absolute() for output in outputs):
        raise EngineError(f"timing cache {path} has the name of an output: give it another")


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that is gone after the block, whatever happens.

    Raises:
        EngineError: the folder cannot be made, or a file in the block cannot be written.
    """
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=beside_prefix(target), dir=target.parent))
        yield folder
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EngineError(f"cannot write {target}: {reason}; nothing was written") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path) -> None:
    """Move the engine and its manifest out of the staging folder to ``target`` and beside it.

    An earlier manifest goes first and the new one comes last, so that at no moment an engine lies
    beside a manifest of another; an error or an interrupt in between puts the earlier pair back.
    Earlier files hand on their permissions.

    Raises:
        OSError: a file cannot be moved.
    """
    beside = manifest_path(target)
    pairs = [(beside, "earlier.json"), (target, "earlier")]
    for path in (target, beside):
        if path.is_file():
            (folder / path.name).chmod(stat.S_IMODE(path.stat().st_mode))
    moves = [(path, folder / name) for path, name in pairs if os.path.lexists(path)]
    moves += [(folder / target.name, target), (folder / beside.name, beside)]
    started: list[tuple[Path, Path]] = []
    try:
        for move in moves:
            started.append(move)  # before it: an interrupt may come right behind it
            os.replace(*move)
    except BaseException:
        if os.path.lexists(folder / beside.name):
            for source, destination in reversed(started):
                if os.path.lexists(destination) and not os.path.lexists(source):
                    os.replace(destination, source)
        raise


def _is_manifest(path: Path) -> bool:
    """Whether a file says that it is a manifest; whether it is a good one does not matter here."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
        return False
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and raw.get("kind") == KIND
