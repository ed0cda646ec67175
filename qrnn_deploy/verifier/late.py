"""A model with a delay as its users run it: streams that are flushed, against whole sequences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..exporter.golden import finite_error, run_whole
from ..exporter.streamable import delayed_inputs
from ..runtime import StreamingSession
from ..runtime.engine_device import host_array
from ..tolerance import allowed_error
from .artifacts import Runnable
from .reference import Reference
from .report import Comparison, compare
from .running import Arrays, outside_in_chunks, pieces

_CHUNKS = (3, 1, 5)
_LABEL = "late outputs of a stream in chunks of 5/3/1, then flushed"


def compare_delay(
    reference: Reference, models: Mapping[str, Runnable], atol: float | None
) -> tuple[list[Comparison], dict[str, str]]:
    """The valid outputs of a flushed stream against the PyTorch model on the whole sequence.

    Returns:
        A comparison for each model and output with a time axis, and the models that do not take
        the sizes.
    """
    meta = reference.metadata
    found: list[Comparison] = []
    missing: dict[str, str] = {}
    whole, longer = delayed_inputs(meta, reference.example, time=sum(_CHUNKS), seed=12)
    exact, same = (run_whole(border, whole) for border in (reference.exact, reference.same))
    arrays = {name: host_array(value) for name, value in longer.items()}
    for artifact, model in models.items():
        misfit = outside_in_chunks(model, arrays, (*_CHUNKS, meta.delay))
        if misfit is not None:
            missing[f"{artifact}, {_LABEL}"] = misfit
            continue
        got = _flushed(model, arrays)
        for port in meta.outputs:
            if port.time_axis is None:
                continue
            right, own = exact[port.name], same[port.name]
            error, peak = finite_error(own, right)
            allowed = allowed_error(error, peak, meta.dtype, meta.feedback)
            allowed = allowed if atol is None else atol
            found.append(
                compare(
                    *(artifact, _LABEL, port.name, got[port.name]),
                    *(host_array(right), allowed, host_array(own)),
                )
            )
    return found, missing


def _flushed(model: Runnable, feed: Arrays) -> Arrays:
    meta = model.metadata
    stream = StreamingSession(model, 2)
    parts: dict[str, list[np.ndarray]] = {port.name: [] for port in meta.outputs}

    def keep(answer: Arrays | np.ndarray) -> None:
        named = answer if isinstance(answer, dict) else {meta.outputs[0].name: answer}
        dropped = int(stream.invalid[0])
        for port in meta.outputs:
            if port.time_axis is not None:
                value = named[port.name]
                kept = range(dropped, value.shape[port.time_axis])
                parts[port.name].append(np.take(value, kept, axis=port.time_axis))

    *chunks, rest = pieces(meta, feed, (*_CHUNKS, meta.delay))
    for piece in chunks:
        keep(stream.step(piece))
    keep(stream.flush(rest if meta.padding is None else None))
    return {
        port.name: np.concatenate(parts[port.name], axis=port.time_axis)
        for port in meta.outputs
        if port.time_axis is not None
    }
