"""Where to look first when a recording and a model differ."""

from __future__ import annotations

from collections.abc import Sequence

from ...metadata import Metadata
from ..report import Comparison
from .arrays import BATCH_MAJOR, TIME_MAJOR
from .fit import Chunk


def likely_causes(
    comparisons: Sequence[Comparison],
    metadata: Metadata,
    chunks: Sequence[Chunk],
    layout: str | None,
) -> list[str]:
    """Why a comparison failed, likeliest first, one sentence each; none where all passed.

    A first chunk that is right clears what holds for the whole model (layout, assumptions of the
    export) and leaves what happens between two chunks.

    Args:
        comparisons: of the recording, in every implementation.
        metadata: of the model.
        chunks: of the recording.
        layout: of the recording, if it is stated.
    """
    first = [item for item in comparisons if item.case.startswith(chunks[0].label)]
    if all(item.passed for item in comparisons):
        return []
    if first and all(item.passed for item in first):
        return [_between(metadata)]
    causes = [f"check what the export assumed: {text}" for text in metadata.assumptions]
    turns = any((port.batch_axis, port.time_axis) == (0, 1) for port in metadata.inputs)
    if turns and layout is None:
        causes.append(
            f"the recording was read as {BATCH_MAJOR} [B, T, ...]; if it is [T, B, ...], say "
            f"--reference-layout {TIME_MAJOR}"
        )
    return causes


def _between(metadata: Metadata) -> str:
    """What goes wrong after a first chunk that is right."""
    if any(state.kind == "x" for state in metadata.states):
        return (
            "chunk 0 is right and a later one is not: did the upstream code start each chunk with "
            "zeros instead of the last inputs (pytorch-qrnn without save_prev_x)? See 'Carried "
            "means all of it' in docs/verify.md"
        )
    return (
        "chunk 0 is right and a later one is not: did the upstream code start each chunk with a "
        "state of its own? See 'Carried means all of it' in docs/verify.md"
    )
