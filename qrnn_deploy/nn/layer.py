"""One QRNN layer: a causal convolution over time, then pooling.

    Z = tanh(W_z * X), F = sigmoid(W_f * X), O = sigmoid(W_o * X), I = sigmoid(W_i * X)

with * a convolution of k taps that sees the k-1 previous inputs and never a later one. Source:
Bradbury et al. 2016, arXiv:1611.01576, section 2. Zoneout: its section 2.1, after Krueger et al.
2016, arXiv:1606.01305.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..pooling.spec import ACTIVATIONS, POOLINGS
from ..pooling.torch_op import pool
from ..pooling.walk import state_dtype
from . import config as check
from .recurrent import RecurrentLayer, StatePart
from .window import form_windows

ZONEOUT_EVAL = ("identity", "expectation")


class LayerState(NamedTuple):
    """What a layer must remember between two chunks of a sequence.

    Attributes:
        c: [B, H] the pooling state: float32, or float64 in a float64 model.
        x: [B, k-1, input_size] the last k-1 inputs in the order they were met, the oldest first,
            in the type of the input; None for window 1. For a reverse layer, which meets the
            last input of a sequence first, the newest is the one with the smallest t.
    """

    c: Tensor
    x: Tensor | None


class QRNNLayer(RecurrentLayer):
    """A QRNN layer in one direction.

    ``weight`` [G*H, k*input_size] holds the gates as rows, in the order of
    :data:`~qrnn_deploy.pooling.spec.POOLINGS`, and the taps as blocks of columns in the order the
    walk meets the inputs: oldest first, x_t last (x_{t+k-1} ... x_t for a reverse layer). ``bias``
    is [G*H] or None.

    Args:
        input_size: features of x.
        hidden_size: channels H.
        window: taps k >= 1.
        pooling: f, fo, ifo or if.
        activation: of the candidate z: tanh, relu or identity.
        reverse: walk from the last step to the first.
        bias: whether the gates have a bias.
        zoneout: probability in training that a channel keeps its previous state at a step.
        zoneout_eval: what zoneout does in eval mode: nothing (identity: the paper), or the
            candidate's weight times 1 - zoneout (expectation: f and fo only).
        forget_bias: initial bias of the forget gate; 1 or 2 helps long memories.
        batch_first: x and y are [B, T, *] instead of [T, B, *]; the state is the same.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ConfigError: an argument is out of range.
    """

    family = "QRNN"
    state_type = LayerState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        window: int = 1,
        pooling: str = "fo",
        activation: str = "tanh",
        reverse: bool = False,
        bias: bool = True,
        zoneout: float = 0.0,
        zoneout_eval: str = "identity",
        forget_bias: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size = check.size("input_size", input_size)
        self.hidden_size = check.size("hidden_size", hidden_size)
        self.window = check.size("window", window, check.MAX_WINDOW)
        self.pooling = check.choice("pooling", pooling, tuple(POOLINGS))
        self.activation = check.choice("activation", activation, ACTIVATIONS)
        self.reverse = check.flag("reverse", reverse)
        self.zoneout = check.probability("zoneout", zoneout)
        self.zoneout_eval = check.choice("zoneout_eval", zoneout_eval, ZONEOUT_EVAL)
        self.forget_bias = check.number("forget_bias", forget_bias)
        self.batch_first = check.flag("batch_first", batch_first)
        self.spec = POOLINGS[self.pooling]
        if self.zoneout_eval == "expectation" and self.spec.has_input_gate:
            raise check.ConfigError(
                f"zoneout_eval is 'expectation' with {self.pooling}-pooling, expected 'identity': "
                "only f and fo have an expectation form"
            )
        if not check.flag("bias", bias) and self.forget_bias != 0:
            raise check.ConfigError(f"forget_bias is {self.forget_bias} in a layer with bias=False")

        rows, columns = self.spec.gate_count * self.hidden_size, self.window * self.input_size
        check.elements("weight", rows, columns)
        self.weight = nn.Parameter(torch.empty(rows, columns, device=device, dtype=dtype))
        self.bias: nn.Parameter | None
        if bias:
            self.bias = nn.Parameter(torch.empty(rows, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights gate by gate; biases 0, the forget gate's ``forget_bias``."""
        bound = math.sqrt(6 / (self.window * self.input_size + self.hidden_size))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
            forget = self.spec.gates.index("f") * self.hidden_size
            nn.init.constant_(self.bias[forget : forget + self.hidden_size], self.forget_bias)

    @property
    def zoneout_scale(self) -> float:
        """The operator's attribute: 1 - zoneout in eval mode with ``expectation``, else 1."""
        expectation = self.zoneout_eval == "expectation" and not self.training
        return 1.0 - self.zoneout if expectation else 1.0

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {
            "architecture": "QRNNLayer",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "window": self.window,
            "pooling": self.pooling,
            "activation": self.activation,
            "reverse": self.reverse,
            "bias": self.bias is not None,
            "zoneout": self.zoneout,
            "zoneout_eval": self.zoneout_eval,
            "forget_bias": self.forget_bias,
            "batch_first": self.batch_first,
        }

    def extra_repr(self) -> str:
        """Arguments for ``print(module)``."""
        shown = {k: v for k, v in self.config().items() if k != "architecture"}
        return ", ".join(f"{k}={v}" for k, v in shown.items())

    def state_parts(self) -> tuple[StatePart, ...]:
        """c, and x for a window above 1."""
        c = StatePart("c", (self.hidden_size,))
        if self.window == 1:
            return (c,)
        return (c, StatePart("x", (self.window - 1, self.input_size), recurrent=False))

    def facts(self) -> dict[str, Any]:
        """See :meth:`RecurrentLayer.facts`."""
        return {
            "op_type": self.spec.op_type,
            "pooling": self.pooling,
            "activation": self.activation,
            "zoneout_scale": self.zoneout_scale,
            "window": self.window,
        }

    def walk(
        self,
        x: Tensor,
        state: LayerState | None,
        lengths: Tensor | None,
        *,
        context: Tensor | None = None,
    ) -> tuple[Tensor, LayerState]:
        """See :meth:`RecurrentLayer.walk`.

        Args:
            x: [T, B, input_size].
            state: the state or None.
            lengths: [B] int64 or None.
            context: [B, G*H], added to the gates of every step.

        Raises:
            InputError: ``context`` does not fit.
        """
        windows, last_inputs = form_windows(
            x, None if state is None else state.x, lengths, self.window, self.reverse
        )
        gates = F.linear(windows, self.weight, self.bias)
        if context is not None:
            self._check_context(gates, context)
            gates = gates + context
        gates = self.seen(gates)
        if self.training and self.zoneout > 0:
            gates = self._zone_out(gates)
        if state is None:
            c0 = gates.new_zeros((gates.shape[1], self.hidden_size), dtype=state_dtype(gates.dtype))
        else:
            c0 = state.c
        y, c_T = pool(
            self.spec,
            gates,
            c0,
            self.full_lengths(x, lengths),
            self.direction,
            self.activation,
            self.zoneout_scale,
        )
        return y, LayerState(c_T, last_inputs)

    def _check_context(self, gates: Tensor, context: Tensor) -> None:
        shape = gates.shape[1:]
        if context.dtype != gates.dtype or context.shape != shape:
            raise InputError(
                f"{type(self).__name__}: context is {context.dtype} {list(context.shape)}, "
                f"expected {gates.dtype} {list(shape)}"
            )

    def _zone_out(self, gates: Tensor) -> Tensor:
        """Shut a random subset: f = 1 there (and i = 0), so c stays exactly what it was."""
        parts = list(gates.chunk(self.spec.gate_count, dim=-1))
        kept = torch.rand_like(parts[0], dtype=torch.float32) < self.zoneout
        for gate, value in (("f", math.inf), ("i", -math.inf)):
            if gate in self.spec.gates:
                index = self.spec.gates.index(gate)
                parts[index] = parts[index].masked_fill(kept, value)
        return torch.cat(parts, dim=-1)
