"""A stack of QRNN layers.

Dense connections: Bradbury et al. 2016, arXiv:1611.01576, section 2, "Densely Connected Layers".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from . import config as check
from .layer import LayerState, QRNNLayer


class QRNN(nn.Module):
    """Levels of QRNN layers, each of one direction or two.

    Args:
        input_size: features of x.
        hidden_size: channels H of every level, or a sequence with one number per level.
        num_layers: levels; by default as many as ``hidden_size`` has entries, or 1.
        window: taps of every level, or one number per level.
        pooling: f, fo, ifo or if.
        activation: tanh, relu or identity.
        bidirectional: every level walks both ways and concatenates [forward, reverse].
        reverse: every level walks from the last step to the first.
        dense: every level reads the stack's input and the outputs of all earlier levels,
            concatenated; the last level's output alone is the result.
        dropout: probability in training that an element of a level's output, the last level's
            excepted, is zeroed on its way to the next.
        zoneout: as in :class:`QRNNLayer`.
        zoneout_eval: as in :class:`QRNNLayer`.
        forget_bias: as in :class:`QRNNLayer`.
        bias: whether the gates have a bias.
        batch_first: x and y are [B, T, *] instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        layers: the layers in the order of the state list: level 0 forward, level 0 reverse (if
            bidirectional), level 1 forward, ...

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        window: int | Sequence[int] = 1,
        pooling: str = "fo",
        activation: str = "tanh",
        bidirectional: bool = False,
        reverse: bool = False,
        dense: bool = False,
        dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_eval: str = "identity",
        forget_bias: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_layers is None:
            num_layers = len(hidden_size) if isinstance(hidden_size, Sequence) else 1
        self.num_layers = check.size("num_layers", num_layers, check.MAX_LAYERS)
        self.input_size = check.size("input_size", input_size)
        self.hidden_sizes = check.sizes("hidden_size", hidden_size, self.num_layers)
        self.windows = check.sizes("window", window, self.num_layers, check.MAX_WINDOW)
        self.bidirectional = check.flag("bidirectional", bidirectional)
        self.reverse = check.flag("reverse", reverse)
        self.dense = check.flag("dense", dense)
        self.dropout = check.probability("dropout", dropout)
        self.batch_first = check.flag("batch_first", batch_first)
        if self.bidirectional and self.reverse:
            raise check.ConfigError("bidirectional and reverse are both true, expected at most one")

        ways = (False, True) if self.bidirectional else (self.reverse,)
        self.layers = nn.ModuleList()
        width = self.input_size
        for hidden, taps in zip(self.hidden_sizes, self.windows, strict=True):
            self.layers.extend(
                QRNNLayer(
                    width,
                    hidden,
                    window=taps,
                    pooling=pooling,
                    activation=activation,
                    reverse=way,
                    bias=bias,
                    zoneout=zoneout,
                    zoneout_eval=zoneout_eval,
                    forget_bias=forget_bias,
                    device=device,
                    dtype=dtype,
                )
                for way in ways
            )
            produced = hidden * len(ways)
            width = width + produced if self.dense else produced
        self.output_size = self.hidden_sizes[-1] * len(ways)

    def reset_parameters(self) -> None:
        """Fresh weights for every layer."""
        for layer in self._layers():
            layer.reset_parameters()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        first = self._layers()[0].config()
        shared = ("pooling", "activation", "zoneout", "zoneout_eval", "forget_bias", "bias")
        return {
            "architecture": "QRNN",
            "input_size": self.input_size,
            "hidden_size": list(self.hidden_sizes),
            "num_layers": self.num_layers,
            "window": list(self.windows),
            "bidirectional": self.bidirectional,
            "reverse": self.reverse,
            "dense": self.dense,
            "dropout": self.dropout,
            **{key: first[key] for key in shared},
            "batch_first": self.batch_first,
        }

    def extra_repr(self) -> str:
        """Arguments that the layers do not show, for ``print(module)``."""
        return f"dense={self.dense}, dropout={self.dropout}, batch_first={self.batch_first}"

    def initial_state(self, batch_size: int) -> list[LayerState]:
        """Zeros for every layer, in the order of ``layers``."""
        return [layer.initial_state(batch_size) for layer in self._layers()]

    def forward(
        self,
        x: Tensor,
        state: Sequence[LayerState] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, list[LayerState]]:
        """Run over a sequence or the next chunk of one.

        Args:
            x: [T, B, input_size], or [B, T, input_size] with ``batch_first``.
            state: one :class:`LayerState` per layer in the order of ``layers``, or None.
            lengths: [B] int64 or None.

        Returns:
            y [T, B, output_size] (or [B, T, output_size]) and the new state of every layer.

        Raises:
            InputError: x, state or lengths does not fit.
        """
        layout = "[B, T, {}]" if self.batch_first else "[T, B, {}]"
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise InputError(
                f"QRNN: x has shape {list(x.shape)}, expected {layout.format(self.input_size)}"
            )
        if state is not None and len(state) != len(self.layers):
            raise InputError(
                f"QRNN: state has {len(state)} entries, expected {len(self.layers)}, one per layer"
            )
        if self.batch_first:
            x = x.transpose(0, 1)
        ways = 2 if self.bidirectional else 1
        layers = self._layers()
        new_state: list[LayerState] = []
        source = x
        for level in range(self.num_layers):
            outputs = []
            for layer in layers[level * ways : (level + 1) * ways]:
                before = None if state is None else LayerState(*state[len(new_state)])
                y, after = layer(source, before, lengths)
                outputs.append(y)
                new_state.append(after)
            output = torch.cat(outputs, dim=-1) if self.bidirectional else outputs[0]
            if level < self.num_layers - 1:
                output = F.dropout(output, self.dropout, self.training)
                source = torch.cat([source, output], dim=-1) if self.dense else output
        return (output.transpose(0, 1) if self.batch_first else output), new_state

    def _layers(self) -> list[QRNNLayer]:
        return cast("list[QRNNLayer]", list(self.layers))
