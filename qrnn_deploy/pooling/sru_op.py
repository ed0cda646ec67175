"""The recurrence of simple recurrent units for PyTorch: one ``torch.library`` operator per form.

``qrnn_deploy::pool_sru``, ``pool_sru_input`` and ``pool_sru_noskip``, which differ in where the
highway's input x comes from: a block of the gates, the tensor ``skip``, or nowhere::

    (Tensor gates, Tensor c0, Tensor lengths, Tensor weight_c, Tensor bias[, Tensor skip],
     int direction, str activation) -> (Tensor h, Tensor c_T)

    g = sigmoid(-(x_f + v_f c + b_f))        r = sigmoid(x_r + v_r c + b_r)
    c' = c + g (z - c)                       h = x + r (activation(c') - x)
                                             h = r activation(c')  without a highway

Both gates see the state c before the step. gates [T, B, G*H] holds z f r [x] in the order of
:data:`~qrnn_deploy.pooling.spec.SRU_POOLINGS`; c0 [B, H]; lengths [B] int64; weight_c [2, H] the
rows v_f, v_r; bias [2, H] the rows b_f, b_r; skip [T, B, H]. The recurrence runs in float32
(float64 for float64 gates), and so are c0, weight_c, bias and c_T, whatever gates and skip are.
Source: Lei et al. 2018, arXiv:1709.02755, section 3, with g = 1 - f.

For ``torch.export`` and ``torch.compile`` each operator is one node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from . import sru_loops as loops
from .arguments import check_activation, check_direction, check_tensors
from .spec import SRU_POOLINGS, PoolingSpec

_AXES = {
    "gates": ("T", "B", "G*H"),
    "c0": ("B", "H"),
    "lengths": ("B",),
    "weight_c": ("2", "H"),
    "bias": ("2", "H"),
    "skip": ("T", "B", "H"),
}


def _check(spec: PoolingSpec, *args: Any) -> None:
    """Everything that can be checked without reading values, so tracing checks it too."""
    *tensors, direction, activation = args
    check_tensors(spec, _AXES, *tensors)
    check_direction(spec, direction)
    check_activation(spec, activation)


def _register(spec: PoolingSpec) -> Callable[..., Any]:
    """Define one operator and its gradient: eager code for any device, fake kernels, autograd."""
    inputs = ", ".join(f"Tensor {name}" for name in spec.inputs)
    attributes = "int direction, str activation"
    learned = [name for name in spec.inputs if name != "lengths"]

    def forward(*args: Any) -> tuple[Tensor, Tensor]:
        _check(spec, *args)
        return loops.forward(spec, args[:-2], *args[-2:])

    def fake(gates: Tensor, c0: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        _check(spec, gates, c0, *rest)
        h = gates.new_empty((gates.shape[0], c0.shape[0], c0.shape[1]))
        return h, c0.new_empty(c0.shape)

    def backward(*args: Any) -> tuple[Tensor, ...]:
        return loops.backward(spec, args[:-4], *args[-4:])

    def fake_backward(*args: Any) -> tuple[Tensor, ...]:
        tensors = zip(spec.inputs, args, strict=False)
        return tuple(x.new_empty(x.shape) for name, x in tensors if name in learned)

    backward_op = torch.library.custom_op(
        f"{spec.torch_name}_backward",
        backward,
        mutates_args=(),
        schema=f"({inputs}, Tensor grad_h, Tensor grad_c_T, {attributes}) -> "
        f"({', '.join(f'Tensor grad_{name}' for name in learned)})",
    )
    backward_op.register_fake(fake_backward)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, direction, activation = inputs
        ctx.attributes = direction, activation
        ctx.save_for_backward(*tensors)

    def differentiate(ctx: Any, grad_h: Tensor, grad_c_T: Tensor) -> tuple[Tensor | None, ...]:
        grads = dict(
            zip(
                learned,
                backward_op(*ctx.saved_tensors, grad_h, grad_c_T, *ctx.attributes),
                strict=True,
            )
        )
        return *(grads.get(name) for name in spec.inputs), None, None

    op = torch.library.custom_op(
        spec.torch_name,
        forward,
        mutates_args=(),
        schema=f"({inputs}, {attributes}) -> (Tensor h, Tensor c_T)",
    )
    op.register_fake(fake)
    op.register_autograd(differentiate, setup_context=setup_context)
    return op


_OPERATORS = {name: _register(spec) for name, spec in SRU_POOLINGS.items()}


def pool_sru(
    spec: PoolingSpec,
    gates: Tensor,
    c0: Tensor,
    lengths: Tensor,
    weight_c: Tensor,
    bias: Tensor,
    skip: Tensor | None = None,
    direction: int = 1,
    activation: str = "identity",
) -> tuple[Tensor, Tensor]:
    """Walk an SRU over packed pre-activations; one node of an exported graph.

    Args:
        spec: an entry of :data:`~qrnn_deploy.pooling.spec.SRU_POOLINGS`.
        gates: [T, B, G*H] float32, float16, bfloat16 or float64.
        c0: [B, H] float32 (float64 for float64 gates).
        lengths: [B] int64, each in 0..T.
        weight_c: [2, H] in the type of c0: the rows v_f and v_r.
        bias: [2, H] in the type of c0: the rows b_f and b_r.
        skip: [T, B, H] in the type of gates for ``sru_input``, else None.
        direction: 1 walks t = 0..len-1, -1 walks t = len-1..0.
        activation: of the state on its way to h: tanh, relu or identity.

    Returns:
        h [T, B, H] in the type of gates, exactly 0 past the lengths; c_T [B, H] in that of c0.

    Raises:
        InputError: an argument has a wrong shape, dtype or value.
    """
    if spec.name not in _OPERATORS:
        raise InputError(f"pooling is {spec.name!r}, expected one of {', '.join(SRU_POOLINGS)}")
    if (skip is None) == ("skip" in spec.inputs):
        given, expected = ("None", "a tensor") if skip is None else ("given", "None")
        raise InputError(f"pool_{spec.name}: skip is {given}, expected {expected}")
    tensors = (gates, c0, lengths, weight_c, bias) + (() if skip is None else (skip,))
    h, c_T = _OPERATORS[spec.name](*tensors, direction, activation)
    return h, c_T
