"""``qrnn-deploy export``: checkpoint in, ONNX file out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._checkpoint_options import checkpoint_options, given_from
from ._shared import OutputFile, byte_size, json_option, print_json, spinner

if TYPE_CHECKING:
    from ..exporter.options import DTypeName
    from ..metadata import StateMode


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    required=True,
    help="ONNX file to write. Test vectors go into a folder beside it, model.golden.",
)
@click.option(
    "--states",
    type=click.Choice(["separate", "packed", "none"]),
    help="The recurrent state as one input and output per layer, as one [B, S] tensor, or, for "
    "whole sequences only, fixed at zero. Default: separate, or none where the model cannot stream "
    "(classifiers, bidirectional and reverse models).",
)
@click.option("--lengths", is_flag=True, help="Add the input `lengths` [B] for ragged batches.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Storage type of weights and activations. Default: the checkpoint's. The recurrence is "
    "always float32. ONNX Runtime's CPU provider cannot run a whole bfloat16 model.",
)
@click.option(
    "--inline",
    is_flag=True,
    help="Write standard ONNX only, without functions, for runtimes that know none (OpenVINO: also "
    "set its INFERENCE_PRECISION_HINT to f32, see docs/portability.md).",
)
@click.option(
    "--external-data",
    is_flag=True,
    help="Put the weights into a file beside the model, model.onnx.data. Default: above 256 MiB.",
)
@click.option("--single-file", is_flag=True, help="Keep the weights in the model, however large.")
@click.option(
    "--no-golden",
    is_flag=True,
    help="Do not write test vectors. Those of an earlier export to the same OUTPUT are removed, "
    "since they would not fit the new model.",
)
@click.option("--allow-non-finite", is_flag=True, help="Accept NaN and infinity among the weights.")
@checkpoint_options
@json_option
def export(
    checkpoint: Path,
    output: Path,
    states: StateMode | None,
    lengths: bool,
    dtype: DTypeName | None,
    inline: bool,
    external_data: bool,
    single_file: bool,
    no_golden: bool,
    allow_non_finite: bool,
    said: dict[str, Any],
    as_json: bool,
) -> None:
    """Write the model of CHECKPOINT as an ONNX file.

    CHECKPOINT is a file of qrnn-deploy or of one of the projects in docs/checkpoints.md. Which one
    is found from names and shapes; `qrnn-deploy inspect CHECKPOINT` shows it. The options from
    --format on say what the file does not record; what is assumed instead is printed and kept in
    the ONNX metadata. Nothing in the file is executed.

    Each pooling recurrence becomes one node. A runtime that loads our kernel library runs it
    there; any other runs the function of standard ONNX that the file carries under the same name.
    An encoder-decoder becomes two files: for an OUTPUT of model.onnx, model.encoder.onnx and
    model.decoder.onnx (docs/seq2seq.md).

    Nothing is left behind when an export fails or is interrupted. A file OUTPUT is replaced, and
    with it the test vectors and weights that an earlier export wrote beside it, recognised by what
    is in them. A file of your own that has the name of one of these stops the export.

    \b
    Examples:
      qrnn-deploy export model.safetensors -o model.onnx
      qrnn-deploy export model.safetensors -o server.onnx --states packed --lengths
      qrnn-deploy export model.safetensors -o plain.onnx --inline --dtype float16
      qrnn-deploy export lm_best.pth -o lm.onnx --vocabulary itos.pkl
      qrnn-deploy export qrnn.pt -o qrnn.onnx --input-size 40 --zoneout 0.1

    Needs the extra `export` (torch).
    """
    if external_data and single_file:
        raise click.UsageError("--external-data and --single-file exclude each other: give one")
    with spinner(f"loading {checkpoint.name}") as update:
        from ..exporter import ExportOptions, export_checkpoint  # imports torch, a second or two

        options = ExportOptions(
            states=states,
            lengths=lengths,
            dtype=dtype,
            inline=inline,
            external_data=external_data if external_data or single_file else None,
            golden=not no_golden,
            allow_non_finite=allow_non_finite,
        )
        report = export_checkpoint(
            checkpoint, output, options, given=given_from(said), progress=update
        )
    if as_json:
        print_json(report.to_json())
        return
    meta = report.metadata
    layers = f"{len(meta.layers)} layer{'s' if len(meta.layers) != 1 else ''}"
    click.echo(
        f"{report.path}: {byte_size(report.bytes)}, {meta.dtype}, {layers}, "
        f"states {meta.state_mode}"
    )
    for name in report.files:
        if name != str(report.path):
            click.echo(f"  with {name}")
    for name in report.removed:
        click.echo(f"  removed {name} of an earlier export")
    source = meta.source or {}
    if report.inferred:
        click.echo(f"read as {source.get('format')}: {'; '.join(report.inferred)}")
    for note in report.notes:
        click.echo(f"note: {note}")
    if meta.dtype != "bfloat16":  # which no runtime here can verify, as the note says
        command = ["qrnn-deploy", "verify", str(report.path), "--checkpoint", str(checkpoint)]
        click.echo(f"Next: {shlex.join(command)}")
