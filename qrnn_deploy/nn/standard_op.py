"""``nn.LSTM`` and ``nn.GRU`` as one operator each, so that a trace holds one node for a layer.

torch.onnx has translations of its own, which (onnxscript 0.7) write the number of steps of the
example into the file. The exporter turns these operators into ONNX's LSTM and GRU instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..pooling.spec import DOMAIN


@torch.library.custom_op(f"{DOMAIN}::lstm", mutates_args=())
def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: list[Tensor],
    bias: bool,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``torch.lstm`` in eval mode, time-major.

    Args:
        x: [T, B, in].
        h0: [num_layers * D, B, H] with D directions; all tensors have one type.
        c0: as h0.
        weights: as ``nn.LSTM`` has them, by layer and direction: weight_ih, weight_hh and, with
            ``bias``, bias_ih and bias_hh.
        bias: whether there are biases.
        num_layers: layers.
        bidirectional: whether there are two directions.

    Returns:
        y [T, B, D*H], h and c [num_layers * D, B, H].
    """
    options: Any = (bias, num_layers, 0.0, False, bidirectional, False)
    y, h, c = torch.lstm(x, (h0, c0), weights, *options)
    return y.clone(), h.clone(), c.clone()


@torch.library.custom_op(f"{DOMAIN}::gru", mutates_args=())
def gru(
    x: Tensor, h0: Tensor, weights: list[Tensor], bias: bool, num_layers: int, bidirectional: bool
) -> tuple[Tensor, Tensor]:
    """``torch.gru`` in eval mode, time-major; see :func:`lstm`."""
    options: Any = (bias, num_layers, 0.0, False, bidirectional, False)
    y, h = torch.gru(x, h0, weights, *options)
    return y.clone(), h.clone()


def _output(x: Tensor, h0: Tensor, bidirectional: bool) -> Tensor:
    width = h0.shape[2] * (2 if bidirectional else 1)
    return x.new_empty((x.shape[0], x.shape[1], width))


@lstm.register_fake
def _(
    x: Tensor, h0: Tensor, c0: Tensor, weights: list[Tensor], bias: bool, layers: int, two: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _output(x, h0, two), torch.empty_like(h0), torch.empty_like(c0)


@gru.register_fake
def _(
    x: Tensor, h0: Tensor, weights: list[Tensor], bias: bool, layers: int, two: bool
) -> tuple[Tensor, Tensor]:
    return _output(x, h0, two), torch.empty_like(h0)
