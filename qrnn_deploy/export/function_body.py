"""The pooling operator as a model-local function in standard ONNX.

A runtime without our kernel runs this instead: one ``Scan`` over time whose body holds the
recurrence *and* the activations (measured twice as fast as activations before the Scan at
T=512 B=8 H=640: the pre-activations are then touched once, while they are in cache).

What a node's attributes fix is fixed in the body too: a forward walk has no reversal, a batch
without lengths no mask, float32 no casts. A file therefore holds exactly the variants that its
nodes use. The first variant of an operator is its plain function; further ones are overloads of
the same name (ONNX IR 10).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, helper

from ..pooling.spec import (
    DOMAIN,
    FORWARD,
    OPSET_VERSION,
    PLUGIN_VERSION,
    ActivationName,
    PoolingSpec,
)

OPSET = 18
"""Opset of the exported graph and of the bodies: the first with ``Split(num_outputs)``."""

IR_VERSION = 10
"""First IR version with function overloads."""


@dataclass(frozen=True)
class Variant:
    """What a body depends on.

    Attributes:
        spec: the pooling function.
        activation: of the candidate z.
        direction: 1 or -1.
        ragged: whether ``lengths`` can be shorter than T, so that steps must be masked.
        scaled: whether ``zoneout_scale`` can differ from 1.
        storage: element type of ``gates`` and ``h``, a ``TensorProto.DataType``.
    """

    spec: PoolingSpec
    activation: ActivationName
    direction: int
    ragged: bool
    scaled: bool
    storage: int

    @property
    def label(self) -> str:
        """A readable name, used as the overload where one is needed."""
        parts = [self.activation, "forward" if self.direction == FORWARD else "reverse"]
        parts += ["ragged"] if self.ragged else []
        parts += ["zoneout"] if self.scaled else []
        return "_".join([*parts, helper.tensor_dtype_to_string(self.storage).split(".")[-1]])


def build_functions(variants: Iterable[Variant]) -> dict[Variant, FunctionProto]:
    """One FunctionProto per distinct variant, overloads named, in order of first use."""
    functions: dict[Variant, FunctionProto] = {}
    plain: set[str] = set()
    for variant in variants:
        if variant in functions:
            continue
        overload = variant.label if variant.spec.op_type in plain else ""
        plain.add(variant.spec.op_type)
        functions[variant] = build_function(variant, overload)
    return functions


def build_function(variant: Variant, overload: str = "") -> FunctionProto:
    """The function ``(gates, c0, lengths) -> (h, c_T)`` for one variant.

    Shapes and types are those of the operator (docs/op.md). Names inside the Scan body carry the
    prefix ``step_``, because a name there must not shadow one of the function.
    """
    nodes: list[NodeProto] = []
    scanned = ["gates"]
    if variant.ragged:
        nodes += _mask_nodes()
        scanned.append("valid")
    stacked = "h"
    if variant.direction != FORWARD:
        # Scan's own direction attributes would save the copies, but onnx.reference lacks them.
        nodes += _reversal_constants()
        nodes += [_reversed(name, f"{name}_walked") for name in scanned]
        scanned = [f"{name}_walked" for name in scanned]
        stacked = "h_walked"
    nodes.append(
        helper.make_node(
            "Scan",
            ["c0", *scanned],
            ["c_T", stacked],
            name="pool",
            body=_scan_body(variant),
            num_scan_inputs=len(scanned),
        )
    )
    if stacked != "h":
        nodes.append(_reversed(stacked, "h"))
    function = helper.make_function(
        DOMAIN,
        variant.spec.op_type,
        ["gates", "c0", "lengths"],
        ["h", "c_T"],
        nodes,
        [helper.make_opsetid("", OPSET)],
        attributes=[],
        attribute_protos=_attribute_defaults(),
        doc_string=f"{variant.spec.name}-pooling in standard ONNX ({variant.label}).",
    )
    function.overload = overload
    return function


def _attribute_defaults() -> list[AttributeProto]:
    return [
        helper.make_attribute("direction", 1),
        helper.make_attribute("activation", "tanh"),
        helper.make_attribute("zoneout_scale", 1.0),
        helper.make_attribute("plugin_version", PLUGIN_VERSION),
        helper.make_attribute("plugin_namespace", DOMAIN),
    ]


def _mask_nodes() -> list[NodeProto]:
    """``valid`` [T, B, 1] bool: t < lengths[b]. A length outside 0..T acts as if clipped."""
    return [
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Constant", [], ["last_axes"], value_ints=[1, 2]),
        helper.make_node("Constant", [], ["outer_axes"], value_ints=[0, 2]),
        helper.make_node("Shape", ["gates"], ["time_shape"], start=0, end=1),
        helper.make_node("Squeeze", ["time_shape"], ["time"]),
        helper.make_node("Range", ["zero", "time", "one"], ["steps"]),
        helper.make_node("Unsqueeze", ["steps", "last_axes"], ["steps_column"]),
        helper.make_node("Unsqueeze", ["lengths", "outer_axes"], ["lengths_row"]),
        helper.make_node("Less", ["steps_column", "lengths_row"], ["valid"]),
    ]


def _reversal_constants() -> list[NodeProto]:
    constants = {"last": [-1], "before_first": [-(2**63) + 1], "time_axis": [0]}
    return [
        helper.make_node("Constant", [], [name], value_ints=value)
        for name, value in constants.items()
    ]


def _reversed(name: str, out: str) -> NodeProto:
    """``out`` = ``name`` read backwards along its first axis."""
    return helper.make_node("Slice", [name, "last", "before_first", "time_axis", "last"], [out])


def _scan_body(variant: Variant) -> GraphProto:
    """One time step: (c [B, H], gates_t [B, G*H] [, valid_t [B, 1]]) -> (c, h_t)."""
    spec, storage = variant.spec, variant.storage
    narrow = storage != TensorProto.FLOAT
    nodes: list[NodeProto] = []

    def emit(op_type: str, *inputs: str, out: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op_type, list(inputs), [out], **attributes))
        return out

    packed = "step_gates"
    if narrow:  # ONNX Runtime has no bfloat16 Tanh, and the recurrence is float32 anyway
        packed = emit("Cast", packed, out="step_gates_f32", to=TensorProto.FLOAT)
    raw = {gate: f"step_x_{gate}" for gate in spec.gates}
    nodes.append(
        helper.make_node(
            "Split", [packed], list(raw.values()), axis=-1, num_outputs=spec.gate_count
        )
    )
    z = raw["z"]
    if variant.activation != "identity":
        z = emit({"tanh": "Tanh", "relu": "Relu"}[variant.activation], z, out="step_z")

    if spec.has_input_gate:
        forget = emit("Sigmoid", raw["f"], out="step_f")
        admit = emit("Sigmoid", raw["i"], out="step_i")
        kept = emit("Mul", forget, "step_c_in", out="step_kept")
        added = emit("Mul", admit, z, out="step_added")
    else:
        negated = emit("Neg", raw["f"], out="step_minus_f")
        weight = emit("Sigmoid", negated, out="step_g")
        if variant.scaled:
            scale = helper.make_node("Constant", [], ["step_scale"])
            reference = AttributeProto(
                name="value_float", type=AttributeProto.FLOAT, ref_attr_name="zoneout_scale"
            )
            scale.attribute.append(reference)
            nodes.append(scale)
            weight = emit("Mul", weight, "step_scale", out="step_g_scaled")
        distance = emit("Sub", z, "step_c_in", out="step_distance")
        kept = "step_c_in"
        added = emit("Mul", weight, distance, out="step_added")

    c = emit("Add", kept, added, out="step_c_walked" if variant.ragged else "step_c_out")
    if spec.has_output_gate:
        h = emit("Mul", emit("Sigmoid", raw["o"], out="step_o"), c, out="step_h_f32")
    else:
        h = emit("Identity", c, out="step_h_f32")
    if variant.ragged:
        emit("Where", "step_valid", c, "step_c_in", out="step_c_out")
        nodes.append(helper.make_node("Constant", [], ["step_zero"], value_float=0.0))
        h = emit("Where", "step_valid", h, "step_zero", out="step_h_masked")
    emit("Cast" if narrow else "Identity", h, out="step_h", **({"to": storage} if narrow else {}))

    value = helper.make_tensor_value_info
    inputs = [
        value("step_c_in", TensorProto.FLOAT, None),
        value("step_gates", storage, None),
    ]
    if variant.ragged:
        inputs.append(value("step_valid", TensorProto.BOOL, None))
    outputs = [value("step_c_out", TensorProto.FLOAT, None), value("step_h", storage, None)]
    return helper.make_graph(nodes, "step", inputs, outputs)


def register_schemas() -> None:
    """Tell the ``onnx`` package about the operator, so that its checker knows it.

    Idempotent. The schema is the one of docs/op.md.
    """
    from ..pooling.spec import POOLINGS

    for spec in POOLINGS.values():
        if onnx.defs.has(spec.op_type, DOMAIN):
            continue
        onnx.defs.register_schema(_schema(spec))


def _schema(spec: PoolingSpec) -> onnx.defs.OpSchema:
    parameter = onnx.defs.OpSchema.FormalParameter
    storage = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
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
        type_constraints=[("S", storage, "Storage type.")],
        attributes=[
            onnx.defs.OpSchema.Attribute(proto.name, proto, "")
            for proto in _attribute_defaults()
        ],
    )
