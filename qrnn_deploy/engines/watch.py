"""What TensorRT says while it builds: its log and its progress, and how a build is cancelled.

TensorRT calls back from C++ that expects no exception, on a thread of its choice, and keeps one
logger for the whole process. So the callbacks catch what goes wrong and only take notes, and
there is one logger for each TensorRT module, whose notes the build in progress reads.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger("qrnn_deploy.tensorrt")
log.addHandler(logging.NullHandler())

Progress = Callable[[float, str], None]
"""Called with the share that is done, in 0..1, and the name of the phase."""

_HARMLESS = (
    # The nodes of the function's body have the same names wherever it stands.
    re.compile(r"A node named \S+ already exists"),
    # Said of every int64 input. Ours are int64, and the manifest says so.
    re.compile(r"Make sure input .+ has Int64 binding"),
    # There is one logger for each module, see above.
    re.compile(r"The logger passed into \S+ differs from one already registered"),
)
_PLACE = re.compile(
    r"\s*In \S+ at \S+:\d+|\[\w+\.(?:cpp|h|hpp):\d+: \w+\]\s*"
    r"|^\[\S+::\S+::\d+\]\s*|^\S+\.[ch]pp:\d+:\s*"
)
_MISFIT = re.compile(r"Profile k(MIN|OPT|MAX) values are not self-consistent")
_MAX_TEXT = 600


class Notes:
    """The log of one build.

    Attributes:
        errors: of TensorRT, in order; the first is the cause, later ones tend to follow from it.
        warnings: likewise, without those that are known to mean nothing.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def add(self, level: int, text: str) -> None:
        """Note a message of a :mod:`logging` level."""
        line = tidy(text)
        if level >= logging.ERROR:
            self.errors.append(line)
        elif level >= logging.WARNING and not any(known.search(text) for known in _HARMLESS):
            if line not in self.warnings:
                self.warnings.append(line)
        else:
            level = min(level, logging.INFO)
        log.log(level, "%s", line)

    def misfit(self) -> str | None:
        """The warning that a profile holds shapes which the network cannot take, if there is one.

        TensorRT builds such an engine all the same.
        """
        return next((line for line in self.warnings if _MISFIT.search(line)), None)

    def cause(self) -> str:
        """The first error in one line."""
        return self.errors[0] if self.errors else "it gave no reason"


def tidy(text: str) -> str:
    """A message of TensorRT in one line, without the places in its sources."""
    line = " ".join(_PLACE.sub("", text).split())
    return line if len(line) <= _MAX_TEXT else f"{line[: _MAX_TEXT - 3]}..."


class LogReader:
    """The logger of one TensorRT module.

    Attributes:
        module: the TensorRT module.
        tensorrt_logger: to hand to TensorRT.
        notes: of the build in progress.
    """

    def __init__(self, trt: Any) -> None:
        levels = {
            "INTERNAL_ERROR": logging.ERROR,
            "ERROR": logging.ERROR,
            "WARNING": logging.WARNING,
            "INFO": logging.INFO,
        }
        reader = self
        self.module = trt
        self.notes = Notes()

        class Logger(trt.ILogger):  # type: ignore[misc] # a class of the module at hand
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                name = getattr(severity, "name", str(severity))
                reader.notes.add(levels.get(name, logging.DEBUG), text)

        self.tensorrt_logger = Logger()


_readers: list[LogReader] = []


def log_reader(trt: Any) -> LogReader:
    """The logger of a module, with fresh notes."""
    reader = next((known for known in _readers if known.module is trt), None)
    if reader is None:
        reader = LogReader(trt)
        _readers.append(reader)
    reader.notes = Notes()
    return reader


class Monitor:
    """Follows a build through TensorRT's IProgressMonitor.

    Phases nest: the share that is done is that of the outermost phase, to which each inner one adds
    its part of the step that it stands in. It is never told to shrink, though phases repeat.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._phases: list[tuple[str, int, int]] = []  # name, steps, steps done
        self._furthest = 0.0
        self._cancelled = threading.Event()
        self.failure: BaseException | None = None

    def cancel(self) -> None:
        """Let TensorRT stop at the end of the step it is in."""
        self._cancelled.set()

    def started(self, phase: str, steps: int) -> None:
        """A phase begins inside the ones that have begun."""
        with self._lock:
            self._phases.append((phase, max(steps, 1), 0))
            self._tell()

    def advanced(self, phase: str, step: int) -> bool:
        """A step has ended; returns whether to go on."""
        with self._lock:
            self._phases = [
                (name, steps, step + 1 if name == phase else done)
                for name, steps, done in self._phases
            ]
            self._tell()
        return not self._cancelled.is_set()

    def finished(self, phase: str) -> None:
        """A phase ends, and with it what it contains."""
        with self._lock:
            names = [name for name, _, _ in self._phases]
            if phase in names:
                del self._phases[len(names) - 1 - names[::-1].index(phase) :]
                if not self._phases and not self._cancelled.is_set():
                    self._call(1.0, phase)

    def _tell(self) -> None:
        share, width = 0.0, 1.0
        for _, steps, done in self._phases:
            share += width * min(done / steps, 1.0)
            width /= steps
        if self._phases:
            self._call(min(share, 1.0), self._phases[-1][0])

    def _call(self, share: float, phase: str) -> None:
        if self._progress is None:
            return
        self._furthest = max(self._furthest, share)
        try:
            self._progress(self._furthest, phase)
        except BaseException as error:  # must not travel through TensorRT; the build raises it
            self.failure = error
            self._cancelled.set()

    def tensorrt_monitor(self, trt: Any) -> Any:
        """The object to hand to TensorRT; keep it as long as the build runs."""
        monitor = self

        class ProgressMonitor(trt.IProgressMonitor):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
                monitor.started(phase, steps)

            def step_complete(self, phase: str, step: int) -> bool:
                return monitor.advanced(phase, step)

            def phase_finish(self, phase: str) -> None:
                monitor.finished(phase)

        return ProgressMonitor()
