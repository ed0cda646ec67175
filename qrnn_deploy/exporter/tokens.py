"""Tokens for the models of text: of the whole vocabulary, padded as a classifier wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def draw_tokens(
    config: Mapping[str, Any], shape: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Tokens [B, T] int64 for the model that ``config`` describes.

    Those of a classifier are texts of different lengths, the first as long as there is room, with
    padding where the model wants it and nowhere else.
    """
    size = config["vocab_size"]
    if config.get("architecture") != "QRNNClassifier" or len(shape) != 2:
        return torch.randint(size, tuple(shape), generator=generator)
    pad, (batch, time) = config["pad_token"], shape
    tokens: Tensor = (pad + torch.randint(1, size, (batch, time), generator=generator)) % size
    for row in range(1, batch):
        length = int(torch.randint(1, time + 1, (1,), generator=generator))
        spare = time - length
        whole_chunks = spare - spare % config["bptt"]
        first = {"after": 0, "before": spare, "chunks": whole_chunks}[config["padding"]]
        tokens[row, :first] = pad
        tokens[row, first + length :] = pad
    return tokens
