"""nn.LSTM and nn.GRU inside a user's model: export, stream, verify, beside our own layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy import Session, StreamingSession, verify
from qrnn_deploy.errors import ExportError, InputError
from qrnn_deploy.nn import QRNN

KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU}
EXAMPLE = (torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)),)


class Mixed(nn.Module):
    """A QRNN, a standard layer on top of it, and a linear map; batch first at the border."""

    def __init__(self, kind: str, *, batch_first: bool = True, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.below = QRNN(5, 6, 2, window=2, batch_first=True)
        self.above = KINDS[kind](6, 7, batch_first=batch_first, **options)
        self.head = nn.Linear(14 if options.get("bidirectional") else 7, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.below(x)
        if self.above.batch_first:
            return self.head(self.above(y)[0])
        return self.head(self.above(y.transpose(0, 1))[0].transpose(0, 1))


class Alone(nn.Module):
    """A standard layer and a linear map."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(4)
        hidden = 9 if options.get("proj_size") else 7
        self.rnn = nn.LSTM(5, hidden, batch_first=True, **options)
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


CASES = [
    (lambda: Mixed("LSTM"), "separate"),
    (lambda: Mixed("LSTM", num_layers=2, batch_first=False), "packed"),
    (lambda: Mixed("GRU", num_layers=2), "separate"),
    (lambda: Mixed("GRU", bias=False, batch_first=False), "packed"),
    (lambda: Alone(num_layers=2, bias=False), "separate"),
]


@pytest.mark.parametrize(("build", "states"), CASES)
def test_chunks_equal_the_whole_and_pytorch(build, states, tmp_path):
    model, path = build(), tmp_path / "m.onnx"
    qrnn_deploy.export(model, path, EXAMPLE, states=states, golden=False)
    x = torch.randn(3, 11, 5)
    expected = model(x).detach().numpy()
    session = Session(path)
    np.testing.assert_allclose(session.run(x.numpy())["y"], expected, atol=1e-6)
    stream = StreamingSession(session, 3)
    parts = [stream.step(x[:, a:b].numpy()) for a, b in ((0, 4), (4, 5), (5, 11))]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=1e-6)
    report = verify(path, module=model, args=EXAMPLE, per_layer=True)
    assert report.passed, report.to_json()
    assert report.layers and all(finding.alone for finding in report.layers)


def test_the_file_says_what_runs_and_what_is_carried(tmp_path):
    qrnn_deploy.export(Mixed("LSTM", num_layers=2), tmp_path / "m.onnx", EXAMPLE, golden=False)
    session = Session(tmp_path / "m.onnx", kernel="off")
    assert session.implementation == {
        "layer_00_pool": "function",
        "layer_01_pool": "function",
        "layer_02": "standard",
    }
    last = session.metadata.layers[2]
    assert (last.family, last.op_type, last.depth, last.name) == ("LSTM", "LSTM", 2, "above")
    assert [(s.name, s.shape) for s in session.metadata.states if s.layer == 2] == [
        ("state_02_h", [2, 7]),
        ("state_02_c", [2, 7]),
    ]
    operators = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert "LSTM" in operators and not operators & {"Loop", "Scan"}


@pytest.mark.parametrize("kind", KINDS)
def test_both_directions_run_whole_sequences(kind, tmp_path):
    model, path = Mixed(kind, num_layers=2, bidirectional=True), tmp_path / "m.onnx"
    with pytest.raises(ExportError, match=r"'above' runs in reverse.*states='none'"):
        qrnn_deploy.export(model, path, EXAMPLE, states="separate")
    qrnn_deploy.export(model, path, EXAMPLE, states="none", golden=False)
    x = torch.randn(3, 12, 5)
    got = Session(path).run(x.numpy())["y"]
    np.testing.assert_allclose(got, model(x).detach().numpy(), atol=1e-6)
    assert verify(path, module=model, args=EXAMPLE, per_layer=True).passed


def test_large_weights_have_their_float64_reference(tmp_path):
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(5, 160, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    model = Large()
    qrnn_deploy.export(model, tmp_path / "m.onnx", EXAMPLE, golden=False)
    assert verify(tmp_path / "m.onnx", module=model, args=EXAMPLE).passed


def test_a_layer_that_is_called_twice(tmp_path):
    class Twice(Alone):
        def forward(self, x: Tensor) -> Tensor:
            self.rnn(x.flip(1))
            return super().forward(x)

    model = Twice()
    with pytest.raises(ExportError, match="called twice"):
        qrnn_deploy.export(model, tmp_path / "m.onnx", EXAMPLE, states="separate")
    with pytest.raises(ExportError, match="'rnn' is called twice, has a proj_size"):
        qrnn_deploy.export(model, tmp_path / "m.onnx", EXAMPLE, states="none", golden=False)
    with pytest.raises(ExportError, match="'rnn' is called twice, has a proj_size"):
        qrnn_deploy.export(Alone(proj_size=7), tmp_path / "m.onnx", EXAMPLE, states="none")


def test_a_state_of_the_model_is_refused_where_the_graph_carries_it(tmp_path):
    class Own(Alone):
        def forward(self, x: Tensor) -> Tensor:
            zeros = torch.zeros(1, x.shape[0], 7)
            return self.head(self.rnn(x, (zeros, zeros))[0])

    model = Own()
    with pytest.raises(ExportError, match="passes a state to layer 'rnn' itself"):
        qrnn_deploy.export(model, tmp_path / "m.onnx", EXAMPLE, states="separate")
    qrnn_deploy.export(model, tmp_path / "m.onnx", EXAMPLE, states="none", golden=False)
    x = torch.randn(2, 5, 5)
    got = Session(tmp_path / "m.onnx").run(x.numpy())["y"]
    np.testing.assert_allclose(got, model(x).detach().numpy(), atol=1e-6)


def test_the_input_by_its_name(tmp_path):
    class Named(Alone):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(input=x)[0])

    model = Named()
    qrnn_deploy.export(model, tmp_path / "m.onnx", EXAMPLE, golden=False)
    x = torch.randn(2, 5, 5)
    got = Session(tmp_path / "m.onnx").run(x.numpy())["y"]
    np.testing.assert_allclose(got, model(x).detach().numpy(), atol=1e-6)


def test_lengths_are_refused(tmp_path):
    with pytest.raises(ExportError, match=r"'above' is an nn.GRU, which takes no lengths"):
        qrnn_deploy.export(Mixed("GRU"), tmp_path / "m.onnx", EXAMPLE, lengths=True)


def test_bfloat16_is_refused_which_onnx_does_not_have(tmp_path):
    model = Alone().to(torch.bfloat16)
    with pytest.raises(ExportError, match=r"'rnn' is an nn.LSTM, and ONNX's LSTM takes no bf"):
        qrnn_deploy.export(model, tmp_path / "m.onnx", (EXAMPLE[0].to(torch.bfloat16),))


def test_the_model_is_left_as_it_was(tmp_path):
    model = Mixed("LSTM")
    qrnn_deploy.export(model, tmp_path / "m.onnx", EXAMPLE, golden=False)
    assert "forward" not in model.above.__dict__
    state = StreamingSession(tmp_path / "m.onnx").save_state()
    other = tmp_path / "other.onnx"
    qrnn_deploy.export(Mixed("GRU"), other, EXAMPLE, golden=False)
    with pytest.raises(InputError, match="belongs to another model"):
        StreamingSession(other).load_state(state)
