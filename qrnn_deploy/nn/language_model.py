"""A language model: embedding, QRNN stack, decoder (Bradbury et al. 2016, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from . import config as check
from .layer import LayerState
from .stack import QRNN


class QRNNLanguageModel(nn.Module):
    """Predicts the next token from all tokens before it.

    Args:
        vocab_size: number of tokens V.
        embedding_size: features of a token.
        hidden_size: channels of every level, or one number per level.
        num_layers: levels; by default as many as ``hidden_size`` has entries, or 1.
        window: taps of every level, or one number per level.
        tied: the decoder uses the embedding's weight, so the last level must have
            ``embedding_size`` channels.
        pooling: as in :class:`QRNN`.
        activation: as in :class:`QRNN`.
        dense: as in :class:`QRNN`.
        bias: as in :class:`QRNN`.
        dropout: on the embedding's output, between levels, and before the decoder.
        zoneout: as in :class:`QRNN`.
        zoneout_eval: as in :class:`QRNN`.
        forget_bias: as in :class:`QRNN`.
        vocabulary: the tokens as text, V different strings, kept for whoever reads or writes
            text with the model. U+FFFD, if it is among them, stands for all that are not.
        batch_first: tokens and logits are [B, T, *] (the default here) instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        window: int | Sequence[int] = 1,
        tied: bool = False,
        pooling: str = "fo",
        activation: str = "tanh",
        dense: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_eval: str = "identity",
        forget_bias: float = 0.0,
        vocabulary: Sequence[str] | None = None,
        batch_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size = check.size("vocab_size", vocab_size)
        self.embedding_size = check.size("embedding_size", embedding_size)
        self.tied = check.flag("tied", tied)
        self.dropout = check.probability("dropout", dropout)
        self.batch_first = check.flag("batch_first", batch_first)
        self.vocabulary = _vocabulary(vocabulary, self.vocab_size)

        check.elements("embedding.weight", self.vocab_size, self.embedding_size)
        self.stack = QRNN(
            self.embedding_size,
            hidden_size,
            num_layers,
            window=window,
            pooling=pooling,
            activation=activation,
            dense=dense,
            dropout=dropout,
            zoneout=zoneout,
            zoneout_eval=zoneout_eval,
            forget_bias=forget_bias,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        width = self.stack.output_size
        check.elements("decoder_weight", self.vocab_size, width)
        if self.tied and width != self.embedding_size:
            raise check.ConfigError(
                f"tied needs a last level of embedding_size = {self.embedding_size} channels, "
                f"got {width}: give hidden_size as a list that ends with {self.embedding_size}"
            )
        self.embedding = nn.Embedding(
            self.vocab_size, self.embedding_size, device=device, dtype=dtype
        )
        self.decoder_weight: nn.Parameter | None
        if self.tied:
            self.register_parameter("decoder_weight", None)
        else:
            self.decoder_weight = nn.Parameter(
                torch.empty(self.vocab_size, width, device=device, dtype=dtype)
            )
        self.decoder_bias = nn.Parameter(torch.empty(self.vocab_size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform embedding and decoder of variance 1/width; decoder bias 0; layers as theirs."""
        self.stack.reset_parameters()
        for weight in (self.embedding.weight, self.decoder_weight):
            if weight is not None:
                bound = math.sqrt(3 / weight.shape[1])
                nn.init.uniform_(weight, -bound, bound)
        nn.init.zeros_(self.decoder_bias)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        inner = self.stack.config()
        shared = (
            *("hidden_size", "num_layers", "window", "pooling", "activation", "dense", "bias"),
            *("zoneout", "zoneout_eval", "forget_bias"),
        )
        return {
            "architecture": "QRNNLanguageModel",
            "vocab_size": self.vocab_size,
            "embedding_size": self.embedding_size,
            "tied": self.tied,
            **{key: inner[key] for key in shared},
            "dropout": self.dropout,
            "vocabulary": None if self.vocabulary is None else list(self.vocabulary),
            "batch_first": self.batch_first,
        }

    def extra_repr(self) -> str:
        """Arguments that the parts do not show, for ``print(module)``."""
        return f"tied={self.tied}, dropout={self.dropout}, batch_first={self.batch_first}"

    def initial_state(self, batch_size: int) -> list[LayerState]:
        """Zeros for every layer."""
        return self.stack.initial_state(batch_size)

    def forward(
        self,
        tokens: Tensor,
        state: Sequence[LayerState] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, list[LayerState]]:
        """Logits of the token that follows each token.

        Args:
            tokens: [B, T] int64 ([T, B] without ``batch_first``), each in 0..V-1.
            state: from :meth:`initial_state` or an earlier call, or None.
            lengths: [B] int64 or None. Past them the logits are those of a zero hidden state.

        Returns:
            Logits [B, T, V] (or [T, B, V]) and the new state of every layer.

        Raises:
            InputError: an argument does not fit.
        """
        if tokens.dim() != 2 or tokens.dtype != torch.int64:
            raise InputError(
                f"QRNNLanguageModel: tokens is {tokens.dtype} of rank {tokens.dim()}, "
                f"expected torch.int64 {'[B, T]' if self.batch_first else '[T, B]'}"
            )
        if self.batch_first:
            tokens = tokens.transpose(0, 1)
        x = F.dropout(self.embedding(tokens), self.dropout, self.training)
        y, new_state = self.stack(x, state, lengths)
        y = F.dropout(y, self.dropout, self.training)
        weight = self.embedding.weight if self.decoder_weight is None else self.decoder_weight
        logits = F.linear(y, weight, self.decoder_bias)
        return (logits.transpose(0, 1) if self.batch_first else logits), new_state


def _vocabulary(entries: Any, count: int) -> tuple[str, ...] | None:
    if entries is None:
        return None
    if not check.is_sequence(entries) or not all(isinstance(entry, str) for entry in entries):
        raise check.ConfigError(
            f"vocabulary is {check.shorten(entries)}, expected {count} strings or null"
        )
    if len(entries) != count or len(set(entries)) != count:
        raise check.ConfigError(
            f"vocabulary has {len(entries)} entries, {len(set(entries))} of them different, "
            f"expected vocab_size = {count} different ones"
        )
    for index, entry in enumerate(entries):
        try:
            entry.encode()
        except UnicodeEncodeError:
            raise check.ConfigError(
                f"vocabulary[{index}] is {check.shorten(entry)}, half of a surrogate pair: "
                "expected text that UTF-8 can hold"
            ) from None
    return tuple(entries)
