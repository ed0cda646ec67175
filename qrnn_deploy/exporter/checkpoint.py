"""Export straight from a checkpoint file."""

from __future__ import annotations

from pathlib import Path

from ..checkpoints import load_checkpoint
from ..metadata import StateMode
from .pipeline import DTypeName, ExportReport, Progress, export


def export_checkpoint(
    checkpoint: str | Path,
    path: str | Path,
    *,
    states: StateMode = "separate",
    lengths: bool = False,
    dtype: DTypeName | None = None,
    inline: bool = False,
    external_data: bool | None = None,
    golden: bool = True,
    allow_non_finite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Load ``checkpoint`` (any recognised format) and export it; options as in :func:`export`.

    Raises:
        CheckpointError: the file cannot be used.
        ExportError: the model cannot be exported as asked.
    """
    if progress:
        progress("reading the checkpoint")
    loaded = load_checkpoint(checkpoint, allow_non_finite=allow_non_finite)
    source = {
        "name": Path(checkpoint).name,
        "format": loaded.format,
        "sha256": loaded.sha256,
    }
    return export(
        loaded.module,
        path,
        states=states,
        lengths=lengths,
        dtype=dtype,
        inline=inline,
        external_data=external_data,
        golden=golden,
        allow_non_finite=allow_non_finite,
        source=source,
        assumptions=loaded.notes,
        progress=progress,
    )
