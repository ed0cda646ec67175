"""The export itself: plan, trace, finish, check, write."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnx
import onnx.inliner
import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..metadata import Metadata, StateMode
from .border import Border
from .files import publish, staging, writing
from .function_body import register_schemas
from .golden import in_double, write_golden
from .graph import finish
from .observed import running
from .plan import example_args, make_plan
from .ports import check_input_names, input_time_axes, turn
from .streamable import check_streamable
from .trace import trace

DTypeName = Literal["float32", "float16", "bfloat16"]
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

EXTERNAL_DATA_THRESHOLD = 256 * 2**20
"""Weights above this many bytes go to a file of their own unless the caller decides."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the ONNX file.
        files: everything written, the ONNX file last; folders end in ``/``.
        bytes: size of the ONNX file and its external data.
        metadata: as stored in the file.
        notes: what a user should know, one line each.
    """

    path: Path
    files: list[str]
    bytes: int
    metadata: Metadata
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {
            "path": str(self.path),
            "files": self.files,
            "bytes": self.bytes,
            "notes": self.notes,
            "metadata": asdict(self.metadata),
        }


def export(
    module: nn.Module,
    path: str | Path,
    args: Sequence[Tensor] | Tensor | None = None,
    *,
    states: StateMode = "separate",
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
    as a function in standard ONNX, so it runs with and without our kernel library.

    Args:
        module: any module that contains QRNN layers. It is exported in eval mode and left as it
            was. Streaming state is taken from graph inputs without the module's knowledge.
        path: the ONNX file to write, replaced only when everything has succeeded.
        args: example inputs, one tensor per parameter of ``forward``, with B >= 2 and T >= 2;
            not needed for the modules of :mod:`qrnn_deploy.nn`. All have the same B. Inputs that
            share a time axis have examples of the same T, others of different T.
        states: ``separate`` (state_00_c_in [B, H] float32, state_00_x_in [B, k-1, in], ...),
            ``packed`` (one float32 [B, S] in and out), or ``none`` (every run starts at zero).
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
        ExportError: one line on what cannot be exported and what to do.
    """
    path = Path(path)
    note = progress or (lambda stage: None)
    _check_choices(path, states, dtype)
    if not allow_non_finite:
        refuse_non_finite(module)
    if dtype is not None:
        module = _converted(module, dtype, allow_non_finite)
    if time_major is None:
        time_major = not getattr(module, "batch_first", True)
    with evaluating(module), staging(path) as folder:
        note("planning")
        example = _example(module, args, time_major, input_names, time_axes or {})
        metadata = make_plan(
            module,
            example,
            states=states,
            ragged=lengths,
            time_major=time_major,
            input_names=input_names,
            output_names=output_names,
            time_axes=time_axes,
        )
        metadata = _with_origin(metadata, source, assumptions)
        border = Border(module, metadata)
        if metadata.states:
            note("checking that chunks give the same answer")
            with running("in float64, in chunks of a sequence"):
                check_streamable(in_double(border), example)
        note("tracing")
        with writing(path):
            model = trace(module, metadata, example, folder)
        note("finishing the graph")
        model = finish(model, metadata)
        if inline:
            model = onnx.inliner.inline_local_functions(model)
        note("writing")
        with writing(path):
            names, stale = _write(model, folder, path, external_data)
        if golden:
            note("writing golden vectors")
            with writing(path), running("on the golden vectors", passing=(OSError,)):
                write_golden(folder / f"{path.stem}.golden", border, example)
            names.insert(0, f"{path.stem}.golden")
        else:
            stale.append(f"{path.stem}.golden")
        size = sum((folder / name).stat().st_size for name in names if not _is_golden(name))
        publish(folder, path, names, stale)
    files = [str(path.parent / name) + ("/" if _is_golden(name) else "") for name in names]
    return ExportReport(path, files, size, metadata, _notes(metadata))


def refuse_non_finite(module: nn.Module) -> None:
    """Check the weights.

    Raises:
        ExportError: a parameter or buffer holds NaN or infinity; it is named.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ExportError(
                f"weight {name!r} holds NaN or infinity: expected finite values; the training "
                "probably diverged (--allow-non-finite exports it anyway)"
            )


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


def _check_choices(path: Path, states: str, dtype: str | None) -> None:
    if path.suffix != ".onnx":
        raise ExportError(f"output {path} does not end in .onnx: expected a name like model.onnx")
    if states not in ("separate", "packed", "none"):
        raise ExportError(f"states={states!r}: expected 'separate', 'packed' or 'none'")
    if dtype is not None and dtype not in _DTYPES:
        raise ExportError(f"dtype={dtype!r}: expected one of {', '.join(_DTYPES)}")


def _converted(module: nn.Module, dtype: DTypeName, allow_non_finite: bool) -> nn.Module:
    with running("to be copied"):
        converted = copy.deepcopy(module).to(_DTYPES[dtype])
    before = module.state_dict()
    for name, tensor in () if allow_non_finite else converted.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ExportError(
                f"weight {name!r} overflows {dtype}: it reaches "
                f"{before[name].abs().max().item():.3g}, expected at most "
                f"{torch.finfo(tensor.dtype).max:.3g}; export it as float32 or bfloat16"
            )
    return converted


def _example(
    module: nn.Module,
    args: Sequence[Tensor] | Tensor | None,
    time_major: bool,
    input_names: Sequence[str] | None,
    time_axes: Mapping[str, int | None],
) -> tuple[Tensor, ...]:
    """The example inputs, batch first, floats in the module's type."""
    if args is None:
        return example_args(module)
    if isinstance(args, Tensor):
        args = (args,)
    if not args or not all(isinstance(a, Tensor) and a.dim() >= 1 for a in args):
        raise ExportError("args: expected a tuple of tensors with at least one axis, one per input")
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    names = check_input_names(module, args, input_names)
    axes = input_time_axes(names, args, time_axes)
    turned = [turn(a.detach(), axis, time_major) for a, axis in zip(args, axes, strict=True)]
    return tuple(a.to(dtype) if a.is_floating_point() else a for a in turned)


def _with_origin(
    metadata: Metadata, source: Mapping[str, Any] | None, assumptions: Sequence[str]
) -> Metadata:
    from dataclasses import replace

    return replace(metadata, source=dict(source) if source else None, assumptions=list(assumptions))


def _write(
    model: onnx.ModelProto, folder: Path, path: Path, external: bool | None
) -> tuple[list[str], list[str]]:
    """Write the model into ``folder``; returns (names in order of publishing, stale names)."""
    register_schemas()
    data = folder / "traced.onnx.data"
    if external is None:
        external = data.exists() and data.stat().st_size > EXTERNAL_DATA_THRESHOLD
    beside = f"{path.name}.data"
    if external and data.exists():
        data.rename(folder / beside)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = beside
        onnx.save(model, folder / path.name)
        onnx.checker.check_model(str(folder / path.name))
        return [beside, path.name], []
    onnx.load_external_data_for_model(model, str(folder))
    onnx.checker.check_model(model)
    onnx.save(model, folder / path.name)
    return [path.name], [beside]


def _is_golden(name: str) -> bool:
    return name.endswith(".golden")


def _notes(metadata: Metadata) -> list[str]:
    notes = list(metadata.assumptions)
    if metadata.dtype == "bfloat16":
        notes.append(
            "ONNX Runtime's CPU provider has no bfloat16 MatMul: this file needs another provider"
        )
    return notes
