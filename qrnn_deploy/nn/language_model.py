"""Language models: embedding, recurrent stack, decoder (Bradbury et al. 2016, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import config as check
from .encoder import QRNNEncoder, TextEncoder, uniform

DECODER_ACTIVATIONS = ("identity", "relu")


class LanguageModel(TextEncoder):
    """A decoder behind an encoder of text: the next token from all tokens before it.

    A subclass calls :meth:`add_decoder` at the end of its constructor, and may change
    :meth:`before_decoder`, where dropout has its place.
    """

    decoder_weight: nn.Parameter | None

    def add_decoder(
        self,
        tied: bool,
        decoder_activation: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Make the decoder's parameters; the arguments are those of the constructors.

        Raises:
            ConfigError: an argument is out of range.
        """
        self.tied = check.flag("tied", tied)
        self.decoder_activation = check.choice(
            "decoder_activation", decoder_activation, DECODER_ACTIVATIONS
        )
        width = self.output_size
        check.elements("decoder_weight", self.vocab_size, width)
        if self.tied and width != self.embedding_size:
            raise check.ConfigError(
                f"tied needs a last level of embedding_size = {self.embedding_size} features, "
                f"got {width}: give hidden_size as a list whose last level has as many"
            )
        if self.tied:
            self.register_parameter("decoder_weight", None)
        else:
            self.decoder_weight = nn.Parameter(
                torch.empty(self.vocab_size, width, device=device, dtype=dtype)
            )
        self.decoder_bias = nn.Parameter(torch.empty(self.vocab_size, device=device, dtype=dtype))
        self._reset_decoder()

    def reset_parameters(self) -> None:
        """Uniform embedding and decoder of variance 1/width; decoder bias 0; layers as theirs."""
        super().reset_parameters()
        self._reset_decoder()

    def _reset_decoder(self) -> None:
        if self.decoder_weight is not None:
            uniform(self.decoder_weight)
        nn.init.zeros_(self.decoder_bias)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {
            **super().config(),
            "tied": self.tied,
            "decoder_activation": self.decoder_activation,
        }

    def extra_repr(self) -> str:
        """Arguments that the parts do not show, for ``print(module)``."""
        return (
            f"tied={self.tied}, decoder_activation={self.decoder_activation}, "
            f"{super().extra_repr()}"
        )

    def forward(
        self,
        tokens: Tensor,
        state: Sequence[Any] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, list[Any]]:
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
        y, new_state = self.encode(self.time_major(tokens), state, lengths)
        y = self.before_decoder(y)
        weight = self.embedding.weight if self.decoder_weight is None else self.decoder_weight
        logits = F.linear(y, weight, self.decoder_bias)
        if self.decoder_activation == "relu":
            logits = F.relu(logits)
        return (logits.transpose(0, 1) if self.batch_first else logits), new_state

    def before_decoder(self, y: Tensor) -> Tensor:
        """What the decoder reads for features [T, B, output_size]: as many."""
        return y


class QRNNLanguageModel(LanguageModel, QRNNEncoder):
    """A :class:`LanguageModel` on QRNN layers.

    Args:
        vocab_size: number of tokens V.
        embedding_size: features of a token.
        hidden_size: channels of every level, or one number per level.
        num_layers: levels; by default as many as ``hidden_size`` has entries, or 1.
        window: taps of every level, or one number per level.
        tied: the decoder uses the embedding's weight, so the last level must give
            ``embedding_size`` features.
        decoder_activation: of the logits: identity, or relu, which santi-pdp/quasi-rnn applies.
        pooling: as in :class:`QRNN`.
        activation: as in :class:`QRNN`.
        bidirectional: as in :class:`QRNN`; each token then sees those after it too.
        reverse: as in :class:`QRNN`; each token is then predicted from those after it.
        dense: as in :class:`QRNN`.
        bias: as in :class:`QRNN`.
        dropout: on the embedding's output, between levels, and before the decoder.
        zoneout: as in :class:`QRNN`.
        zoneout_eval: as in :class:`QRNN`.
        forget_bias: as in :class:`QRNN`.
        vocabulary: as in :class:`QRNNEncoder`.
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
        decoder_activation: str = "identity",
        pooling: str = "fo",
        activation: str = "tanh",
        bidirectional: bool = False,
        reverse: bool = False,
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
        super().__init__(
            vocab_size,
            embedding_size,
            hidden_size,
            num_layers,
            window=window,
            pooling=pooling,
            activation=activation,
            bidirectional=bidirectional,
            reverse=reverse,
            dense=dense,
            bias=bias,
            dropout=dropout,
            zoneout=zoneout,
            zoneout_eval=zoneout_eval,
            forget_bias=forget_bias,
            vocabulary=vocabulary,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )
        self.add_decoder(tied, decoder_activation, device, dtype)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {**super().config(), "architecture": "QRNNLanguageModel"}

    def before_decoder(self, y: Tensor) -> Tensor:
        """See :meth:`LanguageModel.before_decoder`."""
        return F.dropout(y, self.dropout, self.training)
