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
from ..pooling.spec import ACTIVATIONS, FORWARD, POOLINGS, REVERSE
from ..pooling.torch_loops import length_range
from ..pooling.torch_op import pool, state_dtype
from . import config as check
from .binding import active_binding
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


class QRNNLayer(nn.Module):
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
    def direction(self) -> int:
        """1 or -1, as the operator takes it."""
        return REVERSE if self.reverse else FORWARD

    @property
    def streams(self) -> bool:
        """Whether chunks of a sequence, fed from its start, give what the whole gives."""
        return not self.reverse

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

    def initial_state(self, batch_size: int) -> LayerState:
        """The state before a sequence: zeros in this layer's types and on its device."""
        c = self.weight.new_zeros(
            (batch_size, self.hidden_size), dtype=state_dtype(self.weight.dtype)
        )
        if self.window == 1:
            return LayerState(c, None)
        return LayerState(c, self.weight.new_zeros((batch_size, self.window - 1, self.input_size)))

    def forward(
        self, x: Tensor, state: LayerState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Run over a sequence or the next chunk of one.

        Args:
            x: [T, B, input_size], or [B, T, input_size] with ``batch_first``.
            state: from :meth:`initial_state` or an earlier call; None starts a sequence. The
                chunks of a reverse layer are fed from the end of the sequence.
            lengths: [B] int64, steps that count in each row; None means T everywhere. What
                lies past them influences nothing.

        Returns:
            y [T, B, H] (or [B, T, H]), 0 past the lengths, and the state after the last step.

        Raises:
            InputError: x, state or lengths has a wrong rank, size or dtype.
        """
        self._check_input(x)
        if self.batch_first:
            x = x.transpose(0, 1)
        binding = active_binding()
        if binding is not None:
            x, state, lengths = binding.enter(self, x, state, lengths)
        self._check_state(x, state)
        self._check_lengths(x, lengths)

        if lengths is not None and self.training:
            # Its gates get no gradient, but 0 * NaN in the weight's gradient would be NaN.
            past = torch.arange(x.shape[0], device=x.device)[:, None] >= lengths
            x = x.masked_fill(past[:, :, None], 0.0)
        windows, last_inputs = form_windows(
            x, None if state is None else state.x, lengths, self.window, self.reverse
        )
        gates = F.linear(windows, self.weight, self.bias)
        if binding is not None:
            gates = binding.gates(self, gates)
        if self.training and self.zoneout > 0:
            gates = self._zone_out(gates)
        if state is None:
            c0 = gates.new_zeros((gates.shape[1], self.hidden_size), dtype=state_dtype(gates.dtype))
        else:
            c0 = state.c
        if lengths is None:
            lengths = torch.full((x.shape[1],), x.shape[0], dtype=torch.int64, device=x.device)
        y, c_T = pool(
            self.spec, gates, c0, lengths, self.direction, self.activation, self.zoneout_scale
        )
        new_state = LayerState(c_T, last_inputs)
        if binding is not None:
            y, new_state = binding.leave(self, y, new_state)
        return (y.transpose(0, 1) if self.batch_first else y), new_state

    def _zone_out(self, gates: Tensor) -> Tensor:
        """Shut a random subset: f = 1 there (and i = 0), so c stays exactly what it was."""
        parts = list(gates.chunk(self.spec.gate_count, dim=-1))
        kept = torch.rand_like(parts[0], dtype=torch.float32) < self.zoneout
        for gate, value in (("f", math.inf), ("i", -math.inf)):
            if gate in self.spec.gates:
                index = self.spec.gates.index(gate)
                parts[index] = parts[index].masked_fill(kept, value)
        return torch.cat(parts, dim=-1)

    def _check_input(self, x: Tensor) -> None:
        layout = "[B, T, {}]" if self.batch_first else "[T, B, {}]"
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise InputError(
                f"QRNNLayer: x has shape {list(x.shape)}, expected {layout.format(self.input_size)}"
            )
        if x.dtype != self.weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise InputError(
                f"QRNNLayer: x has dtype {x.dtype}, expected {self.weight.dtype}: "
                "convert the input or the model"
            )

    def _check_state(self, x: Tensor, state: LayerState | None) -> None:
        """Ranks and sizes; the operator checks the type of c."""
        if state is None:
            return
        if not isinstance(state, LayerState):
            raise InputError(f"QRNNLayer: state is a {type(state).__name__}, expected a LayerState")
        batch = x.shape[1]
        if state.c.dim() != 2 or state.c.shape[0] != batch or state.c.shape[1] != self.hidden_size:
            raise InputError(
                f"QRNNLayer: state.c has shape {list(state.c.shape)}, "
                f"expected [{batch}, {self.hidden_size}]"
            )
        extra = self.window - 1
        if (state.x is None) != (extra == 0):
            raise InputError(
                f"QRNNLayer: state.x is {'None' if state.x is None else 'given'}, "
                f"expected {'None' if extra == 0 else 'a tensor'} for window {self.window}"
            )
        if state.x is not None and (
            state.x.dim() != 3
            or state.x.shape[0] != batch
            or state.x.shape[1] != extra
            or state.x.shape[2] != self.input_size
            or state.x.dtype != x.dtype
        ):
            raise InputError(
                f"QRNNLayer: state.x is {state.x.dtype} {list(state.x.shape)}, "
                f"expected {x.dtype} [{batch}, {extra}, {self.input_size}]"
            )

    def _check_lengths(self, x: Tensor, lengths: Tensor | None) -> None:
        """What the operator would check, before rows are picked by it; no values in a trace."""
        if lengths is None:
            return
        steps, batch = x.shape[0], x.shape[1]
        if not isinstance(lengths, Tensor):
            raise InputError(f"QRNNLayer: lengths is a {type(lengths).__name__}, expected a tensor")
        if lengths.dtype != torch.int64 or lengths.dim() != 1 or lengths.shape[0] != batch:
            raise InputError(
                f"QRNNLayer: lengths is {lengths.dtype} {list(lengths.shape)}, "
                f"expected torch.int64 [{batch}]"
            )
        if not torch.compiler.is_compiling():
            length_range("QRNNLayer", lengths, steps)
