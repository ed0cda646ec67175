"""Session options, and which of them have a kernel library registered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

import onnxruntime

from .._metadata_check import shown
from ..errors import InputError, KernelLibraryError
from .library import KernelLibrary

_registered: WeakKeyDictionary[onnxruntime.SessionOptions, Path] = WeakKeyDictionary()
"""ONNX Runtime accepts a second registration and then makes no session with the options."""


def thread_limit() -> int:
    """The most threads that a session may ask for: each costs memory, and beyond the cores time."""
    return max(64, 4 * (os.cpu_count() or 1))


def check_threads(threads: int | None) -> None:
    """Refuse what no session should be given.

    Raises:
        InputError: not None, and not a whole number in 0..:func:`thread_limit`.
    """
    limit = thread_limit()
    if threads is not None and (type(threads) is not int or not 0 <= threads <= limit):
        raise InputError(
            f"threads={shown(threads)}: expected a whole number in 0..{limit} (64, or four per "
            "core), or None for ONNX Runtime's own choice"
        )


@contextmanager
def prepared(
    given: onnxruntime.SessionOptions | None,
    threads: int | None,
    library: KernelLibrary | None,
) -> Iterator[onnxruntime.SessionOptions]:
    """Options to make one session with: those of the caller, else new ones.

    The library stays registered in the caller's options (ONNX Runtime cannot take it out again)
    and is registered once however often they are used; ``threads`` is put back.

    Raises:
        InputError: the options carry the kernel library, or another one, and must not.
        KernelLibraryError: ONNX Runtime refuses the library.
    """
    options = onnxruntime.SessionOptions() if given is None else given
    held = _registered.get(options)
    if held is not None and (library is None or library.path != held):
        wanted = "no kernel library" if library is None else str(library.path)
        raise InputError(
            f"session_options already has {held} registered, expected {wanted}: "
            "give a new SessionOptions"
        )
    if library is not None and held is None:
        try:
            options.register_custom_ops_library(str(library.path))
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            reason = str(error).splitlines()[0]
            raise KernelLibraryError(
                f"ONNX Runtime refuses the kernel library {library.path} ({reason}): "
                "reinstall qrnn-deploy"
            ) from error
        _registered[options] = library.path
    # Idle threads otherwise spin and slow down every other session of the process.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    before = options.intra_op_num_threads
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        yield options
    finally:
        options.intra_op_num_threads = before
