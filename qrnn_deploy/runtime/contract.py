"""Whether a loaded graph is the one that its metadata describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .._metadata_check import shown
from ..errors import ModelError
from ..metadata import LENGTHS, PACKED_INPUT, PACKED_OUTPUT, Metadata

if TYPE_CHECKING:
    import onnxruntime

_ELEMENT = {"float": "float32", "double": "float64"}
"""Element types that NumPy calls otherwise than ONNX Runtime."""


class Port(NamedTuple):
    """One input or output, in the terms of the metadata."""

    name: str
    dtype: str
    shape: list[int | str]


def check_contract(metadata: Metadata, session: onnxruntime.InferenceSession, path: object) -> None:
    """Compare the graph's ports with the metadata: names and order, types, ranks, sizes.

    Raises:
        ModelError: they differ, so one of them is wrong; or a port that NumPy cannot feed.
    """
    inputs, outputs = (
        [Port(node.name, _numpy_name(node.type), list(node.shape)) for node in nodes]
        for nodes in (session.get_inputs(), session.get_outputs())
    )
    check_ports(metadata, inputs, outputs, path)
    for port in (*inputs, *outputs):
        if port.dtype == "bfloat16":
            raise ModelError(
                f"{path}: {port.name!r} is bfloat16, which NumPy lacks: export the model "
                "with --dtype float32 or float16"
            )


def check_ports(
    metadata: Metadata, inputs: Sequence[Port], outputs: Sequence[Port], path: object
) -> None:
    """Compare the ports that a runtime found with those of the metadata.

    Raises:
        ModelError: they differ.
    """
    for what, expected, found in zip(
        ("input", "output"), graph_ports(metadata), (inputs, outputs), strict=True
    ):
        names, wanted = ([port.name for port in ports] for ports in (found, expected))
        if names != wanted:
            raise _contradiction(path, f"the graph has {what}s {_listed(names)}", _listed(wanted))
        for port, right in zip(found, expected, strict=True):
            if port.dtype != right.dtype:
                raise _contradiction(
                    path, f"{what} {port.name!r} is {shown(port.dtype)}", right.dtype
                )
            if port.shape != right.shape:
                raise _contradiction(
                    path,
                    f"{what} {port.name!r} has shape {shown(port.shape)}",
                    shown(right.shape),
                )


def _numpy_name(kind: str) -> str:
    """``tensor(float)`` -> ``float32``; what is no tensor stays as it is."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return _ELEMENT.get(name, name)


def graph_ports(metadata: Metadata) -> tuple[list[Port], list[Port]]:
    """All inputs and all outputs that the metadata promise, in graph order."""
    inputs = [Port(p.name, p.dtype, p.shape) for p in metadata.inputs]
    outputs = [Port(p.name, p.dtype, p.shape) for p in metadata.outputs]
    if metadata.ragged:
        inputs.append(Port(LENGTHS, "int64", ["batch"]))
    if metadata.state_mode == "packed":
        packed: list[int | str] = ["batch", metadata.packed_size]
        inputs.append(Port(PACKED_INPUT, "float32", packed))
        outputs.append(Port(PACKED_OUTPUT, "float32", packed))
    else:
        for state in metadata.states:
            inputs.append(Port(state.input, state.dtype, ["batch", *state.shape]))
            outputs.append(Port(state.output, state.dtype, ["batch", *state.shape]))
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
