"""The operators as the ``onnx`` package knows operators; docs/op.md is the prose form."""

from __future__ import annotations

from typing import Any, Final

import onnx
from onnx import AttributeProto, helper

from ..pooling.spec import DOMAIN, OPERATORS, OPSET_VERSION, PLUGIN_VERSION, PoolingSpec

STORAGE_TYPES = ("tensor(float)", "tensor(float16)", "tensor(bfloat16)")
"""ONNX type strings of the inputs of the storage type, and of ``h``."""

_INPUTS: Final = {
    "gates": "[T, B, G*H] packed pre-activations, time-major.",
    "c0": "[B, H] state to start from.",
    "s0": "[B, H] state to start from.",
    "lengths": "[B] valid steps per row, in 0..T.",
    "weight_c": "[2, H] weights of the state in the forget and the reset gate.",
    "skip": "[T, B, H] input of the highway connection.",
    "weight": "[D, G*H, H] matrices of the state, one for each highway layer.",
}
_BIAS: Final = {
    "SRU": "[2, H] biases of the forget and the reset gate.",
    "RHN": "[D, G*H] biases, one row for each highway layer.",
}


def register_schemas() -> None:
    """Tell the ``onnx`` package about the operators, so that its checker knows them.

    Idempotent; the schemas are those of docs/op.md.
    """
    for spec in OPERATORS.values():
        if onnx.defs.has(spec.op_type, DOMAIN):
            continue
        onnx.defs.register_schema(_schema(spec))


def _schema(spec: PoolingSpec) -> onnx.defs.OpSchema:
    parameter = onnx.defs.OpSchema.FormalParameter
    about = _INPUTS | {"bias": _BIAS.get(spec.family, "")}
    h, last = spec.outputs
    return onnx.defs.OpSchema(
        spec.op_type,
        DOMAIN,
        OPSET_VERSION,
        doc=f"The recurrence {spec.name} of a {spec.family} layer; see docs/op.md.",
        inputs=[parameter(name, _input_type(spec, name), about[name]) for name in spec.inputs],
        outputs=[
            parameter(h, "S", "[T, B, H] outputs, 0 beyond lengths."),
            parameter(last, "tensor(float)", "[B, H] state after the last valid step."),
        ],
        type_constraints=[("S", list(STORAGE_TYPES), "Storage type.")],
        attributes=[
            onnx.defs.OpSchema.Attribute(proto.name, proto, "")
            for proto in attribute_defaults(spec)
        ],
    )


def _input_type(spec: PoolingSpec, name: str) -> str:
    if name in spec.stored:
        return "S"
    return "tensor(int64)" if name == "lengths" else "tensor(float)"


def plugin_attributes(spec: PoolingSpec) -> dict[str, str]:
    """The attributes by which kernels are found; none for an operator without kernels."""
    if not spec.has_kernel:
        return {}
    return {"plugin_version": PLUGIN_VERSION, "plugin_namespace": DOMAIN}


def attribute_defaults(spec: PoolingSpec) -> list[AttributeProto]:
    """The attributes of an operator's nodes with their default values."""
    defaults: dict[str, Any] = {
        "direction": 1,
        "activation": "tanh" if spec.family == "QRNN" else "identity",
        "zoneout_scale": 1.0,
    }
    attributes = {name: defaults[name] for name in spec.attributes} | plugin_attributes(spec)
    return [helper.make_attribute(name, value) for name, value in attributes.items()]
