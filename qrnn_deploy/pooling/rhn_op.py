"""The recurrence of recurrent highway networks for PyTorch, as one ``torch.library`` operator.

``qrnn_deploy::pool_rhn``::

    (Tensor gates, Tensor s0, Tensor lengths, Tensor weight, Tensor bias, int direction)
        -> (Tensor h, Tensor s_T)

In each step of time, for d = 0 ... D-1, with [gates] added at d = 0 alone::

    a = W_d s + b_d [+ gates]      h = tanh(a_h)      t = sigmoid(a_t)
    s <- s + t (h - s)

gates [T, B, 2H] holds the input's part of the pre-activations, the rows h before the rows t; s0
[B, H]; lengths [B] int64; weight [D, 2H, H] and bias [D, 2H] with their rows in the same order.
Gates, weight, bias and the output have the storage type, in which the matrix products run. All
else is float32 (float64 for float64 gates), and so are s0 and s_T.
Source: Zilly et al. 2016, arXiv:1607.03474, equations 6 to 9 with the carry gate c = 1 - t.

For ``torch.export`` and ``torch.compile`` it is one node.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from . import rhn_loops as loops
from .arguments import check_direction, check_tensors
from .spec import RHN

_AXES = {
    "gates": ("T", "B", "G*H"),
    "s0": ("B", "H"),
    "lengths": ("B",),
    "weight": ("D", "G*H", "H"),
    "bias": ("D", "G*H"),
}
_INPUTS = ", ".join(f"Tensor {name}" for name in RHN.inputs)


def _check(*args: Any) -> None:
    """Everything that can be checked without reading values, so tracing checks it too."""
    *tensors, direction = args
    check_tensors(RHN, _AXES, *tensors)
    check_direction(RHN, direction)
    if tensors[3].shape[0] == 0:
        raise InputError("pool_rhn: weight has shape [0, ...], expected a depth of at least 1")


def _forward(*args: Any) -> tuple[Tensor, Tensor]:
    _check(*args)
    return loops.run(*args)


_backward_op = torch.library.custom_op(
    f"{RHN.torch_name}_backward",
    loops.backward,
    mutates_args=(),
    schema=f"({_INPUTS}, Tensor grad_h, Tensor grad_s_T, int direction) -> "
    "(Tensor grad_gates, Tensor grad_s0, Tensor grad_weight, Tensor grad_bias)",
)


@_backward_op.register_fake
def _backward_fake(
    gates: Tensor, s0: Tensor, lengths: Tensor, weight: Tensor, bias: Tensor, *_: Any
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (gates, s0, weight, bias))


_operator = torch.library.custom_op(
    RHN.torch_name,
    _forward,
    mutates_args=(),
    schema=f"({_INPUTS}, int direction) -> (Tensor h, Tensor s_T)",
)


@_operator.register_fake
def _fake(gates: Tensor, s0: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    _check(gates, s0, *rest)
    h = gates.new_empty((gates.shape[0], s0.shape[0], s0.shape[1]))
    return h, s0.new_empty(s0.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.direction = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad_h: Tensor, grad_s_T: Tensor) -> tuple[Tensor | None, ...]:
    gates, s0, weight, bias = _backward_op(*ctx.saved_tensors, grad_h, grad_s_T, ctx.direction)
    return gates, s0, None, weight, bias, None


_operator.register_autograd(_differentiate, setup_context=_setup_context)


def rhn(
    gates: Tensor,
    s0: Tensor,
    lengths: Tensor,
    weight: Tensor,
    bias: Tensor,
    direction: int = 1,
) -> tuple[Tensor, Tensor]:
    """Walk a highway recurrence over packed pre-activations; one node of an exported graph.

    Args:
        gates: [T, B, 2H] float32, float16, bfloat16 or float64.
        s0: [B, H] float32 (float64 for float64 gates).
        lengths: [B] int64, each in 0..T.
        weight: [D, 2H, H] in the type of gates.
        bias: [D, 2H] in the type of gates.
        direction: 1 walks t = 0..len-1, -1 walks t = len-1..0.

    Returns:
        h [T, B, H], the states after each step, in the type of gates and exactly 0 past the
        lengths; s_T [B, H] in that of s0.

    Raises:
        InputError: an argument has a wrong shape, dtype or value.
    """
    h, s_T = _operator(gates, s0, lengths, weight, bias, direction)
    return h, s_T


def rhn_dropped(
    gates: Tensor,
    s0: Tensor,
    lengths: Tensor,
    weight: Tensor,
    bias: Tensor,
    direction: int,
    mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """:func:`rhn` with dropout of the state, for training alone: no node, but a loop in autograd.

    Args:
        gates: as in :func:`rhn`, and so are the next five.
        s0: of the state.
        lengths: of the rows.
        weight: of the recurrence.
        bias: of the recurrence.
        direction: 1 or -1.
        mask: the state is multiplied with it before each matrix product, in the type of s0:
            [1, B, H], or [2, B, H] with one mask for the rows h and one for the rows t.

    Raises:
        InputError: an argument has a wrong shape, dtype or value.
    """
    _check(gates, s0, lengths, weight, bias, direction)
    return loops.run(gates, s0, lengths, weight, bias, direction, mask)
