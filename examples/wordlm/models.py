"""Four word language models of equal size: QRNN, SRU, recurrent highway network and LSTM.

All have the same embedding, which is the decoder's weight too, and dropout in the same places: on
the embedding's output, between the levels, and before the decoder. What lies between differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy.nn import QRNNLanguageModel, RHNLanguageModel, SRULanguageModel

WIDTH = 64
"""Of the embedding, and so of the last level."""

SETTINGS: dict[str, dict[str, Any]] = {
    "qrnn": {
        "hidden_size": WIDTH,
        "num_layers": 2,
        "window": 2,
        "pooling": "fo",
        "bias": False,
        "zoneout": 0.1,
        "dense": True,
    },
    "sru": {"hidden_size": WIDTH, "num_layers": 6},
    "rhn": {"hidden_size": WIDTH, "depth": 8},
    "lstm": {"hidden_size": [70, WIDTH]},
}
"""QRNN: the layers of quasi-rnn's recipe, with dense connections. The LSTM's two levels and the
depths of the others were chosen so that the parameters are about as many."""


class LSTMState(NamedTuple):
    """What one ``nn.LSTM`` carries, [1, B, H] each."""

    h: Tensor
    c: Tensor


class LSTMLanguageModel(nn.Module):
    """The baseline: a user's own module around ``nn.LSTM``, which export finds and streams."""

    def __init__(self, vocab_size: int, hidden_size: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        self.levels = nn.ModuleList(
            nn.LSTM(inputs, size)
            for inputs, size in zip([WIDTH, *hidden_size], hidden_size, strict=False)
        )
        self.decoder_bias = nn.Parameter(torch.zeros(vocab_size))
        bound = math.sqrt(3 / WIDTH)  # as the other three
        nn.init.uniform_(self.embedding.weight, -bound, bound)

    def forward(
        self, tokens: Tensor, state: list[LSTMState] | None = None
    ) -> tuple[Tensor, list[LSTMState]]:
        """Tokens [B, T] -> logits [B, T, V] and the state of every level."""
        x = F.dropout(self.embedding(tokens.t()), self.dropout, self.training)
        before: list[Any] = [None] * len(self.levels) if state is None else state
        after = []
        for level, start in zip(self.levels, before, strict=True):
            y, end = level(x, start)
            x = F.dropout(y, self.dropout, self.training)
            after.append(LSTMState(*end))
        return F.linear(x, self.embedding.weight, self.decoder_bias).transpose(0, 1), after


class Logits(nn.Module):
    """A model without its states, as export wants one that is not of qrnn_deploy.nn."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T] -> logits [B, T, V]."""
        logits: Tensor = self.model(tokens)[0]
        return logits


def build(name: str, vocabulary: Sequence[str], dropout: float = 0.0) -> nn.Module:
    """A model of :data:`SETTINGS` with fresh weights, those that its family begins with."""
    settings, size = SETTINGS[name], len(vocabulary)
    ends = {"embedding_size": WIDTH, "tied": True, "vocabulary": vocabulary}
    if name == "qrnn":
        return QRNNLanguageModel(size, dropout=dropout, **ends, **settings)
    if name == "sru":
        return SRULanguageModel(size, dropout=dropout, **ends, **settings)
    if name == "rhn":
        rates = {"input_dropout": dropout, "output_dropout": dropout}
        return RHNLanguageModel(size, **rates, **ends, **settings)
    return LSTMLanguageModel(size, dropout=dropout, **settings)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def save(name: str, model: nn.Module, path: Path) -> None:
    """Our own as a checkpoint that describes itself, the LSTM as its weights."""
    if name == "lstm":
        safetensors.torch.save_file(model.state_dict(), path)
    else:
        qrnn_deploy.save_checkpoint(model, path)  # type: ignore[arg-type]


def load(name: str, path: Path, vocabulary: Sequence[str]) -> nn.Module:
    """What :func:`save` wrote, in eval mode."""
    if name != "lstm":
        return qrnn_deploy.load_checkpoint(path).module.eval()
    model = build(name, vocabulary)
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()


def export(model: nn.Module, path: Path) -> None:
    """To ONNX, with the states as inputs and outputs."""
    if isinstance(model, LSTMLanguageModel):
        example = torch.arange(6).reshape(2, 3)
        qrnn_deploy.export(Logits(model), path, example, output_names=["logits"])
    else:
        qrnn_deploy.export(model, path)
