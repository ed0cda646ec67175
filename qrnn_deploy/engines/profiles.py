"""Optimization profiles: the smallest, the usual and the largest shape of each graph input.

Sizes are given by name. ``B`` is the batch, ``T`` the time of every input; any other symbol of the
model's shapes, such as ``time_control`` for the time of one input of several, is its own name. A
size that is fixed in the model stays so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._metadata_check import shown
from ..errors import EngineError, InputError
from ..metadata import PortInfo

MAX_SIZE = 2**31 - 1
"""Largest size of one axis in TensorRT."""

SEQUENCE, STEP = "sequence", "step"

_LETTERS = {"batch": "B", "time": "T"}
_DEFAULT_OPT = {"B": 8, "T": 64}
_DEFAULT_MAX = {"B": 32, "T": 512}


@dataclass(frozen=True)
class ShapeRange:
    """Shapes that one input may have, axis by axis, and the one to be fastest for."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """One optimization profile: input name -> its range, for every input with a variable axis.

    ``name`` is ``sequence``, for any T in the bounds, or ``step``, for T = 1.
    """

    name: str
    inputs: dict[str, ShapeRange]


@dataclass(frozen=True)
class _Range:
    """The sizes of one symbol."""

    min: int
    opt: int
    max: int


def parse_sizes(text: str) -> dict[str, int]:
    """Sizes from a text such as ``B=1,T=64``; an empty one gives none.

    Raises:
        EngineError: it is not of this form.
    """
    sizes: dict[str, int] = {}
    for part in text.split(",") if text.strip() else ():
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not name or not equals or not number.isascii() or not number.isdecimal():
            raise EngineError(f"got sizes {text!r}: expected the form B=8,T=64")
        if name in sizes:
            raise EngineError(f"got sizes {text!r}: {name} is given twice")
        if len(number) > len(str(MAX_SIZE)):
            raise EngineError(f"got sizes {text!r}: expected at most {MAX_SIZE}")
        sizes[name] = int(number)
    return sizes


def make_profiles(
    ports: Sequence[PortInfo],
    fixed: Mapping[str, int],
    *,
    minimum: Mapping[str, int],
    optimum: Mapping[str, int],
    maximum: Mapping[str, int],
    streaming: bool,
) -> list[Profile]:
    """The profiles of a model: any T first, and where it streams T = 1 behind it.

    Profile 0 is what a runtime takes that knows of no others, so it is the one that takes all.
    What is not given is B = 1..32 (usually 8) and T = 1..512 (usually 64), cut to what is given.

    Args:
        ports: the graph inputs; a symbol in a shape is a variable size.
        fixed: symbols of the metadata that the graph has as a number.
        minimum: size by name (``B``, ``T``, or a symbol of a shape).
        optimum: likewise.
        maximum: likewise.
        streaming: whether the model carries its state, so that one step at a time makes sense.

    Raises:
        EngineError: a name that no shape has, a size that is fixed or has no default, or not
            1 <= min <= opt <= max.
    """
    symbols = sorted({size for port in ports for size in port.shape if isinstance(size, str)})
    given = {"--min": minimum, "--opt": optimum, "--max": maximum}
    for option, sizes in given.items():
        for name, size in sizes.items():
            _check_name(option, name, symbols, fixed)
            if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
                raise EngineError(
                    f"got {option} {_short(name)}={shown(size)}: expected 1 to {MAX_SIZE}"
                )
    ranges = {
        symbol: _range(symbol, *(_given(sizes, symbol) for sizes in given.values()))
        for symbol in symbols
    }
    profiles = [_profile(SEQUENCE, ports, ranges)]
    times = [symbol for symbol in symbols if _letter(symbol) == "T"]
    if streaming and times:
        stepping = ranges | {symbol: _Range(1, 1, 1) for symbol in times}
        if stepping == ranges:
            profiles.clear()
        profiles.append(_profile(STEP, ports, stepping))
    return profiles


def choose_profile(
    profiles: Sequence[Profile], ports: Sequence[PortInfo], shapes: Mapping[str, Sequence[int]]
) -> int:
    """Index of the profile to run these shapes with: of those that take them the narrowest.

    Args:
        profiles: of an engine; without any, every size is fixed and the index is 0.
        ports: its inputs.
        shapes: input name -> its shape; inputs that are not named are not looked at.

    Raises:
        InputError: no profile takes them; says for which sizes there is one.
    """
    if not profiles:
        return 0
    fitting = [index for index, profile in enumerate(profiles) if _misfit(profile, shapes) is None]
    if fitting:
        return min(fitting, key=lambda index: _breadth(profiles[index]))
    name, axis, size = _misfit(profiles[0], shapes) or ("", None, 0)
    known = next(port.shape for port in ports if port.name == name)
    if axis is None:
        raise InputError(
            f"input {shown(name)} has {size} axes: expected {len(known)}, {shown(known)}"
        )
    symbol, allowed = known[axis], profiles[0].inputs[name]
    raise InputError(
        f"input {shown(name)} has size {size} along axis {axis}"
        f"{f' ({_short(symbol)})' if isinstance(symbol, str) else ''}: this engine takes "
        f"{allowed.min[axis]} to {allowed.max[axis]}; build one with other --min and --max"
    )


def size_name(symbol: str) -> str:
    """How a user names a symbol: ``B`` for ``batch``, ``T`` for ``time``, else the symbol."""
    return _LETTERS.get(symbol, symbol)


def _short(symbol: str) -> str:
    """:func:`size_name` for a message: a file may hold any name."""
    name = size_name(symbol)
    return name if len(name) <= 60 else f"{name[:57]}..."


def _letter(symbol: str) -> str | None:
    """The letter that covers the symbol: every input's time is a T."""
    return _LETTERS.get("time" if symbol.startswith("time_") else symbol)


def _given(sizes: Mapping[str, int], symbol: str) -> int | None:
    letter = _letter(symbol)
    return sizes.get(symbol, sizes.get(letter) if letter else None)


def _check_name(option: str, name: str, symbols: Sequence[str], fixed: Mapping[str, int]) -> None:
    def covers(symbol: str) -> bool:
        return name in (symbol, _letter(symbol))

    if any(covers(symbol) for symbol in symbols):
        return
    for symbol, size in fixed.items():
        if covers(symbol):
            raise EngineError(
                f"got {option} {_short(name)}: this model has it fixed at {size}; leave it out, or "
                "export the model anew"
            )
    names = ", ".join(_short(symbol) for symbol in symbols) or "no variable size"
    raise EngineError(f"got {option} {_short(name)}: this model has {names}")


def _range(symbol: str, low: int | None, usual: int | None, high: int | None) -> _Range:
    letter = _letter(symbol)
    if high is None:
        if letter is None:
            name = _short(symbol)
            raise EngineError(f"the model's size {name} has no default: give --max {name}=...")
        high = max(_DEFAULT_MAX[letter], low or 1, usual or 1)
    if low is None:
        low = 1
    if usual is None:
        usual = max(low, min(_DEFAULT_OPT[letter] if letter else high, high))
    if not low <= usual <= high:
        raise EngineError(
            f"got {_short(symbol)} with min {low}, opt {usual}, max {high}: expected "
            "1 <= min <= opt <= max (--min, --opt, --max)"
        )
    return _Range(low, usual, high)


def _profile(name: str, ports: Sequence[PortInfo], ranges: Mapping[str, _Range]) -> Profile:
    def shape(port: PortInfo, bound: str) -> tuple[int, ...]:
        return tuple(
            size if isinstance(size, int) else int(getattr(ranges[size], bound))
            for size in port.shape
        )

    return Profile(
        name,
        {
            port.name: ShapeRange(shape(port, "min"), shape(port, "opt"), shape(port, "max"))
            for port in ports
            if any(isinstance(size, str) for size in port.shape)
        },
    )


def _breadth(profile: Profile) -> int:
    ranges = profile.inputs.values()
    return sum(high - low for one in ranges for low, high in zip(one.min, one.max, strict=True))


def _misfit(
    profile: Profile, shapes: Mapping[str, Sequence[int]]
) -> tuple[str, int | None, int] | None:
    """The first thing the profile does not take: input, axis (None: number of axes), size."""
    for name, allowed in profile.inputs.items():
        shape = shapes.get(name)
        if shape is None:
            continue
        if len(shape) != len(allowed.min):
            return name, None, len(shape)
        for axis, size in enumerate(shape):
            if not allowed.min[axis] <= size <= allowed.max[axis]:
                return name, axis, size
    return None
