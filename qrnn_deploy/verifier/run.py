"""The verification itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._arguments import as_path
from .._files import golden_folder
from .._metadata_check import shown
from .._optional import require
from ..engines.model import file_sha256
from ..errors import ExportError, InputError, ModelError
from ..pair import half_of, is_pair, stands_for_pair
from ..runtime import EngineSession, is_engine
from ..runtime.engine import Bounds
from .artifacts import ON_CPU, Runnable, open_artifacts
from .golden import compare_golden
from .recorded import compare_recorded, read_recording
from .report import VerifyReport

if TYPE_CHECKING:
    from torch import Tensor, nn


def verify(
    model: str | Path,
    *,
    checkpoint: str | Path | None = None,
    module: nn.Module | None = None,
    args: Sequence[Tensor] | Tensor | None = None,
    reference: str | Path | None = None,
    reference_layout: str | None = None,
    per_layer: bool = False,
    atol: float | None = None,
    only: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> VerifyReport:
    """Compare a file with its original: an exported one in every implementation that is here.

    Args:
        model: the ONNX file, or an engine; or the name that stands for the two files of an
            encoder-decoder.
        checkpoint: the checkpoint it was exported from. Needs the extra ``export``.
        module: the PyTorch module instead, for models that are not in a checkpoint of ours.
        args: example inputs as given to :func:`qrnn_deploy.export`, with ``module`` of the user's.
        reference: outputs recorded from upstream code instead, a .npz file (docs/verify.md). Needs
            no torch.
        reference_layout: ``batch-major`` or ``time-major``, of its arrays with time, where the
            file does not say so itself.
        per_layer: also compare layer by layer. A failed comparison does that by itself.
        atol: absolute tolerance for every output, instead of the derived one
            (:mod:`qrnn_deploy.tolerance`).
        only: implementations to compare (``artifacts.NAMES``); one that is not here is an error.
            None takes those that are here. Not for an engine, which is one.
        progress: called with the name of each stage.

    Returns:
        Every comparison made; ``report.passed`` says whether all are within tolerance.

    Raises:
        ModelError: the file, or the golden vectors where neither checkpoint nor module is given,
            cannot be used.
        CheckpointError: the checkpoint cannot be read.
        InputError: contradictory arguments, a module without ``args`` that are needed, a missing
            implementation in ``only``, or a ``reference`` that cannot be read, does not fit the
            model or proves nothing.
        EngineError: the engine does not run here.
    """
    path = as_path(model, "model")
    originals = {"checkpoint": checkpoint, "module": module, "reference": reference}
    given = [name for name, value in originals.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"got a {' and a '.join(given)}: expected at most one of them")
    if reference is None and reference_layout is not None:
        raise InputError("reference_layout is for a reference: give one, or leave it out")
    if atol is not None and not (math.isfinite(atol) and atol >= 0):
        raise InputError(f"atol is {atol}, expected a finite number, 0 or more, or None")
    if stands_for_pair(path):
        if reference is not None or args is not None:
            raise InputError(
                f"{path} stands for two files, which have other inputs each: expected one of them "
                "with a reference, and no args"
            )
        from .pair import verify_pair

        return verify_pair(
            path,
            checkpoint=checkpoint,
            module=module,
            per_layer=per_layer,
            atol=atol,
            only=only,
            progress=progress,
        )
    note = progress or (lambda stage: None)
    note("loading")
    recording = None
    if reference is not None:  # read first: opening a model can mean to build engines
        recording = read_recording(as_path(reference, "reference"), reference_layout)
    subject, missing, failures = _open(path, only, note)
    report = VerifyReport(str(path), str(subject.golden), problems=failures, missing=missing)
    if checkpoint is None and module is None:
        if per_layer:
            raise InputError("per-layer comparison needs the PyTorch model: give --checkpoint")
        if recording is not None:
            report.reference = f"recorded outputs {recording.path} (sha256 {recording.sha256})"
            if subject.models:
                note("comparing with the recorded outputs")
                compare_recorded(report, recording, subject.models, atol)
            return report
        if subject.models:
            note("comparing with the golden vectors")
            report.comparisons, problems, beyond = compare_golden(
                path, subject.golden, subject.models, atol, subject.source
            )
            report.problems += problems
            report.missing |= beyond
        return report
    if per_layer and subject.is_engine:
        raise InputError(f"per-layer comparison cuts the ONNX file, and {path} is an engine")
    reference_name = str(checkpoint) if checkpoint is not None else type(module).__name__
    report.reference = f"{reference_name} in float64"
    if subject.models:
        _against_torch(subject, report, checkpoint, module, args, per_layer, atol, note)
    return report


@dataclass(frozen=True)
class _Subject:
    """What is verified.

    Attributes:
        path: the file.
        models: open models by artifact name.
        source: the ONNX file; None where it is not beside its engine.
        golden: folder of the golden vectors.
        bounds: sizes that the models take.
    """

    path: Path
    models: dict[str, Runnable]
    source: Path | None
    golden: Path
    bounds: Bounds | None = None
    is_engine: bool = False


def _open(
    path: Path, only: Sequence[str] | None, note: Callable[[str], None]
) -> tuple[_Subject, dict[str, str], list[str]]:
    if not is_engine(path):
        models, missing, failures = open_artifacts(path, only, note)
        return _Subject(path, models, path, golden_folder(path)), missing, failures
    if only is not None:
        raise InputError(f"{path} is an engine, one implementation: leave --only out")
    session = EngineSession(path)
    manifest = session.manifest
    name = next(iter(manifest.model))
    source: Path | None = path.parent / name
    missing = {}
    parts = [(path.parent / part, digest) for part, digest in manifest.model.items()]
    if not all(part.is_file() and file_sha256(part) == digest for part, digest in parts):
        missing["weights"] = (
            f"{name}, which the engine was built from, is not beside it: rows of tables that no "
            "run looks up were not compared"
        )
        source = None
    golden = path.parent / (manifest.golden or f"{Path(name).stem}.golden")
    subject = _Subject(
        path, {manifest.backend: session}, source, golden, session.bounds, is_engine=True
    )
    return subject, missing, []


def _example(module: nn.Module, args: Sequence[Tensor] | Tensor | None) -> list[Tensor]:
    """Example inputs: those given, or made for a module of ours."""
    from torch import Tensor

    from ..exporter.plan import example_args

    if args is not None:
        return [args] if isinstance(args, Tensor) else list(args)
    try:
        return list(example_args(module))
    except ExportError as error:
        raise InputError(str(error)) from error


def _against_torch(
    subject: _Subject,
    report: VerifyReport,
    checkpoint: str | Path | None,
    module: nn.Module | None,
    args: Sequence[Tensor] | Tensor | None,
    per_layer: bool,
    atol: float | None,
    note: Callable[[str], None],
) -> None:
    for package in ("torch", "onnxscript"):
        require(package, "comparing with PyTorch")
    from torch import nn

    from ..checkpoints import Given, load_checkpoint
    from ..exporter.pipeline import evaluating
    from ..exporter.plan import weights_digest
    from ..exporter.ports import turn
    from ..exporter.seq2seq import halves
    from ..nn import QRNNEncoderDecoder
    from .reference import Reference, compare_grid, grid

    path, models = subject.path, subject.models
    elsewhere = len(report.problems)  # of implementations that do not run at all
    metadata = next(iter(models.values())).metadata
    if checkpoint is not None:
        recorded: dict[str, Any] = metadata.source or {}
        loaded = load_checkpoint(
            checkpoint, given=Given.from_json(recorded.get("options")), allow_non_finite=True
        )
        module = loaded.module
        if recorded.get("sha256") not in (None, loaded.sha256):
            report.problems.append(
                f"the file was exported from another checkpoint ({recorded.get('name')}): "
                "its sha256 differs"
            )
    if not isinstance(module, nn.Module):
        raise InputError(
            f"module is {shown(module)}, expected a torch.nn.Module: a checkpoint file goes into "
            "checkpoint"
        )
    if args is None and is_pair(metadata) and isinstance(module, QRNNEncoderDecoder):
        module, args, _ = halves(module)[half_of(metadata)]
    with evaluating(module):
        example = _example(module, args)
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
        if subject.source is not None:
            report.problems += reference.table_problems(subject.source)
        answers = []
        for case in grid(metadata, subject.bounds):
            note(f"running PyTorch, {case.label}")
            try:
                answers.append(reference.answer(case))
            except RuntimeError as error:
                report.missing[case.label] = f"PyTorch fails: {str(error).splitlines()[0]}"
        note("comparing")
        report.comparisons, misfits = compare_grid(answers, models, metadata, atol)
        report.missing |= misfits
        if metadata.delay:
            from .late import compare_delay

            late, misfits = compare_delay(reference, models, atol)
            report.comparisons += late
            report.missing |= misfits
        probed = [name for name in models if name in ON_CPU]
        failed = {item.artifact for item in report.comparisons if not item.passed}
        if probed and (per_layer or report.problems[elsewhere:] or failed & set(probed)):
            from .per_layer import compare_layers

            note("comparing layer by layer")
            report.layers = compare_layers(path, reference, probed, atol)
