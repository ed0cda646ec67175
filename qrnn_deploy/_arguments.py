"""Checks of arguments that every way into the library shares."""

from __future__ import annotations

from pathlib import Path

from ._metadata_check import shown
from .errors import InputError


def as_path(value: object, name: str) -> Path:
    """A path from what a caller gave for one.

    Args:
        value: of any type.
        name: of the argument, for the error.

    Raises:
        InputError: neither ``str`` nor ``os.PathLike``.
    """
    try:
        return Path(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(
            f"{name} is {shown(value)}, expected the path of a file (str or pathlib.Path)"
        ) from None
