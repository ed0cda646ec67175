"""Stacks of SRU layers.

Source: Lei et al. 2018, arXiv:1709.02755; asappresearch/sru 2.6, ``SRU``.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from . import config as check
from .sru import SRULayer
from .sru_levels import SRUStack


class SRU(SRUStack):
    """A stack of SRU layers.

    Args:
        input_size: as in :class:`SRUStack`.
        hidden_size: channels H of every layer.
        num_layers: levels.
        bidirectional: every level walks both ways and joins [forward, reverse].
        highway: whether the output of a level has its input mixed in: as it is where the sizes are
            equal, else through a block of the weight.
        rescale: as in :class:`SRULayer`.
        activation: identity, tanh or relu.
        projection_size: inner size of the weights as products of two, in those levels whose input
            and output are both larger; 0 for no product.
        layer_norm: none, before or after.
        input_to_hidden: x goes through a linear map to the width of the levels first.
        highway_bias: as in :class:`SRULayer`.
        v1: as in :class:`SRULayer`.
        weight_c_init: as in :class:`SRULayer`.
        dropout: as in :class:`SRULayer`, for all levels but the last.
        input_dropout: as in :class:`SRULayer`, for all levels.
        batch_first: x and y are [B, T, *] instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        highway: bool = True,
        rescale: bool = False,
        activation: str = "identity",
        projection_size: int = 0,
        layer_norm: str = "none",
        input_to_hidden: bool = False,
        highway_bias: float = 0.0,
        v1: bool = False,
        weight_c_init: float | None = None,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            input_to_hidden=input_to_hidden,
            layer_norm=layer_norm,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )
        self.highway = check.flag("highway", highway)
        self.projection_size = check.size("projection_size", projection_size, low=0)
        self.dropout = check.probability("dropout", dropout)

        def layer(level: int, width: int, **place: Any) -> SRULayer:
            narrow = self.projection_size < min(width, self.output_size)
            return SRULayer(
                width,
                self.hidden_size,
                rescale=rescale,
                activation=activation,
                projection_size=self.projection_size if narrow else 0,
                layer_norm=self.layer_norm == "before",
                highway_bias=highway_bias,
                v1=v1,
                weight_c_init=weight_c_init,
                dropout=self.dropout if level + 1 < self.num_layers else 0.0,
                input_dropout=input_dropout,
                device=device,
                dtype=dtype,
                **place,
            )

        self._build(layer, self.highway)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        first = cast(SRULayer, self.layers[0]).config()
        shared = ("rescale", "activation", "highway_bias", "v1", "weight_c_init", "input_dropout")
        return {
            "architecture": "SRU",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bidirectional": self.bidirectional,
            "highway": self.highway,
            "projection_size": self.projection_size,
            "layer_norm": self.layer_norm,
            "input_to_hidden": self.input_map is not None,
            "dropout": self.dropout,
            **{key: first[key] for key in shared},
            "batch_first": self.batch_first,
        }
