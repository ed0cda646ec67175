"""The models that are timed: our stack, ONNX Runtime's LSTM, bare matrix products, bare pools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from qrnn_deploy.exporter import export
from qrnn_deploy.exporter.function_body import OPSET, Variant, build_functions
from qrnn_deploy.nn import QRNN
from qrnn_deploy.pooling.spec import DOMAIN, OPSET_VERSION, POOLINGS

HIDDEN, LAYERS, WINDOW, GATES = 640, 2, 2, 3


def write_stack(path: Path, hidden: int = HIDDEN, states: str = "none") -> None:
    """The two-layer fo stack of the goals, exported as a user would."""
    torch.manual_seed(0)
    module = QRNN(hidden, hidden, LAYERS, window=WINDOW, pooling="fo", batch_first=True)
    export(module, path, states=states, golden=False)


def write_lstm(path: Path) -> None:
    """Two ONNX LSTM nodes with as many inputs and hidden units, time-major as they like it."""
    rng = np.random.default_rng(0)
    nodes, weights, source = [], [], "x"
    for layer in range(LAYERS):
        for kind in "WR":
            value = rng.standard_normal((1, 4 * HIDDEN, HIDDEN)).astype(np.float32) / HIDDEN**0.5
            weights.append(numpy_helper.from_array(value, f"{kind}{layer}"))
        bias = np.zeros((1, 8 * HIDDEN), np.float32)
        weights.append(numpy_helper.from_array(bias, f"B{layer}"))
        names = [source, f"W{layer}", f"R{layer}", f"B{layer}"]
        nodes.append(helper.make_node("LSTM", names, [f"d{layer}"], hidden_size=HIDDEN))
        nodes.append(helper.make_node("Squeeze", [f"d{layer}", "axis"], [f"y{layer}"]))
        source = f"y{layer}"
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    save(path, nodes, {"x": ["T", "B", HIDDEN]}, {source: ["T", "B", HIDDEN]}, weights)


def write_products(path: Path) -> None:
    """The stack's matrix products and nothing else, on inputs that are there already."""
    rng = np.random.default_rng(0)
    nodes, weights, inputs, outputs = [], [], {}, {}
    for layer in range(LAYERS):
        value = rng.standard_normal((WINDOW * HIDDEN, GATES * HIDDEN)).astype(np.float32)
        weights.append(numpy_helper.from_array(value, f"W{layer}"))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"W{layer}"], [f"y{layer}"]))
        inputs[f"x{layer}"] = ["T", "B", WINDOW * HIDDEN]
        outputs[f"y{layer}"] = ["T", "B", GATES * HIDDEN]
    save(path, nodes, inputs, outputs, weights)


def write_pool(path: Path) -> None:
    """One fo-pooling node with its function body."""
    variant = Variant(POOLINGS["fo"], "tanh", TensorProto.FLOAT)
    node = helper.make_node(
        "QRNNPoolFO", ["gates", "c0", "lengths"], ["h", "c_T"], domain=DOMAIN, name="pool",
        direction=1, activation="tanh", zoneout_scale=1.0, plugin_version="1",
        plugin_namespace=DOMAIN,
    )  # fmt: skip
    inputs = {"gates": ["T", "B", "GH"], "c0": ["B", "H"], "lengths": ["B"]}
    outputs = {"h": ["T", "B", "H"], "c_T": ["B", "H"]}
    functions = list(build_functions([variant]).values())
    save(path, [node], inputs, outputs, [], functions)


def save(path, nodes, inputs, outputs, weights, functions=()):
    """Write a model of these nodes."""

    def values(ports):
        return [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name == "lengths" else TensorProto.FLOAT, shape
            )
            for name, shape in ports.items()
        ]

    graph = helper.make_graph(nodes, "bench", values(inputs), values(outputs), weights)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, OPSET_VERSION)]
    onnx.save(
        helper.make_model(graph, functions=list(functions), opset_imports=opsets, ir_version=10),
        path,
    )
