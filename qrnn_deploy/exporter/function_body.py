"""The operators as model-local functions in standard ONNX, which runtimes without a kernel run.

The nodes of one operator share one body, general enough for all of them, because onnx.reference
cannot tell overloads apart; only what a body cannot read from an attribute becomes overloads:
different activations, which are strings, and different depths, by which it is unrolled.

Each family of operators has a module of its own, with a function from a :class:`Variant` to the
nodes between the operator's inputs and its outputs, named as
:class:`~qrnn_deploy.pooling.spec.PoolingSpec` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from onnx import FunctionProto, NodeProto, helper

from ..pooling.spec import DOMAIN, Family
from .function_parts import Variant
from .qrnn_function import qrnn_nodes
from .rhn_function import rhn_nodes
from .schema import attribute_defaults
from .sru_function import sru_nodes

__all__ = ["IR_VERSION", "OPSET", "Variant", "build_function", "build_functions"]

OPSET = 18
"""Opset of the exported graph and of the bodies: the first with ``Split(num_outputs)``."""

IR_VERSION = 10
"""First IR version with function overloads."""

_BODIES: Final[dict[Family, Callable[[Variant], list[NodeProto]]]] = {
    "QRNN": qrnn_nodes,
    "SRU": sru_nodes,
    "RHN": rhn_nodes,
}


def build_functions(
    variants: Iterable[Variant],
) -> dict[tuple[str, str, int, int], FunctionProto]:
    """One FunctionProto per :attr:`Variant.key`; the first of an operator has no overload name."""
    merged: dict[tuple[str, str, int, int], Variant] = {}
    for variant in variants:
        earlier = merged.get(variant.key)
        merged[variant.key] = variant.joined(earlier) if earlier else variant
    functions: dict[tuple[str, str, int, int], FunctionProto] = {}
    for key, variant in merged.items():
        first = all(op_type != variant.spec.op_type for op_type, *_ in functions)
        functions[key] = build_function(variant, "" if first else variant.label)
    return functions


def build_function(variant: Variant, overload: str = "") -> FunctionProto:
    """The function from the operator's inputs to its outputs for one variant.

    Shapes and types are those of the operator (docs/op.md).
    """
    spec = variant.spec
    function = helper.make_function(
        DOMAIN,
        spec.op_type,
        list(spec.inputs),
        list(spec.outputs),
        _BODIES[spec.family](variant),
        [helper.make_opsetid("", OPSET)],
        attributes=[],
        attribute_protos=attribute_defaults(spec),
        doc_string=f"{spec.name}-pooling in standard ONNX ({variant.label}).",
    )
    function.overload = overload
    return function
