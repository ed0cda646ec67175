"""A recording in the layout and the types of a model: what each run is fed, and has to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..._metadata_check import shown
from ...errors import InputError
from ...metadata import LENGTHS, Metadata, PortInfo
from ...runtime import feeds
from ..running import Arrays, time_of
from .arrays import Array, Fitting, Sizes
from .recording import Plan
from .slots import Slot, graph_states


@dataclass(frozen=True)
class Chunk:
    """A part of the sequence, in the layout and the types of the model.

    Attributes:
        label: as the report shows it.
        suffix: of its keys in the file.
        feed: inputs of the graph, without states.
        expected: recorded outputs by name, states as a ``separate`` export calls them.
        lengths: how many steps of each row count, int64 [B]; None is all.
    """

    label: str
    suffix: str
    feed: Arrays
    expected: Arrays
    lengths: Array | None

    def counted(self, port: PortInfo, value: Array) -> Array:
        """The steps of an output that count, [n, ...]; all of it where none is padding.

        What upstream gives beyond the length of a row is its own affair.
        """
        batch, time = port.batch_axis, port.time_axis
        if self.lengths is None or batch is None or time is None or port.shape[time] != "time":
            return value
        steps = np.moveaxis(value, (batch, time), (0, 1))
        return steps[np.arange(steps.shape[1]) < self.lengths[:, None]]


def fit(order: Plan, metadata: Metadata, fitting: Fitting) -> tuple[Arrays, list[Chunk]]:
    """The states of the graph before the first chunk, and the chunks.

    Raises:
        InputError: an array does not fit, or stands for what another one stands for too.
    """
    given: list[Arrays] = [{} for _ in range(order.count)]
    sources: dict[tuple[int, str], str] = {}
    sizes: list[Sizes] = [{} for _ in range(order.count)]
    ragged = metadata.ragged and any(item.slot.port.name == LENGTHS for item in order.arrays)
    batch: Sizes = {}  # one batch runs through all chunks
    # Inputs first: they settle the sizes that the rest must have.
    for item in sorted(order.arrays, key=lambda item: item.slot.role != "input"):
        key, slot = item.key, item.slot
        known = sizes[item.chunk] = batch | sizes[item.chunk]
        value = fitting.shaped(key, slot.unwrapped(item.array), slot.port, known)
        if slot.role in ("input", "start"):
            padded = ragged and slot.role == "input" and slot.port.time_axis is not None
            value = fitting.as_input(key, value, slot.port, padded=padded)
        else:
            fitting.check_kind(key, value, slot.port)
            if value.dtype == np.float16 and "float16" not in (metadata.dtype, slot.port.dtype):
                fitting.notes.append(f"{key} was recorded as float16, coarser than the tolerance")
        for name, part in slot.parts(value).items():
            first = sources.setdefault((item.chunk, name), key)
            if first != key:
                raise InputError(
                    f"{fitting.path} holds {shown(name)} twice, in {shown(first)} and "
                    f"{shown(key)}: leave one out"
                )
            given[item.chunk][name] = part
        batch = {"batch": known["batch"]} if "batch" in known else batch
    rows = batch.get("batch", 1)
    chunks = [
        _chunk(metadata, order, number, given[number], rows, sizes[number].get("time", 0))
        for number in range(order.count)
    ]
    return graph_states(metadata, given[0], rows), chunks


def _chunk(
    metadata: Metadata, order: Plan, number: int, given: Arrays, batch: int, time: int
) -> Chunk:
    feed = {port.name: given[port.name] for port in metadata.inputs}
    if metadata.ragged:
        feed[LENGTHS] = feeds.check_lengths(given.get(LENGTHS, np.full(batch, time)), batch, time)
    names = [port.name for port in metadata.outputs] + [state.output for state in metadata.states]
    return Chunk(
        f"{f'chunk {number}' if order.chunked else 'recorded'}, B={batch} "
        f"T={time_of(metadata, feed)}",
        f".{number}" if order.chunked else "",
        feed,
        {name: given[name] for name in names if name in given},
        feed[LENGTHS] if metadata.ragged else None,
    )


def check_answers(fitting: Fitting, slots: Mapping[str, Slot], chunks: Sequence[Chunk]) -> None:
    """Refuse NaN, and outputs of one value: a model of zeros would give them too.

    Raises:
        InputError: naming the output.
    """
    outputs: dict[str, Array] = {}
    for name in dict.fromkeys(name for chunk in chunks for name in chunk.expected):
        values = [
            chunk.counted(slots[name].port, chunk.expected[name]).ravel()
            for chunk in chunks
            if name in chunk.expected
        ]
        joined = np.concatenate(values)
        fitting.check_numbers(name, joined)
        if slots[name].role == "output":
            outputs[name] = joined
    telling = {name for name, v in outputs.items() if v.size == 1 or (v != v[:1]).any()}
    for name, joined in outputs.items():
        # Of whole numbers, such as a class for each row, some may well be all the same.
        if name not in telling and (joined.dtype.kind == "f" or not telling):
            what = f"one value only, {joined[0]:g}" if joined.size else "no value that counts"
            raise InputError(
                f"{fitting.path}: {shown(name)} holds {what}, which proves nothing: record inputs "
                "whose answers differ, or leave it out"
            )
