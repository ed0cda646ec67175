"""The language model of Zilly et al. 2016, arXiv:1607.03474, section 5.

Its dropout is variational throughout, with one mask for a sequence (Gal and Ghahramani 2016,
arXiv:1512.05287): on words, on the input and the state of every layer, and before the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import config as check
from .language_model import LanguageModel
from .rhn_stack import RHN


class RHNLanguageModel(LanguageModel):
    """A :class:`LanguageModel` on recurrent highway layers.

    Args:
        vocab_size: number of tokens V.
        embedding_size: features of a token.
        hidden_size: channels of every level, or one number per level.
        num_layers: levels; by default as many as ``hidden_size`` has entries, or 1.
        depth: as in :class:`RHN`.
        tied: the decoder uses the embedding's weight, so the last level must give
            ``embedding_size`` features.
        decoder_activation: of the logits: identity or relu.
        input_bias: as in :class:`RHN`.
        transform_bias: as in :class:`RHN`.
        reverse: as in :class:`RHN`; each token is then predicted from those after it.
        word_dropout: probability in training that a token, wherever it is in a row, has zeros for
            its embedding.
        input_dropout: as in :class:`RHN`.
        state_dropout: as in :class:`RHN`.
        output_dropout: probability in training that a feature before the decoder is zeroed for a
            whole sequence.
        masks: as in :class:`RHN`.
        vocabulary: as in :class:`TextEncoder`.
        batch_first: tokens and logits are [B, T, *] (the default here) instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ConfigError: an argument is out of range.
    """

    stack: RHN
    stack_arguments = (
        *("hidden_size", "num_layers", "depth", "input_bias", "transform_bias", "reverse"),
        *("input_dropout", "state_dropout", "masks"),
    )

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        depth: int,
        tied: bool = False,
        decoder_activation: str = "identity",
        input_bias: bool = False,
        transform_bias: float = -2.0,
        reverse: bool = False,
        word_dropout: float = 0.0,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
        output_dropout: float = 0.0,
        masks: str = "shared",
        vocabulary: Sequence[str] | None = None,
        batch_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        width = check.size("embedding_size", embedding_size)
        super().__init__(
            RHN(
                width,
                hidden_size,
                num_layers,
                depth=depth,
                input_bias=input_bias,
                transform_bias=transform_bias,
                reverse=reverse,
                input_dropout=input_dropout,
                state_dropout=state_dropout,
                masks=masks,
                device=device,
                dtype=dtype,
            ),
            vocab_size,
            width,
            vocabulary=vocabulary,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )
        self.word_dropout = check.probability("word_dropout", word_dropout)
        self.output_dropout = check.probability("output_dropout", output_dropout)
        self.add_decoder(tied, decoder_activation, device, dtype)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {
            **super().config(),
            "architecture": "RHNLanguageModel",
            "word_dropout": self.word_dropout,
            "output_dropout": self.output_dropout,
        }

    def extra_repr(self) -> str:
        """Arguments that the parts do not show, for ``print(module)``."""
        return (
            f"word_dropout={self.word_dropout}, output_dropout={self.output_dropout}, "
            f"{super().extra_repr()}"
        )

    def embed(self, tokens: Tensor) -> Tensor:
        """See :meth:`TextEncoder.embed`; equal tokens of a row share their fate."""
        x = super().embed(tokens)
        if not self.training or self.word_dropout == 0:
            return x
        kept = F.dropout(x.new_ones(self.vocab_size, tokens.shape[1]), self.word_dropout)
        return x * kept.gather(0, tokens)[:, :, None]

    def before_decoder(self, y: Tensor) -> Tensor:
        """See :meth:`LanguageModel.before_decoder`; one mask for a sequence."""
        if not self.training or self.output_dropout == 0:
            return y
        return y * F.dropout(y.new_ones(y.shape[1:]), self.output_dropout)
