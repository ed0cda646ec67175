"""One recurrent highway layer: D highway layers between one step of time and the next.

    s <- s + t (h - s),   h = tanh(W_h x [d = 0] + R_h s + b_h),   t = sigmoid(W_t x [d = 0] + ...)

Source: Zilly et al. 2016, arXiv:1607.03474, equations 6 to 9, with the carry gate c = 1 - t of its
section 5. Dropout with one mask for a whole sequence: Gal and Ghahramani 2016, arXiv:1512.05287.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..pooling.rhn_op import rhn, rhn_dropped
from ..pooling.spec import RHN
from ..pooling.walk import state_dtype
from . import config as check
from .recurrent import RecurrentLayer, StatePart

MAX_DEPTH = 256
"""Largest depth: an exported file spells it out."""

MASKS = ("shared", "separate")


class RHNState(NamedTuple):
    """What a layer must remember between two chunks of a sequence.

    Attributes:
        s: [B, H] the state after the last of the D highway layers: float32, or float64 in a
            float64 model.
    """

    s: Tensor


class RHNLayer(RecurrentLayer):
    """A recurrent highway layer in one direction.

    ``input_weight`` [2H, input_size], ``weight`` [D, 2H, H] and ``bias`` [D, 2H] hold the rows of
    the candidate h before those of the transform gate t; ``input_bias`` is [2H] or None. The input
    enters at d = 0 alone.

    Args:
        input_size: features of x.
        hidden_size: channels H.
        depth: highway layers D in one step of time.
        input_bias: whether the map of the input has a bias beside that of the recurrence.
        transform_bias: initial bias of the transform gate; below 0 the state is carried at first.
        reverse: walk from the last step to the first.
        input_dropout: probability in training that a feature of x is zeroed for a whole sequence.
        state_dropout: probability in training that a channel of the state is zeroed, on its way
            into the matrix products, for a whole sequence and all D layers.
        masks: whether h and t see one mask (shared: the authors' TensorFlow code) or two
            (separate: their Torch7 code).
        batch_first: x and y are [B, T, *] instead of [T, B, *]; the state is the same.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ConfigError: an argument is out of range.
    """

    family = "RHN"
    state_type = RHNState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        depth: int,
        input_bias: bool = False,
        transform_bias: float = -2.0,
        reverse: bool = False,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
        masks: str = "shared",
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size = check.size("input_size", input_size)
        self.hidden_size = check.size("hidden_size", hidden_size)
        self.depth = check.size("depth", depth, MAX_DEPTH)
        self.transform_bias = check.number("transform_bias", transform_bias)
        self.reverse = check.flag("reverse", reverse)
        self.input_dropout = check.probability("input_dropout", input_dropout)
        self.state_dropout = check.probability("state_dropout", state_dropout)
        self.masks = check.choice("masks", masks, MASKS)
        self.batch_first = check.flag("batch_first", batch_first)

        rows = 2 * self.hidden_size
        check.elements("input_weight", rows, self.input_size)
        check.elements("weight", self.depth, rows, self.hidden_size)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.input_weight = parameter(rows, self.input_size)
        self.input_bias: nn.Parameter | None
        if check.flag("input_bias", input_bias):
            self.input_bias = parameter(rows)
        else:
            self.register_parameter("input_bias", None)
        self.weight = parameter(self.depth, rows, self.hidden_size)
        self.bias = parameter(self.depth, rows)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights gate by gate; biases 0, the transform gate's ``transform_bias``.

        The map of the input and that of the state count as one at d = 0, as in the authors' code.
        """
        for weight, inputs in (
            (self.input_weight, self.input_size + self.hidden_size),
            (self.weight[0], self.input_size + self.hidden_size),
            (self.weight[1:], self.hidden_size),
        ):
            bound = math.sqrt(6 / (inputs + self.hidden_size))
            nn.init.uniform_(weight, -bound, bound)
        if self.input_bias is not None:
            nn.init.zeros_(self.input_bias)
        nn.init.zeros_(self.bias)
        nn.init.constant_(self.bias[:, self.hidden_size :], self.transform_bias)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {
            "architecture": "RHNLayer",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "depth": self.depth,
            "input_bias": self.input_bias is not None,
            "transform_bias": self.transform_bias,
            "reverse": self.reverse,
            "input_dropout": self.input_dropout,
            "state_dropout": self.state_dropout,
            "masks": self.masks,
            "batch_first": self.batch_first,
        }

    def extra_repr(self) -> str:
        """Arguments for ``print(module)``."""
        shown = {k: v for k, v in self.config().items() if k != "architecture"}
        return ", ".join(f"{k}={v}" for k, v in shown.items())

    def state_parts(self) -> tuple[StatePart, ...]:
        """The highway state alone."""
        return (StatePart("s", (self.hidden_size,)),)

    def facts(self) -> dict[str, Any]:
        """See :meth:`RecurrentLayer.facts`."""
        return {"op_type": RHN.op_type, "pooling": RHN.name, "depth": self.depth}

    def walk(
        self, x: Tensor, state: RHNState | None, lengths: Tensor | None
    ) -> tuple[Tensor, RHNState]:
        """See :meth:`RecurrentLayer.walk`."""
        gates = self.seen(self._gates(x))
        if state is None:
            s0 = gates.new_zeros((gates.shape[1], self.hidden_size), dtype=state_dtype(gates.dtype))
        else:
            s0 = state.s
        # The same tensors, except under autocast.
        weight, bias = self.weight.to(gates.dtype), self.bias.to(gates.dtype)
        full = self.full_lengths(x, lengths)
        mask = self._mask(self.state_dropout, s0, s0.shape)
        if mask is None:
            y, s_T = rhn(gates, s0, full, weight, bias, self.direction)
        else:
            y, s_T = rhn_dropped(gates, s0, full, weight, bias, self.direction, mask)
        return y, RHNState(s_T)

    def _gates(self, x: Tensor) -> Tensor:
        """The input's part of the pre-activations [T, B, 2H]."""
        mask = self._mask(self.input_dropout, x, x.shape[1:])
        if mask is None:
            return F.linear(x, self.input_weight, self.input_bias)
        blocks = zip(mask, self.input_weight.chunk(len(mask)), strict=True)
        gates = torch.cat([F.linear(x * kept, rows) for kept, rows in blocks], dim=-1)
        return gates if self.input_bias is None else gates + self.input_bias

    def _mask(self, dropout: float, like: Tensor, shape: torch.Size) -> Tensor | None:
        """One mask [1, *shape] or two [2, *shape], scaled; None where nothing is dropped."""
        if not self.training or dropout == 0:
            return None
        count = 2 if self.masks == "separate" else 1
        return F.dropout(like.new_ones((count, *shape)), dropout)
