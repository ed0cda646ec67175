"""Checks of constructor arguments, shared by every module; configurations come from strangers.

A configuration is read from a checkpoint, so it may hold anything that JSON can hold. Each check
returns the value in its plain Python type or raises one line; sizes are bounded before anything
is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError as ConfigError

MAX_SIZE = 2**24
"""Largest input, hidden, embedding or vocabulary size."""

MAX_WINDOW = 2**12
"""Largest number of taps."""

MAX_LAYERS = 1024
"""Largest number of levels in a stack."""

MAX_ELEMENTS = 2**31
"""Largest number of elements of one parameter, and of all parameters of a module."""


def size(name: str, value: Any, limit: int = MAX_SIZE, low: int = 1) -> int:
    """A whole number in low..limit."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= limit:
        raise ConfigError(f"{name} is {shorten(value)}, expected a whole number in {low}..{limit}")
    return int(value)


def sizes(name: str, value: Any, count: int, limit: int = MAX_SIZE) -> list[int]:
    """One number for all of ``count`` levels, or a sequence of ``count`` numbers."""
    if not is_sequence(value):
        return [size(name, value, limit)] * count
    if len(value) != count:
        raise ConfigError(
            f"{name} has {len(value)} entries, expected one number or {count} of them"
        )
    return [size(f"{name}[{n}]", entry, limit) for n, entry in enumerate(value)]


def size_list(name: str, value: Any, most: int) -> list[int]:
    """A sequence of at most ``most`` sizes, perhaps none."""
    if not is_sequence(value) or len(value) > most:
        raise ConfigError(f"{name} is {shorten(value)}, expected a list of up to {most} numbers")
    return [size(f"{name}[{n}]", entry) for n, entry in enumerate(value)]


def is_sequence(value: Any) -> bool:
    """Whether ``value`` is a sequence and not a string."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def choice(name: str, value: Any, options: Sequence[str]) -> str:
    """One of ``options``."""
    if not isinstance(value, str) or value not in options:
        raise ConfigError(f"{name} is {shorten(value)}, expected one of {', '.join(options)}")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {shorten(value)}, expected true or false")
    return value


def number(name: str, value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
        raise ConfigError(f"{name} is {shorten(value)}, expected a finite number")
    return float(value)


def probability(name: str, value: Any) -> float:
    """A number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ConfigError(f"{name} is {shorten(value)}, expected a number in 0 <= p < 1")
    return float(value)


def probabilities(name: str, value: Any, count: int) -> list[float]:
    """One probability for all of ``count`` places, or a sequence of ``count``."""
    if not is_sequence(value):
        return [probability(name, value)] * count
    if len(value) != count:
        raise ConfigError(
            f"{name} has {len(value)} entries, expected one number or {count} of them"
        )
    return [probability(f"{name}[{n}]", entry) for n, entry in enumerate(value)]


def texts(name: str, entries: Any, counted: str, count: int) -> tuple[str, ...] | None:
    """``count`` strings that UTF-8 can hold, or None; ``counted`` names the number."""
    if entries is None:
        return None
    if not is_sequence(entries) or not all(isinstance(entry, str) for entry in entries):
        raise ConfigError(f"{name} is {shorten(entries)}, expected {count} strings or null")
    if len(entries) != count:
        raise ConfigError(f"{name} has {len(entries)} entries, expected {counted} = {count}")
    for index, entry in enumerate(entries):
        try:
            entry.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{name}[{index}] is {shorten(entry)}, half of a surrogate pair: "
                "expected text that UTF-8 can hold"
            ) from None
    return tuple(entries)


def elements(name: str, *shape: int) -> None:
    """Refuse a parameter of more than :data:`MAX_ELEMENTS` elements."""
    if math.prod(shape) > MAX_ELEMENTS:
        raise ConfigError(
            f"{name} of shape {list(shape)} would hold {math.prod(shape)} elements, "
            f"expected at most {MAX_ELEMENTS}: the sizes are too large"
        )


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def shorten(value: Any, limit: int = 60) -> str:
    """``repr`` on one line and of bounded length, for use in an error."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    if is_sequence(value) and len(value) > 8:
        return f"a list of {len(value)} entries"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
