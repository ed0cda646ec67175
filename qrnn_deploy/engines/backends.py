"""The TensorRT packages that build engines: their modules, what they need, which one is used."""

from __future__ import annotations

import importlib.util
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from .._optional import install, require
from ..errors import EngineError, MissingDependencyError
from .gpu import Cards, find_cards

BackendName = Literal["tensorrt", "tensorrt-rtx"]
Form = Literal["plugin", "function"]


@dataclass(frozen=True)
class Backend:
    """One TensorRT package.

    Attributes:
        name: as the user names it.
        module: its Python module.
        title: its name in sentences.
        form: what an engine of it holds for a pooling node: our plugin, or the layers of the
            node's function.
        needs_gpu: whether building needs a card, which is then the only one the engine is for.
        first_major: oldest major version that works.
    """

    name: BackendName
    module: str
    title: str
    form: Form
    needs_gpu: bool
    first_major: int


BACKENDS: Final[dict[str, Backend]] = {
    backend.name: backend
    for backend in (
        Backend("tensorrt", "tensorrt", "TensorRT", "plugin", True, 10),
        Backend("tensorrt-rtx", "tensorrt_rtx_bindings", "TensorRT for RTX", "function", False, 1),
    )
}


@dataclass(frozen=True)
class Choice:
    """The backend that is used, and why, in words."""

    backend: Backend
    reason: str


def choose_backend(name: str | None) -> Choice:
    """The backend of that name, or where none is named the one that is usable here.

    Raises:
        EngineError: no such backend.
        MissingDependencyError: none is named and none is installed.
    """
    if name is not None:
        if name not in BACKENDS:
            raise EngineError(f"got backend {name!r}: expected {' or '.join(BACKENDS)}")
        return Choice(BACKENDS[name], "as asked for")
    full, rtx = BACKENDS["tensorrt"], BACKENDS["tensorrt-rtx"]
    if is_installed(full):
        cards = find_cards()
        if cards.cards:
            return Choice(full, f"TensorRT is installed and there is {cards.cards[0].name}")
        if not is_installed(rtx):
            return Choice(full, "the only one installed")
        return Choice(rtx, f"it needs no GPU, and {cards.obstacle}")
    if is_installed(rtx):
        return Choice(rtx, "the only one installed")
    raise MissingDependencyError(
        f"no TensorRT is installed: {install(rtx.module)} builds without a GPU; or, where there is "
        f"one, {install(full.module)}"
    )


def is_installed(backend: Backend) -> bool:
    """Whether its module is there; it may still fail to load."""
    return importlib.util.find_spec(backend.module) is not None


def load_backend(backend: Backend) -> Any:
    """Import the module.

    Raises:
        MissingDependencyError: it is not installed.
        EngineError: it cannot be loaded, or is too old.
    """
    try:
        with _sparing_termination():
            trt = require(backend.module, f"an engine for --backend {backend.name}")
    except MissingDependencyError:
        raise
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"{backend.module} is installed but does not load ({error}): "
            f"{install(backend.module, '--force-reinstall')}"
        ) from error
    major = version_key(trt.__version__)[:1]
    if major < (backend.first_major,):
        raise EngineError(
            f"{backend.title} {trt.__version__} is installed: expected {backend.first_major}.0 or "
            f"later, {install(backend.module, '--upgrade')}"
        )
    return trt


@contextmanager
def _sparing_termination() -> Iterator[None]:
    """Let SIGTERM wait for the end of the block, where it has a handler of Python.

    What a handler raises in the midst of the module's start comes out as a failure to load.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: waiting.append(signum))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if waiting:
            signal.raise_signal(signal.SIGTERM)


def version_key(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, to compare: ``10.14.1.48`` -> (10, 14, 1, 48)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def the_card(backend: Backend, cards: Cards) -> str:
    """Architecture of the card that an engine is built for.

    Raises:
        EngineError: there is none.
    """
    if not cards.cards:
        too = ""
        if not is_installed(backend):
            too = f" (which also needs {backend.module}: {install(backend.module)})"
        raise EngineError(
            f"--backend {backend.name} needs a GPU to build: {cards.obstacle}; build on the "
            f"machine that will run the engine{too}, or use --backend tensorrt-rtx, which does not"
        )
    return cards.cards[0].capability
