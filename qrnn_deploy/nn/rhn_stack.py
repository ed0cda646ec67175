"""A stack of recurrent highway layers, each of which reads the one below at the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from . import config as check
from .layer_stack import LayerStack
from .rhn import RHNLayer, RHNState


class RHN(LayerStack):
    """Levels of recurrent highway layers, and perhaps a linear map of what the last one gives.

    Args:
        input_size: features of x.
        hidden_size: channels H of every level, or a sequence with one number per level.
        num_layers: levels; by default as many as ``hidden_size`` has entries, or 1.
        depth: highway layers of every level in one step of time.
        projection_size: features of y, if it is a linear map of the last level's output.
        input_bias: as in :class:`RHNLayer`.
        transform_bias: as in :class:`RHNLayer`.
        reverse: every level walks from the last step to the first.
        input_dropout: as in :class:`RHNLayer`, on the input of every level.
        state_dropout: as in :class:`RHNLayer`.
        masks: as in :class:`RHNLayer`.
        batch_first: x and y are [B, T, *] instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        layers: the layers in the order of the state list.
        output_size: features of y.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        depth: int,
        projection_size: int | None = None,
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
        if num_layers is None:
            num_layers = len(hidden_size) if isinstance(hidden_size, Sequence) else 1
        self.num_layers = check.size("num_layers", num_layers, check.MAX_LAYERS)
        self.input_size = check.size("input_size", input_size)
        self.hidden_sizes = check.sizes("hidden_size", hidden_size, self.num_layers)
        self.batch_first = check.flag("batch_first", batch_first)
        self.layers = nn.ModuleList()
        width = self.input_size
        for hidden in self.hidden_sizes:
            self.layers.append(
                RHNLayer(
                    width,
                    hidden,
                    depth=depth,
                    input_bias=input_bias,
                    transform_bias=transform_bias,
                    reverse=reverse,
                    input_dropout=input_dropout,
                    state_dropout=state_dropout,
                    masks=masks,
                    device=device,
                    dtype=dtype,
                )
            )
            width = hidden
        self.output_size = width
        self.projection: nn.Linear | None = None
        if projection_size is not None:
            self.output_size = check.size("projection_size", projection_size)
            check.elements("projection.weight", self.output_size, width)
            self.projection = nn.Linear(width, self.output_size, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Fresh weights for every layer and the map."""
        for layer in self._layers():
            layer.reset_parameters()
        if self.projection is not None:
            self.projection.reset_parameters()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        first = self._layers()[0].config()
        shared = ("depth", "input_bias", "transform_bias", "reverse")
        training = ("input_dropout", "state_dropout", "masks")
        return {
            "architecture": "RHN",
            "input_size": self.input_size,
            "hidden_size": list(self.hidden_sizes),
            "num_layers": self.num_layers,
            "projection_size": None if self.projection is None else self.output_size,
            **{key: first[key] for key in (*shared, *training)},
            "batch_first": self.batch_first,
        }

    def extra_repr(self) -> str:
        """Arguments that the layers do not show, for ``print(module)``."""
        return f"batch_first={self.batch_first}"

    def forward(
        self,
        x: Tensor,
        state: Sequence[RHNState] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, list[RHNState]]:
        """Run over a sequence or the next chunk of one.

        Args:
            x: [T, B, input_size], or [B, T, input_size] with ``batch_first``.
            state: one :class:`RHNState` per layer in the order of ``layers``, or None.
            lengths: [B] int64 or None. Past them y is 0, or the map of zeros.

        Returns:
            y [T, B, output_size] (or [B, T, output_size]) and the new state of every layer.

        Raises:
            InputError: x, state or lengths does not fit.
        """
        self.check_call(x, state)
        y = x.transpose(0, 1) if self.batch_first else x
        new_state: list[RHNState] = []
        for level, layer in enumerate(self._layers()):
            y, after = layer(y, None if state is None else RHNState(*state[level]), lengths)
            new_state.append(after)
        if self.projection is not None:
            y = self.projection(y)
        return (y.transpose(0, 1) if self.batch_first else y), new_state

    def _layers(self) -> list[RHNLayer]:
        return cast("list[RHNLayer]", list(self.layers))
