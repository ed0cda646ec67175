"""A delay around every kind of layer: padding, lengths, states, mistakes, whole models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lstm_oracle as oracle
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy import Session, StreamingSession
from qrnn_deploy.checkpoints import load_checkpoint, save_checkpoint
from qrnn_deploy.errors import ConfigError, InputError
from qrnn_deploy.nn import (
    QRNN,
    RHN,
    SRU,
    Delayed,
    DelayedRNN,
    LayerState,
    QRNNLayer,
    RHNLayer,
    SRULayer,
    from_config,
)
from qrnn_deploy.nn.standard import StandardState

T, B, IN, H = 9, 4, 3, 5
DELAYS = [0, 1, 4, T + 3]

OURS: dict[str, Callable[..., Any]] = {
    "QRNNLayer": lambda **o: QRNNLayer(IN, H, window=3, pooling="ifo", **o),
    "QRNN": lambda **o: QRNN(IN, H, 3, window=[2, 1, 3], dense=True, **o),
    "QRNN both ways": lambda **o: QRNN(IN, H, 2, window=2, bidirectional=True, **o),
    "SRULayer": lambda **o: SRULayer(IN, H, skip="weight", **o),
    "SRU": lambda **o: SRU(IN, H, 2, **o),
    "SRU both ways": lambda **o: SRU(IN, H, 2, bidirectional=True, **o),
    "RHNLayer": lambda **o: RHNLayer(IN, H, depth=2, **o),
    "RHN": lambda **o: RHN(IN, H, 2, depth=3, **o),
}
STANDARD: dict[str, Callable[..., Any]] = {
    "LSTM": lambda **o: nn.LSTM(IN, H, 2, **o),
    "LSTM both ways": lambda **o: nn.LSTM(IN, H, bidirectional=True, **o),
    "GRU": lambda **o: nn.GRU(IN, H, **o),
}
KINDS = OURS | STANDARD


def made(make: Callable[..., Any], **options: Any) -> Any:
    module = make(**{"dtype": torch.float64, **options})
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1, 1, generator=generator)
    return module.eval()


def frames(*sizes: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*sizes, generator=generator, dtype=torch.float64)


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a state, however it is nested."""
    if isinstance(state, Tensor):
        return [state]
    return [t for part in state if part is not None for t in tensors(part)]


def same(got: Any, wanted: Any) -> None:
    pairs = zip(tensors(got), tensors(wanted), strict=True)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-13) for a, b in pairs)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
@pytest.mark.parametrize("delay", DELAYS)
@torch.no_grad()
def test_an_lstm_is_its_equations(delay: int, options: dict[str, Any]) -> None:
    lstm = nn.LSTM(IN, H, dtype=torch.float64, **options).eval()
    w = oracle.weights_of(lstm)
    x, extra = frames(T, B, IN).numpy(), frames(delay, B, IN).numpy() * 2
    count = lstm.num_layers * (2 if lstm.bidirectional else 1)
    h0, c0 = frames(2, count, B, H).numpy()
    for padding, long in (
        (0.0, oracle.longer(x, delay, 0.0)),
        (-1.5, oracle.longer(x, delay, -1.5)),
        (None, np.concatenate([x, extra])),
    ):
        wanted, h, c = oracle.lstm(long, w, h0, c0)
        given = x if padding is not None else long
        for first in (False, True):
            lstm.batch_first = first
            module = Delayed(lstm, delay, padding=padding)
            x_in = torch.from_numpy(given)
            y, after = module(
                x_in.transpose(0, 1) if first else x_in,
                (torch.from_numpy(h0), torch.from_numpy(c0)),
            )
            y = y.transpose(0, 1) if first else y
            assert y.shape == (T, B, H * (2 if lstm.bidirectional else 1))
            np.testing.assert_allclose(y, wanted[delay:], rtol=0, atol=1e-14)
            np.testing.assert_allclose(after[0], h, rtol=0, atol=1e-14)
            np.testing.assert_allclose(after[1], c, rtol=0, atol=1e-14)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_kind_of_layer(kind: str, delay: int) -> None:
    """The module over T + d steps, written out; with a state given and without."""
    layer = made(KINDS[kind])
    x, state = frames(T, B, IN), layer(frames(2, B, IN))[1]
    for padding in (0, 0.75, None):
        value = 0.0 if padding is None else padding
        long = torch.cat([x, torch.full((delay, B, IN), value, dtype=torch.float64)])
        module = Delayed(layer, delay, padding=padding)
        for given in (None, state):
            y, after = module(long if padding is None else x, given)
            wanted, end = layer(long, given)
            assert y.shape[0] == T
            same((y, after), (wanted[delay:], end))
    y_first, _ = Delayed(made(KINDS[kind], batch_first=True), delay)(x.transpose(0, 1), state)
    y_second, _ = Delayed(layer, delay)(x, state)
    same(y_first.transpose(0, 1), y_second)


@pytest.mark.parametrize("padding", [0, 0.75, None])
@pytest.mark.parametrize("kind", OURS)
@torch.no_grad()
def test_each_row_equals_the_row_alone(kind: str, padding: float | None) -> None:
    layer = made(OURS[kind])
    lengths = torch.tensor([T, 0, 4, 1])
    for delay in (0, 2, T + 3):
        module = Delayed(layer, delay, padding=padding)
        x = frames(T + (delay if padding is None else 0), B, IN)
        start = layer(frames(2, B, IN))[1]
        y, after = module(x, start, lengths=lengths)
        assert y.shape[0] == T
        for row, length in enumerate(lengths.tolist()):
            end = length + (delay if padding is None else 0)
            one = _rows(start, row)
            alone, state = module(x[:end, row : row + 1], one)
            same(y[:length, row : row + 1], alone)
            same(_rows(after, row), state)
            assert not y[length:, row].any()
        if padding is not None:
            past = torch.arange(T)[:, None] >= lengths
            spoiled = x.masked_fill(past[:, :, None], 1e9)
            same(module(spoiled, start, lengths=lengths), (y, after))


def _rows(state: Any, row: int) -> Any:
    """One row of a state, as the layers take it."""
    if isinstance(state, Tensor):
        return state[row : row + 1]
    parts = [None if part is None else _rows(part, row) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else parts


@torch.no_grad()
def test_tokens_and_modules_without_a_state() -> None:
    """A whole network, which returns y alone and gets a token as padding."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.rnn = nn.Embedding(7, IN), nn.GRU(IN, H, batch_first=True)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.rnn(self.embedding(tokens))[0]

    net = Net().eval()
    tokens = torch.randint(7, (B, T), generator=torch.Generator().manual_seed(3))
    y = Delayed(net, 2, padding=3, batch_first=True)(tokens)
    long = torch.cat([tokens, torch.full((B, 2), 3)], dim=1)
    assert torch.equal(y, net(long)[:, 2:])
    assert not torch.equal(y, Delayed(net, 2, padding=4, batch_first=True)(tokens))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Delayed(nn.GRU(IN, H), -1), "delay is -1, expected a whole number in 0..65536"),
        (lambda: Delayed(nn.GRU(IN, H), 2**17), "delay is 131072, expected a whole number"),
        (lambda: Delayed(nn.GRU(IN, H), True), "delay is True, expected a whole number"),
        (lambda: Delayed(nn.GRU(IN, H), 1, padding=float("nan")), "padding is nan, expected"),
        (lambda: Delayed(nn.GRU(IN, H), 1, padding="x"), "padding is 'x', expected"),
        (lambda: Delayed("LSTM", 1), "module is 'LSTM', expected a torch module"),
        (lambda: Delayed(nn.GRU(IN, H), 1, batch_first=1), "batch_first is 1, expected"),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_inputs() -> None:
    module = Delayed(nn.GRU(IN, H), 3, padding=None)
    with pytest.raises(InputError, match=r"shape \[2, 4, 3\], expected at least 3 steps"):
        module(torch.zeros(2, 4, IN))
    with pytest.raises(InputError, match=r"shape \[5\]"):
        Delayed(nn.GRU(IN, H), 3)(torch.zeros(5))
    with pytest.raises(InputError, match="x has shape"):
        Delayed(QRNN(IN, H), 3)(torch.zeros(5, 2, IN + 1))


# A whole model


def model_of(**options: Any) -> DelayedRNN:
    arguments = {"input_size": IN, "hidden_size": H, "output_size": 2}
    return made(lambda **o: DelayedRNN(**{**arguments, **o}), **options)


@pytest.mark.parametrize("vocab_size", [None, 11])
@torch.no_grad()
def test_a_model_is_its_equations(vocab_size: int | None) -> None:
    padding = 6 if vocab_size else -0.5
    model = model_of(num_layers=2, delay=3, padding=padding, vocab_size=vocab_size)
    w = oracle.weights_of(model)
    x: Any = frames(B, T, IN)
    if vocab_size:
        x = torch.randint(vocab_size, (B, T), generator=torch.Generator().manual_seed(3))
    long = oracle.longer(x.transpose(0, 1).numpy(), 3, padding)
    if vocab_size:
        long = w["module.embedding.weight"][long]
    inner = {k.removeprefix("module.rnn."): v for k, v in w.items() if ".rnn." in k}
    h0, c0 = frames(2, B, 2, H)
    wanted, h, c = oracle.lstm(long, inner, h0.transpose(0, 1).numpy(), c0.transpose(0, 1).numpy())
    wanted = wanted @ w["module.linear.weight"].T + w["module.linear.bias"]
    y, after = model(x, StandardState(h0, c0))
    np.testing.assert_allclose(y.transpose(0, 1), wanted[3:], rtol=0, atol=1e-13)
    np.testing.assert_allclose(after.h.transpose(0, 1), h, rtol=0, atol=1e-13)
    np.testing.assert_allclose(after.c.transpose(0, 1), c, rtol=0, atol=1e-13)


CELLS: list[dict[str, Any]] = [
    {"cell": "LSTM", "num_layers": 2},
    {"cell": "LSTM", "bidirectional": True, "bias": False},
    {"cell": "GRU"},
    {"cell": "QRNN", "num_layers": 2, "window": 3, "bias": False},
    {"cell": "QRNN", "bidirectional": True, "vocab_size": 11, "padding": 4},
    {"cell": "SRU", "num_layers": 2, "bidirectional": True},
    {"cell": "RHN", "depth": 3, "padding": None},
]


@pytest.mark.parametrize("options", CELLS, ids=lambda o: o["cell"])
@torch.no_grad()
def test_every_cell(options: dict[str, Any], tmp_path: Path) -> None:
    """Configuration, fresh weights, checkpoints, and the layers alone beside the whole."""
    model = model_of(delay=2, **options)
    config = json.loads(json.dumps(model.config()))
    again: Any = from_config(config, dtype=torch.float64)
    assert again.config() == config == model.config()
    again.load_state_dict(model.state_dict())
    steps = T + (2 if model.padding is None else 0)
    x: Any = frames(B, steps, IN)
    if model.vocab_size:
        x = torch.randint(11, (B, T), generator=torch.Generator().manual_seed(3))
    y, state = model(x)
    assert y.shape == (B, T, 2)
    same(again.eval()(x), (y, state))
    same(model(x, state)[0], again(x, state)[0])
    net = model.module
    value = model.padding if model.padding is not None else 0
    long = x if model.padding is None else torch.cat([x, torch.full_like(x[:, :2], value)], 1)
    long = net.embedding(long) if model.vocab_size else long
    same(y, net.linear(net.rnn(long)[0])[:, 2:])
    time_major = DelayedRNN(**{**_arguments(config), "batch_first": False}, dtype=torch.float64)
    time_major.load_state_dict(model.state_dict())
    same(time_major.eval()(x.transpose(0, 1))[0].transpose(0, 1), y)
    assert model.streams == (not options.get("bidirectional", False))

    path = tmp_path / "model.safetensors"
    save_checkpoint(model, path)
    loaded = load_checkpoint(path)
    assert loaded.config == config and torch.equal(loaded.module(x)[0], y)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_parameters()
    kept = [k for k, v in model.state_dict().items() if torch.equal(v, before[k])]
    assert not kept


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "architecture"}


@pytest.mark.parametrize("cell", ["LSTM", "QRNN", "SRU", "RHN"])
def test_it_learns(cell: str) -> None:
    """y_t = x_{t+1}: out of reach without a delay, learned with one; all weights get gradients."""
    errors = []
    for delay in (0, 1):
        torch.manual_seed(0)
        model = DelayedRNN(1, 12, 1, cell=cell, delay=delay)
        adam = torch.optim.Adam(model.parameters(), 0.03)
        for step in range(120):
            x = torch.rand(16, 12, 1, generator=torch.Generator().manual_seed(step))
            y, _ = model(x[:, :-1])
            loss = ((y - x[:, 1:])[:, :-1] ** 2).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())
        errors.append(loss.item())
    assert errors[0] > 0.06 and errors[1] < 0.02  # uniform numbers have variance 1/12


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "QRNN", "SRU", "RHN"])
def test_every_cell_streams(cell: str, tmp_path: Path) -> None:
    model = model_of(cell=cell, num_layers=2, delay=3, padding=0.5, dtype=torch.float32)
    x = frames(B, T, IN).float()
    with torch.no_grad():
        wanted = model(x)[0].numpy()
    path = tmp_path / "m.onnx"
    qrnn_deploy.export(model, path, states="none")
    np.testing.assert_allclose(Session(path).run({"x": x.numpy()})["y"], wanted, atol=1e-5)
    qrnn_deploy.export(model, path)
    stream = StreamingSession(path, B)
    parts = [stream.step(part.numpy()) for part in x.split(2, dim=1)] + [stream.flush()]
    np.testing.assert_allclose(np.concatenate(parts, 1)[:, 3:], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"cell": "RNN"}, "cell is 'RNN', expected one of LSTM, GRU, QRNN, SRU, RHN"),
        ({"window": 2}, "window is 2 with cell LSTM, expected 1"),
        ({"cell": "QRNN", "depth": 2}, "depth is 2 with cell QRNN, expected 1"),
        ({"cell": "RHN", "bidirectional": True}, "bidirectional is True with cell RHN"),
        ({"cell": "SRU", "bias": False}, "bias is False with cell SRU, expected True"),
        ({"cell": "RHN", "depth": 10**6}, "depth is 1000000"),
        ({"delay": -1}, "delay is -1"),
        ({"padding": 1e9}, "padding is 1000000000.0, expected a number in -65504..65504"),
        ({"padding": 0.5, "vocab_size": 4}, "padding is 0.5, expected a whole number in 0..3"),
        ({"padding": 4, "vocab_size": 4}, "padding is 4, expected a whole number in 0..3"),
        ({"hidden_size": 2**24}, "would hold"),
        ({"hidden_size": 2**24, "cell": "GRU"}, "would hold"),
        ({"output_size": 2**24, "hidden_size": 2**20}, "linear.weight of shape"),
        ({"vocab_size": 2**24, "input_size": 2**20}, "embedding.weight of shape"),
        ({"num_layers": 2000}, "num_layers is 2000"),
        ({"hidden_size": [4]}, "hidden_size is [4]"),
        ({"batch_first": None}, "batch_first is None"),
    ],
)
def test_configurations_are_bounded(options: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DelayedRNN(**{"input_size": IN, "hidden_size": H, "output_size": 2, **options})
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_configurations_in_sum_are_bounded() -> None:
    config = DelayedRNN(IN, H, 2).config() | {"hidden_size": 8000, "num_layers": 1000}
    with pytest.raises(ConfigError, match="parameters, expected at most"):
        from_config(config)
    with pytest.raises(ConfigError, match="lacks 'delay'"):
        from_config({k: v for k, v in config.items() if k != "delay"})


def test_wrong_inputs_of_a_model() -> None:
    model = model_of(delay=1)
    x = frames(B, T, IN)
    for call, part in (
        (lambda: model(x[:, :, :2]), r"x has shape [4, 10, 2], expected [B, T, 3]"),
        (lambda: model(x, (x, x)), "state is a tuple, expected a StandardState"),
        (lambda: model(x, lengths=torch.full((B,), T)), "nn.LSTM, which takes none"),
        (lambda: model_of(cell="QRNN")(x, [LayerState(x, None)]), "state.c"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert part in str(caught.value) and "\n" not in str(caught.value)
