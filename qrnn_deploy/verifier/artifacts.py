"""The artifacts that this machine can run: the same file with the kernel and without."""

from __future__ import annotations

import warnings
from pathlib import Path

from ..runtime import Session
from ..runtime.library import load_library


def open_artifacts(path: Path) -> tuple[dict[str, Session], dict[str, str]]:
    """Sessions by artifact name, and why the others are missing.

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
    if all(item == "kernel" for item in running):
        return {"kernel": kernel, **sessions}, missing
    count = running.count("function")
    missing["kernel"] = (
        "the file was exported with --inline and has no custom nodes"
        if count == len(running)
        else f"{count} of {len(running)} pooling nodes did not get a kernel"
    )
    return sessions, missing
