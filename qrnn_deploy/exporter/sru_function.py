"""The SRU recurrence in standard ONNX; the equations stand in :mod:`qrnn_deploy.pooling.sru_op`."""

from __future__ import annotations

from onnx import NodeProto, helper

from .function_parts import Step, Variant, scan


def sru_nodes(variant: Variant) -> list[NodeProto]:
    """From the inputs of an SRU operator to h [T, B, H] and c_T [B, H].

    The rows of weight_c and bias are taken apart once, before the Scan, which captures them. Those
    of the forget gate are negated there, so that a step gets g = 1 - f without a Neg.
    """
    nodes = [
        helper.make_node("Split", ["weight_c"], ["v_f", "v_r"], axis=0, num_outputs=2),
        helper.make_node("Split", ["bias"], ["b_f", "b_r"], axis=0, num_outputs=2),
        helper.make_node("Neg", ["v_f"], ["minus_v_f"]),
        helper.make_node("Neg", ["b_f"], ["minus_b_f"]),
    ]
    step = Step(variant, *variant.spec.stored)
    h = _recurrence(variant, step)
    return nodes + scan(variant, step, h)


def _recurrence(variant: Variant, step: Step) -> str:
    """Add the step's equations, and return the name of h."""
    emit, before = step.emit, step.before
    raw = step.split(step.read("gates"))
    x = step.read("skip") if "skip" in variant.spec.inputs else raw.get("x")

    minus_f = emit("Sub", "minus_b_f", raw["f"], out="step_minus_f_biased")
    minus_f = emit(
        "Add",
        minus_f,
        emit("Mul", "minus_v_f", before, out="step_minus_f_of_c"),
        out="step_minus_f",
    )
    g = emit("Sigmoid", minus_f, out="step_g")
    reset = emit("Add", raw["r"], "b_r", out="step_r_biased")
    reset = emit("Add", reset, emit("Mul", "v_r", before, out="step_r_of_c"), out="step_r_raw")
    r = emit("Sigmoid", reset, out="step_r")

    distance = emit("Sub", raw["z"], before, out="step_distance")
    added = emit("Mul", g, distance, out="step_added")
    c = emit("Add", before, added, out=step.after)
    out = step.activate(c, "step_activated")
    if x is None:
        return emit("Mul", r, out, out="step_h_f32")
    above = emit("Sub", out, x, out="step_above")
    return emit("Add", x, emit("Mul", r, above, out="step_over_x"), out="step_h_f32")
