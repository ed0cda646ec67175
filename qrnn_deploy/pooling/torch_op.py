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

For ``torch.export`` and ``torch.compile`` each operator is one node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from . import torch_loops as loops
from .arguments import check_activation, check_direction, check_tensors
from .spec import POOLINGS, PoolingSpec

_AXES = {"gates": ("T", "B", "G*H"), "c0": ("B", "H"), "lengths": ("B",)}


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
    check_tensors(spec, _AXES, gates, c0, lengths)
    check_direction(spec, direction)
    check_activation(spec, activation)
    name = f"pool_{spec.name}"
    if not 0.0 < zoneout_scale <= 1.0:
        raise InputError(f"{name}: zoneout_scale is {zoneout_scale}, expected 0 < scale <= 1")
    if spec.has_input_gate and zoneout_scale != 1.0:
        raise InputError(
            f"{name}: zoneout_scale is {zoneout_scale}, expected 1: only f and fo are scaled"
        )


_SCHEMA = (
    "(Tensor gates, Tensor c0, Tensor lengths, int direction, str activation, "
    "float zoneout_scale) -> (Tensor h, Tensor c_T)"
)

_backward_op = torch.library.custom_op(
    "qrnn_deploy::pool_backward",
    loops.backward,
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
        _check(spec, *args)
        return loops.forward(spec, *args)

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
