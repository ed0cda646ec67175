"""The highway recurrence and its gradient in PyTorch calls, for any device.

What the operator is, and its equations, stands in :mod:`qrnn_deploy.pooling.rhn_op`, which also
checks the arguments. Names here: S the state's type, a the pre-activations of one highway layer,
h and t its candidate and transform gate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .spec import RHN
from .walk import Walk, state_dtype


class _Step(NamedTuple):
    """What one highway layer saw and made, all [B, H]: s before it, h and t."""

    s: Tensor
    h: Tensor
    t: Tensor


def run(
    gates: Tensor,
    s0: Tensor,
    lengths: Tensor,
    weight: Tensor,
    bias: Tensor,
    direction: int,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Outputs [T, B, H] and s_T [B, H]; autograd can follow it.

    Args:
        gates: [T, B, 2H] in the storage type.
        s0: [B, H] in the state's type.
        lengths: [B] int64, which are checked; all else is taken as right.
        weight: [D, 2H, H] in the storage type.
        bias: [D, 2H] in the storage type.
        direction: 1 or -1.
        mask: what the state is multiplied with before each matrix product, in the state's type:
            [1, B, H], or [2, B, H] with one mask for the rows h and one for the rows t.
    """
    walk = Walk(RHN.torch_name.rpartition(":")[2], lengths, gates.shape[0], direction)
    pre, wide = _prepare(walk, gates, bias)
    states = _states(pre, s0, weight, wide, mask)
    s_T = states[lengths, torch.arange(s0.shape[0], device=lengths.device)]
    h = walk.flip(walk.clear(states[1:])).to(gates.dtype)
    # A view of `states` must not alias another output.
    return h.clone(memory_format=torch.contiguous_format), s_T


def _prepare(walk: Walk, gates: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """In the state's type: what is added at d = 0 of every step, in walk order, and the biases."""
    dtype = state_dtype(gates.dtype)
    wide = bias.to(dtype)
    return walk.clear(walk.flip(gates)).to(dtype) + wide[0], wide


def _states(
    pre: Tensor,
    s0: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor | None,
    tape: list[_Step] | None = None,
) -> Tensor:
    """[T+1, B, H] in walk order: s0, then the state after every step.

    Past the lengths the walk goes on over cleared gates; callers pick and mask what counts.
    """
    states = [s0]
    s = s0
    for first in pre.unbind(0):
        for d, rows in enumerate(weight.unbind(0)):
            a = _product(s, rows, mask) + (bias[d] if d else first)
            h, t = a.chunk(2, dim=-1)
            h, t = torch.tanh(h), torch.sigmoid(t)
            if tape is not None:
                tape.append(_Step(s, h, t))
            s = torch.addcmul(s, h - s, t)
        states.append(s)
    return torch.stack(states)


def _product(s: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
    """The state [B, H] times rows [2H, H]: the product in their type, the result in the state's."""
    if mask is None:
        return F.linear(s.to(rows.dtype), rows).to(s.dtype)
    parts = zip(mask, rows.chunk(len(mask)), strict=True)
    return torch.cat([_product(s * kept, block, None) for kept, block in parts], dim=-1)


def backward(
    gates: Tensor,
    s0: Tensor,
    lengths: Tensor,
    weight: Tensor,
    bias: Tensor,
    grad_h: Tensor,
    grad_s_T: Tensor,
    direction: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of gates, s0, weight and bias; the states are computed again rather than kept."""
    (steps, batch, _), depth = gates.shape, weight.shape[0]
    walk = Walk(RHN.torch_name.rpartition(":")[2], lengths, steps, direction)
    tape: list[_Step] = []
    _states(*_args(walk, gates, s0, weight, bias), None, tape)

    # ds [T+1, B, H]: what reaches each state from outside the recurrence.
    ds = s0.new_zeros((steps + 1, *s0.shape))
    ds[1:] = walk.clear(walk.flip(grad_h))
    ds[lengths, torch.arange(batch, device=lengths.device)] += grad_s_T
    da = s0.new_empty((steps, depth, batch, weight.shape[1]))
    g = ds[steps]
    for step in range(steps - 1, -1, -1):
        for d in range(depth - 1, -1, -1):
            s, h, t = tape[step * depth + d]
            here = da[step, d]
            torch.cat([g * t * (1 - h * h), g * (h - s) * (t * (1 - t))], dim=-1, out=here)
            g = g * (1 - t) + (here.to(weight.dtype) @ weight[d]).to(g.dtype)
        g = g + ds[step]

    seen = _stacked([entry.s for entry in tape], (steps, depth, *s0.shape), s0)
    grad_weight = torch.einsum("tdbg,tdbh->dgh", da, seen).to(weight.dtype)
    grad_gates = walk.flip(walk.clear(da[:, 0])).to(gates.dtype).contiguous()
    return grad_gates, g.clone(), grad_weight, da.sum((0, 2)).to(bias.dtype)


def _args(
    walk: Walk, gates: Tensor, s0: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pre, wide = _prepare(walk, gates, bias)
    return pre, s0, weight, wide


def _stacked(tensors: list[Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Tensors one after the other, of which there may be none."""
    return torch.stack(tensors).view(shape) if tensors else like.new_zeros(shape)
