"""Concat pooling: a text's last features, their maximum and their mean, with padding left out.

    [h_last, max_t h_t, mean_t h_t]

Source: Howard and Ruder 2018, arXiv:1801.06146, section 3.3. Which steps count, and which is the
last, depends on where the padding lies; :class:`~qrnn_deploy.nn.QRNNClassifier` tells the rules.
All is time-major, and written so that torch.export keeps B and T open.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

PADDINGS = ("after", "before", "chunks")


class Aligned(NamedTuple):
    """Tokens as the layers are to read them, and what of their answer is pooled.

    Attributes:
        tokens: [T, B] int64.
        lengths: [B] int64 for the layers, or None for T everywhere.
        origin: [T, B] int64, the step of the layers' answer that belongs at each step; None where
            it is the same step.
        zero: [T, B], where the features are 0 instead; None for nowhere.
        counted: [T, B], which steps the maximum and the mean take in.
        last: [B] int64, the step whose features come first.
    """

    tokens: Tensor
    lengths: Tensor | None
    origin: Tensor | None
    zero: Tensor | None
    counted: Tensor
    last: Tensor


def align(
    tokens: Tensor, pad_token: int, padding: str, bptt: int, pooled_steps: int | None
) -> Aligned:
    """Find the texts in a batch.

    Args:
        tokens: [T, B] int64, T >= 1.
        pad_token: the number that stands for padding.
        padding: one of :data:`PADDINGS`.
        bptt: steps of a chunk.
        pooled_steps: largest distance of a pooled chunk's start from the end; None for all.
    """
    steps, batch = tokens.shape
    pad = tokens == pad_token
    time = torch.arange(steps, device=tokens.device)[:, None]
    chunk = time - time % bptt
    if padding == "after":
        lengths = torch.where(pad, 0, time + 1).amax(0)
        last = (lengths - 1).clamp(min=0)
        return Aligned(
            tokens, lengths, None, None, ~pad & _near(chunk, lengths, pooled_steps), last
        )
    end = torch.full((batch,), steps, dtype=torch.int64, device=tokens.device)
    near = _near(chunk, end, pooled_steps)
    if padding == "before":
        return Aligned(tokens, None, None, None, ~pad & near, end - 1)
    start = torch.where(pad | (time != chunk), end, time).amin(0)
    moved = tokens.gather(0, (time + start).clamp(max=steps - 1))
    origin = (time - start).clamp(min=0)
    skipped = pad.gather(0, chunk.expand(steps, batch))
    trailing = (pad & near & (time >= steps - bptt)).sum(0)
    last = (end - 1 - trailing).clamp(min=0)
    return Aligned(moved, end - start, origin, skipped, ~pad & near, last)


def concat_pool(features: Tensor, aligned: Aligned) -> Tensor:
    """Pool features [T, B, D], the layers' answer to ``aligned``, to [B, 3 D].

    A row that counts no step has a maximum of -inf and a mean of NaN.
    """
    rows = torch.arange(features.shape[1], device=features.device)
    if aligned.origin is not None:
        features = features[aligned.origin, rows]
    if aligned.zero is not None:
        features = features.masked_fill(aligned.zero[:, :, None], 0.0)
    left_out = ~aligned.counted[:, :, None]
    count = aligned.counted.sum(0).to(features.dtype)
    largest = features.masked_fill(left_out, -math.inf).amax(0)
    mean = features.masked_fill(left_out, 0.0).sum(0) / count[:, None]
    return torch.cat([features[aligned.last, rows], largest, mean], dim=-1)


def _near(chunk: Tensor, end: Tensor, pooled_steps: int | None) -> Tensor:
    """Which steps [T, B] lie in chunks that start close enough to the ``end`` [B] of their row."""
    distance = end - chunk
    if pooled_steps is None:
        return torch.ones_like(distance, dtype=torch.bool)
    return distance <= pooled_steps
