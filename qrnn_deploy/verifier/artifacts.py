"""The artifacts that this machine can run: the same file with the kernel and without."""

from __future__ import annotations

import warnings
from pathlib import Path

from ..runtime import Session
from ..runtime.library import load_library


def open_artifacts(path: Path) -> tuple[dict[str, Session], dict[str, str]]:
    """Sessions by artifact name, and why the others are missing.

    ``kernel`` runs every pooling node on the kernel, ``function`` none; ``mixed`` is a file of
    which only some nodes got one, as production would run it.

    Raises:
        ModelError: the file cannot be run at all.
        KernelLibraryError: the file needs a newer kernel library than the one installed.
    """
    sessions = {"function": Session(path, kernel="off")}
    missing: dict[str, str] = {}
    if load_library() is None:
        missing["kernel"] = "the kernel library is not installed; see `qrnn-deploy doctor`"
        return sessions, missing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel = Session(path, kernel="require")
    running = list(kernel.implementation.values())
    count = running.count("kernel")
    if not running or not count:
        missing["kernel"] = "no node of the file got a kernel; a file made with --inline has none"
        return sessions, missing
    if count == len(running):
        return {"kernel": kernel, **sessions}, missing
    missing["kernel"] = f"only {count} of {len(running)} pooling nodes got a kernel"
    return {"mixed": kernel, **sessions}, missing
