"""Recordings that upstream code itself made: each of them becomes one of ours in a few lines.

The models are built here by hand from the upstream weights, so that no reader of checkpoints takes
part. The recordings come out of tests/data/upstream, the lines out of docs/verify.md.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import qrnn_deploy
from qrnn_deploy.exporter import export
from qrnn_deploy.nn import QRNN, QRNNLanguageModel, QRNNLayer

DATA = Path(__file__).parent / "data" / "upstream"
DOCS = Path(__file__).parent.parent / "docs" / "verify.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), re.M | re.S)


def load(module, weights, names):
    """Salesforce's weights for layers of ours: rows z, f, o; f the other way round; x_t first."""
    layers = [module] if isinstance(module, QRNNLayer) else list(module.layers)
    with torch.no_grad():
        for layer, name in zip(layers, names, strict=True):
            matrix, bias = weights[f"{name}.{weight_of(weights, name)}"], weights[f"{name}.bias"]
            taps = matrix.chunk(layer.window, dim=1)
            rows = slice(layer.hidden_size, 2 * layer.hidden_size)
            layer.weight.copy_(torch.cat(taps[::-1], dim=1))
            layer.bias.copy_(bias)
            layer.weight[rows] *= -1
            layer.bias[rows] *= -1


def weight_of(weights, name):
    return "weight_raw" if f"{name}.weight_raw" in weights else "weight"


def weights(name):
    return torch.load(DATA / f"{name}.pt", weights_only=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with the recordings of upstream."""
    for path in DATA.glob("*.npz"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_block(start, **names):
    """Run the block of the documentation that begins so."""
    (code,) = [block for block in BLOCKS if block.startswith(start)]
    exec(compile(code, "docs/verify.md", "exec"), {"np": np, "torch": torch, **names})


def test_two_chunks_of_a_stack_as_documented(folder):
    """Time-major, states stacked and compared after each chunk, inputs of the window carried."""
    module = QRNN(12, 20, 2, window=2).eval()
    load(module, weights("sf_qrnn_prevx_chunks"), [f"layers.{n}.linear" for n in range(2)])
    export(module, "m.onnx", golden=False)
    run_block('old = np.load("sf_qrnn')
    report = qrnn_deploy.verify("m.onnx", reference="stack.npz")
    assert report.passed, report.to_json()
    assert len({(c.case, c.output) for c in report.comparisons}) == 2 * 3
    old, new = np.load("sf_qrnn_prevx_chunks.npz"), dict(np.load("stack.npz"))
    np.savez("stack.npz", **new | {"y.1": old["yb_reset"]})  # upstream, without prevX
    assert not qrnn_deploy.verify("m.onnx", reference="stack.npz").passed


def test_a_language_model_as_documented(folder):
    """Flat logits, states of two sizes that are recorded at the end only."""
    found = weights("awd_qrnn_tied_wd5_sd")
    module = QRNNLanguageModel(37, 16, [24, 24, 16], window=[2, 1, 1], tied=True).eval()
    load(module.stack, found, [f"rnns.{n}.linear.module" for n in range(3)])
    with torch.no_grad():
        module.embedding.weight.copy_(found["encoder.weight"])
        module.decoder_bias.copy_(found["decoder.bias"])
    export(module, "m.onnx", golden=False)
    run_block('old = np.load("awd')
    report = qrnn_deploy.verify("m.onnx", reference="lm.npz")
    assert report.passed, report.to_json()
    assert {c.output for c in report.comparisons} == {
        "logits",
        *(f"state_0{n}_c_out" for n in range(3)),
    }


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_layer_with_a_state_to_start_from(folder, batch_first):
    module = QRNNLayer(12, 16, window=2, batch_first=batch_first).eval()
    load(module, weights("fa1_layer_1_w2_og1_bwd0_bf1"), ["linear"])
    export(module, "m.onnx", golden=False)
    old = np.load("fa1_layer_1_w2_og1_bwd0_bf1.npz")
    np.savez("a.npz", x=old["x"], c_in=old["h0"], y=old["y"], c_out=old["c"])
    np.savez("b.npz", x=old["x"], y=old["y_nohid"], c_out=old["c_nohid"])
    for name in "ab":
        assert qrnn_deploy.verify("m.onnx", reference=f"{name}.npz").passed
    np.savez("b.npz", x=old["x"], y=old["y"])
    assert not qrnn_deploy.verify("m.onnx", reference="b.npz").passed


@pytest.mark.parametrize("start", ["x = torch.randn", "record, hidden"])
def test_recording_upstream_as_documented(folder, start):
    class Upstream(torch.nn.Module):
        """Returns states as pytorch-qrnn does: [L, B, H]."""

        def __init__(self):
            super().__init__()
            self.inner = QRNN(12, 20, 2).eval()

        def forward(self, x, hidden=None):
            y, after = self.inner(x, hidden if hidden is None else [(c, None) for c in hidden])
            return y, torch.stack([state.c for state in after])

    torch.manual_seed(0)
    model = Upstream()
    export(model.inner, "m.onnx", golden=False)
    run_block(start, model=model, chunks=torch.randn(3, 4, 2, 12))
    report = qrnn_deploy.verify("m.onnx", reference="outputs.npz")
    assert report.passed and report.missing.keys().isdisjoint({"y", "state_00_c_out"})
