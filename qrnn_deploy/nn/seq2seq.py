"""An encoder-decoder (Bradbury et al. 2016, arXiv:1611.01576, sections 2.1 and 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import config as check
from .layer import LayerState
from .seq2seq_decoder import WITHOUT_OUTPUT_GATE, TargetDecoder
from .seq2seq_encoder import EncoderMemory, SourceEncoder


class QRNNEncoderDecoder(nn.Module):
    """Tokens of one sequence to those of another, the source seen whole before the target starts.

    Each decoder layer gets the final output of the encoder layer of its level, and the last one
    attends to all outputs of the last encoder layer, so both have the same number of channels.

    Args:
        source_vocab_size: number of source tokens.
        target_vocab_size: number of target tokens V.
        embedding_size: features of a token, on both sides.
        hidden_size: channels of every level, or one number per level.
        num_layers: levels of each side; by default as many as ``hidden_size`` has entries, or 1.
        encoder_window: taps of every encoder level, or one number per level.
        decoder_window: taps of every decoder level, or one number per level.
        pooling: fo or ifo. The decoder's last layer pools without its output gate, which opens
            after attention.
        activation: tanh, relu or identity.
        reverse: the source is read from its last token to its first, as in the paper.
        bias: whether the gates have a bias.
        dropout: on the embeddings' outputs, between levels, and before the logits.
        zoneout: as in :class:`QRNNLayer`.
        zoneout_eval: as in :class:`QRNNLayer`.
        forget_bias: as in :class:`QRNNLayer`.
        pad_token: fills rows of a batch, on both sides; it is never an answer.
        bos_token: target token that every target starts after; it is never an answer.
        eos_token: target token that ends a target.
        source_vocabulary: the source tokens as text, or None.
        target_vocabulary: the target tokens as text, or None.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        encoder: the :class:`SourceEncoder`.
        decoder: the :class:`TargetDecoder`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        embedding_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        encoder_window: int | Sequence[int] = 2,
        decoder_window: int | Sequence[int] = 2,
        pooling: str = "fo",
        activation: str = "tanh",
        reverse: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_eval: str = "identity",
        forget_bias: float = 0.0,
        pad_token: int = 0,
        bos_token: int = 1,
        eos_token: int = 2,
        source_vocabulary: Sequence[str] | None = None,
        target_vocabulary: Sequence[str] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.source_vocab_size = check.size("source_vocab_size", source_vocab_size)
        # Padding, start, end, and something to say.
        self.target_vocab_size = check.size("target_vocab_size", target_vocab_size, low=4)
        self.embedding_size = check.size("embedding_size", embedding_size)
        if num_layers is None:
            num_layers = len(hidden_size) if check.is_sequence(hidden_size) else 1  # type: ignore[arg-type]
        self.num_layers = levels = check.size("num_layers", num_layers, check.MAX_LAYERS)
        self.hidden_sizes = check.sizes("hidden_size", hidden_size, levels)
        limit = check.MAX_WINDOW
        self.encoder_windows = check.sizes("encoder_window", encoder_window, levels, limit)
        self.decoder_windows = check.sizes("decoder_window", decoder_window, levels, limit)
        self.pooling = check.choice("pooling", pooling, tuple(WITHOUT_OUTPUT_GATE))
        self.activation = activation
        self.reverse = check.flag("reverse", reverse)
        self.bias = check.flag("bias", bias)
        self.dropout = check.probability("dropout", dropout)
        self.zoneout = zoneout
        self.zoneout_eval = zoneout_eval
        self.forget_bias = forget_bias
        last = self.target_vocab_size - 1
        shared_last = min(last, self.source_vocab_size - 1)
        self.pad_token = check.size("pad_token", pad_token, shared_last, low=0)
        self.bos_token = check.size("bos_token", bos_token, last, low=0)
        self.eos_token = check.size("eos_token", eos_token, last, low=0)
        if len({self.pad_token, self.bos_token, self.eos_token}) < 3:
            raise check.ConfigError(
                f"pad_token, bos_token and eos_token are {self.pad_token}, {self.bos_token} and "
                f"{self.eos_token}, expected three different tokens"
            )
        self.source_vocabulary = check.texts(
            "source_vocabulary", source_vocabulary, "source_vocab_size", self.source_vocab_size
        )
        self.target_vocabulary = check.texts(
            "target_vocabulary", target_vocabulary, "target_vocab_size", self.target_vocab_size
        )
        common: dict[str, Any] = {
            "pooling": self.pooling,
            "activation": activation,
            "zoneout": zoneout,
            "zoneout_eval": zoneout_eval,
            "dropout": self.dropout,
            "device": device,
            "dtype": dtype,
        }
        self.decoder = TargetDecoder(
            *(self.target_vocab_size, self.embedding_size),
            *(self.hidden_sizes, self.decoder_windows),
            **common,
        )
        self.encoder = SourceEncoder(
            *(self.source_vocab_size, self.embedding_size),
            *(self.hidden_sizes, self.encoder_windows, self.decoder.context_sizes),
            reverse=self.reverse,
            bias=self.bias,
            forget_bias=forget_bias,
            **common,
        )

    @property
    def streams(self) -> bool:
        """False: the source is seen whole. Its decoder alone streams."""
        return False

    def reset_parameters(self) -> None:
        """Fresh weights for every part."""
        self.encoder.reset_parameters()
        self.decoder.reset_parameters()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        names = (
            *("source_vocab_size", "target_vocab_size", "embedding_size", "num_layers"),
            *("pooling", "activation", "reverse", "bias", "dropout", "zoneout", "zoneout_eval"),
            *("forget_bias", "pad_token", "bos_token", "eos_token"),
        )
        source, target = self.source_vocabulary, self.target_vocabulary
        return {
            "architecture": "QRNNEncoderDecoder",
            **{name: getattr(self, name) for name in names},
            "hidden_size": list(self.hidden_sizes),
            "encoder_window": list(self.encoder_windows),
            "decoder_window": list(self.decoder_windows),
            "source_vocabulary": None if source is None else list(source),
            "target_vocabulary": None if target is None else list(target),
        }

    def extra_repr(self) -> str:
        """Arguments that the parts do not show, for ``print(module)``."""
        names = ("dropout", "pad_token", "bos_token", "eos_token")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    def initial_state(self, batch_size: int) -> list[LayerState]:
        """Zeros for every layer of the decoder."""
        return self.decoder.initial_state(batch_size)

    def encode(self, source: Tensor, source_lengths: Tensor | None = None) -> EncoderMemory:
        """Read the sources, see :meth:`SourceEncoder.forward`."""
        memory: EncoderMemory = self.encoder(source, source_lengths)
        return memory

    def decode(
        self, tokens: Tensor, memory: EncoderMemory, state: Sequence[LayerState] | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        """Logits of the token that follows each, see :meth:`TargetDecoder.forward`."""
        logits, after = self.decoder(tokens, memory, state)
        return logits, after

    def forward(
        self, source: Tensor, target: Tensor, source_lengths: Tensor | None = None
    ) -> Tensor:
        """Logits under teacher forcing, for training.

        Args:
            source: [B, S] int64.
            target: [B, T] int64, ``bos_token`` first. A step sees none after it, so what pads a
                row needs no mask but in the loss.
            source_lengths: [B] int64, or None for S everywhere.

        Returns:
            Logits [B, T, V] of the token that follows each.

        Raises:
            InputError: an argument does not fit.
        """
        logits, _ = self.decode(target, self.encode(source, source_lengths))
        return logits
