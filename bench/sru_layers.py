"""A two-layer SRU through ONNX Runtime beside the ``sru`` package's own C++ path, same weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto

from qrnn_deploy.conversion import convert
from qrnn_deploy.exporter import export
from qrnn_deploy.exporter.function_body import Variant, build_functions
from qrnn_deploy.pooling.spec import SRU_POOLINGS

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

TIME, BATCH, HIDDEN, LAYERS = 512, 8, 640, 2


def upstream() -> torch.nn.Module:
    """``sru.SRU`` of the size of the goals, in eval mode."""
    from live_sru import sru_package

    torch.manual_seed(0)
    return sru_package().SRU(HIDDEN, HIDDEN, num_layers=LAYERS).eval()


def write_stack(path: Path, model: torch.nn.Module) -> None:
    """``model`` converted and exported as a user would."""

    class Outputs(torch.nn.Module):
        """The sequence of outputs alone."""

        def __init__(self) -> None:
            super().__init__()
            self.rnn = convert(model)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.rnn(x)[0]
            return y

    example = torch.randn(7, 2, HIDDEN)
    export(Outputs(), path, example, states="none", golden=False, time_major=True)


def package_run(model: torch.nn.Module) -> Callable[[], object]:
    """The package on its own input, one thread: time-major, its C++ operator for the recurrence."""
    torch.set_num_threads(1)
    x = torch.randn(TIME, BATCH, HIDDEN)

    def run() -> object:
        with torch.inference_mode():
            return model(x)

    return run


def write_pool(path: Path, save: Callable[..., None]) -> dict[str, np.ndarray]:
    """One SRUPool node with its function body, and inputs for it."""
    spec = SRU_POOLINGS["sru"]
    node = onnx.helper.make_node(
        spec.op_type, list(spec.inputs), ["h", "c_T"], domain="qrnn_deploy", name="pool",
        direction=1, activation="identity", plugin_version="1", plugin_namespace="qrnn_deploy",
    )  # fmt: skip
    ports = {
        "gates": ["T", "B", "GH"], "c0": ["B", "H"], "lengths": ["B"],
        "weight_c": [2, "H"], "bias": [2, "H"],
    }  # fmt: skip
    variant = Variant(spec, "identity", TensorProto.FLOAT)
    functions = list(build_functions([variant]).values())
    save(path, [node], ports, {"h": ["T", "B", "H"], "c_T": ["B", "H"]}, [], functions)
    rng = np.random.default_rng(0)
    return {
        "gates": rng.standard_normal((TIME, BATCH, 4 * HIDDEN)).astype(np.float32),
        "c0": np.zeros((BATCH, HIDDEN), np.float32),
        "lengths": np.full((BATCH,), TIME, np.int64),
        "weight_c": rng.standard_normal((2, HIDDEN)).astype(np.float32),
        "bias": np.zeros((2, HIDDEN), np.float32),
    }
