"""Whether a loaded graph is the one that its metadata describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .._metadata_check import shown
from ..errors import ModelError, QrnnDeployError
from ..metadata import Metadata, PortInfo

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
    check_ports(
        (ports_of(metadata.input_ports()), ports_of(metadata.output_ports())),
        (inputs, outputs),
        lambda got, expected: ModelError(
            f"{path} contradicts its metadata: {got}, the metadata say {expected}: "
            "export the model again"
        ),
    )
    for port in (*inputs, *outputs):
        if port.dtype == "bfloat16":
            raise ModelError(
                f"{path}: {shown(port.name)} is bfloat16, which NumPy lacks: export the model "
                "with --dtype float32 or float16"
            )


def check_ports(
    expected: tuple[list[Port], list[Port]],
    found: tuple[list[Port], list[Port]],
    complaint: Callable[[str, str], QrnnDeployError],
) -> None:
    """Compare the ports that a runtime found with those that a file records.

    Args:
        expected: inputs and outputs of the record.
        found: those of the graph.
        complaint: makes the error from what was found and what was expected.

    Raises:
        QrnnDeployError: they differ.
    """
    for what, wanted, there in zip(("input", "output"), expected, found, strict=True):
        names, right_names = ([port.name for port in ports] for ports in (there, wanted))
        if names != right_names:
            raise complaint(f"the graph has {what}s {listed(names)}", listed(right_names))
        for port, right in zip(there, wanted, strict=True):
            label = f"{what} {shown(port.name)}"
            if port.dtype != right.dtype:
                raise complaint(f"{label} is {shown(port.dtype)}", right.dtype)
            if port.shape != right.shape:
                raise complaint(f"{label} has shape {shown(port.shape)}", shown(right.shape))


def ports_of(ports: Sequence[PortInfo]) -> list[Port]:
    """Recorded ports, without what only the record knows."""
    return [Port(port.name, port.dtype, port.shape) for port in ports]


def _numpy_name(kind: str) -> str:
    """``tensor(float)`` -> ``float32``; what is no tensor stays as it is."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return _ELEMENT.get(name, name)


def listed(names: Iterable[Any]) -> str:
    """Names or sizes in one short line; names of the graph may hold anything, at any length."""
    text = ", ".join(repr(str(name))[1:-1] for name in names)
    return text if len(text) <= 120 else f"{text[:117]}..."
