"""A QRNN stack and a linear map of its output, as the frontend of PASE+ ends.

Source: Ravanelli et al. 2020, arXiv:2001.09239; the map is its 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import config as check
from .layer import LayerState
from .stack import QRNN


class ProjectedQRNN(QRNN):
    """A :class:`QRNN` whose every output goes through one linear map.

    Args:
        input_size: features of x.
        hidden_size: as in :class:`QRNN`.
        num_layers: as in :class:`QRNN`.
        projection_size: features of y.
        projection_bias: whether the map has a bias.
        window: as in :class:`QRNN`.
        pooling: as in :class:`QRNN`.
        activation: as in :class:`QRNN`.
        bidirectional: as in :class:`QRNN`.
        join: as in :class:`QRNN`.
        reverse: as in :class:`QRNN`.
        dense: as in :class:`QRNN`.
        dropout: as in :class:`QRNN`.
        zoneout: as in :class:`QRNN`.
        zoneout_eval: as in :class:`QRNN`.
        forget_bias: as in :class:`QRNN`.
        bias: whether the gates have a bias.
        batch_first: as in :class:`QRNN`.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        output_size: ``projection_size``.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        projection_size: int,
        projection_bias: bool = True,
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
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            window=window,
            pooling=pooling,
            activation=activation,
            bidirectional=bidirectional,
            join=join,
            reverse=reverse,
            dense=dense,
            dropout=dropout,
            zoneout=zoneout,
            zoneout_eval=zoneout_eval,
            forget_bias=forget_bias,
            bias=bias,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )
        width, self.output_size = self.output_size, check.size("projection_size", projection_size)
        check.elements("projection.weight", self.output_size, width)
        self.projection = nn.Linear(
            width,
            self.output_size,
            bias=check.flag("projection_bias", projection_bias),
            device=device,
            dtype=dtype,
        )

    def reset_parameters(self) -> None:
        """Fresh weights for every layer and the map."""
        super().reset_parameters()
        self.projection.reset_parameters()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {
            **super().config(),
            "architecture": "ProjectedQRNN",
            "projection_size": self.output_size,
            "projection_bias": self.projection.bias is not None,
        }

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
            lengths: [B] int64 or None. Past them y is the map of zeros.

        Returns:
            y [T, B, projection_size] (or [B, T, projection_size]) and the new state of every layer.

        Raises:
            InputError: x, state or lengths does not fit.
        """
        y, new_state = super().forward(x, state, lengths)
        return self.projection(y), new_state
