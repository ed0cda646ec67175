"""The two synthetic tasks of Turek et al. 2020 (arXiv:1909.00021, sections 4.1 and 4.2), generated.

Reversal: classes come in, the same classes must come out last first, so that y_t = x_{T-1-t}. A
network with delay d has seen x_0 ... x_{t+d} when it gives y_t.

Sine: y = sin(scale * (x * filter)), a filter of random taps in 0..1, ``CAUSAL`` of them over the
present and the past and ``ACAUSAL`` over the future. Numbers outside of a sequence count as 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LENGTH = 6
CLASSES = 4

STEPS = 16
CAUSAL = 3
ACAUSAL = 5
SCALE = 0.1


def reversal(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One-hot x [B, T, CLASSES] and the classes y [B, T] int64."""
    classes = torch.randint(CLASSES, (rows, LENGTH), generator=generator)
    return F.one_hot(classes, CLASSES).float(), classes.flip(1)


def least_reversal_error(delay: int) -> float:
    """The share of wrong answers of a network that guesses what it has not seen."""
    unseen = sum(LENGTH - 1 - t > t + delay for t in range(LENGTH))
    return unseen / LENGTH * (1 - 1 / CLASSES)


def taps() -> Tensor:
    """The filter [CAUSAL + ACAUSAL], the oldest input's tap first."""
    return torch.rand(CAUSAL + ACAUSAL, generator=torch.Generator().manual_seed(0))


def sine_of(x: Tensor) -> Tensor:
    """The targets [B, T] of x [B, T]."""
    padded = F.pad(x, (CAUSAL - 1, ACAUSAL))
    return torch.sin(SCALE * F.conv1d(padded[:, None], taps()[None, None])[:, 0])


def sine(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers in 0..1, x [B, T, 1], and y [B, T, 1]."""
    x = torch.rand(rows, STEPS, generator=generator)
    return x[:, :, None], sine_of(x)[:, :, None]


def least_sine_error(delay: int, rows: int = 200, draws: int = 400) -> float:
    """The mean squared error of the best guess from x_0 ... x_{t+d}, by drawing the rest anew."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(rows, 1, STEPS, generator=generator).expand(rows, draws, STEPS)
    errors = []
    for t in range(STEPS):
        drawn = torch.rand(rows, draws, STEPS, generator=generator)
        known = torch.arange(STEPS) <= t + delay
        y = sine_of(torch.where(known, x, drawn).flatten(0, 1))[:, t]
        errors.append(y.view(rows, draws).double().var(dim=1).mean())
    return float(torch.stack(errors).mean())
