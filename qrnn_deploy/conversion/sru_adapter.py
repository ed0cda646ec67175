"""What stands where an ``sru.SRU`` or ``sru.SRUCell`` stood: called as that was, ours inside."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ..errors import InputError
from ..nn.sru_core import SRUState
from ..nn.sru_stack import SRU
from ..pooling.walk import state_dtype
from .adapter import Carrying


class SRUAdapter(Carrying):
    """Ours in place of ``sru.SRU``; time-major.

    Args:
        stack: ours.
        per_direction: whether the state is returned as [L * directions, B, H].
        carried: as in :class:`Carrying`, of ``c0``.

    Attributes:
        input_size, hidden_size, output_size, num_layers, bidirectional, num_directions: as upstream
            had them.
        nn_rnn_compatible_return: ``per_direction``.
    """

    batch_first = False
    """What the exporter asks."""

    def __init__(self, stack: SRU, *, per_direction: bool, carried: bool) -> None:
        super().__init__(carried=carried)
        self.stack = stack
        self.nn_rnn_compatible_return = per_direction
        self.input_size, self.hidden_size = stack.input_size, stack.hidden_size
        self.output_size, self.num_layers = stack.output_size, stack.num_layers
        self.bidirectional = stack.bidirectional
        self.num_directions = 2 if stack.bidirectional else 1

    def extra_repr(self) -> str:
        """Arguments that the stack does not show, for ``print(module)``."""
        return f"nn_rnn_compatible_return={self.nn_rnn_compatible_return}, carried={self.carried}"

    def forward(
        self, input: Tensor, c0: Tensor | None = None, mask_pad: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence or the next chunk of one.

        Args:
            input: [T, B, input_size].
            c0: the states to start from [L, B, D]; None for zeros.
            mask_pad: [T, B], not 0 where a step is passed over; None for no such step.

        Returns:
            h [T, B, D], and c after the last step, [L, B, D] or [L * directions, B, H].

        Raises:
            InputError: an argument does not fit.
        """
        if isinstance(input, PackedSequence):
            raise InputError(
                "SRU: input is a PackedSequence, which a graph cannot take: unpack it with "
                "pad_packed_sequence() and give mask_pad, not 0 past the lengths"
            )
        h, c = self._run(input, c0, mask_pad)
        if self.nn_rnn_compatible_return:
            ways = c.reshape(*c.shape[:2], self.num_directions, self.hidden_size)
            c = ways.transpose(1, 2).flatten(0, 1)
        return h, c

    def _run(self, x: Tensor, c0: Tensor | None, mask_pad: Tensor | None) -> tuple[Tensor, Tensor]:
        """H [T, B, D] and c [L, B, D] in the type of h, from [T, B, in], [L, B, D], [T, B]."""
        if c0 is not None and (c0.dim() != 3 or c0.shape[0] != self.num_layers):
            raise InputError(
                f"SRU: c0 has shape {list(c0.shape)}, expected "
                f"[{self.num_layers}, B, {self.output_size}]"
            )
        rows = None if c0 is None else self._lifted(c0.transpose(0, 1).flatten(1))
        state = None if rows is None else self._states(rows)
        h, after = self.stack(x, state, hold=None if mask_pad is None else mask_pad != 0)
        kept = torch.cat([entry.c for entry in after], dim=-1).to(h.dtype)  # [B, L * D]
        self._remember(kept)
        c = kept.reshape(h.shape[1], self.num_layers, self.output_size)
        return h, c.transpose(0, 1)

    def _states(self, rows: Tensor) -> list[SRUState]:
        """One for each layer, from [B, L * D]."""
        kind = state_dtype(cast(Tensor, self.stack.layers[0].weight).dtype)
        parts = rows.chunk(len(self.stack.layers), dim=-1)
        return [SRUState(c.to(kind)) for c in parts]


class SRUCellAdapter(SRUAdapter):
    """Ours in place of ``sru.SRUCell``."""

    def forward(
        self, input: Tensor, c0: Tensor | None = None, mask_pad: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence, the next chunk of one, or one step.

        Args:
            input: [T, B, input_size] or, for one step, [B, input_size].
            c0: the state to start from [B, D]; None for zeros.
            mask_pad: [T, B] or, for one step, [B], not 0 where a step is passed over.

        Returns:
            h [T, B, D] and c after the last step [B, D]. For one step h is [1, B, D] on the CPU and
            [B, D] on a GPU, as upstream has it.

        Raises:
            InputError: an argument does not fit.
        """
        one = input.dim() == 2
        if mask_pad is not None:
            mask_pad = mask_pad.reshape(1, -1) if one else mask_pad
        h, c = self._run(input[None] if one else input, None if c0 is None else c0[None], mask_pad)
        return (h[0] if one and input.is_cuda else h), c[0]
