"""A model with a delay as its users run it: streams that are flushed, against whole sequences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from ..exporter.border import Border
from ..exporter.golden import as_double, finite_error, make_inputs
from ..exporter.observed import observe
from ..exporter.ports import turn
from ..exporter.streamable import padded
from ..metadata import LENGTHS
from ..nn.binding import Binding
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
    ahead = meta.delay if meta.padding is None else 0
    steps = sum(_CHUNKS)
    feed = make_inputs(
        meta,
        reference.example,
        batch=2,
        time=steps + ahead,
        seed=12,
        random_state=False,
        lengths=[steps + ahead] * 2,
    )
    exact, same = (_whole(border, feed) for border in (reference.exact, reference.same))
    if meta.padding is not None:
        for port in meta.inputs:
            if port.time_axis is not None:
                feed[port.name] = padded(feed[port.name], port.time_axis, meta)
    arrays = {name: host_array(value) for name, value in feed.items()}
    if meta.ragged:
        arrays[LENGTHS] = np.full(2, steps + meta.delay)
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


def _whole(border: Border, feed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the module itself gives for whole sequences."""
    meta = border.metadata
    double = any(p.dtype == torch.float64 for p in border.parameters())
    inputs = [feed[port.name] for port in meta.inputs]
    if double:
        inputs = [as_double(value) for value in inputs]
    leaves = observe(border.module, meta.inputs, inputs, meta.time_major, Binding())
    return {
        port.name: turn(leaf, port.time_axis, meta.time_major)
        for port, (_, leaf) in zip(meta.outputs, leaves, strict=True)
    }


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
