"""The two ways in: from a module in memory, and from a checkpoint file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .._arguments import as_path
from .._metadata_check import shown
from ..checkpoints import Given, load_checkpoint
from ..errors import ExportError, InputError
from ..metadata import StateMode
from ..nn import QRNNEncoderDecoder
from ..pair import pair_files
from .earlier import refuse_overwriting
from .files import checked_output
from .options import DTypeName, ExportOptions, Progress
from .pipeline import ExportReport, run_export
from .seq2seq import export_seq2seq


def export(
    module: nn.Module,
    path: str | Path,
    args: Sequence[Tensor] | Tensor | None = None,
    *,
    states: StateMode | None = None,
    lengths: bool = False,
    dtype: DTypeName | None = None,
    inline: bool = False,
    external_data: bool | None = None,
    golden: bool = True,
    allow_non_finite: bool = False,
    time_major: bool | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    time_axes: Mapping[str, int | None] | None = None,
    source: Mapping[str, Any] | None = None,
    assumptions: Sequence[str] = (),
    progress: Progress | None = None,
) -> ExportReport:
    """Write ``module`` to ``path`` as ONNX in which pooling is one custom node per layer.

    The graph is batch first and dynamic in batch and time. The file also holds each custom node
    as a function in standard ONNX, so it runs with and without our kernel library. An
    encoder-decoder becomes two files beside ``path``, see :func:`.seq2seq.export_seq2seq`.

    Args:
        module: any module that contains QRNN layers. It is exported in eval mode and left as it
            was. Streaming state is taken from graph inputs without the module's knowledge.
        path: the ONNX file to write, replaced only when everything has succeeded, together with
            the golden vectors and external data that an earlier export to it wrote. Of a symbolic
            link what it leads to is replaced, and the other files lie beside that.
        args: example inputs, one tensor per parameter of ``forward``, with B >= 2 and T >= 2;
            not needed for the modules of :mod:`qrnn_deploy.nn`. All have the same B. Inputs that
            share a time axis have examples of the same T, others of different T.
        states: ``separate`` (state_00_c_in [B, H] float32, state_00_x_in [B, k-1, in], ...),
            ``packed`` (one float32 [B, S] in and out), or ``none`` (every run starts at zero).
            None means ``none`` for a module of :mod:`qrnn_deploy.nn` that walks backwards or
            answers a whole sequence at once, and ``separate`` for every other.
        lengths: add the input ``lengths`` [B] int64 for ragged batches.
        dtype: convert a copy of the module first. States of pooling stay float32.
        inline: replace the custom nodes by their bodies, for runtimes that know no functions.
        external_data: weights in ``<name>.data``; None decides by size (256 MiB).
        golden: also write test vectors to ``<stem>.golden/``.
        allow_non_finite: accept NaN and infinite weights.
        time_major: whether the module takes [T, B, ...]; None asks its ``batch_first``. Only
            inputs and outputs that have time on these axes are turned.
        input_names: names of the graph inputs, in order.
        output_names: names of the graph outputs that are not states, in order.
        time_axes: axis of time per input where it is not 1, counted batch first as in the graph
            (None: the input has no time, and a time-major module takes it as [B, ...]).
        source: checkpoint the weights came from (sha256, name, format), for the metadata.
        assumptions: what the checkpoint did not say, for the metadata.
        progress: called with the name of each stage.

    Raises:
        ExportError: one line on what cannot be exported and what to do; also where a file that
            no export wrote has the name of the golden vectors or the external data.
        InputError: ``module`` is no module, or ``path`` no path.
    """
    if not isinstance(module, nn.Module):
        raise InputError(
            f"module is {shown(module)}, expected a torch.nn.Module: a checkpoint file is exported "
            "with qrnn_deploy.exporter.export_checkpoint"
        )
    path = as_path(path, "path")
    options = ExportOptions(
        states=states,
        lengths=lengths,
        dtype=dtype,
        inline=inline,
        external_data=external_data,
        golden=golden,
        allow_non_finite=allow_non_finite,
        time_major=time_major,
        input_names=input_names,
        output_names=output_names,
        time_axes=time_axes or {},
    )
    return _run(module, path, args, options, source, assumptions, progress)


def export_checkpoint(
    checkpoint: str | Path,
    path: str | Path,
    options: ExportOptions | None = None,
    *,
    given: Given | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Load ``checkpoint`` (any recognised format) and export it.

    Args:
        checkpoint: the file; it is recorded in the metadata.
        path: the ONNX file to write, as in :func:`export`.
        options: by default those of :func:`export`.
        given: what the checkpoint does not record; it is kept in the metadata, and ``verify``
            reads the checkpoint with it again.
        progress: called with the name of each stage.

    Raises:
        CheckpointError: the file cannot be used.
        ExportError: the model cannot be exported as asked, or would overwrite its checkpoint.
        InputError: ``checkpoint`` or ``path`` is no path.
    """
    checkpoint, path = as_path(checkpoint, "checkpoint"), as_path(path, "path")
    options = options or ExportOptions()
    path = checked_output(path)
    for target in (path, *pair_files(path).values()):
        refuse_overwriting(Path(checkpoint), target)
    if progress:
        progress("reading the checkpoint")
    loaded = load_checkpoint(
        checkpoint, given=given, allow_non_finite=options.allow_non_finite, mapped=True
    )
    source: dict[str, Any] = {
        "name": Path(checkpoint).name,
        "format": loaded.format,
        "sha256": loaded.sha256,
    }
    if loaded.given.to_json():
        source["options"] = loaded.given.to_json()
    report = _run(loaded.module, path, None, options, source, loaded.assumptions, progress)
    return replace(report, inferred=[*loaded.inferred], notes=[*loaded.notes, *report.notes])


def _run(
    module: nn.Module,
    path: str | Path,
    args: Sequence[Tensor] | Tensor | None,
    options: ExportOptions,
    source: Mapping[str, Any] | None,
    assumptions: Sequence[str],
    progress: Progress | None,
) -> ExportReport:
    """Export to one file, or to the two of an encoder-decoder."""
    if not isinstance(module, QRNNEncoderDecoder):
        return run_export(
            module, path, args, options, source=source, assumptions=assumptions, progress=progress
        )
    if args is not None:
        raise ExportError("args are not needed for an encoder-decoder: leave them out")
    return export_seq2seq(
        module, path, options, source=source, assumptions=assumptions, progress=progress
    )
