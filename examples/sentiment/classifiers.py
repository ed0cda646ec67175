"""The classifier of sentences, and the LSTM of the same size that it is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qrnn_deploy.nn import QRNNClassifier
from qrnn_deploy.nn.concat_pooling import align, concat_pool
from qrnn_deploy.nn.head import Block

QRNN_SETTINGS: dict[str, Any] = {
    "embedding_size": 32,
    "hidden_size": 48,
    "num_layers": 4,
    "window": 2,
    "pooling": "fo",
    "dense": True,
}
"""As Bradbury et al. 2016, section 3.1, classify reviews, with 48 channels instead of 256."""

LSTM_SETTINGS: dict[str, Any] = {"embedding_size": 32, "num_layers": 2}
HEAD_DROPOUT = 0.5


class LSTMClassifier(nn.Module):
    """The baseline: the same embedding, dropout, pooling over time and head around ``nn.LSTM``."""

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        bound = math.sqrt(3 / embedding_size)
        nn.init.uniform_(self.embedding.weight, -bound, bound)
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers, dropout=dropout)
        self.head = Block(
            3 * hidden_size, len(data.CLASSES), bias=True, dropout=HEAD_DROPOUT, last=True
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T], padded at the end -> logits [B, 2]."""
        aligned = align(tokens.t(), data.PAD_TOKEN, "after", 1, None)
        x = F.dropout(self.embedding(aligned.tokens), self.dropout, self.training)
        logits: Tensor = self.head(concat_pool(self.lstm(x)[0], aligned))
        return logits


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def qrnn(vocabulary: Sequence[str], dropout: float) -> QRNNClassifier:
    """The model, with fresh weights."""
    return QRNNClassifier(
        len(vocabulary),
        num_classes=len(data.CLASSES),
        head_sizes=(),
        head_dropout=HEAD_DROPOUT,
        classes=data.CLASSES,
        pad_token=data.PAD_TOKEN,
        dropout=dropout,
        vocabulary=vocabulary,
        **QRNN_SETTINGS,
    )


def lstm(vocabulary: Sequence[str], dropout: float, hidden_size: int) -> LSTMClassifier:
    """The baseline, with fresh weights."""
    return LSTMClassifier(
        len(vocabulary), hidden_size=hidden_size, dropout=dropout, **LSTM_SETTINGS
    )


def lstm_size(vocabulary: Sequence[str]) -> int:
    """Channels of the LSTM whose parameter count is closest to the model's."""
    target = parameters(qrnn(vocabulary, 0.0))

    def distance(hidden: int) -> int:
        with torch.device("meta"):
            return abs(parameters(lstm(vocabulary, 0.0, hidden)) - target)

    return min(range(16, 512), key=distance)
