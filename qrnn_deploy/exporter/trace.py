"""Running torch.onnx, with names and dynamic sizes as the metadata want them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import onnx
import torch
from onnxscript import ir
from torch import Tensor, nn

from ..errors import ExportError
from ..metadata import LENGTHS, Metadata
from .border import Border
from .function_body import OPSET
from .golden import make_inputs
from .graph import rename
from .memory import Meter
from .observed import first_line
from .ports import BATCH
from .translate import translation_table

_OURS = "qrnn_deploy"

_BLOCK = 2**22
"""Bytes of a weight that are written at a time."""


def trace(
    module: nn.Module, metadata: Metadata, example: Sequence[Tensor], folder: Path
) -> onnx.ModelProto:
    """Run torch.onnx; the weights stay in ``folder``, outside the returned proto."""
    border = Border(module, metadata, tagged=True)
    feed = make_inputs(metadata, example, batch=len(example[0]), time=7, seed=0, random_state=False)
    for port, sample in zip(metadata.inputs, example, strict=True):
        feed[port.name] = sample
    if metadata.ragged:
        feed[LENGTHS] = torch.full((example[0].shape[0],), 2, dtype=torch.int64)
    flat = tuple(feed[name] for name in metadata.input_names())
    # Under names of our own, which no tensor of torch.onnx's can have, until it is done.
    inputs = {f"{_OURS}/in/{name}": name for name in metadata.input_names()}
    outputs = {f"{_OURS}/out/{name}": name for name in metadata.output_names()}
    with warnings.catch_warnings(), _quiet_logging():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                border,
                flat,
                dynamo=True,
                opset_version=OPSET,
                optimize=True,
                verbose=False,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(_dynamic_shapes(metadata),),
                custom_translation_table=cast(Any, translation_table()),
            )
        except Exception as error:
            raise ExportError(_short_reason(error)) from error
    assert program is not None
    raw = folder / "traced.onnx"
    _save(program.model, raw, module)
    model = onnx.load(raw, load_external_data=False)
    ports = inputs | outputs
    inner = {name: f"{_OURS}/{name}" for name in ports.values()}
    rename(model.graph, inner | ports)
    _refuse_fixed_sizes(model, metadata)
    return model


def _refuse_fixed_sizes(model: onnx.ModelProto, metadata: Metadata) -> None:
    """torch.export takes a size that the forward decides by for a constant, and says nothing."""
    shapes = {port.name: port.shape for port in metadata.input_ports()}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for size, dim in zip(shapes[value.name], dims, strict=True):
            if isinstance(size, str) and dim.HasField("dim_value"):
                raise ExportError(
                    f"the model fixes {size!r} of input {value.name!r} to the example's "
                    f"{dim.dim_value}: expected a forward that takes the same way for every size; "
                    "look for an `if` on a shape, such as `if x.shape[0] != self.bs`"
                )


class _InBlocks(ir.Tensor[Any]):
    """A weight that is written some rows at a time, straight out of the memory where it is."""

    def __init__(self, tensor: ir.TensorProtocol, meter: Meter) -> None:
        super().__init__(tensor.numpy(), tensor.dtype, name=tensor.name)
        self.meter = meter

    def tofile(self, file: BinaryIO) -> None:
        array = self.numpy()
        step = max(1, _BLOCK * len(array) // array.nbytes)
        for start in range(0, len(array), step):
            rows = np.ascontiguousarray(array[start : start + step])
            file.write(rows.view(np.uint8).data)
            self.meter.use(rows.nbytes)


def _save(model: ir.Model, path: Path, module: nn.Module) -> None:
    """Write what became of ``module`` and, beside it, its weights."""
    meter = Meter(module)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _BLOCK and tensor.dtype.itemsize >= 1:
            value.const_value = _InBlocks(tensor, meter)
    ir.save(model, path, external_data=f"{path.name}.data")


def _dynamic_shapes(metadata: Metadata) -> tuple[dict[int, Any], ...]:
    """Symbolic sizes per graph input, shared by name."""
    symbols: dict[str, Any] = {}

    def symbol(name: str) -> Any:
        return symbols.setdefault(name, torch.export.Dim(name))

    shapes = [
        {axis: symbol(size) for axis, size in enumerate(port.shape) if isinstance(size, str)}
        for port in metadata.inputs
    ]
    states = len(metadata.input_names()) - len(shapes)
    return (*shapes, *({0: symbol(BATCH)} for _ in range(states)))


def _short_reason(error: BaseException) -> str:
    """The innermost cause in one line: torch.onnx wraps it in pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ExportError):
        return str(error)
    return f"torch cannot trace this model ({first_line(error)})"


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """torch.onnx logs advice on operators that an exported file never contains."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
