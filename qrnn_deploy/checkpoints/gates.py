"""From the gate layout of upstream code to the paper's, in the one place where it happens.

salesforce/pytorch-qrnn and all that copied it (fastai, MultiFiT, PASE, SpeechBrain) compute ::

    z = tanh(.), f = sigmoid(.), o = sigmoid(.)     rows of the weight in the order z, f, o
    c_t = f z + (1 - f) c_{t-1}                     f weights the CANDIDATE
    window 2: the columns are [x_t, x_{t-1}]        a backward layer: [x_t, x_{t+1}]

The paper's f weights the previous state (Bradbury et al. 2016, eq. 4). sigmoid(-x) = 1 -
sigmoid(x), so the rows of f are negated, in weight and bias, and nothing else of the numbers
changes. Our columns come in the order in which the walk meets the inputs, x_t last.
"""

from __future__ import annotations

import torch
from torch import Tensor

FO = ("z", "f", "o")
F = ("z", "f")


def paper_weight(weight: Tensor, gates: int, window: int) -> Tensor:
    """The weight of one layer in our layout.

    Args:
        weight: [gates * H, window * in], rows z, f, (o), columns newest input first. It may be
            changed in place, to spare a copy of large weights.
        gates: 3, or 2 without an output gate.
        window: taps.

    Returns:
        [gates * H, window * in], f negated, columns oldest input first.
    """
    with torch.no_grad():
        hidden = weight.shape[0] // gates
        weight[hidden : 2 * hidden].neg_()
        if window > 1:
            weight = torch.cat(weight.chunk(window, dim=1)[::-1], dim=1)
    return weight


def paper_bias(bias: Tensor, gates: int) -> Tensor:
    """The bias of one layer [gates * H] with its f negated; ``bias`` may be changed in place."""
    with torch.no_grad():
        hidden = bias.shape[0] // gates
        bias[hidden : 2 * hidden].neg_()
    return bias
