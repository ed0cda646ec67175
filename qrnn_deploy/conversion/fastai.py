"""fastai 1.0 and 2.0 to 2.3: ``fastai.text.models.qrnn.QRNNLayer``.

========== ==========================================================================
call       ``layer(inp, hid=None)``: inp [B, T, in] ([T, B, in] without ``batch_first``),
           hid [B, H]; in 1.0.47 and 1.0.48 ``layer(X, hidden=None)``, [B, H] or [1, B, H]
returns    [B, T, H] (or [T, B, H]) and c of the last step of the walk, [B, H]; in 1.0.47
           and 1.0.48 [1, B, H]
backward   walks from the last step to the first, and its window pairs x_t with x_{t+1}
zoneout    without effect in eval mode; in training upstream also divides what it keeps of f
           by 1 - p, and ours does not
source     ``fastai/text/models/qrnn.py`` of 1.0.47, 1.0.48, 1.0.52, 1.0.61 and 2.3.1
========== ==========================================================================
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .adapter import SavingAdapter
from .kind import Kind, agree, gates, window
from .torchqrnn import squeezed
from .weights import Weights, trained


class FastaiQRNNLayer(SavingAdapter):
    """Ours in place of fastai's layer."""

    @property
    def backward(self) -> bool:
        """Whether it walks from the last step to the first."""
        return self.layer.reverse

    def forward(self, inp: Tensor, hid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over a sequence or the next chunk of one.

        Args:
            inp: [B, T, input_size], or [T, B, input_size] without ``batch_first``.
            hid: c to start from, [B, H]; None for zeros.

        Returns:
            [B, T, H] (or [T, B, H]), and c after the last step of the walk [B, H].

        Raises:
            InputError: an argument does not fit.
        """
        return self._advance(inp, hid)

    def _fitted(self, previous: Tensor, batch: int) -> Tensor:
        """The rows that there are, and zeros for others, as fastai 2 has it; fastai 1 fails."""
        if previous.shape[0] >= batch:
            return previous[:batch]
        missing = batch - previous.shape[0]
        return torch.cat([previous, previous.new_zeros((missing, *previous.shape[1:]))])


class EarlyFastaiQRNNLayer(FastaiQRNNLayer):
    """Ours in place of the layer of fastai 1.0.47, which is called as torchqrnn's is."""

    def forward(self, X: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over a sequence or the next chunk of one.

        Args:
            X: [B, T, input_size], or [T, B, input_size] without ``batch_first``.
            hidden: c to start from, [B, H] or [1, B, H]; None for zeros.

        Returns:
            [B, T, H] (or [T, B, H]), and c after the last step [1, B, H].

        Raises:
            InputError: an argument does not fit.
        """
        y, c = self._advance(X, squeezed(hidden))
        return y, c.unsqueeze(0)


def _replacement(upstream: Any, weights: Weights, carried: bool) -> FastaiQRNNLayer:
    layer = weights.layer(
        trained(upstream.linear),
        gates=gates(upstream),
        window=window(upstream),
        reverse=bool(getattr(upstream, "backward", False)),
        zoneout=upstream.zoneout or 0.0,
    )
    agree(upstream, layer)
    early = not hasattr(upstream, "backward")
    return (EarlyFastaiQRNNLayer if early else FastaiQRNNLayer)(
        layer,
        save_prev_x=bool(upstream.save_prev_x),
        batch_first=bool(upstream.batch_first),
        carried=carried,
    )


_COMMON = ("linear", "window", "zoneout", "output_gate", "batch_first", "save_prev_x")

KINDS = (
    Kind(
        "fastai",
        "QRNNLayer",
        has=(*_COMMON, "backward"),
        has_not=(),
        part="linear",
        replacement=_replacement,
    ),
    Kind(
        "fastai 1.0.47",
        "QRNNLayer",
        has=(*_COMMON, "hidden_size"),
        has_not=("backward",),
        part="linear",
        replacement=_replacement,
    ),
)
