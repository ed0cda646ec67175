"""Running a model over a sequence in chunks: the bare graph, and as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metadata import LENGTHS, Metadata
from ..runtime import StreamingSession, lateness, state_bytes
from ..runtime.feeds import sizes_of, state_inputs
from .artifacts import Runnable, outside

Arrays = dict[str, NDArray[Any]]


def time_of(metadata: Metadata, feed: Arrays) -> int:
    """Steps of the inputs.

    Raises:
        InputError: they do not fit the model.
    """
    sizes = sizes_of(metadata, feed)
    axes = {port.name: port.time_axis for port in metadata.inputs}
    times = [feed[name].shape[axis] for name, axis in axes.items() if axis is not None]
    return max(times, default=sizes.get("time", 1))


def outside_in_chunks(model: Runnable, feed: Arrays, chunks: Sequence[int]) -> str | None:
    """Why an engine's profiles do not take a chunk of the sequence, or None where they do."""
    cut = pieces(model.metadata, feed, chunks)
    return next(filter(None, (outside(model, piece) for piece in cut)), None)


def pieces(metadata: Metadata, feed: Arrays, chunks: Sequence[int]) -> Iterator[Arrays]:
    """The model's inputs chunk by chunk, without states.

    In a ragged batch a row that ends inside a chunk rests in the later ones.
    """
    start = 0
    for size in chunks:
        piece = {port.name: feed[port.name] for port in metadata.inputs}
        for port in metadata.inputs:
            if port.time_axis is not None and len(chunks) > 1:
                span = np.arange(start, start + size)
                piece[port.name] = np.take(feed[port.name], span, axis=port.time_axis)
        if metadata.ragged:
            piece[LENGTHS] = np.clip(feed[LENGTHS] - start, 0, size)
        yield piece
        start += size


def run_chunks(model: Runnable, feed: Arrays, chunks: Sequence[int]) -> Arrays:
    """Run a sequence in chunks through the bare graph, states carried by hand.

    Outputs come joined along their time axis; one without time is that of the last chunk.
    """
    meta = model.metadata
    states = {name: feed[name] for name, *_ in state_inputs(meta, 0)}
    results: list[Arrays] = []
    for piece in pieces(meta, feed, chunks):
        results.append(model.run(piece | states))
        states = {name: results[-1][state_after(name)] for name in states}
    return _joined(meta, results) | {state_after(name): value for name, value in states.items()}


def run_stream(model: Runnable, feed: Arrays, chunks: Sequence[int]) -> Arrays:
    """As :func:`run_chunks`, as a stream: its buffers and graphs, and states saved as bytes."""
    meta = model.metadata
    states = {name: feed[name] for name, *_ in state_inputs(meta, 0)}
    stream = StreamingSession(model, len(next(iter(states.values()))))
    bare = {name.removesuffix("_in"): value for name, value in states.items()}
    if meta.delay:
        bare[lateness.STATE] = np.zeros((stream.batch_size, 2), np.float32)
    mark = state_bytes.fingerprint(meta)
    stream.load_state(state_bytes.pack(bare, mark))
    results: list[Arrays] = []
    for piece in pieces(meta, feed, chunks):
        got = stream.step(piece)
        results.append(got if isinstance(got, dict) else {meta.outputs[0].name: got})
    last = state_bytes.unpack(stream.save_state(), mark, bare, model.path.name)
    last.pop(lateness.STATE, None)
    return _joined(meta, results) | {f"{name}_out": value for name, value in last.items()}


def state_after(state_input: str) -> str:
    """The output that holds the state after a run."""
    return f"{state_input.removesuffix('_in')}_out"


def _joined(metadata: Metadata, results: Sequence[Arrays]) -> Arrays:
    return {
        port.name: results[-1][port.name]
        if port.time_axis is None
        else np.concatenate([result[port.name] for result in results], axis=port.time_axis)
        for port in metadata.outputs
    }
