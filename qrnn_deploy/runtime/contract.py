"""Whether a loaded graph is the one that its metadata describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnxruntime

from .._metadata_check import shown
from ..errors import ModelError
from ..metadata import LENGTHS, PACKED_INPUT, PACKED_OUTPUT, Metadata

_ELEMENT = {"float32": "float", "float64": "double"}
"""Element types that ONNX Runtime calls otherwise than NumPy."""

_Port = tuple[str, str, list[int | str]]
"""Name, dtype and shape, as the metadata have them."""


def check_contract(metadata: Metadata, session: onnxruntime.InferenceSession, path: object) -> None:
    """Compare the graph's ports with the metadata: names and order, types, ranks, sizes.

    Raises:
        ModelError: they differ, so one of them is wrong; or a port that NumPy cannot feed.
    """
    inputs, outputs = _ports(metadata)
    for what, ports, nodes in (
        ("input", inputs, session.get_inputs()),
        ("output", outputs, session.get_outputs()),
    ):
        names = [node.name for node in nodes]
        expected = [port[0] for port in ports]
        if names != expected:
            raise _contradiction(path, f"the graph has {what}s {_listed(names)}", _listed(expected))
        for (name, dtype, shape), node in zip(ports, nodes, strict=True):
            if node.type != f"tensor({_ELEMENT.get(dtype, dtype)})":
                raise _contradiction(path, f"{what} {name!r} is {shown(node.type)}", dtype)
            if list(node.shape) != shape:
                raise _contradiction(
                    path, f"{what} {name!r} has shape {shown(list(node.shape))}", shown(shape)
                )
            if dtype == "bfloat16":
                raise ModelError(
                    f"{path}: {what} {name!r} is bfloat16, which NumPy lacks: export the model "
                    "with --dtype float32 or float16"
                )


def _ports(metadata: Metadata) -> tuple[list[_Port], list[_Port]]:
    inputs: list[_Port] = [(p.name, p.dtype, p.shape) for p in metadata.inputs]
    outputs: list[_Port] = [(p.name, p.dtype, p.shape) for p in metadata.outputs]
    if metadata.ragged:
        inputs.append((LENGTHS, "int64", ["batch"]))
    if metadata.state_mode == "packed":
        packed: list[int | str] = ["batch", metadata.packed_size]
        inputs.append((PACKED_INPUT, "float32", packed))
        outputs.append((PACKED_OUTPUT, "float32", packed))
    else:
        for state in metadata.states:
            inputs.append((state.input, state.dtype, ["batch", *state.shape]))
            outputs.append((state.output, state.dtype, ["batch", *state.shape]))
    return inputs, outputs


def _listed(names: Sequence[Any]) -> str:
    """The names in one short line; those of the graph may hold anything."""
    text = ", ".join(repr(name)[1:-1] for name in names)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _contradiction(path: object, found: str, expected: str) -> ModelError:
    return ModelError(
        f"{path} contradicts its metadata: {found}, the metadata say {expected}: "
        "export the model again"
    )
