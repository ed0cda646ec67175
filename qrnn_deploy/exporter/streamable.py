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
from .blocks import blocks
from .border import Border
from .golden import make_inputs, run_border, run_whole

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
    whole, longer = delayed_inputs(meta, example, time=sum(_CHUNKS), seed=8)
    expected = run_whole(reference, whole)
    late = run_border(reference, longer)
    for port in meta.outputs:
        right, got = expected[port.name], late[port.name]
        if port.time_axis is not None:
            got = got.narrow(port.time_axis, meta.delay, got.shape[port.time_axis] - meta.delay)
        if got.shape != right.shape or not torch.allclose(got, right, rtol=1e-9, atol=1e-9):
            raise ExportError(
                f"the model cannot stream with its delay: values of output {port.name!r} differ "
                f"from those of whole sequences, so inputs of {meta.padding} are not what the "
                "delayed module gets as padding, or something beside it is not late; expected a "
                "Delayed around all of the model; else export with states='none' (--states none)"
            )


def delayed_inputs(
    metadata: Metadata, example: Sequence[Tensor], *, time: int, seed: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A batch of two from the start of a sequence, for a model with a delay of d.

    Returns:
        What the module itself takes for ``time`` outputs, and the d steps more that bring them out
        of a stream: the same where the module has no padding of its own.
    """
    ahead = metadata.delay if metadata.padding is None else 0
    steps = time + ahead
    whole = make_inputs(
        metadata, example, batch=2, time=steps, seed=seed, random_state=False, lengths=[steps] * 2
    )
    longer = dict(whole)
    if metadata.padding is not None:
        for port in metadata.inputs:
            if port.time_axis is not None:
                x = whole[port.name]
                shape = list(x.shape)
                shape[port.time_axis] = metadata.delay
                padding = x.new_full(shape, metadata.padding)
                longer[port.name] = torch.cat([x, padding], dim=port.time_axis)
        if metadata.ragged:
            longer[LENGTHS] = whole[LENGTHS] + metadata.delay
    return whole, longer


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
