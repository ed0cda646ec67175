"""What a build can be asked for, checked against the backend before anything heavy begins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._metadata_check import shown
from ..errors import EngineError
from .backends import Backend, the_card
from .gpu import Cards

RTX_ARCHITECTURES = ("sm80", "sm86", "sm89", "sm120")
"""What an engine of TensorRT for RTX is for unless it is said: Ampere, Ada and Blackwell."""

MAX_WORKSPACE = 2**48
"""Most bytes of scratch memory that can be asked for; no card has as many."""

_UNITS = {"KiB": 10, "MiB": 20, "GiB": 30}


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Attributes:
        arch: architectures of the cards, such as ``sm86``; None: the backend's default.
        minimum: smallest sizes by name (``B``, ``T``), see :mod:`~qrnn_deploy.engines.profiles`.
        optimum: the sizes to be fastest for.
        maximum: largest sizes.
        timing_cache: file that keeps what the builder measured, from one build to the next.
        refit: build an engine whose weights can be exchanged.
        version_compatible: build an engine that later versions of TensorRT run, too.
        workspace: most bytes of scratch memory for one layer.
    """

    arch: Sequence[str] | None = None
    minimum: Mapping[str, int] = field(default_factory=dict)
    optimum: Mapping[str, int] = field(default_factory=dict)
    maximum: Mapping[str, int] = field(default_factory=dict)
    timing_cache: Path | None = None
    refit: bool = False
    version_compatible: bool = False
    workspace: int | None = None


def parse_bytes(text: str) -> int:
    """A number of bytes from a text such as ``512MiB``.

    Raises:
        EngineError: it is not of this form, or more than :data:`MAX_WORKSPACE`.
    """
    match = re.fullmatch(r"(\d{1,12})\s*(KiB|MiB|GiB)", text.strip(), re.ASCII)
    if not match or not int(match[1]):
        raise EngineError(
            f"got {text!r}: expected a number with a unit, such as 512MiB or 2GiB "
            f"({', '.join(_UNITS)})"
        )
    size = int(match[1]) << _UNITS[match[2]]
    if size > MAX_WORKSPACE:
        raise EngineError(f"got {text!r}: expected at most {MAX_WORKSPACE >> 30}GiB")
    return size


def check_options(options: BuildOptions, backend: Backend, cards: Cards) -> None:
    """Refuse what the backend cannot do.

    Raises:
        EngineError: saying what to leave out or to use instead.
    """
    size = options.workspace
    if size is not None and (
        isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_WORKSPACE
    ):
        raise EngineError(
            f"got workspace={shown(size)}: expected 1 to {MAX_WORKSPACE} bytes, or None for all "
            "memory of the card"
        )
    if backend.needs_gpu:
        the_card(backend, cards)
        if options.arch is not None:
            raise EngineError(
                f"--arch is for --backend tensorrt-rtx: {backend.title} builds for the card of "
                "this machine; leave --arch out"
            )
        return
    if options.timing_cache is not None:
        raise EngineError(
            f"{backend.title} keeps no timing cache, it measures nothing: leave --timing-cache out"
        )
    if options.version_compatible:
        raise EngineError(
            f"engines of {backend.title} run on the version that built them only: leave "
            "--version-compatible out, and build anew for another version"
        )
    if options.refit and not cards.cards:
        raise EngineError(
            f"--refit needs a GPU with {backend.title}: {cards.obstacle}; leave --refit out, or "
            "build where there is one"
        )


def architectures(options: BuildOptions, backend: Backend, trt: Any, cards: Cards) -> list[str]:
    """What the engine is for: the card of this machine, or what was asked for of ``trt``.

    Raises:
        EngineError: an architecture that the TensorRT at hand does not know.
    """
    if backend.needs_gpu:
        return [the_card(backend, cards)]
    known = [name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    wanted = [name.strip().lower() for name in options.arch or RTX_ARCHITECTURES]
    for name in wanted:
        if name not in known:
            raise EngineError(
                f"got --arch {name}: {backend.title} {trt.__version__} builds for "
                f"{', '.join(known)}"
            )
    return list(dict.fromkeys(wanted))
