"""Does the model give the same answer in chunks? Asked before a streaming file is written.

Recurrent layers carry their state, but a model may look across time elsewhere: a convolution with
padding, attention, a mean over time. Such a file would run and be quietly wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ExportError
from ..metadata import LENGTHS, PACKED_INPUT, PACKED_OUTPUT, Metadata
from ..nn.binding import Binding
from .blocks import blocks
from .border import Border
from .golden import as_double, make_inputs, run_border
from .observed import observe
from .ports import turn

_CHUNKS = (3, 1, 4, 2)


def check_streamable(reference: Border, example: Sequence[Tensor]) -> None:
    """Compare chunks with the whole sequence in float64.

    Args:
        reference: the model in double precision (:func:`.double.in_double`).
        example: the example inputs.

    Raises:
        ExportError: an output departs; it names the output, by how much, and what to do.
    """
    meta = reference.metadata
    total = sum(_CHUNKS)
    whole = make_inputs(
        meta, example, batch=2, time=total, seed=7, random_state=True, lengths=[total, total]
    )
    expected = run_border(reference, whole)
    pieces: dict[str, list[Tensor]] = {port.name: [] for port in meta.outputs}
    feed, start = dict(whole), 0
    for size in _CHUNKS:
        for port in meta.inputs:
            if port.time_axis is not None:
                feed[port.name] = whole[port.name].narrow(port.time_axis, start, size)
        if meta.ragged:
            feed[LENGTHS] = torch.full((2,), size, dtype=torch.int64)
        result = _run_chunk(reference, feed, size)
        for name, parts in pieces.items():
            parts.append(result[name])
        feed.update(_next_states(meta, result))
        start += size
    for port in meta.outputs:
        parts = pieces.pop(port.name)
        got = parts[-1] if port.time_axis is None else torch.cat(parts, dim=port.time_axis)
        _compare(port.name, got, expected[port.name])


def check_delay(reference: Border, example: Sequence[Tensor]) -> None:
    """Compare the late outputs of a streaming model with those of whole sequences, in float64.

    Args:
        reference: as for :func:`check_streamable`, of a model with a delay.
        example: the example inputs.

    Raises:
        ExportError: more than the delay stands between them.
    """
    meta = reference.metadata
    steps = sum(_CHUNKS) + (meta.delay if meta.padding is None else 0)
    whole = make_inputs(
        meta, example, batch=2, time=steps, seed=8, random_state=False, lengths=[steps, steps]
    )
    inputs = [as_double(whole[port.name]) for port in meta.inputs]
    expected = observe(reference.module, meta.inputs, inputs, meta.time_major, Binding())
    if meta.padding is not None:
        for port in meta.inputs:
            if port.time_axis is not None:
                whole[port.name] = padded(whole[port.name], port.time_axis, meta)
        if meta.ragged:
            whole[LENGTHS] = whole[LENGTHS] + meta.delay
    late = run_border(reference, whole)
    for port, (_, leaf) in zip(meta.outputs, expected, strict=True):
        right = turn(leaf, port.time_axis, meta.time_major)
        got = late[port.name]
        if port.time_axis is not None:
            got = got.narrow(port.time_axis, meta.delay, got.shape[port.time_axis] - meta.delay)
        if got.shape != right.shape or not torch.allclose(got, right, rtol=1e-9, atol=1e-9):
            raise ExportError(
                f"the model cannot stream with its delay: values of output {port.name!r} differ "
                f"from those of whole sequences, so inputs of {meta.padding} are not what the "
                "delayed module gets as padding, or something beside it is not late; expected a "
                "Delayed around all of the model; else export with states='none' (--states none)"
            )


def padded(x: Tensor, axis: int, meta: Metadata) -> Tensor:
    """``x`` and, along its time axis, the padding that brings out the last outputs."""
    assert meta.padding is not None
    shape = list(x.shape)
    shape[axis] = meta.delay
    return torch.cat([x, x.new_full(shape, meta.padding)], dim=axis)


def _run_chunk(reference: Border, feed: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    try:
        return run_border(reference, feed)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"the model cannot stream: a chunk of {size} steps fails ({reason}); export with "
            "states='none' (--states none) to run whole sequences"
        ) from error


def _next_states(meta: Metadata, result: dict[str, Tensor]) -> dict[str, Tensor]:
    if meta.state_mode == "packed":
        return {PACKED_INPUT: result[PACKED_OUTPUT]}
    return {state.input: result[state.output] for state in meta.states}


def _compare(name: str, got: Tensor, expected: Tensor) -> None:
    same_shape = got.shape == expected.shape
    if same_shape and all(
        torch.allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)
        for a, b in zip(blocks(got), blocks(expected), strict=True)
    ):
        return
    what = (
        f"differ by up to {(got - expected).abs().max().item():.2g}"
        if same_shape
        else f"have shape {tuple(got.shape)} rather than {tuple(expected.shape)}"
    )
    raise ExportError(
        f"the model cannot stream: in chunks the values of output {name!r} {what}, so something "
        "other than the recurrent layers looks across time (a padded convolution, attention, "
        "pooling over time); export with states='none' (--states none), or make that part causal "
        "with a state of its own"
    )
