"""What the GPU benchmark compares with: the reference recurrence in PyTorch, layers, an LSTM."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def reference(gates: Tensor, c0: Tensor) -> tuple[Tensor, Tensor]:
    """fo-pooling as a loop over time in plain PyTorch: gates [T, B, 3H] in z f o, c0 [B, H]."""
    z, f, o = gates.float().chunk(3, dim=-1)
    z, f, o = z.tanh(), f.sigmoid(), o.sigmoid()
    c, outputs = c0, []
    for t in range(gates.shape[0]):
        c = c + (1 - f[t]) * (z[t] - c)
        outputs.append(o[t] * c)
    return torch.stack(outputs).to(gates.dtype), c


def scanned(gates: Tensor, c0: Tensor) -> tuple[Tensor, Tensor]:
    """The same as an associative scan of (f, (1 - f) z), which torch.compile turns into Triton."""
    from torch._higher_order_ops.associative_scan import associative_scan

    z, f, o = gates.float().chunk(3, dim=-1)
    z, f, o = z.tanh(), f.sigmoid(), o.sigmoid()

    def join(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    kept, made = associative_scan(join, (f, (1 - f) * z), dim=0, combine_mode="pointwise")
    c = kept * c0 + made
    return (o * c).to(gates.dtype), c[-1]


Pool = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Stack(nn.Module):
    """QRNN layers, fo-pooling, two taps: one matrix product over pairs of inputs per layer."""

    def __init__(self, sizes: list[int], pool: Pool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(2 * before, 3 * after) for before, after in itertools.pairwise(sizes)
        )
        self.pool = pool

    def forward(
        self, x: Tensor, states: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """From x [T, B, in] and states (c [B, H], last input [B, in]) to y [T, B, H] and states."""
        after = []
        for layer, (c, last) in zip(self.layers, states, strict=True):
            shifted = torch.cat([last[None], x[:-1]])
            gates = layer(torch.cat([shifted, x], dim=-1))
            newest = x[-1]
            x, c = self.pool(gates, c)
            after.append((c, newest))
        return x, after

    def zero_states(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """The states at the start of a sequence, on the weights' device, in their type."""
        states = []
        for layer in self.layers:
            weight = layer.weight
            c = torch.zeros(batch, layer.out_features // 3, device=weight.device)
            states.append((c, weight.new_zeros(batch, layer.in_features // 2)))
        return states

    def weight_bytes(self) -> int:
        """What a step must read at least."""
        return sum(p.numel() * p.element_size() for p in self.parameters())
