"""The pooling recurrence and its gradient in PyTorch calls, for any device.

Written for few calls per time step: everything but the recurrence runs over the whole sequence
at once, and a step is two calls for f and fo, one for ifo and if. What the operators are, and
their equations, stands in :mod:`qrnn_deploy.pooling.torch_op`, which also checks the arguments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .spec import POOLINGS, PoolingSpec
from .walk import Walk, activate, activate_backward, state_dtype


def _split(spec: PoolingSpec, gates: Tensor, hidden: int, walk: Walk) -> dict[str, Tensor]:
    """Pre-activations by gate name, in walk order and the state's type, 0 past the lengths."""
    ordered = walk.clear(walk.flip(gates)).to(state_dtype(gates.dtype))
    return {gate: ordered[:, :, k * hidden : (k + 1) * hidden] for k, gate in enumerate(spec.gates)}


def _states(
    spec: PoolingSpec, parts: dict[str, Tensor], c0: Tensor, activation: str, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """C [T+1, B, H] in walk order: c0, then the state after every step; z and the gate used.

    The gate is the candidate's weight g (f, fo) or the input gate i (ifo, if). Past the lengths
    the walk goes on over cleared gates; callers pick and mask what counts.
    """
    z = activate(parts["z"], activation)
    states = c0.new_empty((z.shape[0] + 1, *c0.shape))
    states[0].copy_(c0)
    steps = states.unbind(0)
    if spec.has_input_gate:
        gate = torch.sigmoid(parts["i"])
        forget, fresh = torch.sigmoid(parts["f"]).unbind(0), (gate * z).unbind(0)
        for t in range(len(fresh)):
            torch.addcmul(fresh[t], forget[t], steps[t], out=steps[t + 1])
    else:
        # g (z - c), not (1 - g) c + g z: slow channels keep their precision over long walks.
        gate = torch.neg(parts["f"]).sigmoid_()
        if scale != 1.0:
            gate.mul_(scale)
        weight, candidate = gate.unbind(0), z.unbind(0)
        difference = torch.empty_like(c0)
        for t in range(len(candidate)):
            torch.sub(candidate[t], steps[t], out=difference)
            torch.addcmul(steps[t], weight[t], difference, out=steps[t + 1])
    return states, z, gate


def forward(
    spec: PoolingSpec,
    gates: Tensor,
    c0: Tensor,
    lengths: Tensor,
    direction: int,
    activation: str,
    zoneout_scale: float,
) -> tuple[Tensor, Tensor]:
    """H [T, B, H] and c_T [B, H]; the lengths are checked, all else is taken as right."""
    steps, (batch, hidden) = gates.shape[0], c0.shape
    walk = Walk(f"pool_{spec.name}", lengths, steps, direction)
    parts = _split(spec, gates, hidden, walk)
    states, _, _ = _states(spec, parts, c0, activation, zoneout_scale)
    c_T = states[lengths, torch.arange(batch, device=lengths.device)]
    h = states[1:]
    if spec.has_output_gate:
        h = torch.sigmoid(parts["o"]) * h
    h = walk.flip(walk.clear(h)).to(gates.dtype)
    # A view of `states` would keep c0's row alive and must not alias another output.
    return (h if spec.has_output_gate else h.clone()).contiguous(), c_T


def backward(
    pooling: str,
    gates: Tensor,
    c0: Tensor,
    lengths: Tensor,
    grad_h: Tensor,
    grad_c_T: Tensor,
    direction: int,
    activation: str,
    zoneout_scale: float,
) -> tuple[Tensor, Tensor]:
    """Gradients of gates and c0; the states are computed again rather than kept."""
    spec = POOLINGS[pooling]
    steps, (batch, hidden) = gates.shape[0], c0.shape
    walk = Walk(f"pool_{spec.name}", lengths, steps, direction)
    parts = _split(spec, gates, hidden, walk)
    states, z, gate = _states(spec, parts, c0, activation, zoneout_scale)
    before, after = states[:-1], states[1:]
    forget = torch.sigmoid(parts["f"])
    keep = forget if spec.has_input_gate else 1 - gate
    packed = c0.new_empty(gates.shape)
    grads = dict(zip(spec.gates, packed.chunk(spec.gate_count, dim=2), strict=True))

    # dc [T+1, B, H]: the gradient of every state, through the steps that follow it.
    dc = c0.new_empty(states.shape)
    dc[0].zero_()
    dc[1:].copy_(walk.clear(walk.flip(grad_h)))
    if spec.has_output_gate:
        o = torch.sigmoid(parts["o"])
        _sigmoid_backward(dc[1:] * after, o, grads["o"])
        dc[1:].mul_(o)
    dc[lengths, torch.arange(batch, device=lengths.device)] += grad_c_T
    slots, keeps = dc.unbind(0), keep.unbind(0)
    for t in range(steps - 1, -1, -1):
        slots[t].addcmul_(keeps[t], slots[t + 1])
    dc = dc[1:]

    if spec.has_input_gate:
        _sigmoid_backward(dc * before, forget, grads["f"])
        _sigmoid_backward(dc * z, gate, grads["i"])
        dz = dc.mul_(gate)
    else:
        dz = dc.mul_(gate)
        torch.mul((before - z).mul_(dz), forget, out=grads["f"])
    grads["z"].copy_(activate_backward(dz, z, activation))
    packed = walk.flip(walk.clear(packed)).to(gates.dtype).contiguous()
    return packed, slots[0].clone()


def _sigmoid_backward(grad: Tensor, y: Tensor, out: Tensor) -> None:
    """Write grad * y (1 - y) into ``out``."""
    torch.ops.aten.sigmoid_backward.grad_input(grad, y, grad_input=out)
