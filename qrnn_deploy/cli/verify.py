"""``qrnn-deploy verify``: is the exported model still the model it came from?"""

from __future__ import annotations

from pathlib import Path

import click

from ._shared import FiniteFloat, console, json_option, spinner

EXIT_DIFFERENT = 1
LAYOUTS = ("batch-major", "time-major")
ARTIFACTS = ("kernel", "function", "cuda", "tensorrt", "tensorrt-rtx")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="The checkpoint it was exported from (needs the extra `export`). Without it the test "
    "vectors beside the model are compared, and no torch is needed.",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="Outputs that you recorded from the upstream code, in a .npz file (docs/verify.md), "
    "instead of the checkpoint. Needs no torch.",
)
@click.option(
    "--reference-layout",
    type=click.Choice(LAYOUTS),
    help="Of the recorded arrays with time: [B, T, ...], as in the model, or [T, B, ...]. Default: "
    "what the file says of itself, else batch-major.",
)
@click.option(
    "--per-layer",
    is_flag=True,
    help="Also feed each layer the right input, and name the first that departs. Done anyway after "
    "a failure.",
)
@click.option("--atol", type=FiniteFloat(min=0), help="Absolute tolerance instead of ours.")
@click.option(
    "--only",
    type=click.Choice(ARTIFACTS),
    multiple=True,
    help="Compare this implementation, and fail where it is not here. Repeat it for more. Default: "
    "all that are here.",
)
@json_option
@click.pass_context
def verify(
    context: click.Context,
    model: Path,
    checkpoint: Path | None,
    reference: Path | None,
    reference_layout: str | None,
    per_layer: bool,
    atol: float | None,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare MODEL, an ONNX file or an engine, with its PyTorch original.

    The original is a checkpoint, or outputs that the upstream code gave (--reference), or else the
    test vectors beside the model.

    The file runs in every implementation that this machine has: ONNX Runtime on the CPU, with the
    kernel and with the standard-ONNX function, and on an NVIDIA GPU (cuda); engines of TensorRT and
    of TensorRT for RTX, built for the occasion. Each goes over a grid of lengths, batch sizes,
    chunkings and initial states. The report names what is not here and how to get it. An output
    passes when its error against the model in float64 is at most four times that of PyTorch in the
    file's own type, or below a floor derived for the type. The table shows the largest errors and
    the smallest tolerance that would have passed.

    The name that stands for the two files of an encoder-decoder has both compared, and with the
    checkpoint also what they translate.

    \b
    Examples:
      qrnn-deploy verify model.onnx --checkpoint model.safetensors
      qrnn-deploy verify model.onnx --checkpoint model.safetensors --per-layer
      qrnn-deploy verify model.onnx --reference outputs.npz
      qrnn-deploy verify model.onnx --only kernel --json
      qrnn-deploy verify model.engine

    Exit status: 0 equal within tolerance, 1 not, 2 for a mistake such as a missing file.
    """
    if reference is not None and checkpoint is not None:
        raise click.UsageError(
            "--reference and --checkpoint are two originals: compare with one after the other"
        )
    if reference is None and reference_layout is not None:
        raise click.UsageError("--reference-layout is for --reference: give the file too")
    from ..verifier import verify as compare

    with spinner(f"verifying {model.name}") as update:
        report = compare(
            model,
            checkpoint=checkpoint,
            reference=reference,
            reference_layout=reference_layout,
            per_layer=per_layer,
            atol=atol,
            only=only or None,
            progress=update,
        )
    if as_json:
        click.echo(report.to_json())
    else:
        console().print(report)
    if not report.passed:
        context.exit(EXIT_DIFFERENT)
