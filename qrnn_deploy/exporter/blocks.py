"""Large tensors a block at a time, so that what is computed about them takes no memory to speak of.

The blocks are also small enough for the C library to give their memory back: what it frees it may
keep for later, up to about twice the largest piece that was ever freed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**20
"""Elements of a block: 8 MiB in float64."""


def blocks(x: Tensor) -> Iterator[Tensor]:
    """Views of at most :data:`BLOCK` elements that make up ``x``; the same for the same shape."""
    if x.numel() <= BLOCK:
        yield x
        return
    axis = max(range(x.dim()), key=lambda n: x.shape[n])
    for half in x.chunk(2, axis):
        yield from blocks(half)


def all_finite(x: Tensor) -> bool:
    """Whether no element of ``x``, of any floating type and shape, is NaN or infinite."""
    if x.numel() == 0:
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(x))).all())  # NaN wins in both
