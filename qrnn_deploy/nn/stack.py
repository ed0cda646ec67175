"""A stack of QRNN layers.

Dense connections: Bradbury et al. 2016, arXiv:1611.01576, section 2, "Densely Connected Layers".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import config as check
from .layer import LayerState, QRNNLayer
from .layer_stack import LayerStack

JOINS = ("level", "end")


class QRNN(LayerStack):
    """Levels of QRNN layers, each of one direction or two.

    Args:
        input_size: features of x.
        hidden_size: channels H of every level, or a sequence with one number per level.
        num_layers: levels; by default as many as ``hidden_size`` has entries, or 1.
        window: taps of every level, or one number per level.
        pooling: f, fo, ifo or if.
        activation: tanh, relu or identity.
        bidirectional: every level walks both ways.
        join: where the two ways of a bidirectional stack meet, as [forward, reverse]: in every
            level (``level``), whose output the next one reads, or only after the last (``end``):
            two stacks side by side, as in fastai 1.
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
        join: str = "level",
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
        self.join = check.choice("join", join, JOINS)
        self.reverse = check.flag("reverse", reverse)
        self.dense = check.flag("dense", dense)
        self.dropout = check.probability("dropout", dropout)
        self.batch_first = check.flag("batch_first", batch_first)
        if self.bidirectional and self.reverse:
            raise check.ConfigError("bidirectional and reverse are both true, expected at most one")
        if self.join == "end" and (self.dense or not self.bidirectional):
            what = "a dense stack" if self.dense else "one direction"
            raise check.ConfigError(
                f"join is 'end' in {what}, expected 'level': only the two directions of a "
                "bidirectional stack without dense connections can meet at its end"
            )

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
            produced = hidden if self.join == "end" else hidden * len(ways)
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
            "join": self.join,
            "reverse": self.reverse,
            "dense": self.dense,
            "dropout": self.dropout,
            **{key: first[key] for key in shared},
            "batch_first": self.batch_first,
        }

    def extra_repr(self) -> str:
        """Arguments that the layers do not show, for ``print(module)``."""
        join = f"join={self.join}, " if self.bidirectional else ""
        return f"{join}dense={self.dense}, dropout={self.dropout}, batch_first={self.batch_first}"

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
        self.check_call(x, state)
        if self.batch_first:
            x = x.transpose(0, 1)
        ways = 2 if self.bidirectional else 1
        layers = self._layers()
        new_state: list[LayerState] = []
        sources = [x] * ways
        for level in range(self.num_layers):
            outputs = []
            here = layers[level * ways : (level + 1) * ways]
            for layer, source in zip(here, sources, strict=True):
                before = None if state is None else LayerState(*state[len(new_state)])
                y, after = layer(source, before, lengths)
                outputs.append(y)
                new_state.append(after)
            last = level == self.num_layers - 1
            if self.bidirectional and (last or self.join == "level"):
                outputs = [torch.cat(outputs, dim=-1)]
            if not last:
                outputs = [F.dropout(output, self.dropout, self.training) for output in outputs]
                if self.dense:
                    outputs = [torch.cat([sources[0], outputs[0]], dim=-1)]
                sources = outputs if self.join == "end" else outputs * ways
        output = outputs[0]
        return (output.transpose(0, 1) if self.batch_first else output), new_state

    def _layers(self) -> list[QRNNLayer]:
        return cast("list[QRNNLayer]", list(self.layers))
