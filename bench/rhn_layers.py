"""A recurrent highway layer beside its own matrix products, one after the other as they must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper

from qrnn_deploy.exporter import export
from qrnn_deploy.nn import RHN

DEPTH = 5


def write_layer(path: Path, hidden: int) -> None:
    """One layer, exported as a user would."""
    torch.manual_seed(0)
    export(RHN(hidden, hidden, depth=DEPTH), path, states="none", golden=False)


def write_products(path: Path, hidden: int, save: Callable[..., None]) -> None:
    """Its products of the state: a Scan whose steps do nothing else but take half of each."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(
            (rng.standard_normal((2 * hidden, hidden)) / hidden).astype(np.float32), f"W{d}"
        )
        for d in range(DEPTH)
    ]
    steps, source = [], "s_in"
    for d in range(DEPTH):
        steps.append(helper.make_node("Gemm", [source, f"W{d}"], [f"p{d}"], transB=1))
        source = f"step_{d}" if d < DEPTH - 1 else "s_out"
        steps.append(
            helper.make_node("Split", [f"p{d}"], [source, f"rest{d}"], axis=1, num_outputs=2)
        )
    steps.append(helper.make_node("Identity", ["x_t"], ["y_t"]))
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        steps,
        "step",
        [value("s_in", TensorProto.FLOAT, None), value("x_t", TensorProto.FLOAT, None)],
        [value("s_out", TensorProto.FLOAT, None), value("y_t", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("Scan", ["s0", "x"], ["s", "y"], body=body, num_scan_inputs=1)
    ports = {"s0": ["B", hidden], "x": ["T", "B", 1]}
    save(path, [node], ports, {"s": ["B", hidden], "y": ["T", "B", 1]}, weights)
