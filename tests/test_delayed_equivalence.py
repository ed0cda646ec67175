"""Stacked layers as one delayed layer with a block structure: Turek et al. 2020, section 3.1.

docs/delayed.md tells the construction. Both sides here are PyTorch's own layers in float64.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qrnn_deploy.nn import Delayed

T, B, IN, H = 12, 3, 4, 5


def stack_of(kind: type[nn.RNNBase], layers: int) -> Any:
    """Random layers whose recurrence can be solved for the state before."""
    generator = torch.Generator().manual_seed(layers)
    stack = kind(IN, H, layers, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in stack.named_parameters():
            parameter.uniform_(-0.4, 0.4, generator=generator)
            if "bias" in name:
                parameter.mul_(0.2)
            if "weight_hh" in name and kind is nn.RNN:
                parameter.add_(torch.eye(H, dtype=torch.float64))
    return stack.eval()


def one_layer(stack: Any) -> Any:
    """The same network as one layer of k H channels: block i holds layer i, i steps late."""
    k, gates = stack.num_layers, stack.weight_hh_l0.shape[0] // H
    one = type(stack)(IN, k * H, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
        # Rows are gates of k H channels each, so a layer's rows of a gate stand apart.
        w, u = one.weight_ih_l0.view(gates, k, H, IN), one.weight_hh_l0.view(gates, k, H, k, H)
        for i in range(k):
            below = getattr(stack, f"weight_ih_l{i}").view(gates, H, -1)
            if i == 0:
                w[:, 0] = below
            else:
                u[:, i, :, i - 1] = below
            u[:, i, :, i] = getattr(stack, f"weight_hh_l{i}").view(gates, H, H)
            for kind in ("bias_ih", "bias_hh"):
                getattr(one, f"{kind}_l0").view(gates, k, H)[:, i] = getattr(
                    stack, f"{kind}_l{i}"
                ).view(gates, H)
    return one.eval()


def rnn_start(stack: Any, h0: Tensor) -> Tensor:
    """The state [1, B, k H] from which block i comes to h0[i] just before its first real step.

    Block i runs i steps too early. They are undone by solving the recurrence, from the bottom up:
    the path of the block below is known by then.
    """
    below: list[Tensor] = []
    first = []
    for i in range(stack.num_layers):
        path = [h0[i]]
        for step in reversed(range(i)):
            w, u = getattr(stack, f"weight_ih_l{i}"), getattr(stack, f"weight_hh_l{i}")
            bias = getattr(stack, f"bias_ih_l{i}") + getattr(stack, f"bias_hh_l{i}")
            reached = torch.atanh(path[0]) - below[step] @ w.T - bias
            path.insert(0, torch.linalg.solve(u, reached.T).T)
        below = path
        first.append(path[0])
    return torch.cat(first, dim=1)[None]


def lstm_start(stack: Any, one: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """(h, c) from which every block has c = 0, and so h = 0, just before its first real step.

    h may be anything and is 0 here; c is found by repeated correction of the c that was reached.
    """
    k = stack.num_layers
    h, c = torch.zeros(1, B, k * H, dtype=x.dtype), torch.zeros(1, B, k * H, dtype=x.dtype)
    for _ in range(400):
        state, wrong = (h, c), torch.zeros_like(c)
        for step in range(1, k):
            _, state = one(x[:, step - 1 : step], state)
            block = slice(step * H, (step + 1) * H)
            wrong[..., block] = state[1][..., block]
        c = c - wrong
    assert wrong.abs().max() < 1e-15
    return h, c


@pytest.mark.parametrize("padding", [0.0, 3.0])
@pytest.mark.parametrize("layers", [1, 2, 3])
@torch.no_grad()
def test_stacked_rnn(layers: int, padding: float) -> None:
    stack = stack_of(nn.RNN, layers)
    x = torch.randn(B, T, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    h0 = 0.1 * torch.rand(layers, B, H, dtype=torch.float64)
    wanted, _ = stack(x, h0)
    delayed = Delayed(one_layer(stack), layers - 1, padding=padding)
    start = rnn_start(stack, h0)
    y, _ = delayed(x, start)
    assert y.shape == (B, T, layers * H)
    assert (y[..., -H:] - wanted).abs().max() < 1e-12
    if layers > 1:  # so the start matters, and so does the delay
        assert (delayed(x)[0][..., -H:] - wanted).abs().max() > 1e-3
        assert (one_layer(stack)(x, start)[0][..., -H:] - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("padding", [0.0, 3.0])
@pytest.mark.parametrize("layers", [1, 2, 3])
@torch.no_grad()
def test_stacked_lstm(layers: int, padding: float) -> None:
    stack = stack_of(nn.LSTM, layers)
    one = one_layer(stack)
    x = torch.randn(B, T, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    wanted, _ = stack(x)
    y, _ = Delayed(one, layers - 1, padding=padding)(x, lstm_start(stack, one, x))
    assert (y[..., -H:] - wanted).abs().max() < 1e-12
    if layers > 1:
        assert (Delayed(one, layers - 1)(x)[0][..., -H:] - wanted).abs().max() > 1e-3
