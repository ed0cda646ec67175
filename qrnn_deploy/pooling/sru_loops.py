"""The SRU recurrence and its gradient in PyTorch calls, for any device.

A step is four calls, since g needs the state; r, h and all gradients but the state's run over the
whole sequence at once. The equations stand in :mod:`qrnn_deploy.pooling.sru_op`, which also checks
the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .spec import PoolingSpec
from .walk import Walk, activate, activate_backward, state_dtype


@dataclass(frozen=True)
class _Passed:
    """A walk over a sequence: all [T, B, H] in walk order, in the state's type.

    Attributes:
        z: the candidate.
        g: its weight.
        r: the reset gate.
        x: the highway's input, or None.
        before: the state before each step, 0 past the lengths.
        out: the activation of the state after each step.
        c_T: [B, H] the last valid state.
    """

    z: Tensor
    g: Tensor
    r: Tensor
    x: Tensor | None
    before: Tensor
    out: Tensor
    c_T: Tensor


def _pass(
    spec: PoolingSpec,
    walk: Walk,
    tensors: Sequence[Tensor],
    activation: str,
) -> _Passed:
    """Walk once. Past the lengths it goes on over zeros; nothing of that is left in the result."""
    gates, c0, lengths, weight_c, bias, *skip = tensors
    steps, (batch, hidden) = gates.shape[0], c0.shape
    ordered = walk.clear(walk.flip(gates)).to(state_dtype(gates.dtype))
    parts = {
        gate: ordered[:, :, k * hidden : (k + 1) * hidden] for k, gate in enumerate(spec.gates)
    }
    x = walk.clear(walk.flip(skip[0])).to(ordered.dtype) if skip else parts.get("x")
    # sigmoid of what is negated already, so that g keeps its precision where f is near 1.
    negated, weight = torch.sub(-bias[0], parts["f"]), -weight_c[0]
    states = c0.new_empty((steps + 1, batch, hidden))
    states[0].copy_(c0)
    g, difference = torch.empty_like(negated), torch.empty_like(c0)
    slots, candidates = states.unbind(0), parts["z"].unbind(0)
    for t, (offset, gate) in enumerate(zip(negated.unbind(0), g.unbind(0), strict=True)):
        torch.addcmul(offset, weight, slots[t], out=gate).sigmoid_()
        torch.sub(candidates[t], slots[t], out=difference)
        torch.addcmul(slots[t], gate, difference, out=slots[t + 1])
    before = walk.clear(states[:-1])
    r = torch.addcmul(parts["r"] + bias[1], weight_c[1], before).sigmoid_()
    return _Passed(
        z=parts["z"],
        g=walk.clear(g),
        r=r,
        x=x,
        before=before,
        out=activate(walk.clear(states[1:]), activation),
        c_T=states[lengths, torch.arange(batch, device=lengths.device)],
    )


def forward(
    spec: PoolingSpec, tensors: Sequence[Tensor], direction: int, activation: str
) -> tuple[Tensor, Tensor]:
    """H [T, B, H] and c_T [B, H]; the lengths are checked, all else is taken as right.

    ``tensors`` are the operator's inputs in order.
    """
    gates, _, lengths = tensors[:3]
    walk = Walk(f"pool_{spec.name}", lengths, gates.shape[0], direction)
    at = _pass(spec, walk, tensors, activation)
    h = at.r * at.out if at.x is None else torch.addcmul(at.x, at.r, at.out - at.x)
    return walk.flip(walk.clear(h)).to(gates.dtype).contiguous(), at.c_T


def backward(
    spec: PoolingSpec,
    tensors: Sequence[Tensor],
    grad_h: Tensor,
    grad_c_T: Tensor,
    direction: int,
    activation: str,
) -> tuple[Tensor, ...]:
    """Gradients of gates, c0, weight_c, bias and, if there is one, skip.

    The states are computed again rather than kept.
    """
    gates, c0, lengths, weight_c, _, *skip = tensors
    steps, (batch, hidden) = gates.shape[0], c0.shape
    walk = Walk(f"pool_{spec.name}", lengths, steps, direction)
    at = _pass(spec, walk, tensors, activation)
    dh = walk.clear(walk.flip(grad_h)).to(c0.dtype)

    above = at.out if at.x is None else at.out - at.x
    dr = dh * above * at.r * (1 - at.r)
    # dc [T+1, B, H]: the gradient of every state, through the steps that follow it.
    dc = c0.new_zeros((steps + 1, batch, hidden))
    dc[1:].copy_(activate_backward(dh * at.r, at.out, activation))
    dc[:-1].addcmul_(dr, weight_c[1])
    dc[lengths, torch.arange(batch, device=lengths.device)] += grad_c_T
    forget, distance = 1 - at.g, at.z - at.before
    # d c' / d c = f (1 - g v_f (z - c)): the second term is the state's way through g.
    keep = forget * (1 - at.g * distance * weight_c[0])
    slots, keeps = dc.unbind(0), keep.unbind(0)
    for t in range(steps - 1, -1, -1):
        slots[t].addcmul_(keeps[t], slots[t + 1])
    dz = dc[1:] * at.g
    df = dz * distance * -forget

    grads = {"z": dz, "f": df, "r": dr}
    dx = None if at.x is None else dh * (1 - at.r)
    if dx is not None and not skip:
        grads["x"] = dx

    def in_time(grad: Tensor, dtype: torch.dtype) -> Tensor:
        return walk.flip(walk.clear(grad)).to(dtype).contiguous()

    packed = torch.cat([grads[gate] for gate in spec.gates], dim=2)
    results = (
        in_time(packed, gates.dtype),
        slots[0].clone(),
        torch.stack([(df * at.before).sum((0, 1)), (dr * at.before).sum((0, 1))]),
        torch.stack([df.sum((0, 1)), dr.sum((0, 1))]),
    )
    if dx is None or not skip:
        return results
    return *results, in_time(dx, gates.dtype)
