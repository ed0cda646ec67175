"""Running torch.onnx, with names and dynamic sizes as the metadata want them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import onnx
import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..metadata import LENGTHS, Metadata
from .border import Border
from .function_body import OPSET
from .golden import make_inputs
from .graph import rename
from .observed import first_line
from .ports import BATCH
from .translate import translation_table

_OURS = "qrnn_deploy"


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
    program.save(raw, external_data=True)
    model = onnx.load(raw, load_external_data=False)
    ports = inputs | outputs
    inner = {name: f"{_OURS}/{name}" for name in ports.values()}
    rename(model.graph, inner | ports)
    return model


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
