"""One SRU layer. What it computes stands in :mod:`qrnn_deploy.nn.sru_core`."""

from __future__ import annotations

from typing import Any

import torch

from . import config as check
from .sru_core import SRUCore
from .sru_entry import SRUEntry


class SRULayer(SRUCore):
    """An SRU layer in one direction.

    Args:
        input_size: features of x.
        hidden_size: channels H.
        skip: the highway's input: ``weight`` for a block of the weight, ``input`` for H features of
            x, ``none`` for no highway.
        skip_start: of ``input``, the first of those features.
        rescale: whether the highway's input is scaled by ``skip_scale``, as upstream does to keep
            the variance of h; for ``weight`` its initial weights are scaled instead.
        activation: of the state on its way to h: identity, tanh or relu.
        reverse: walk from the last step to the first.
        projection_size: inner size of the weight as a product of two, or 0 for one weight.
        layer_norm: whether the gates read a normalised x; the highway never does.
        highway_bias: initial b_r; below 0 the highway begins wide open.
        v1: the gates do not see the state: ``weight_c`` is zero and stays so.
        weight_c_init: bound of the initial ``weight_c``; None for the square root of 1.5.
        dropout: probability in training that a channel of a row carries nothing but the highway,
            for the whole sequence.
        input_dropout: the same for a feature of x on its way to the gates.
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
        skip: str = "weight",
        skip_start: int = 0,
        rescale: bool = False,
        activation: str = "identity",
        reverse: bool = False,
        projection_size: int = 0,
        layer_norm: bool = False,
        highway_bias: float = 0.0,
        v1: bool = False,
        weight_c_init: float | None = None,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        size = check.size("input_size", input_size)
        hidden = check.size("hidden_size", hidden_size)
        projection = check.size("projection_size", projection_size, low=0)
        norm = check.flag("layer_norm", layer_norm)
        thinned = check.probability("input_dropout", input_dropout)
        super().__init__(
            size,
            hidden,
            SRUEntry(
                size,
                projection_size=projection,
                layer_norm=norm,
                dropout=thinned,
                device=device,
                dtype=dtype,
            ),
            skip=skip,
            skip_start=skip_start,
            rescale=rescale,
            activation=activation,
            reverse=reverse,
            highway_bias=highway_bias,
            v1=v1,
            weight_c_init=weight_c_init,
            dropout=dropout,
            gain=(0.1 if norm else 1.0) * (1 - thinned) ** 0.5,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )
        self.projection_size, self.layer_norm, self.input_dropout = projection, norm, thinned
        self.reset_parameters()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {
            "architecture": "SRULayer",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "skip": self.skip,
            "skip_start": self.skip_start,
            "rescale": self.rescale,
            "activation": self.activation,
            "reverse": self.reverse,
            "projection_size": self.projection_size,
            "layer_norm": self.layer_norm,
            "highway_bias": self.highway_bias,
            "v1": self.v1,
            "weight_c_init": self.weight_c_init,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "batch_first": self.batch_first,
        }

    def extra_repr(self) -> str:
        """Arguments for ``print(module)``."""
        shown = {k: v for k, v in self.config().items() if k != "architecture"}
        return ", ".join(f"{k}={v}" for k, v in shown.items())
