"""The pooling operator for PyTorch: one ``torch.library`` operator per pooling function.

``qrnn_deploy::pool_f``, ``pool_fo``, ``pool_ifo`` and ``pool_if``, all of them::

    (Tensor gates, Tensor c0, Tensor lengths, int direction, str activation,
     float zoneout_scale) -> (Tensor h, Tensor c_T)

    f, fo    g = zoneout_scale * sigmoid(-x_f);  c <- c + g * (z - c)
    ifo, if  c <- sigmoid(x_f) * c + sigmoid(x_i) * z
    h = sigmoid(x_o) * c  (fo, ifo)     h = c  (f, if)

gates [T, B, G*H] holds the pre-activations in the order of
:data:`~qrnn_deploy.pooling.spec.POOLINGS`; c0 [B, H]; lengths [B] int64. The recurrence runs in
float32 (float64 for float64 gates), so c0 and c_T are float32 (float64) whatever gates is.
Source: Bradbury et al. 2016, arXiv:1611.01576, section 2.

For ``torch.export`` and ``torch.compile`` each operator is one node. Written for any device
with as few calls per time step as possible: two for f and fo, one for ifo and if.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .spec import ACTIVATIONS, POOLINGS, PoolingSpec

STATE_DTYPES = {
    torch.float32: torch.float32,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float64: torch.float64,
}
"""Type of gates -> type of the recurrence, c0 and c_T."""


def state_dtype(storage: torch.dtype) -> torch.dtype:
    """The type of c0 and c_T, and of the recurrence, for gates of type ``storage``.

    Raises:
        InputError: gates cannot have this type.
    """
    if storage not in STATE_DTYPES:
        raise InputError(
            f"gates: dtype {storage}, expected float32, float16, bfloat16 or float64: "
            "convert the model or its input"
        )
    return STATE_DTYPES[storage]


def _check(
    spec: PoolingSpec,
    gates: Tensor,
    c0: Tensor,
    lengths: Tensor,
    direction: int,
    activation: str,
    zoneout_scale: float,
) -> None:
    """Everything that can be checked without reading values, so tracing checks it too."""
    name = f"pool_{spec.name}"
    expected_state = state_dtype(gates.dtype)
    for label, tensor, rank, axes in (
        ("gates", gates, 3, f"[T, B, {spec.gate_count}*H]"),
        ("c0", c0, 2, "[B, H]"),
        ("lengths", lengths, 1, "[B]"),
    ):
        if tensor.dim() != rank:
            raise InputError(f"{name}: {label} has rank {tensor.dim()}, expected {rank}: {axes}")
    if c0.dtype != expected_state:
        raise InputError(
            f"{name}: c0 has dtype {c0.dtype}, expected {expected_state} for {gates.dtype} gates"
        )
    if lengths.dtype != torch.int64:
        raise InputError(f"{name}: lengths has dtype {lengths.dtype}, expected torch.int64")
    batch, hidden = c0.shape
    if gates.shape[1] != batch or gates.shape[2] != spec.gate_count * hidden:
        raise InputError(
            f"{name}: gates has shape {_shape(gates)}, expected "
            f"[T, {batch}, {spec.gate_count * hidden}] to fit c0 {_shape(c0)}"
        )
    if lengths.shape[0] != batch:
        raise InputError(f"{name}: lengths has shape {_shape(lengths)}, expected [{batch}]")
    if direction not in (1, -1):
        raise InputError(f"{name}: direction is {direction}, expected 1 or -1")
    if activation not in ACTIVATIONS:
        raise InputError(
            f"{name}: activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}"
        )
    if not 0.0 < zoneout_scale <= 1.0:
        raise InputError(f"{name}: zoneout_scale is {zoneout_scale}, expected 0 < scale <= 1")
    if spec.has_input_gate and zoneout_scale != 1.0:
        raise InputError(
            f"{name}: zoneout_scale is {zoneout_scale}, expected 1: only f and fo are scaled"
        )


def _shape(tensor: Tensor) -> str:
    return "[" + ", ".join(str(size) for size in tensor.shape) + "]"


def length_range(name: str, lengths: Tensor, steps: int) -> tuple[int, int]:
    """The shortest and the longest of ``lengths`` (``steps`` for an empty batch).

    Raises:
        InputError: a length outside 0..steps; ``name`` is what it was given to.
    """
    if lengths.numel() == 0:
        return steps, steps
    shortest, longest = (int(v) for v in torch.stack(torch.aminmax(lengths)).tolist())
    if shortest < 0 or longest > steps:
        wrong = shortest if shortest < 0 else longest
        raise InputError(f"{name}: lengths holds {wrong}, expected values in 0..{steps} (T)")
    return shortest, longest


class _Walk:
    """The order in which rows are walked, so that the loops below only ever go forward.

    ``flip`` maps [T, B, *] from time to walk order and back: for direction -1, t <-> len-1-t
    inside a row and t <-> t beyond its length. ``beyond`` [T, B, 1] is True past the lengths,
    or None if there is nothing past them.
    """

    def __init__(self, spec: PoolingSpec, lengths: Tensor, steps: int, direction: int) -> None:
        self.beyond: Tensor | None = None
        self._index: Tensor | None = None
        self._reverse = direction == -1
        shortest, _ = length_range(f"pool_{spec.name}", lengths, steps)
        if shortest < steps:
            t = torch.arange(steps, device=lengths.device)[:, None]
            outside = t >= lengths
            self.beyond = outside[:, :, None]
            if self._reverse:
                self._index = torch.where(outside, t, lengths - 1 - t)

    def flip(self, x: Tensor) -> Tensor:
        if not self._reverse:
            return x
        if self._index is None:
            return x.flip(0)
        return x[self._index, torch.arange(x.shape[1], device=x.device)]

    def clear(self, x: Tensor, value: float = 0.0) -> Tensor:
        """``x`` in walk order with everything past the lengths replaced."""
        return x if self.beyond is None else x.masked_fill(self.beyond, value)


def _split(spec: PoolingSpec, gates: Tensor, hidden: int, walk: _Walk) -> dict[str, Tensor]:
    """Pre-activations by gate name, in walk order and the state's type, 0 past the lengths."""
    ordered = walk.clear(walk.flip(gates)).to(STATE_DTYPES[gates.dtype])
    return {gate: ordered[:, :, k * hidden : (k + 1) * hidden] for k, gate in enumerate(spec.gates)}


def _activate(x: Tensor, activation: str) -> Tensor:
    if activation == "tanh":
        # Several times faster than tanh of a strided slice.
        return torch.tanh(x.contiguous())
    return torch.relu(x) if activation == "relu" else x.contiguous()


def _states(
    spec: PoolingSpec, parts: dict[str, Tensor], c0: Tensor, activation: str, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """C [T+1, B, H] in walk order: c0, then the state after every step; z and the gate used.

    The gate is the candidate's weight g (f, fo) or the input gate i (ifo, if). Past the lengths
    the walk goes on over cleared gates; callers pick and mask what counts.
    """
    z = _activate(parts["z"], activation)
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


def _forward(
    spec: PoolingSpec,
    gates: Tensor,
    c0: Tensor,
    lengths: Tensor,
    direction: int,
    activation: str,
    zoneout_scale: float,
) -> tuple[Tensor, Tensor]:
    _check(spec, gates, c0, lengths, direction, activation, zoneout_scale)
    steps, (batch, hidden) = gates.shape[0], c0.shape
    walk = _Walk(spec, lengths, steps, direction)
    parts = _split(spec, gates, hidden, walk)
    states, _, _ = _states(spec, parts, c0, activation, zoneout_scale)
    c_T = states[lengths, torch.arange(batch, device=lengths.device)]
    h = states[1:]
    if spec.has_output_gate:
        h = torch.sigmoid(parts["o"]) * h
    h = walk.flip(walk.clear(h)).to(gates.dtype)
    # A view of `states` would keep c0's row alive and must not alias another output.
    return (h if spec.has_output_gate else h.clone()).contiguous(), c_T


def _backward(
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
    walk = _Walk(spec, lengths, steps, direction)
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
    if activation == "tanh":
        dz = torch.ops.aten.tanh_backward(dz, z)
    elif activation == "relu":
        dz = torch.ops.aten.threshold_backward(dz, z, 0)
    grads["z"].copy_(dz)
    packed = walk.flip(walk.clear(packed)).to(gates.dtype).contiguous()
    return packed, slots[0].clone()


def _sigmoid_backward(grad: Tensor, y: Tensor, out: Tensor) -> None:
    """Write grad * y (1 - y) into ``out``."""
    torch.ops.aten.sigmoid_backward.grad_input(grad, y, grad_input=out)


_SCHEMA = (
    "(Tensor gates, Tensor c0, Tensor lengths, int direction, str activation, "
    "float zoneout_scale) -> (Tensor h, Tensor c_T)"
)

_backward_op = torch.library.custom_op(
    "qrnn_deploy::pool_backward",
    _backward,
    mutates_args=(),
    schema="(str pooling, Tensor gates, Tensor c0, Tensor lengths, Tensor grad_h, "
    "Tensor grad_c_T, int direction, str activation, float zoneout_scale) "
    "-> (Tensor grad_gates, Tensor grad_c0)",
)


@_backward_op.register_fake
def _backward_fake(pooling: str, gates: Tensor, c0: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return gates.new_empty(gates.shape), c0.new_empty(c0.shape)


def _register(spec: PoolingSpec) -> Callable[..., Any]:
    """Define one operator: eager code for any device, fake kernel, autograd."""

    def forward(*args: Any) -> tuple[Tensor, Tensor]:
        return _forward(spec, *args)

    def fake(gates: Tensor, c0: Tensor, lengths: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        _check(spec, gates, c0, lengths, *rest)
        h = gates.new_empty((gates.shape[0], c0.shape[0], c0.shape[1]))
        return h, c0.new_empty(c0.shape)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        gates, c0, lengths, *ctx.attributes = inputs
        ctx.save_for_backward(gates, c0, lengths)

    def backward(ctx: Any, grad_h: Tensor, grad_c_T: Tensor) -> tuple[Tensor | None, ...]:
        grad_gates, grad_c0 = _backward_op(
            spec.name, *ctx.saved_tensors, grad_h, grad_c_T, *ctx.attributes
        )
        return grad_gates, grad_c0, None, None, None, None

    op = torch.library.custom_op(spec.torch_name, forward, mutates_args=(), schema=_SCHEMA)
    op.register_fake(fake)
    op.register_autograd(backward, setup_context=setup_context)
    return op


_OPERATORS = {name: _register(spec) for name, spec in POOLINGS.items()}


def pool(
    pooling: str | PoolingSpec,
    gates: Tensor,
    c0: Tensor,
    lengths: Tensor,
    direction: int = 1,
    activation: str = "tanh",
    zoneout_scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Pool packed pre-activations; one node of an exported graph.

    Args:
        pooling: f, fo, ifo or if, or the entry of :data:`~qrnn_deploy.pooling.spec.POOLINGS`.
        gates: [T, B, G*H] float32, float16, bfloat16 or float64.
        c0: [B, H] float32 (float64 for float64 gates).
        lengths: [B] int64, each in 0..T.
        direction: 1 walks t = 0..len-1, -1 walks t = len-1..0.
        activation: of the candidate z: tanh, relu or identity.
        zoneout_scale: s in (0, 1]; 1 for ifo and if.

    Returns:
        h [T, B, H] in the type of gates, exactly 0 past the lengths; c_T [B, H] in that of c0.

    Raises:
        InputError: an argument has a wrong shape, dtype or value.
    """
    name = pooling if isinstance(pooling, str) else pooling.name
    if name not in _OPERATORS:
        raise InputError(f"pooling is {name!r}, expected one of {', '.join(POOLINGS)}")
    h, c_T = _OPERATORS[name](gates, c0, lengths, direction, activation, float(zoneout_scale))
    return h, c_T
