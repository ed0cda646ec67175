"""QRNN pooling in standard ONNX; the equations stand in :mod:`qrnn_deploy.pooling.torch_op`."""

from __future__ import annotations

from onnx import AttributeProto, NodeProto

from .function_parts import Step, Variant, attribute_constant, scan


def qrnn_nodes(variant: Variant) -> list[NodeProto]:
    """From gates [T, B, G*H], c0 [B, H] and lengths [B] to h [T, B, H] and c_T [B, H]."""
    nodes: list[NodeProto] = []
    if variant.scaled:
        nodes.append(
            attribute_constant("scale", "value_float", AttributeProto.FLOAT, "zoneout_scale")
        )
    step = Step(variant, "gates")
    h = _recurrence(variant, step)
    return nodes + scan(variant, step, h)


def _recurrence(variant: Variant, step: Step) -> str:
    """Add the step's equations, and return the name of h."""
    spec, emit = variant.spec, step.emit
    raw = step.split(step.read("gates"))
    z = step.activate(raw["z"], "step_z")
    if spec.has_input_gate:
        forget = emit("Sigmoid", raw["f"], out="step_f")
        admit = emit("Sigmoid", raw["i"], out="step_i")
        kept = emit("Mul", forget, step.before, out="step_kept")
        added = emit("Mul", admit, z, out="step_added")
    else:
        negated = emit("Neg", raw["f"], out="step_minus_f")
        weight = emit("Sigmoid", negated, out="step_g")
        if variant.scaled:
            weight = emit("Mul", weight, "scale", out="step_g_scaled")
        distance = emit("Sub", z, step.before, out="step_distance")
        kept = step.before
        added = emit("Mul", weight, distance, out="step_added")
    c = emit("Add", kept, added, out=step.after)
    if not spec.has_output_gate:
        return c
    return emit("Mul", emit("Sigmoid", raw["o"], out="step_o"), c, out="step_h_f32")
