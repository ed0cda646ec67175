"""The pooling operator as the ``onnx`` package knows operators; docs/op.md is the prose form."""

from __future__ import annotations

import onnx
from onnx import AttributeProto, helper

from ..pooling.spec import DOMAIN, OPSET_VERSION, PLUGIN_VERSION, POOLINGS, PoolingSpec

STORAGE_TYPES = ("tensor(float)", "tensor(float16)", "tensor(bfloat16)")
"""ONNX type strings of ``gates`` and ``h``."""


def register_schemas() -> None:
    """Tell the ``onnx`` package about the operator, so that its checker knows it.

    Idempotent; the schema is the one of docs/op.md.
    """
    for spec in POOLINGS.values():
        if onnx.defs.has(spec.op_type, DOMAIN):
            continue
        onnx.defs.register_schema(_schema(spec))


def _schema(spec: PoolingSpec) -> onnx.defs.OpSchema:
    parameter = onnx.defs.OpSchema.FormalParameter
    return onnx.defs.OpSchema(
        spec.op_type,
        DOMAIN,
        OPSET_VERSION,
        doc=f"{spec.name}-pooling of a quasi-recurrent layer; see docs/op.md.",
        inputs=[
            parameter("gates", "S", "[T, B, G*H] packed pre-activations, time-major."),
            parameter("c0", "tensor(float)", "[B, H] state to start from."),
            parameter("lengths", "tensor(int64)", "[B] valid steps per row, in 0..T."),
        ],
        outputs=[
            parameter("h", "S", "[T, B, H] outputs, 0 beyond lengths."),
            parameter("c_T", "tensor(float)", "[B, H] state after the last valid step."),
        ],
        type_constraints=[("S", list(STORAGE_TYPES), "Storage type.")],
        attributes=[
            onnx.defs.OpSchema.Attribute(proto.name, proto, "") for proto in attribute_defaults()
        ],
    )


def attribute_defaults() -> list[AttributeProto]:
    """The attributes of a pooling node with their default values."""
    return [
        helper.make_attribute("direction", 1),
        helper.make_attribute("activation", "tanh"),
        helper.make_attribute("zoneout_scale", 1.0),
        helper.make_attribute("plugin_version", PLUGIN_VERSION),
        helper.make_attribute("plugin_namespace", DOMAIN),
    ]
