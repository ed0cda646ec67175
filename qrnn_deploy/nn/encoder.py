"""Tokens to features: an embedding and a recurrent stack, the trunk of every model of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from . import config as check
from .stack import QRNN


class TextEncoder(nn.Module):
    """An embedding and the stack that reads it, whatever its layers are.

    A subclass builds the stack, names the stack's arguments that are its own too in
    :attr:`stack_arguments`, and may change :meth:`embed`, where dropout has its place.

    Args:
        stack: has ``output_size``, ``streams``, ``config()``, ``reset_parameters()`` and
            ``initial_state()``, and maps [T, B, embedding_size] to features and new states.
        vocab_size: number of tokens V.
        embedding_size: features of a token.
        vocabulary: the tokens as text, V strings, kept for whoever reads or writes text with the
            model. Of equal ones the first counts. U+FFFD, if it is among them, stands for all
            characters that are not.
        batch_first: tokens and features are [B, T, *] (the default here) instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        output_size: features that the stack gives.

    Raises:
        ConfigError: an argument is out of range.
    """

    stack: Any
    stack_arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        stack: nn.Module,
        vocab_size: int,
        embedding_size: int,
        *,
        vocabulary: Sequence[str] | None = None,
        batch_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size = check.size("vocab_size", vocab_size)
        self.embedding_size = check.size("embedding_size", embedding_size)
        self.batch_first = check.flag("batch_first", batch_first)
        self.vocabulary = check.texts("vocabulary", vocabulary, "vocab_size", self.vocab_size)
        check.elements("embedding.weight", self.vocab_size, self.embedding_size)
        self.stack = stack
        self.output_size: int = self.stack.output_size
        self.embedding = nn.Embedding(
            self.vocab_size, self.embedding_size, device=device, dtype=dtype
        )
        TextEncoder.reset_parameters(self)  # those of a subclass are not there yet

    @property
    def streams(self) -> bool:
        """Whether chunks of a sequence, with the state carried, give what the whole gives."""
        streams: bool = self.stack.streams
        return streams

    def reset_parameters(self) -> None:
        """Uniform embedding of variance 1/width; layers as theirs."""
        self.stack.reset_parameters()
        uniform(self.embedding.weight)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        inner = self.stack.config()
        return {
            "vocab_size": self.vocab_size,
            "embedding_size": self.embedding_size,
            **{key: inner[key] for key in self.stack_arguments},
            "vocabulary": None if self.vocabulary is None else list(self.vocabulary),
            "batch_first": self.batch_first,
        }

    def extra_repr(self) -> str:
        """Arguments that the parts do not show, for ``print(module)``."""
        return f"batch_first={self.batch_first}"

    def initial_state(self, batch_size: int) -> list[Any]:
        """Zeros for every layer."""
        states: list[Any] = self.stack.initial_state(batch_size)
        return states

    def forward(
        self,
        tokens: Tensor,
        state: Sequence[Any] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, list[Any]]:
        """Features of each token.

        Args:
            tokens: [B, T] int64 ([T, B] without ``batch_first``), each in 0..V-1.
            state: from :meth:`initial_state` or an earlier call, or None.
            lengths: [B] int64 or None. Past them the features are 0.

        Returns:
            Features [B, T, output_size] (or [T, B, output_size]) and the new state of every layer.

        Raises:
            InputError: an argument does not fit.
        """
        y, new_state = self.encode(self.time_major(tokens), state, lengths)
        return (y.transpose(0, 1) if self.batch_first else y), new_state

    def time_major(self, tokens: Tensor) -> Tensor:
        """``tokens`` as [T, B].

        Raises:
            InputError: they are no int64 of two axes.
        """
        if tokens.dim() != 2 or tokens.dtype != torch.int64:
            raise InputError(
                f"{type(self).__name__}: tokens is {tokens.dtype} of rank {tokens.dim()}, "
                f"expected torch.int64 {'[B, T]' if self.batch_first else '[T, B]'}"
            )
        return tokens.transpose(0, 1) if self.batch_first else tokens

    def encode(
        self, tokens: Tensor, state: Sequence[Any] | None, lengths: Tensor | None
    ) -> tuple[Tensor, list[Any]]:
        """Embedding and stack on tokens [T, B]; features [T, B, output_size] and the new state."""
        y, new_state = self.stack(self.embed(tokens), state, lengths)
        return y, new_state

    def embed(self, tokens: Tensor) -> Tensor:
        """What the stack reads for tokens [T, B]: [T, B, embedding_size]."""
        x: Tensor = self.embedding(tokens)
        return x


class QRNNEncoder(TextEncoder):
    """An embedding and the :class:`QRNN` that reads it.

    Args:
        vocab_size: number of tokens V.
        embedding_size: features of a token.
        hidden_size: channels of every level, or one number per level.
        num_layers: levels; by default as many as ``hidden_size`` has entries, or 1.
        window: taps of every level, or one number per level.
        pooling: as in :class:`QRNN`.
        activation: as in :class:`QRNN`.
        bidirectional: as in :class:`QRNN`.
        reverse: as in :class:`QRNN`.
        dense: as in :class:`QRNN`.
        bias: as in :class:`QRNN`.
        dropout: on the embedding's output and between levels.
        zoneout: as in :class:`QRNN`.
        zoneout_eval: as in :class:`QRNN`.
        forget_bias: as in :class:`QRNN`.
        vocabulary: the tokens as text, V strings, kept for whoever reads or writes text with the
            model. Of equal ones the first counts. U+FFFD, if it is among them, stands for all
            characters that are not.
        batch_first: tokens and features are [B, T, *] (the default here) instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        output_size: features that the stack gives.

    Raises:
        ConfigError: an argument is out of range.
    """

    stack: QRNN
    stack_arguments = (
        *("hidden_size", "num_layers", "window", "pooling", "activation", "bidirectional"),
        *("reverse", "dense", "bias", "zoneout", "zoneout_eval", "forget_bias"),
    )

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        window: int | Sequence[int] = 1,
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
        width = check.size("embedding_size", embedding_size)
        super().__init__(
            QRNN(
                width,
                hidden_size,
                num_layers,
                window=window,
                pooling=pooling,
                activation=activation,
                bidirectional=bidirectional,
                reverse=reverse,
                dense=dense,
                dropout=dropout,
                zoneout=zoneout,
                zoneout_eval=zoneout_eval,
                forget_bias=forget_bias,
                bias=bias,
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
        self.dropout = check.probability("dropout", dropout)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {**super().config(), "architecture": "QRNNEncoder", "dropout": self.dropout}

    def extra_repr(self) -> str:
        """Arguments that the parts do not show, for ``print(module)``."""
        return f"dropout={self.dropout}, {super().extra_repr()}"

    def embed(self, tokens: Tensor) -> Tensor:
        """See :meth:`TextEncoder.embed`."""
        return F.dropout(super().embed(tokens), self.dropout, self.training)


def uniform(weight: Tensor) -> None:
    """Fill a weight [rows, width] with numbers of variance 1/width."""
    bound = math.sqrt(3 / weight.shape[1])
    nn.init.uniform_(weight, -bound, bound)
