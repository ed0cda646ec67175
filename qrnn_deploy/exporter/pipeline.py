"""The export itself: plan, trace, finish, check, write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import torch
from torch import Tensor, nn

from .._files import golden_folder
from ..errors import ExportError
from ..metadata import Metadata
from ..nn import ARCHITECTURES
from .border import Border
from .double import in_double
from .earlier import data_name, earlier_files
from .files import checked_output, publish, staging, writing
from .golden import write_record, write_vectors
from .graph import finish
from .memory import Meter, give_back
from .observed import running
from .options import ExportOptions, Progress
from .parameters import converted, refuse_non_finite
from .plan import example_args, make_plan
from .ports import check_input_names, input_time_axes, turn
from .schema import register_schemas
from .streamable import check_delay, check_streamable
from .trace import trace

EXTERNAL_DATA_THRESHOLD = 256 * 2**20
"""Weights above this many bytes go to a file of their own unless the caller decides."""


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the ONNX file; where it was given as a symbolic link, what that leads to. Of an
            encoder-decoder the name that stands for both files.
        files: everything written, the ONNX file last; folders end in ``/``.
        bytes: size of the ONNX file and its external data.
        metadata: as stored in the file.
        notes: what a user should know, one line each.
        removed: what an earlier export to the same path left and this one lacks; folders end in
            ``/``.
        inferred: what a checkpoint's names and shapes told, one line each.
    """

    path: Path
    files: list[str]
    bytes: int
    metadata: Metadata
    notes: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    inferred: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {
            "path": str(self.path),
            "files": self.files,
            "removed": self.removed,
            "bytes": self.bytes,
            "inferred": self.inferred,
            "notes": self.notes,
            "metadata": asdict(self.metadata),
        }


def run_export(
    module: nn.Module,
    path: str | Path,
    args: Sequence[Tensor] | Tensor | None,
    options: ExportOptions,
    *,
    source: Mapping[str, Any] | None = None,
    assumptions: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Export with ``options``; the arguments are those of :func:`qrnn_deploy.export`.

    Args:
        module: the model.
        path: the ONNX file.
        args: example inputs.
        options: the options.
        source: for the metadata.
        assumptions: for the metadata.
        config: for the metadata, where the module is a part of one of ours.
        progress: called with the name of each stage.

    Raises:
        ExportError: see there.
    """
    path = checked_output(path)
    note = progress or (lambda stage: None)
    earlier_files(path)  # what is not ours stops the export before its work, not after it
    chosen = options.states is not None
    if not chosen:
        options = replace(options, states="separate" if _streams(module) else "none")
    if not options.allow_non_finite:
        refuse_non_finite(module)
    if options.dtype is not None:
        module = converted(module, options.dtype, options.allow_non_finite)
    time_major = options.time_major
    if time_major is None:
        time_major = not getattr(module, "batch_first", True)
    with evaluating(module), staging(path) as folder:
        note("planning")
        example = _example(module, args, time_major, options)
        plan = make_plan(module, example, options, time_major)
        metadata = replace(
            plan,
            config=plan.config if config is None else dict(config),
            source=dict(source) if source else None,
            assumptions=list(assumptions),
        )
        border = Border(module, metadata, meter=Meter(module))
        if metadata.states:
            note("checking that chunks give the same answer")
            give_back(module)
            with running("in float64, in chunks of a sequence"):
                check_streamable(in_double(border), example)
                if metadata.delay:
                    check_delay(in_double(border), example)
        golden = golden_folder(path)
        sets: list[dict[str, Any]] = []
        if options.golden:
            note("writing golden vectors")
            give_back(module)
            with writing(golden), running("on the golden vectors", passing=(OSError,)):
                sets = write_vectors(folder / golden.name, border, example)
        note("tracing")
        give_back(module)
        with writing(path):
            model = trace(module, metadata, example, folder)
        note("finishing the graph")
        model = finish(model, metadata)
        if options.inline:
            model = onnx.inliner.inline_local_functions(model)
        note("writing")
        with writing(path):
            names = _write(model, folder, path, options.external_data)
        size = sum((folder / name).stat().st_size for name in names)
        files = [str(path.parent / name) for name in names]
        if options.golden:
            with writing(golden):
                write_record(folder / golden.name, folder / path.name, metadata, sets)
            names.insert(0, golden.name)
            files.insert(0, f"{golden}/")
        stale = [name for name in earlier_files(path) if name not in names]
        publish(folder, path, names, stale)
    removed = [
        str(path.parent / name) + ("/" if name == golden_folder(path).name else "")
        for name in stale
    ]
    notes = _notes(metadata)
    if not chosen and metadata.state_mode == "none":
        notes.append(
            "states none: the model walks backwards or answers a whole sequence at once, so it "
            "cannot stream"
        )
    if options.external_data and data_name(path) not in names:
        notes.append("all weights are too small for a file of their own: they are in the model")
    return ExportReport(path, files, size, metadata, notes, removed)


def _streams(module: nn.Module) -> bool:
    """Whether a module of ours can stream; any other is taken to, and checked later."""
    return not isinstance(module, tuple(ARCHITECTURES.values())) or bool(module.streams)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put the module and all its parts into eval mode and back again."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


def _example(
    module: nn.Module,
    args: Sequence[Tensor] | Tensor | None,
    time_major: bool,
    options: ExportOptions,
) -> tuple[Tensor, ...]:
    """The example inputs, batch first, floats in the module's type."""
    if args is None:
        return example_args(module)
    if isinstance(args, Tensor):
        args = (args,)
    if not args or not all(isinstance(a, Tensor) and a.dim() >= 1 for a in args):
        raise ExportError("args: expected a tuple of tensors with at least one axis, one per input")
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    names = check_input_names(module, args, options.input_names)
    axes = input_time_axes(names, args, options.time_axes)
    turned = [turn(a.detach(), axis, time_major) for a, axis in zip(args, axes, strict=True)]
    return tuple(a.to(dtype) if a.is_floating_point() else a for a in turned)


def _write(model: onnx.ModelProto, folder: Path, path: Path, external: bool | None) -> list[str]:
    """Write the model into ``folder``; returns the names in order of publishing."""
    register_schemas()
    data = folder / "traced.onnx.data"
    # torch.onnx leaves tensors below 256 bytes in the model: the file may be empty, or not there.
    size = data.stat().st_size if data.exists() else 0
    if size > (EXTERNAL_DATA_THRESHOLD if external is None else 0) and external is not False:
        beside = data_name(path)
        data.rename(folder / beside)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = beside
        onnx.save(model, folder / path.name)
        onnx.checker.check_model(str(folder / path.name))
        return [beside, path.name]
    onnx.load_external_data_for_model(model, str(folder))
    onnx.checker.check_model(model)
    onnx.save(model, folder / path.name)
    return [path.name]


def _notes(metadata: Metadata) -> list[str]:
    notes = [f"assumed: {text}" for text in metadata.assumptions]
    if metadata.dtype == "bfloat16":
        notes.append(
            "ONNX Runtime's CPU provider has no bfloat16 MatMul: this file needs another provider"
        )
    return notes
