"""A delay: the output of step t answers to input t - d, so that it has seen d inputs more.

Source: Turek et al. 2020, "Approximating Stacked and Bidirectional Recurrent Architectures with the
Delayed Recurrent Neural Network", arXiv:1909.00021, section 3: the sequence is made d steps longer,
and the first d outputs are dropped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from . import config as check
from .binding import active_binding

MAX_DELAY = 2**16
"""Largest delay, in steps."""


class Delayed(nn.Module):
    """Any recurrent module with a delay of d steps.

    y_t = module(x_0, ..., x_{t+d}): the module runs over T + d steps, of which the last d are
    ``padding``, and its first d outputs are dropped.

    In a streaming export (:func:`qrnn_deploy.export`) nothing is dropped: there the module's own
    outputs come d steps late, which the file records; see
    :meth:`qrnn_deploy.StreamingSession.flush`.

    Args:
        module: takes x, and where it is a layer of ours, ``nn.LSTM``, ``nn.GRU`` or the like a
            state beside it; returns y, or a tuple that begins with y. Whatever computes a step
            from that step alone (an embedding, a linear map) may be part of it.
        delay: d, 0 or more.
        padding: the value of the d further inputs: a number, or a token for a module that takes
            tokens; None where the caller's x has T + d steps already, as when the future is known.
        batch_first: x and y are [B, T, ...] instead of [T, B, ...]; as the module has it.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        module: nn.Module,
        delay: int,
        *,
        padding: float | int | None = 0.0,
        batch_first: bool | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise check.ConfigError(f"module is {check.shorten(module)}, expected a torch module")
        self.module = module
        self.delay = check.size("delay", delay, MAX_DELAY, 0)
        whole = isinstance(padding, int) and not isinstance(padding, bool)
        self.padding = padding if padding is None or whole else check.number("padding", padding)
        if batch_first is None:
            batch_first = bool(getattr(module, "batch_first", False))
        self.batch_first = check.flag("batch_first", batch_first)

    def extra_repr(self) -> str:
        """Arguments for ``print(module)``."""
        return f"delay={self.delay}, padding={self.padding}, batch_first={self.batch_first}"

    def forward(self, x: Tensor, *arguments: Any, lengths: Tensor | None = None) -> Any:
        """Run over whole sequences.

        Args:
            x: [T, B, ...] or [B, T, ...]; with ``padding=None`` of T + d steps.
            arguments: further ones of the module, such as its state.
            lengths: [B] int64, steps that count in each row, for a module that takes them; the
                padding of a row begins behind them.

        Returns:
            What the module returns, y of T steps in it: y_t is what the module gave at step t + d,
            0 past the lengths. A state in it is that after T + d steps.

        Raises:
            InputError: x is too short to have T + d steps, or has no time axis.
        """
        binding = active_binding()
        if binding is not None and binding.delayed(self):
            return self._called(x, arguments, lengths)
        time = 1 if self.batch_first else 0
        if x.dim() < 2 or (self.padding is None and x.shape[time] < self.delay):
            raise InputError(
                f"Delayed: x has shape {list(x.shape)}, expected at least {self.delay} steps, "
                "the delay"
            )
        if lengths is not None:
            return self._ragged(x, arguments, lengths, time)
        result = self._called(self._longer(x, time), arguments, None)
        return _first(result, lambda y: y.narrow(time, self.delay, y.shape[time] - self.delay))

    def _called(self, x: Tensor, arguments: tuple[Any, ...], lengths: Tensor | None) -> Any:
        if lengths is None:
            return self.module(x, *arguments)
        return self.module(x, *arguments, lengths=lengths)

    def _longer(self, x: Tensor, time: int) -> Tensor:
        if self.padding is None or self.delay == 0:
            return x
        shape = list(x.shape)
        shape[time] = self.delay
        return torch.cat([x, x.new_full(shape, self.padding)], dim=time)

    def _ragged(self, x: Tensor, arguments: tuple[Any, ...], lengths: Tensor, time: int) -> Any:
        """Each row is as long as its length and the delay."""
        if self.padding is not None:
            x = self._longer(x, time)
            x = torch.where(_before(x, lengths, time), x, x.new_full((), self.padding))
        result = self._called(x, arguments, lengths + self.delay)

        def kept(y: Tensor) -> Tensor:
            y = y.narrow(time, self.delay, y.shape[time] - self.delay)
            return torch.where(_before(y, lengths, time), y, y.new_zeros(()))

        return _first(result, kept)


def _before(x: Tensor, lengths: Tensor, time: int) -> Tensor:
    """Which steps of x count: of its rank, 1 along all but the first two axes."""
    steps = torch.arange(x.shape[time], device=x.device)
    valid = steps[:, None] < lengths if time == 0 else steps < lengths[:, None]
    return valid.reshape(*valid.shape, *[1] * (x.dim() - 2))


def _first(result: Any, change: Any) -> Any:
    """``result`` with its first tensor changed."""
    if isinstance(result, tuple):
        return (change(result[0]), *result[1:])
    return change(result)
