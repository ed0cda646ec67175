"""The verification itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._optional import require
from ..errors import InputError, ModelError
from ..runtime import Session
from .artifacts import open_artifacts
from .golden import compare_golden, golden_folder
from .report import VerifyReport

if TYPE_CHECKING:
    from torch import Tensor, nn


def verify(
    model: str | Path,
    *,
    checkpoint: str | Path | None = None,
    module: nn.Module | None = None,
    args: Sequence[Tensor] | None = None,
    per_layer: bool = False,
    atol: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> VerifyReport:
    """Compare an exported file, run with the kernel and with the function, with its original.

    Args:
        model: the ONNX file.
        checkpoint: the checkpoint it was exported from. Needs the extra ``export``.
        module: the PyTorch module instead, for models that are not in a checkpoint of ours.
        args: example inputs as given to :func:`qrnn_deploy.export`, with ``module`` of the user's.
        per_layer: also compare layer by layer. A failed comparison does that by itself.
        atol: absolute tolerance for every output, instead of the derived one
            (:mod:`qrnn_deploy.tolerance`).
        progress: called with the name of each stage.

    Returns:
        Every comparison made; ``report.passed`` says whether all are within tolerance.

    Raises:
        ModelError: the file, or the golden vectors where neither checkpoint nor module is given,
            cannot be used.
        CheckpointError: the checkpoint cannot be read.
        InputError: contradictory arguments.
    """
    path = Path(model)
    if checkpoint is not None and module is not None:
        raise InputError("got a checkpoint and a module: expected at most one of them")
    if atol is not None and not (math.isfinite(atol) and atol >= 0):
        raise InputError(f"atol is {atol}, expected a finite number, 0 or more, or None")
    note = progress or (lambda stage: None)
    note("loading")
    sessions, missing = open_artifacts(path)
    if checkpoint is None and module is None:
        if per_layer:
            raise InputError("per-layer comparison needs the PyTorch model: give --checkpoint")
        note("comparing with the golden vectors")
        comparisons, problems = compare_golden(path, sessions, atol)
        return VerifyReport(
            str(path), str(golden_folder(path)), comparisons, problems=problems, missing=missing
        )
    reference_name = str(checkpoint) if checkpoint is not None else type(module).__name__
    report = VerifyReport(str(path), f"{reference_name} in float64", missing=missing)
    _against_torch(path, report, sessions, checkpoint, module, args, per_layer, atol, note)
    return report


def _against_torch(
    path: Path,
    report: VerifyReport,
    sessions: dict[str, Session],
    checkpoint: str | Path | None,
    module: nn.Module | None,
    args: Sequence[Tensor] | None,
    per_layer: bool,
    atol: float | None,
    note: Callable[[str], None],
) -> None:
    for package in ("torch", "onnxscript"):
        require(package, "comparing with PyTorch")
    from ..checkpoints import load_checkpoint
    from ..exporter.pipeline import evaluating
    from ..exporter.plan import example_args, weights_digest
    from ..exporter.ports import turn
    from .per_layer import compare_layers
    from .reference import Reference, compare_grid, grid

    metadata = next(iter(sessions.values())).metadata
    if checkpoint is not None:
        loaded = load_checkpoint(checkpoint, allow_non_finite=True)
        module = loaded.module
        recorded: dict[str, Any] = metadata.source or {}
        if recorded.get("sha256") not in (None, loaded.sha256):
            report.problems.append(
                f"the file was exported from another checkpoint ({recorded.get('name')}): "
                "its sha256 differs"
            )
    assert module is not None
    with evaluating(module):
        example = example_args(module) if args is None else list(args)
        if len(example) != len(metadata.inputs):
            raise ModelError(
                f"{path} has {len(metadata.inputs)} inputs, the PyTorch model got {len(example)} "
                "example inputs: expected as many"
            )
        if args is not None:
            example = [
                turn(x, port.time_axis, metadata.time_major)
                for x, port in zip(example, metadata.inputs, strict=True)
            ]
        reference = Reference(module, metadata, example)
        if weights_digest(reference.same.module) != metadata.weights_sha256:
            report.problems.append("the weights of the PyTorch model differ from those exported")
        report.problems += reference.table_problems(path)
        answers = []
        for case in grid(metadata):
            note(f"running PyTorch, {case.label}")
            try:
                answers.append(reference.answer(case))
            except RuntimeError as error:
                report.missing[case.label] = f"PyTorch fails: {str(error).splitlines()[0]}"
        note("comparing")
        report.comparisons += compare_grid(answers, sessions, metadata, atol)
        if per_layer or not report.passed:
            note("comparing layer by layer")
            report.layers = compare_layers(path, reference, list(sessions), atol)
