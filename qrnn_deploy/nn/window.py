"""The causal convolution as a matrix product: what each step sees, side by side.

The k shifted copies of the input are concatenated along the features, so that one product with
a weight of k blocks of columns is the convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor


def form_windows(
    x: Tensor, previous: Tensor | None, lengths: Tensor | None, window: int, reverse: bool
) -> tuple[Tensor, Tensor | None]:
    """The inputs each step sees, and those that the next chunk must still see.

    Args:
        x: [T, B, in].
        previous: [B, k-1, in], the inputs met before x, the oldest first; None for zeros.
        lengths: [B] int64, or None for T everywhere.
        window: taps k.
        reverse: the walk meets x[len-1] first, so each step sees later inputs.

    Returns:
        Windows [T, B, k*in], the oldest tap first, and the last k-1 inputs met [B, k-1, in];
        x itself and None for k = 1. Past the lengths the windows hold anything.
    """
    if window == 1:
        return x, None
    steps, batch, features = x.shape
    extra = window - 1
    if previous is None:
        previous = x.new_zeros((batch, extra, features))
    before = previous.transpose(0, 1)
    if reverse:
        # Mirrored: what was met before lies after the end, the newest nearest to it.
        before = before.flip(0)
        padded = torch.cat([x, before])
        if lengths is not None:
            padded = padded.scatter(0, _rows(lengths, extra, features), before)
        taps = [padded.narrow(0, extra - tap, steps) for tap in range(window)]
        last = padded.narrow(0, 0, extra).flip(0)
    else:
        padded = torch.cat([before, x])
        taps = [padded.narrow(0, tap, steps) for tap in range(window)]
        if lengths is None:
            last = padded.narrow(0, steps, extra)
        else:
            last = padded.gather(0, _rows(lengths, extra, features))
    return torch.cat(taps, dim=-1), last.transpose(0, 1)


def _rows(lengths: Tensor, count: int, features: int) -> Tensor:
    """Positions lengths ... lengths+count-1 of every row, [count, B, features]."""
    rows = torch.arange(count, device=lengths.device)[:, None] + lengths
    return rows[:, :, None].expand(count, lengths.shape[0], features)
