"""A language model on SRU layers: Lei et al. 2018, arXiv:1709.02755, section 4.3.

As upstream's own (asappresearch/sru, ``language_model/train_lm.py``), it has one rate of dropout:
on the embedding's output, in the levels, and before the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import config as check
from .language_model import LanguageModel
from .sru_stack import SRU


class SRULanguageModel(LanguageModel):
    """A :class:`LanguageModel` on SRU layers, which walk forwards.

    Args:
        vocab_size: number of tokens V.
        embedding_size: features of a token.
        hidden_size: channels of every level.
        num_layers: levels.
        tied: the decoder uses the embedding's weight, so ``hidden_size`` must be
            ``embedding_size``.
        decoder_activation: of the logits: identity or relu.
        highway: as in :class:`SRU`.
        rescale: as in :class:`SRU`.
        activation: as in :class:`SRU`.
        projection_size: as in :class:`SRU`.
        layer_norm: as in :class:`SRU`.
        input_to_hidden: as in :class:`SRU`.
        highway_bias: as in :class:`SRU`.
        v1: as in :class:`SRU`.
        weight_c_init: as in :class:`SRU`.
        dropout: on the embedding's output, before the decoder, and as in :class:`SRU`.
        input_dropout: as in :class:`SRU`.
        vocabulary: as in :class:`TextEncoder`.
        batch_first: tokens and logits are [B, T, *] (the default here) instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ConfigError: an argument is out of range.
    """

    stack: SRU
    stack_arguments = (
        *("hidden_size", "num_layers", "highway", "rescale", "activation", "projection_size"),
        *("layer_norm", "input_to_hidden", "highway_bias", "v1", "weight_c_init"),
        *("dropout", "input_dropout"),
    )

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        tied: bool = False,
        decoder_activation: str = "identity",
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
        vocabulary: Sequence[str] | None = None,
        batch_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        width = check.size("embedding_size", embedding_size)
        super().__init__(
            SRU(
                width,
                hidden_size,
                num_layers,
                highway=highway,
                rescale=rescale,
                activation=activation,
                projection_size=projection_size,
                layer_norm=layer_norm,
                input_to_hidden=input_to_hidden,
                highway_bias=highway_bias,
                v1=v1,
                weight_c_init=weight_c_init,
                dropout=dropout,
                input_dropout=input_dropout,
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
        self.add_decoder(tied, decoder_activation, device, dtype)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {**super().config(), "architecture": "SRULanguageModel"}

    def extra_repr(self) -> str:
        """Arguments that the parts do not show, for ``print(module)``."""
        return f"dropout={self.stack.dropout}, {super().extra_repr()}"

    def embed(self, tokens: Tensor) -> Tensor:
        """See :meth:`TextEncoder.embed`."""
        return F.dropout(super().embed(tokens), self.stack.dropout, self.training)

    def before_decoder(self, y: Tensor) -> Tensor:
        """See :meth:`LanguageModel.before_decoder`."""
        return F.dropout(y, self.stack.dropout, self.training)
