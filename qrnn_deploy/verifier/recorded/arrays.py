"""One recorded array against the port of a model that it stands for: layout, sizes, type."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._metadata_check import shown
from ...errors import InputError
from ...metadata import PortInfo
from ...runtime.contract import listed
from ...runtime.feeds import numpy_dtype

Array = NDArray[Any]
Sizes = dict[str, int]
"""Symbolic sizes (batch, time, ...) that are known so far."""

BATCH_MAJOR, TIME_MAJOR = "batch-major", "time-major"

_MOST_AXES = 5
"""Of an array whose axes are tried in every order, for the error message."""


@dataclass
class Fitting:
    """Brings arrays of one file into the model's layout and types.

    Attributes:
        path: the file, for messages.
        layout: of the ports with time on axis 1: ``batch-major`` or ``time-major``.
        notes: what changed on the way.
    """

    path: Path
    layout: str
    notes: list[str] = field(default_factory=list)

    def shaped(self, key: str, array: Array, port: PortInfo, sizes: Sizes) -> Array:
        """``array`` batch first, as the port has it; sizes that it settles are added to ``sizes``.

        Raises:
            InputError: its shape is another.
        """
        wanted = _in_layout(port, self.layout)
        if not _fits(array.shape, wanted, sizes):
            known = [f"{s} ({sizes[s]})" if s in sizes else s for s in map(str, wanted)]
            raise InputError(
                f"{self.path}: {shown(key)} has shape {list(array.shape)}, expected "
                f"[{listed(known)}]{self._remedy(array, port, sizes)}"
            )
        sizes |= {s: n for s, n in zip(wanted, array.shape, strict=True) if isinstance(s, str)}
        return np.swapaxes(array, 0, 1) if wanted != port.shape else array

    def _remedy(self, array: Array, port: PortInfo, sizes: Sizes) -> str:
        """How it would fit, or nothing."""
        other = TIME_MAJOR if self.layout == BATCH_MAJOR else BATCH_MAJOR
        if {"batch", "time"} <= sizes.keys():
            swapped = sizes | {"batch": sizes["time"], "time": sizes["batch"]}
            if _fits(array.shape, _in_layout(port, other), swapped):
                return f": it fits if all arrays are {other}; then say --reference-layout {other}"
        wanted = _in_layout(port, self.layout)
        if array.ndim == len(wanted) <= _MOST_AXES:
            for order in itertools.permutations(range(array.ndim)):
                if _fits([array.shape[axis] for axis in order], wanted, sizes):
                    return f": transposed, .transpose({listed(order)}), it fits"
        full = [sizes.get(size, -1) if isinstance(size, str) else size for size in wanted]
        if min(full, default=-1) >= 0 and int(np.prod(full)) == array.size > 0:
            return f": it has as many values; was it flattened? .reshape{tuple(full)}"
        return ""

    def as_input(self, key: str, value: Array, port: PortInfo, *, padded: bool = False) -> Array:
        """``value`` in the port's type.

        Args:
            key: for messages.
            value: the array.
            port: the input.
            padded: whether not all of it counts, so that it may hold NaN.

        Raises:
            InputError: another kind of number, a value beyond the type, or NaN.
        """
        self.check_kind(key, value, port)
        if not padded:
            self.check_numbers(key, value)
        dtype = numpy_dtype(port.dtype)
        if value.dtype == dtype:
            return np.ascontiguousarray(value)
        if value.dtype.kind in "iu":
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            lost = value.size > 0 and not low <= int(value.min()) <= int(value.max()) <= high
            converted = value.astype(dtype)
        else:
            with np.errstate(over="ignore"):
                converted = value.astype(dtype)
            back = converted.astype(value.dtype)
            lost = bool((~np.isfinite(back) & np.isfinite(value)).any())
            if not lost and not np.array_equal(back, value, equal_nan=True):
                self.notes.append(f"{key}, recorded as {value.dtype}, was rounded to {port.dtype}")
        if lost:
            raise InputError(
                f"{self.path}: {shown(key)} holds {value.min()}..{value.max()} ({value.dtype}), "
                f"more than the model's {port.dtype} takes: record what the model is to be fed"
            )
        return np.ascontiguousarray(converted)

    def check_kind(self, key: str, value: Array, port: PortInfo) -> None:
        """Refuse numbers of another kind than the port's.

        Raises:
            InputError: naming ``key``.
        """
        kinds = "f" if "float" in port.dtype else "b" if port.dtype == "bool" else "iu"
        if value.dtype.kind not in kinds:
            example = "float32" if kinds == "f" else port.dtype
            raise InputError(
                f"{self.path}: {shown(key)} holds {value.dtype}, expected {port.dtype}: record it "
                f"with .astype({example!r})"
            )

    def check_numbers(self, key: str, value: Array) -> None:
        """Refuse NaN, which nothing can be compared with.

        Raises:
            InputError: naming ``key``.
        """
        if value.dtype.kind == "f" and np.isnan(value).any():
            raise InputError(
                f"{self.path}: {shown(key)} holds NaN, expected numbers: mend the recording, or "
                "leave that part of it out"
            )


def _in_layout(port: PortInfo, layout: str) -> list[int | str]:
    """The shape of a port in a recording: [T, B, ...] for [B, T, ...] where it is time-major."""
    if layout == TIME_MAJOR and (port.batch_axis, port.time_axis) == (0, 1):
        return [port.shape[1], port.shape[0], *port.shape[2:]]
    return port.shape


def _fits(shape: Sequence[int], wanted: Sequence[int | str], sizes: Mapping[str, int]) -> bool:
    return len(shape) == len(wanted) and all(
        got == (sizes.get(size, got) if isinstance(size, str) else size)
        for got, size in zip(shape, wanted, strict=True)
    )
