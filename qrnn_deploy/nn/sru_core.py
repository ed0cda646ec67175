"""What an SRU layer and an SRU++ layer share: everything behind the input of the gates.

    f = sigmoid(W_f e + v_f c' + b_f)     c = f c' + (1 - f) W_z e
    r = sigmoid(W_r e + v_r c' + b_r)     h = r act(c) + (1 - r) s

with c' the state before the step, e what the layer's entry makes of x, and s the highway's input: x
itself, W_x e where the sizes differ, or nothing. Source: Lei et al. 2018, arXiv:1709.02755,
section 3; asappresearch/sru 2.6, ``SRUCell``, whose gates and initial weights these are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..pooling.spec import ACTIVATIONS, SRU_POOLINGS
from ..pooling.sru_op import pool_sru
from ..pooling.walk import state_dtype
from . import config as check
from .recurrent import RecurrentLayer, StatePart
from .sru_entry import SRUAttention, SRUEntry

SKIPS = {"weight": "sru", "input": "sru_input", "none": "sru_noskip"}
"""Where the highway's input comes from -> the operator that computes it."""

MAX_INITIAL = 50
"""Largest initial bias: beyond it a gate is shut or open in any type."""


class SRUState(NamedTuple):
    """What a layer must remember between two chunks of a sequence.

    Attributes:
        c: [B, H] the state: float32, or float64 in a float64 model.
    """

    c: Tensor


class SRUCore(RecurrentLayer):
    """One direction of one level, behind an entry that a subclass chooses.

    ``weight`` [G*H, E] holds the gates z, f, r (and x) as rows; ``weight_c`` [2, H] the rows v_f
    and v_r, ``bias`` [2, H] the rows b_f and b_r, both in the type of the weights.

    Args:
        input_size: features of x.
        hidden_size: channels H.
        entry: from x [T, B, input_size] to e [T, B, E].
        skip: the highway's input s: ``weight`` for W_x e, ``input`` for H features of x, ``none``.
        skip_start: the first of those features; a level of two directions shares x among them.
        rescale: whether s is multiplied by ``skip_scale``.
        activation: of the state on its way to h: identity, tanh or relu.
        reverse: walk from the last step to the first.
        highway_bias: initial b_r; below 0 the highway begins wide open.
        v1: the gates do not see the state: ``weight_c`` is zero and stays so.
        weight_c_init: bound of the initial ``weight_c``; None for the square root of 1.5.
        dropout: probability in training that a channel of a row carries nothing but the highway,
            for the whole sequence.
        gain: factor of the initial weights.
        batch_first: x and y are [B, T, *] instead of [T, B, *]; the state is the same.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ConfigError: an argument is out of range.
    """

    family = "SRU"
    state_type = SRUState
    skip_scale: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        entry: SRUEntry | SRUAttention,
        *,
        skip: str,
        skip_start: int,
        rescale: bool,
        activation: str,
        reverse: bool,
        highway_bias: float,
        v1: bool,
        weight_c_init: float | None,
        dropout: float,
        gain: float,
        batch_first: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.skip = check.choice("skip", skip, tuple(SKIPS))
        self.skip_start = check.size("skip_start", skip_start, low=0)
        self.rescale = check.flag("rescale", rescale)
        self.activation = check.choice("activation", activation, ACTIVATIONS)
        self.reverse = check.flag("reverse", reverse)
        self.highway_bias = _bounded("highway_bias", highway_bias, -MAX_INITIAL)
        self.v1 = check.flag("v1", v1)
        self.weight_c_init = (
            None if weight_c_init is None else _bounded("weight_c_init", weight_c_init, 0)
        )
        self.dropout = check.probability("dropout", dropout)
        self.gain = gain
        self.batch_first = check.flag("batch_first", batch_first)
        self.spec = SRU_POOLINGS[SKIPS[self.skip]]
        if self.skip == "input" and self.skip_start + hidden_size > input_size:
            raise check.ConfigError(
                f"skip is 'input' of features {self.skip_start}..{self.skip_start + hidden_size} "
                f"of {input_size}, expected an input_size of at least skip_start + hidden_size; "
                "skip='weight' takes any"
            )
        self.entry = entry
        rows = self.spec.gate_count * hidden_size
        check.elements("weight", rows, entry.output_size)
        self.weight = nn.Parameter(torch.empty(rows, entry.output_size, device=device, dtype=dtype))
        self.weight_c = nn.Parameter(
            torch.empty(2, hidden_size, device=device, dtype=dtype), requires_grad=not self.v1
        )
        self.bias = nn.Parameter(torch.empty(2, hidden_size, device=device, dtype=dtype))
        scale = None
        if self.rescale and self.skip == "input":
            scale = torch.empty(1, device=device, dtype=dtype)
        self.register_buffer("skip_scale", scale)

    def reset_parameters(self) -> None:
        """Fresh weights, such that states and outputs vary as x does.

        Uniform with variance 1/E; the rows of f and r with half of that, since ``weight_c`` gives
        the other half; biases 0, that of r ``highway_bias``. ``skip_scale`` makes up for what the
        highway lets pass.
        """
        self.entry.reset_parameters()
        z, forget, reset, *skip = self.weight.detach().chunk(self.spec.gate_count)
        bound = self.gain * math.sqrt(3 / self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        z.mul_(math.sqrt(1 - self.dropout))
        scale = math.sqrt(1 + 2 * math.exp(self.highway_bias))
        if self.rescale and skip:
            skip[0].mul_(scale)
        if self.skip_scale is not None:
            nn.init.constant_(self.skip_scale, scale)
        if self.v1:
            nn.init.zeros_(self.weight_c)
        else:
            bound = math.sqrt(1.5) if self.weight_c_init is None else self.weight_c_init
            nn.init.uniform_(self.weight_c, -bound, bound)
            forget.mul_(math.sqrt(0.5))
            reset.mul_(math.sqrt(0.5))
        nn.init.zeros_(self.bias)
        nn.init.constant_(self.bias[1], self.highway_bias)

    def state_parts(self) -> tuple[StatePart, ...]:
        """See :meth:`RecurrentLayer.state_parts`."""
        return (StatePart("c", (self.hidden_size,)),)

    def facts(self) -> dict[str, Any]:
        """See :meth:`RecurrentLayer.facts`."""
        return {
            "op_type": self.spec.op_type,
            "pooling": self.spec.name,
            "activation": self.activation,
        }

    def walk(
        self,
        x: Tensor,
        state: SRUState | None,
        lengths: Tensor | None,
        hold: Tensor | None = None,
    ) -> tuple[Tensor, SRUState]:
        """See :meth:`RecurrentLayer.walk`.

        Args:
            x: [T, B, input_size].
            state: or None.
            lengths: [B] int64 or None.
            hold: [T, B] bool or None, steps to pass over wherever they are: the state stays, y
                is 0, and what x has there influences nothing.

        Returns:
            y [T, B, H] and the state after the last step.
        """
        past = hold
        if lengths is not None:
            beyond = torch.arange(x.shape[0], device=x.device)[:, None] >= lengths
            past = beyond if hold is None else hold | beyond
        if hold is not None:
            x = x.masked_fill(hold[:, :, None], 0.0)
        gates = F.linear(self.entry(x, past), self.weight)
        if hold is not None:
            z, forget, *others = gates.chunk(self.spec.gate_count, dim=-1)
            forget = forget.masked_fill(hold[:, :, None], math.inf)
            gates = torch.cat([z, forget, *others], dim=-1)
        gates = self.seen(gates)
        kind = state_dtype(gates.dtype)
        c0 = gates.new_zeros((x.shape[1], self.hidden_size), dtype=kind)
        skip = self._skip(x).to(gates.dtype) if self.skip == "input" else None
        y, c_T = pool_sru(
            self.spec,
            gates,
            c0 if state is None else state.c,
            self.full_lengths(x, lengths),
            self.weight_c.to(kind),
            self.bias.to(kind),
            skip,
            self.direction,
            self.activation,
        )
        if self.training and self.dropout > 0:
            y = self._drop(y, gates[:, :, 3 * self.hidden_size :] if skip is None else skip)
            hold = past
        if hold is not None:
            y = y.masked_fill(hold[:, :, None], 0.0)
        return y, SRUState(c_T)

    def _skip(self, x: Tensor) -> Tensor:
        """The highway's input [T, B, H] out of x."""
        start = self.skip_start
        part = x[:, :, start : start + self.hidden_size]
        return part if self.skip_scale is None else part * self.skip_scale

    def _drop(self, y: Tensor, highway: Tensor) -> Tensor:
        """Y with r act(c) thinned out: y - s = r (act(c) - s) is what a mask may take away.

        Args:
            y: [T, B, H].
            highway: s [T, B, H], or [T, B, 0] for none.
        """
        mask = F.dropout(y.new_ones(y.shape[1:]), self.dropout)
        if highway.shape[-1] == 0:
            return y * mask
        return highway + (y - highway) * mask


def _bounded(name: str, value: Any, low: float) -> float:
    """A number in low..MAX_INITIAL."""
    result = check.number(name, value)
    if not low <= result <= MAX_INITIAL:
        raise check.ConfigError(
            f"{name} is {check.shorten(value)}, expected a number in {low}..{MAX_INITIAL}"
        )
    return result
