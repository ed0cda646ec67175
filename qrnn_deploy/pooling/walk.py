"""What the recurrences share in PyTorch: types, lengths and the order of the steps.

Their loops stand in modules of their own, such as :mod:`qrnn_deploy.pooling.torch_loops`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

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


class Walk:
    """The order in which rows are walked, so that the loops only ever go forward.

    ``flip`` maps [T, B, *] from time to walk order and back: for direction -1, t <-> len-1-t
    inside a row and t <-> t beyond its length. ``beyond`` [T, B, 1] is True past the lengths,
    or None if there is nothing past them.

    Args:
        name: of the operator, for errors.
        lengths: [B] int64.
        steps: T.
        direction: 1 or -1.

    Raises:
        InputError: a length outside 0..T.
    """

    def __init__(self, name: str, lengths: Tensor, steps: int, direction: int) -> None:
        self.beyond: Tensor | None = None
        self._index: Tensor | None = None
        self._reverse = direction == -1
        shortest, _ = length_range(name, lengths, steps)
        if shortest < steps:
            t = torch.arange(steps, device=lengths.device)[:, None]
            outside = t >= lengths
            self.beyond = outside[:, :, None]
            if self._reverse:
                self._index = torch.where(outside, t, lengths - 1 - t)

    def flip(self, x: Tensor) -> Tensor:
        """``x`` [T, B, *] from time to walk order, or back."""
        if not self._reverse:
            return x
        if self._index is None:
            return x.flip(0)
        return x[self._index, torch.arange(x.shape[1], device=x.device)]

    def clear(self, x: Tensor, value: float = 0.0) -> Tensor:
        """``x`` in walk order with everything past the lengths replaced."""
        return x if self.beyond is None else x.masked_fill(self.beyond, value)


def activate(x: Tensor, activation: str) -> Tensor:
    """tanh, relu or identity of ``x``, contiguous."""
    if activation == "tanh":
        # Several times faster than tanh of a strided slice.
        return torch.tanh(x.contiguous())
    return torch.relu(x) if activation == "relu" else x.contiguous()


def activate_backward(grad: Tensor, y: Tensor, activation: str) -> Tensor:
    """The gradient at x from that at y = activate(x)."""
    if activation == "tanh":
        grad = torch.ops.aten.tanh_backward(grad, y)
    elif activation == "relu":
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
    return grad
