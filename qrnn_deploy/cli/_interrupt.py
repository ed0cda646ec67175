"""Ctrl-C while packages are being imported, and when all is done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_IMPORT = "<frozen importlib"
"""Where Python's own code for imports says it comes from."""

_AGAIN = 0.005
"""Seconds until the next look at whether the import has ended."""


@contextmanager
def sparing_imports() -> Iterator[None]:
    """Let Ctrl-C wait for the end of an import; a second one does not wait.

    An interrupt in the start of a compiled package (NumPy, ONNX Runtime, torch) comes out as
    anything: a traceback that nobody can catch, an ImportError, a crash. Where Ctrl-C is ignored or
    handled already, nothing changes.

    Raises:
        KeyboardInterrupt: Ctrl-C, at the latest at the end of the block.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        waiting = _stop_waiting()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if waiting:
            raise KeyboardInterrupt


def ignore_interrupts() -> None:
    """Let Ctrl-C do nothing from now on, as befits a program that only has to exit.

    While Python takes itself down an interrupt ends as a traceback, or as death by the signal after
    the whole answer has been printed. Where Ctrl-C is ignored or handled already, nothing changes.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    second = signum == signal.SIGINT and _stop_waiting()
    if _importing(frame) and not second:
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        return
    _stop_waiting()
    raise KeyboardInterrupt


def _stop_waiting() -> bool:
    """Whether an interrupt waited."""
    waiting = signal.getsignal(signal.SIGALRM) is _interrupt
    if waiting:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return waiting


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORT):
            return True
        frame = frame.f_back
    return False
