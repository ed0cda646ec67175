"""Sizes of stacked layers from the shapes of their weights [g*H, w*in].

Rows tell g*H and columns w*in; with g in {3, 2} and w in {1, 2} a layer that reads another one
leaves exactly one possibility (its input is rows/3 or rows/2 of the other, and 1, 2 times that
are four different numbers). Only the first layer's input size stays open where nothing else
tells it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import CheckpointError

MAX_WINDOW = 2
"""What salesforce/pytorch-qrnn and its descendants allow."""


@dataclass(frozen=True)
class Stack:
    """One possibility.

    Attributes:
        gates: 3 (z, f, o), or 2 without an output gate.
        hidden: channels of each layer, of one direction.
        windows: taps of each layer.
        input_size: features that the first layer reads.
    """

    gates: int
    hidden: tuple[int, ...]
    windows: tuple[int, ...]
    input_size: int

    @property
    def pooling(self) -> str:
        """As our modules call it."""
        return "fo" if self.gates == 3 else "f"

    def options(self) -> str:
        """The options of the command line that say what the shapes leave open."""
        alike = len(set(self.windows)) == 1
        taps = str(self.windows[0]) if alike else ",".join(map(str, self.windows))
        gate = "--output-gate" if self.gates == 3 else "--no-output-gate"
        return f"--window {taps} {gate}"


def possibilities(
    shapes: Sequence[tuple[int, ...]],
    *,
    directions: int = 1,
    input_size: int | None = None,
    gates: int | None = None,
    windows: tuple[int, ...] | None = None,
    max_window: int = MAX_WINDOW,
) -> list[Stack]:
    """All ways in which weights of these shapes form a stack.

    Args:
        shapes: of the weights in order, [g*H, w*in].
        directions: 2 where each layer reads the outputs of two directions.
        input_size: features of the first layer's input, if known.
        gates: 3 or 2, if known.
        windows: taps, if known.
        max_window: largest number of taps that the format knows.
    """
    found = []
    for g in (3, 2) if gates is None else (gates,):
        if any(rows % g for rows, _ in shapes):
            continue
        hidden = tuple(rows // g for rows, _ in shapes)
        inner = _inner_windows(shapes, hidden, directions, max_window)
        if inner is None:
            continue
        columns = shapes[0][1]
        for first in range(1, max_window + 1):
            if columns % first or input_size not in (None, columns // first):
                continue
            taps = (first, *inner)
            if windows is None or windows == taps:
                found.append(Stack(g, hidden, taps, columns // first))
    return found


def _inner_windows(
    shapes: Sequence[tuple[int, ...]], hidden: Sequence[int], directions: int, max_window: int
) -> tuple[int, ...] | None:
    """Taps of all layers but the first, or None where they do not fit."""
    taps = []
    for (_, columns), below in zip(shapes[1:], hidden[:-1], strict=True):
        width = directions * below
        if columns % width or columns // width > max_window:
            return None
        taps.append(columns // width)
    return tuple(taps)


def refuse(
    shapes: Sequence[tuple[int, ...]], what: str, said: str, others: Sequence[Stack] = ()
) -> CheckpointError:
    """Why there is no possibility.

    Args:
        shapes: of the weights.
        what: the format.
        said: what the user gave, in words; may be empty.
        others: what would be possible if nothing had been given.
    """
    for (rows, _), (_, columns) in pairwise(shapes):
        wide = [
            columns // (rows // g) for g in (3, 2) if rows % g == 0 and columns % (rows // g) == 0
        ]
        if wide and min(wide) > MAX_WINDOW:
            return CheckpointError(
                f"has a layer of window {min(wide)} (weight of {columns} columns behind one of "
                f"{rows} rows), and {what} knows windows up to {MAX_WINDOW}"
            )
    text = ", ".join(f"[{rows}, {columns}]" for rows, columns in shapes[:4])
    more = ", ..." if len(shapes) > 4 else ""
    if said and others:
        options = "; or ".join(f"--input-size {s.input_size} {s.options()}" for s in others[:4])
        return CheckpointError(
            f"has layers of shapes {text}{more}, which are no QRNN of {what} with {said}: these "
            f"would fit, {options}"
        )
    return CheckpointError(
        f"has layers of shapes {text}{more}, which are no QRNN of {what}"
        + (
            f" with {said}"
            if said
            else ": rows are 3 or 2 times the hidden size, columns 1 or 2 times the input size"
        )
    )
