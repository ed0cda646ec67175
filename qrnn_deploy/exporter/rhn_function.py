"""The highway recurrence in standard ONNX: a Scan over time, its step unrolled over the depth.

For d = 0 ... D-1, with [gates] added at d = 0 alone::

    a = W_d s + b_d [+ gates]      h = tanh(a_h)      t = sigmoid(a_t)
    s <- s + t (h - s)

The matrix products run in the storage type, all else in float32. Gemm takes the matrices as they
are stored, [2H, H]: no Transpose stands before a product (docs/architecture.md says why not).
Source: Zilly et al. 2016, arXiv:1607.03474, equations 6 to 9 with the carry gate c = 1 - t.
"""

from __future__ import annotations

from onnx import NodeProto, TensorProto, helper

from .function_parts import Step, Variant, scan


def rhn_nodes(variant: Variant) -> list[NodeProto]:
    """The nodes from gates, s0, lengths, weight and bias to h and s_T."""
    nodes = [node for d in range(variant.depth) for node in _parameters(variant, d)]
    step = Step(variant, "gates")
    gates = step.read("gates")
    s = step.before
    for d in range(variant.depth):
        a = _product(variant, step, s, d)
        if d == 0:
            a = step.emit("Add", a, gates, out="step_a_all")
        h, t = f"step_h_{d}", f"step_t_{d}"
        split = helper.make_node("Split", [a], [f"{h}_raw", f"{t}_raw"], axis=-1, num_outputs=2)
        step.nodes.append(split)
        step.emit("Tanh", f"{h}_raw", out=h)
        step.emit("Sigmoid", f"{t}_raw", out=t)
        distance = step.emit("Sub", h, s, out=f"step_distance_{d}")
        moved = step.emit("Mul", t, distance, out=f"step_moved_{d}")
        last = d == variant.depth - 1
        s = step.emit("Add", s, moved, out=step.after if last else f"step_s_{d}")
    return nodes + scan(variant, step, s)


def _parameters(variant: Variant, d: int) -> list[NodeProto]:
    """Outside of the Scan: ``weight_d`` [2H, H] and ``bias_d`` [2H], the latter in float32."""
    stored = f"bias_{d}_stored" if variant.narrow else f"bias_{d}"
    nodes = [
        helper.make_node("Constant", [], [f"index_{d}"], value_int=d),
        helper.make_node("Gather", ["weight", f"index_{d}"], [f"weight_{d}"], axis=0),
        helper.make_node("Gather", ["bias", f"index_{d}"], [stored], axis=0),
    ]
    if variant.narrow:
        nodes.append(helper.make_node("Cast", [stored], [f"bias_{d}"], to=TensorProto.FLOAT))
    return nodes


def _product(variant: Variant, step: Step, s: str, d: int) -> str:
    """Add W_d s + b_d [B, 2H], float32, to a step, and return its name."""
    if not variant.narrow:
        return step.emit("Gemm", s, f"weight_{d}", f"bias_{d}", out=f"step_a_{d}", transB=1)
    rounded = step.emit("Cast", s, out=f"step_s_{d}_stored", to=variant.storage)
    product = step.emit("Gemm", rounded, f"weight_{d}", out=f"step_p_{d}_stored", transB=1)
    wide = step.emit("Cast", product, out=f"step_p_{d}", to=TensorProto.FLOAT)
    return step.emit("Add", wide, f"bias_{d}", out=f"step_a_{d}")
