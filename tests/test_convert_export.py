"""Converted networks as files: ONNX Runtime gives what the user's own network gave."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
import torch
import upstream_stand_ins as up
from live_speechbrain import speechbrain_rnn
from torch import Tensor, nn

from qrnn_deploy import Session, StreamingSession, convert, export, verify
from qrnn_deploy.errors import ExportError, InputError
from qrnn_deploy.nn import Binding, bound

DOCS = Path(__file__).parent.parent / "docs" / "convert.md"


class Network(nn.Module):
    """A convolution in front, an upstream stack, a head; it knows nothing of states."""

    def __init__(self, stack: nn.Module, width: int = 6, taps: int = 1) -> None:
        super().__init__()
        self.front = nn.Conv1d(4, 5, taps, padding=taps // 2)
        self.stack = stack
        self.head = nn.Linear(width, 3)
        self.time_major = not getattr(stack, "batch_first", True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x.transpose(1, 2)).relu().transpose(1, 2)
        y, _ = self.stack(x.transpose(0, 1) if self.time_major else x)
        result: Tensor = self.head(y.transpose(0, 1) if self.time_major else y)
        return result


def _weight_dropout() -> nn.Module:
    stack = up.fastai.QRNN(5, 6, 2, save_prev_x=True)
    layer: Any = stack.layers[0]
    layer.linear = up.fastai.WeightDropout(layer.linear, 0.5)
    return stack


STREAMING: dict[str, Callable[[], nn.Module]] = {
    "torchqrnn": lambda: up.torchqrnn.QRNN(5, 6, 2, window=2, zoneout=0.3, save_prev_x=True),
    "early fastai": lambda: up.early_fastai.QRNN(5, 6, 2, window=2, output_gate=False),
    "fastai": _weight_dropout,
    "speechbrain": lambda: speechbrain_rnn().QuasiRNN(6, input_size=5, num_layers=2, zoneout=0.2),
}
WHOLE: dict[str, Callable[[], nn.Module]] = {
    "fastai": lambda: up.fastai.QRNN(5, 6, 2, bidirectional=True),
    "speechbrain": lambda: speechbrain_rnn().QuasiRNN(
        6, input_size=5, num_layers=2, bidirectional=True, zoneout=0.2
    ),
}


@pytest.mark.parametrize("name", STREAMING)
def test_a_network_streams_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    """Kernel and function, whole and in chunks, against the network with upstream's layers."""
    needs.kernel_library()
    torch.manual_seed(5)
    network = Network(STREAMING[name]()).eval()
    x = torch.randn(2, 12, 4)
    with torch.no_grad():
        expected = network(x).numpy()
    path = tmp_path / "network.onnx"
    converted = convert(network)
    export(converted, path, args=(x,))
    for kernel, how in (("require", "kernel"), ("off", "function")):
        session = Session(path, kernel=kernel)  # type: ignore[arg-type]
        assert set(session.implementation.values()) == {how}
        whole = session.run({"x": x.numpy()})["y"]
        np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-5)
        stream = StreamingSession(session, batch_size=2)
        chunks = [stream.step(part) for part in np.split(x.numpy(), (1, 5, 6), axis=1)]
        np.testing.assert_allclose(np.concatenate(chunks, 1), expected, rtol=0, atol=1e-5)
    assert verify(path, module=converted, args=(x,)).passed


@pytest.mark.parametrize("name", WHOLE)
def test_a_network_of_two_directions_runs_whole(name: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = Network(WHOLE[name](), width=12, taps=3).eval()
    x = torch.randn(2, 9, 4)
    path = tmp_path / "network.onnx"
    converted = convert(network)
    with pytest.raises(ExportError, match="runs in reverse"):
        export(converted, path, args=(x,))
    export(converted, path, args=(x,), states="none")
    with torch.no_grad():
        expected = network(x).numpy()
    for kernel in ("auto", "off"):
        got = Session(path, kernel=kernel).run({"x": x.numpy()})["y"]  # type: ignore[arg-type]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_a_stack_of_its_own_takes_four_axes_and_returns_its_state(tmp_path: Path) -> None:
    torch.manual_seed(5)
    stack = speechbrain_rnn().QuasiRNN(6, input_size=10, num_layers=2).eval()
    x = torch.randn(2, 9, 2, 5)
    converted = convert(stack)
    report = export(converted, tmp_path / "m.onnx", args=(x,))
    assert [port.shape for port in report.metadata.outputs] == [
        ["batch", "time", 6],
        [2, "batch", 6],
    ]
    session = Session(tmp_path / "m.onnx")
    got = session.run({"x": x.numpy()})
    with torch.no_grad():
        _, state = converted(x)
        np.testing.assert_allclose(got["y_0"], stack(x)[0].numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(got["y_1"], state.numpy(), rtol=0, atol=1e-5)


def test_a_time_major_stack_of_its_own(tmp_path: Path) -> None:
    stack = up.torchqrnn.QRNN(5, 6, 2, window=2).eval()
    export(convert(stack), tmp_path / "m.onnx", args=(torch.randn(2, 6, 5),))
    x = torch.randn(3, 8, 5)
    with torch.no_grad():
        expected = stack(x.transpose(0, 1))[0].transpose(0, 1).numpy()
    got = Session(tmp_path / "m.onnx").run({"input": x.numpy()})["y_0"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_what_the_layers_remember_stays_out_of_a_file(tmp_path: Path) -> None:
    """prevX of an earlier call is neither read nor written by an export."""
    converted: Any = convert(Network(STREAMING["torchqrnn"]()).eval())
    x = torch.randn(2, 6, 4)
    with torch.no_grad():
        expected = converted(x)
        converted(x + 1)
    remembered = [layer.prevX for layer in converted.stack.layers]
    export(converted, tmp_path / "m.onnx", args=(x,))
    assert all(
        layer.prevX is kept for layer, kept in zip(converted.stack.layers, remembered, strict=True)
    )
    got = Session(tmp_path / "m.onnx").run({"x": x.numpy()})["y"]
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-5)


class Feeding(nn.Module):
    """Passes states in: its own last ones, as language models of fastai do, or always zeros."""

    def __init__(self, keeping: bool) -> None:
        super().__init__()
        self.stack = up.fastai.QRNN(5, 6, 2, save_prev_x=True)
        self.keeping = keeping
        self.hidden: Tensor | None = None

    def reset(self) -> None:
        self.stack.reset()
        self.hidden = None

    def forward(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(2, x.shape[0], 6)
        y, hidden = self.stack(x, zeros if self.hidden is None else self.hidden)
        if self.keeping:
            self.hidden = hidden.detach()
        return y


class Afresh(nn.Module):
    """The recipe of docs/convert.md: every call begins a sequence."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        self.model.reset()
        result: Tensor = self.model(x)
        return result


@pytest.mark.parametrize("keeping", [True, False], ids=["kept", "zeros"])
def test_a_model_that_passes_its_states_in(keeping: bool, tmp_path: Path) -> None:
    """Refused without carried; with it, the file carries what the model did."""
    torch.manual_seed(6)
    model, path = Feeding(keeping).eval(), tmp_path / "m.onnx"
    x = torch.randn(2, 9, 5)
    with pytest.raises(ExportError, match=r"passes a state to layer 'model\.stack\.layers\.0\.la"):
        export(Afresh(convert(model)), path, args=(x,))
    converted = Afresh(convert(model, carried=True))
    export(converted, path, args=(x,))
    with torch.no_grad():
        expected = model(x).numpy()
    stream = StreamingSession(path, batch_size=2)
    chunks = [stream.step(part) for part in np.split(x.numpy(), (4, 5), axis=1)]
    np.testing.assert_allclose(np.concatenate(chunks, 1), expected, rtol=0, atol=1e-5)


class Counting(nn.Module):
    """Compares the batch with the last one, as AWD_LSTM of fastai 1 and 2 does, each in its way."""

    def __init__(self, fastai: int) -> None:
        super().__init__()
        self.stack = up.fastai.QRNN(5, 6, 2, save_prev_x=True)
        self.fastai = fastai
        self.bs = 1
        self.reset()

    def reset(self) -> None:
        self.stack.reset()
        self.hidden = [next(self.parameters()).new_zeros(1, self.bs, 6) for _ in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        bs = x.shape[0]
        if bs != self.bs:
            missing = bs - self.bs
            self.bs = bs
            if self.fastai == 1:
                self.reset()
            elif missing > 0:
                rows = self.hidden[0].new_zeros(1, missing, 6)
                self.hidden = [torch.cat([h, rows], dim=1) for h in self.hidden]
            else:
                self.hidden = [h[:, :bs] for h in self.hidden]
        y, states = self.stack(x, torch.cat(self.hidden))
        self.hidden = list(states.detach().split(1))
        return y


class CountingAfresh(Afresh):
    """What docs/convert.md says of such models."""

    def forward(self, x: Tensor) -> Tensor:
        encoder = self.model
        encoder.bs = 0
        encoder.hidden = [h[:, :0] for h in encoder.hidden]
        result: Tensor = encoder(x)
        return result


@pytest.mark.parametrize("fastai", [1, 2])
def test_a_model_that_compares_its_batch_sizes(fastai: int, tmp_path: Path) -> None:
    """Its file takes any batch, and streams what the model answers to the whole."""
    torch.manual_seed(8)
    model, path = Counting(fastai).eval(), tmp_path / "m.onnx"
    export(CountingAfresh(convert(model, carried=True)), path, args=(torch.randn(2, 6, 5),))
    x = torch.randn(3, 9, 5)
    with torch.no_grad():
        expected = model(x).numpy()
    stream = StreamingSession(path, batch_size=3)
    chunks = [stream.step(part) for part in np.split(x.numpy(), (4, 5), axis=1)]
    np.testing.assert_allclose(np.concatenate(chunks, 1), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_promise_to_carry_is_checked() -> None:
    """Zeros and what was returned last pass, cut or filled up to the batch; nothing else does."""
    layer: Any = convert(up.fastai.QRNNLayer(5, 6), carried=True)
    with bound(Binding()):
        _, state = layer(torch.randn(3, 4, 5), torch.zeros(3, 6))
        _, state = layer(torch.randn(3, 4, 5), state)
        wider = torch.cat([state, torch.zeros(2, 6)])
        _, state = layer(torch.randn(5, 4, 5), wider)
        _, state = layer(torch.randn(2, 4, 5), state[:2].clone())
        for other in (state + 1e-6, state.flip(0), torch.cat([state, torch.ones(1, 6)])):
            with pytest.raises(InputError, match=r"reset\(\) first"):
                layer(torch.randn(len(other), 4, 5), other)
    layer(torch.randn(2, 4, 5), torch.ones(2, 6))  # no export, no promise
    layer.reset()
    with bound(Binding()), pytest.raises(InputError, match="zeros nor what this layer returned"):
        layer(torch.randn(2, 4, 5), state)


class LearnedStart(nn.Module):
    """An initial state of its own, which is no state of an earlier call."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = up.torchqrnn.QRNN(5, 6, 2, window=2)
        self.start = nn.Parameter(torch.randn(2, 1, 6))

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.stack(x.transpose(0, 1), self.start.expand(-1, x.shape[0], -1))
        result: Tensor = y.transpose(0, 1)
        return result


def test_an_initial_state_of_its_own_is_never_left_out(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model, x, path = LearnedStart().eval(), torch.randn(2, 9, 5), tmp_path / "m.onnx"
    for states in ("separate", "none"):
        with pytest.raises(
            ExportError, match="hidden is neither zeros nor what this layer"
        ) as caught:
            export(convert(model, carried=True), path, args=(x,), states=states)  # type: ignore[arg-type]
        assert "states='none'" in str(caught.value)
    with pytest.raises(ExportError, match="passes a state"):
        export(convert(model), path, args=(x,))
    export(convert(model), path, args=(x,), states="none")
    with torch.no_grad():
        expected = model(x).numpy()
    got = Session(path).run({"x": x.numpy()})["y"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_the_metadata_name_the_layers_where_the_user_has_them(tmp_path: Path) -> None:
    network = Network(up.fastai.QRNN(5, 6, 2)).eval()
    report = export(convert(network), tmp_path / "m.onnx", args=(torch.randn(2, 6, 4),))
    assert [(layer.name, layer.window) for layer in report.metadata.layers] == [
        ("stack.layers.0.layer", 2),
        ("stack.layers.1.layer", 1),
    ]


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the stand-in for torchqrnn, which has no package to install."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"QRNN": up.torchqrnn.QRNN}
    for block in blocks:
        exec(compile(block.replace("from torchqrnn import QRNN\n", ""), str(DOCS), "exec"), names)
    assert (tmp_path / "tagger.onnx").is_file()
