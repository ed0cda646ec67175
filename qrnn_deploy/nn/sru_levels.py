"""What stacks of SRU and of SRU++ layers share: levels, their norms, and the way through them.

Source: asappresearch/sru 2.6, ``SRU``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from . import config as check
from .layer_stack import LayerStack
from .sru_core import SRUCore, SRUState

NORMS = ("none", "before", "after")
"""Where a level has a layer norm: before its gates, or behind its output."""


class SRUStack(LayerStack):
    """Base class: levels of one direction or two, whose layers a subclass makes.

    Args:
        input_size: features of x.
        hidden_size: channels H of every layer.
        num_layers: levels.
        bidirectional: every level walks both ways and joins [forward, reverse].
        input_to_hidden: x goes through a linear map to the width of the levels first.
        layer_norm: none, before or after. After, the steps past the lengths hold the norm of zeros.
        batch_first: x and y are [B, T, *] instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        layers: the layers in the order of the state list: level 0 forward, level 0 reverse (if
            bidirectional), level 1 forward, ...
        output_size: features of y, and of what every level but the first reads.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        bidirectional: bool,
        input_to_hidden: bool,
        layer_norm: str,
        batch_first: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.input_size = check.size("input_size", input_size)
        self.hidden_size = check.size("hidden_size", hidden_size)
        self.num_layers = check.size("num_layers", num_layers, check.MAX_LAYERS)
        self.bidirectional = check.flag("bidirectional", bidirectional)
        self.layer_norm = check.choice("layer_norm", layer_norm, NORMS)
        self.batch_first = check.flag("batch_first", batch_first)
        self.output_size = self.hidden_size * (2 if self.bidirectional else 1)
        self.input_map: nn.Linear | None = None
        if check.flag("input_to_hidden", input_to_hidden):
            check.elements("input_map.weight", self.output_size, self.input_size)
            self.input_map = nn.Linear(
                self.input_size, self.output_size, bias=False, device=device, dtype=dtype
            )
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList(
            nn.LayerNorm(self.output_size, device=device, dtype=dtype)
            for _ in range(self.num_layers if self.layer_norm == "after" else 0)
        )

    def _build(self, layer: Callable[..., SRUCore], skip: bool) -> None:
        """Fill ``layers``.

        Args:
            layer: makes one from level, input size, and what ``skip`` and ``reverse`` say; both
                directions of a level then share the entry of the first.
            skip: whether there is a highway.
        """
        width = self.input_size if self.input_map is None else self.output_size
        for level in range(self.num_layers):
            kind = "none" if not skip else "input" if width == self.output_size else "weight"
            ways = [
                layer(
                    level,
                    width,
                    skip=kind,
                    skip_start=self.hidden_size * way if kind == "input" else 0,
                    reverse=bool(way),
                )
                for way in range(2 if self.bidirectional else 1)
            ]
            for other in ways[1:]:
                other.entry = ways[0].entry
            self.layers.extend(ways)
            width = self.output_size
        if self.layer_norm == "after":
            self._lessen()

    def reset_parameters(self) -> None:
        """Fresh weights for every layer, smaller by far where a norm follows."""
        if self.input_map is not None:
            self.input_map.reset_parameters()
        for layer in self._layers():
            layer.reset_parameters()
        for norm in self.norms:
            cast(nn.LayerNorm, norm).reset_parameters()
        if self.layer_norm == "after":
            self._lessen()

    def _lessen(self) -> None:
        for layer in self._layers():
            layer.weight.detach().mul_(0.1)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Arguments that the layers do not show, for ``print(module)``."""
        return f"bidirectional={self.bidirectional}, batch_first={self.batch_first}"

    def forward(
        self,
        x: Tensor,
        state: Sequence[SRUState] | None = None,
        lengths: Tensor | None = None,
        hold: Tensor | None = None,
    ) -> tuple[Tensor, list[SRUState]]:
        """Run over a sequence or the next chunk of one.

        Args:
            x: [T, B, input_size], or [B, T, input_size] with ``batch_first``.
            state: one :class:`SRUState` per layer in the order of ``layers``, or None.
            lengths: [B] int64 or None.
            hold: bool like x without its features, or None: steps to pass over wherever they are.

        Returns:
            y [T, B, output_size] (or [B, T, output_size]) and the new state of every layer.

        Raises:
            InputError: an argument does not fit.
        """
        self.check_call(x, state)
        if hold is not None and (hold.dtype != torch.bool or hold.shape != x.shape[:2]):
            raise InputError(
                f"{type(self).__name__}: hold is {hold.dtype} {list(hold.shape)}, "
                f"expected torch.bool {list(x.shape[:2])}"
            )
        if self.batch_first:
            x = x.transpose(0, 1)
            hold = None if hold is None else hold.transpose(0, 1)
        y = x if self.input_map is None else self.input_map(x)
        layers, ways = self._layers(), len(self.layers) // self.num_layers
        new_state: list[SRUState] = []
        for level in range(self.num_layers):
            outputs = []
            for layer in layers[level * ways : (level + 1) * ways]:
                before = None if state is None else SRUState(*state[len(new_state)])
                extra = {} if hold is None else {"hold": hold}
                output, after = layer(y, before, lengths, **extra)
                outputs.append(output)
                new_state.append(after)
            y = outputs[0] if ways == 1 else torch.cat(outputs, dim=-1)
            if len(self.norms):
                y = self.norms[level](y)
        return (y.transpose(0, 1) if self.batch_first else y), new_state

    def _layers(self) -> list[SRUCore]:
        return cast("list[SRUCore]", list(self.layers))
