"""QRNNLayer against the oracle, chunk invariance, zoneout, and what it refuses."""

from __future__ import annotations

import itertools
import math
from typing import Any

import cases
import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from qrnn_deploy.errors import InputError
from qrnn_deploy.nn import Binding, ConfigError, LayerState, QRNNLayer, bound

T, B, IN, H = 9, 4, 3, 5
LENGTHS = torch.tensor([9, 0, 1, 6])


def layer_of(seed: int = 0, **arguments: Any) -> QRNNLayer:
    torch.manual_seed(seed)
    layer = QRNNLayer(IN, H, **arguments).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-1, 1)
    return layer


def oracle_of(
    layer: QRNNLayer, x: Tensor, state: LayerState | None, lengths: Tensor | None, scale: float
) -> tuple[oracle.F64, oracle.F64, oracle.F64]:
    return oracle.layer(
        x.detach(),
        layer.weight.detach().double(),
        None if layer.bias is None else layer.bias.detach().double(),
        window=layer.window,
        pooling=layer.pooling,
        c0=None if state is None else state.c,
        x0=None if state is None or state.x is None else state.x,
        lengths=lengths,
        direction=-1 if layer.reverse else 1,
        activation=layer.activation,
        zoneout_scale=scale,
    )


def random_state(layer: QRNNLayer, dtype: torch.dtype = torch.float32) -> LayerState:
    x = None if layer.window == 1 else torch.randn(B, layer.window - 1, IN, dtype=dtype)
    return LayerState(torch.randn(B, H, dtype=dtype), x)


@pytest.mark.parametrize("reverse", [False, True], ids=["fwd", "rev"])
@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
def test_parity_with_the_oracle(pooling: str, window: int, reverse: bool) -> None:
    zoneouts = (0.0, 0.25) if pooling in ("f", "fo") else (0.0,)
    for activation, bias, zoneout, lengths, given in itertools.product(
        cases.ACTIVATION_NAMES, (True, False), zoneouts, (None, LENGTHS), (False, True)
    ):
        layer = layer_of(
            window=window,
            pooling=pooling,
            activation=activation,
            reverse=reverse,
            bias=bias,
            zoneout=zoneout,
            zoneout_eval="expectation" if zoneout else "identity",
        )
        x = torch.randn(T, B, IN)
        state = random_state(layer) if given else None
        y_ref, c_ref, x_ref = oracle_of(layer, x, state, lengths, 1 - zoneout)
        if lengths is not None:
            x = x.masked_fill((torch.arange(T)[:, None] >= lengths)[:, :, None], math.nan)
        y, after = layer(x, state, lengths)
        np.testing.assert_allclose(y.detach(), y_ref, rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(after.c.detach(), c_ref, rtol=2e-6, atol=2e-6)
        if window == 1:
            assert after.x is None
        else:
            assert after.x is not None
            np.testing.assert_array_equal(after.x, x_ref.astype(np.float32))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_types(dtype: torch.dtype) -> None:
    layer = layer_of(window=2).to(dtype)
    x = torch.randn(T, B, IN).to(dtype)
    y, after = layer(x)
    assert after.x is not None and after.x.dtype == y.dtype == dtype
    assert after.c.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    y_ref, c_ref, _ = oracle_of(layer, x.double(), None, None, 1.0)
    tolerance = {torch.float64: 1e-14, torch.float16: 4e-3, torch.bfloat16: 4e-2}[dtype]
    np.testing.assert_allclose(y.detach().double(), y_ref, atol=tolerance)
    np.testing.assert_allclose(after.c.detach(), c_ref, atol=tolerance)


@pytest.mark.parametrize("reverse", [False, True], ids=["fwd", "rev"])
@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
def test_any_chunking_gives_the_same_output(pooling: str, reverse: bool) -> None:
    steps = 70
    x = torch.randn(steps, B, IN)
    for window, lengths in itertools.product((1, 2, 4), (None, torch.tensor([70, 0, 13, 41]))):
        layer = layer_of(window=window, pooling=pooling, reverse=reverse)
        start = random_state(layer)
        with torch.no_grad():
            whole, end = layer(x, start, lengths)
            for size in (1, 2, 7, 64, steps):
                pieces, state = [], start
                begins = list(range(0, steps, size))
                for begin in reversed(begins) if reverse else begins:
                    part = x[begin : begin + size]
                    rest = None if lengths is None else (lengths - begin).clamp(0, len(part))
                    y, state = layer(part, state, rest)
                    pieces.append(y)
                joined = torch.cat(pieces[::-1] if reverse else pieces)
                assert (joined - whole).abs().max() <= 1e-6
                assert (state.c - end.c).abs().max() <= 1e-6
                assert window == 1 or torch.equal(state.x, end.x)


def test_empty_sequences_and_batches_return_the_state() -> None:
    for reverse, window in itertools.product((False, True), (1, 3)):
        layer = layer_of(window=window, reverse=reverse)
        state = random_state(layer)
        for lengths in (None, torch.zeros(B, dtype=torch.int64)):
            y, after = layer(torch.randn(0, B, IN), state, lengths)
            assert y.shape == (0, B, H) and torch.equal(after.c, state.c)
            assert window == 1 or torch.equal(after.x, state.x)
        y, after = layer(torch.randn(T, 0, IN))
        assert y.shape == (T, 0, H) and after.c.shape == (0, H)


def test_batch_first_and_initial_state() -> None:
    first, second = layer_of(window=3, batch_first=True), layer_of(window=3)
    x = torch.randn(B, T, IN)
    y, after = first(x, first.initial_state(B), LENGTHS)
    y2, after2 = second(x.transpose(0, 1), None, LENGTHS)
    assert torch.equal(y, y2.transpose(0, 1))
    assert torch.equal(after.c, after2.c) and torch.equal(after.x, after2.x)
    assert layer_of().double().initial_state(2).c.dtype == torch.float64
    assert layer_of(window=2).bfloat16().initial_state(2).c.dtype == torch.float32


@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
def test_zoneout_in_training_keeps_exactly_the_previous_state(pooling: str) -> None:
    # Without an output gate h is c, so kept entries repeat the value of the step before.
    layer = layer_of(pooling=pooling, zoneout=0.4).train()
    torch.manual_seed(1)
    x, state = torch.randn(200, B, IN), random_state(layer)
    y, after = layer(x, state)
    if layer.spec.has_output_gate:
        gates = torch.nn.functional.linear(x, layer.weight, layer.bias)
        o = gates.chunk(layer.spec.gate_count, -1)[layer.spec.gates.index("o")]
        y = y / torch.sigmoid(o)
        kept = ((y[1:] - y[:-1]).abs() < 1e-6).float()
    else:
        kept = (y[1:] == y[:-1]).float()
    assert abs(kept.mean().item() - 0.4) < 0.03
    after.c.sum().backward()
    assert layer.weight.grad is not None and torch.isfinite(layer.weight.grad).all()
    everywhere = layer_of(pooling=pooling, zoneout=1 - 1e-9).train()
    assert torch.equal(everywhere(x, state)[1].c, state.c)


def test_zoneout_in_eval() -> None:
    x = torch.randn(T, B, IN)
    plain = layer_of()(x)[0]
    assert torch.equal(layer_of(zoneout=0.4)(x)[0], plain)
    expectation = layer_of(zoneout=0.4, zoneout_eval="expectation")
    assert expectation.zoneout_scale == pytest.approx(0.6)
    assert not torch.allclose(expectation(x)[0], plain)
    assert expectation.train().zoneout_scale == 1.0
    assert torch.equal(layer_of(zoneout=0.0, zoneout_eval="expectation")(x)[0], plain)


def test_gradients_ignore_what_lies_past_the_lengths() -> None:
    for reverse in (False, True):
        layer = layer_of(window=2, reverse=reverse).train()
        x = torch.randn(T, B, IN)
        past = (torch.arange(T)[:, None] >= LENGTHS)[:, :, None]
        gradients = []
        for garbage in (0.0, math.nan):
            layer.zero_grad()
            y, after = layer(x.masked_fill(past, garbage), None, LENGTHS)
            (y.sum() + after.c.sum()).backward()
            gradients.append([p.grad.clone() for p in layer.parameters()])
        for clean, dirty in zip(*gradients, strict=True):
            assert torch.equal(clean, dirty)


def test_forget_bias_and_reset() -> None:
    layer = QRNNLayer(IN, H, pooling="ifo", forget_bias=1.5)
    assert layer.bias is not None
    parts = layer.bias.chunk(4)
    assert torch.all(parts[1] == 1.5) and all(torch.all(parts[n] == 0) for n in (0, 2, 3))
    bound_ = math.sqrt(6 / (IN + H))
    assert 0.5 * bound_ < layer.weight.abs().max() <= bound_


class Recorder(Binding):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def enter(self, layer: QRNNLayer, x: Tensor, state: Any, lengths: Any) -> Any:
        self.seen.append(f"enter {list(x.shape)}")
        return x, layer.initial_state(x.shape[1]), lengths

    def gates(self, layer: QRNNLayer, gates: Tensor) -> Tensor:
        self.seen.append(f"gates {list(gates.shape)}")
        return torch.zeros_like(gates)

    def leave(self, layer: QRNNLayer, y: Tensor, state: LayerState) -> Any:
        self.seen.append(f"leave {list(y.shape)}")
        return y + 1, state


def test_a_binding_sees_time_major_tensors_and_may_replace_them() -> None:
    layer, recorder = layer_of(window=2, batch_first=True), Recorder()
    x = torch.randn(B, T, IN)
    with bound(recorder):
        y, _ = layer(x, random_state(layer))
    assert recorder.seen == [f"enter [9, 4, {IN}]", "gates [9, 4, 15]", "leave [9, 4, 5]"]
    assert torch.equal(y, torch.ones(B, T, H))  # zero gates from a zero state, plus 1
    assert not torch.equal(layer(x)[0], y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window is 0, expected a whole number in 1..4096"),
        ({"window": True}, "window is True"),
        ({"hidden_size": -3}, "hidden_size is -3"),
        ({"hidden_size": 2**40}, "hidden_size is 1099511627776"),
        ({"hidden_size": 10**400}, "hidden_size is a number of 1329 bits"),
        ({"input_size": 2**20, "hidden_size": 2**20}, "weight of shape .* would hold"),
        ({"pooling": "lstm"}, "pooling is 'lstm', expected one of f, fo, ifo, if"),
        ({"activation": ["tanh"]}, r"activation is \['tanh'\], expected one of"),
        ({"zoneout": 1.0}, "zoneout is 1.0, expected a number in 0 <= p < 1"),
        ({"zoneout": math.nan}, "zoneout is nan"),
        ({"zoneout_eval": "mean"}, "zoneout_eval is 'mean'"),
        ({"zoneout_eval": "expectation", "pooling": "ifo"}, "only f and fo"),
        ({"bias": 1}, "bias is 1, expected true or false"),
        ({"bias": False, "forget_bias": 1.0}, "forget_bias is 1.0 in a layer with bias=False"),
        ({"forget_bias": math.inf}, "forget_bias is inf, expected a finite number"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        QRNNLayer(**{"input_size": IN, "hidden_size": H, **arguments})
    assert "\n" not in str(caught.value)


def test_refused_inputs() -> None:
    layer, x = layer_of(window=2), torch.randn(T, B, IN)
    good = random_state(layer)
    calls: list[tuple[tuple[Any, ...], str]] = [
        ((x[0],), r"x has shape \[4, 3\], expected \[T, B, 3\]"),
        ((x[..., :2],), r"x has shape \[9, 4, 2\]"),
        ((x.double(),), "x has dtype torch.float64, expected torch.float32"),
        ((x, good.c), "state is a Tensor, expected a LayerState"),
        ((x, None, [9, 9, 9, 9]), "lengths is a list, expected a tensor"),
        ((x, good._replace(c=good.c[:2])), r"state.c is .* \[2, 5\], expected .* \[4, 5\]"),
        ((x, good._replace(c=good.c.double())), "state.c is torch.float64"),
        ((x, good._replace(x=None)), "state.x is None, expected a tensor in this layer"),
        ((x, good._replace(x=good.x[:, :, :1])), r"state.x is torch.float32 \[4, 1, 1\]"),
        ((x, good._replace(x=good.x.half())), r"state.x is torch.float16"),
        ((x, None, LENGTHS[:2]), r"lengths is torch.int64 \[2\], expected torch.int64 \[4\]"),
        ((x, None, LENGTHS + 1), r"lengths holds 10, expected values in 0\.\.9"),
        ((x, None, LENGTHS.float()), "lengths is torch.float32"),
        ((x, None, LENGTHS[:, None]), r"lengths is torch.int64 \[4, 1\]"),
    ]
    for arguments, message in calls:
        with pytest.raises(InputError, match=message) as caught:
            layer(*arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"state.x is given, expected None in this layer"):
        layer_of()(x, good)
