"""The encoder of an encoder-decoder: what it tells the decoder, and the layers that tell it.

Source: Bradbury et al. 2016, arXiv:1611.01576, section 2.1, "Encoder-Decoder Models".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from . import config as check
from .encoder import uniform
from .layer import QRNNLayer


class EncoderMemory(NamedTuple):
    """What a decoder knows of its sources; made once for each batch of them.

    Attributes:
        values: [B, S, H] outputs of the last encoder layer, 0 past the lengths.
        lengths: [B] int64, steps of each source.
        contexts: for each decoder layer [B, G*H], which is added to its gates at every step:
            V h~_T + b, with h~_T the final output of the encoder layer of the same level.
    """

    values: Tensor
    lengths: Tensor
    contexts: tuple[Tensor, ...]


class SourceEncoder(nn.Module):
    """Embedding, a stack of QRNN layers, and the map from the end of each to the decoder.

    Args:
        vocab_size: number of source tokens.
        embedding_size: features of a token.
        hidden_sizes: channels of each level.
        windows: taps of each level.
        context_sizes: rows of gates of the decoder layer of each level.
        pooling: fo or ifo.
        activation: of the candidates.
        reverse: whether the source is read from its last token to its first.
        bias: whether gates have biases, those of the decoder's layers included.
        dropout: on the embedding's output and between levels.
        zoneout: as in :class:`QRNNLayer`.
        zoneout_eval: as in :class:`QRNNLayer`.
        forget_bias: as in :class:`QRNNLayer`.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        contexts: V and b of each level. A decoder layer has no bias of its own: b is its bias.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_sizes: Sequence[int],
        windows: Sequence[int],
        context_sizes: Sequence[int],
        *,
        reverse: bool,
        bias: bool,
        dropout: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **shared: Any,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.dropout = dropout
        check.elements("encoder.embedding.weight", vocab_size, embedding_size)
        self.embedding = nn.Embedding(vocab_size, embedding_size, device=device, dtype=dtype)
        widths = [embedding_size, *hidden_sizes]
        self.layers = nn.ModuleList(
            QRNNLayer(
                *(width, hidden),
                window=window,
                reverse=reverse,
                bias=bias,
                device=device,
                dtype=dtype,
                **shared,
            )
            for width, hidden, window in zip(widths, hidden_sizes, windows, strict=False)
        )
        self.contexts = nn.ModuleList()
        for hidden, rows in zip(hidden_sizes, context_sizes, strict=True):
            check.elements("encoder.contexts.weight", rows, hidden)
            self.contexts.append(nn.Linear(hidden, rows, bias=bias, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform embedding and V of variance 1/width; b 0, of forget gates ``forget_bias``."""
        uniform(self.embedding.weight)
        for layer, context in zip(self._layers(), self.contexts, strict=True):
            assert isinstance(context, nn.Linear)
            layer.reset_parameters()
            uniform(context.weight)
            if context.bias is not None:
                nn.init.zeros_(context.bias)
                # The forget gate is the second of every pooling function.
                nn.init.constant_(
                    context.bias[layer.hidden_size :][: layer.hidden_size], layer.forget_bias
                )

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> EncoderMemory:
        """Read the sources.

        Args:
            tokens: [B, S] int64, each in 0..V-1, S >= 1.
            lengths: [B] int64 in 0..S, or None for S everywhere. What lies past them influences
                nothing; a source of length 0 ends in zeros.

        Raises:
            InputError: an argument does not fit.
        """
        if tokens.dim() != 2 or tokens.dtype != torch.int64:
            raise InputError(
                f"source is {tokens.dtype} {list(tokens.shape)}, expected torch.int64 [B, S]"
            )
        if not torch.compiler.is_compiling() and tokens.shape[1] == 0:
            raise InputError(
                "source has no time steps, expected at least 1: give an empty source one token of "
                "padding, and the length 0"
            )
        y = F.dropout(self.embedding(tokens.transpose(0, 1)), self.dropout, self.training)
        layers = self._layers()
        contexts = []
        for level, (layer, context) in enumerate(zip(layers, self.contexts, strict=True)):
            if level:
                y = F.dropout(y, self.dropout, self.training)
            y, _ = layer(y, None, lengths)
            contexts.append(context(_final(y, lengths, layer.reverse)))
        if lengths is None:
            lengths = torch.full_like(tokens[:, 0], tokens.shape[1])
        return EncoderMemory(y.transpose(0, 1), lengths, tuple(contexts))

    def _layers(self) -> list[QRNNLayer]:
        return cast("list[QRNNLayer]", list(self.layers))


def _final(y: Tensor, lengths: Tensor | None, reverse: bool) -> Tensor:
    """The output [B, H] of the step that the walk over y [S, B, H] makes last."""
    if reverse:
        return y[0]
    if lengths is None:
        return y[-1]
    last = (lengths - 1).clamp(min=0)  # of an empty source the first step, which is 0
    return y.gather(0, last[None, :, None].expand(1, y.shape[1], y.shape[2]))[0]
