"""salesforce/pytorch-qrnn: ``torchqrnn.QRNNLayer``, and copies of it in other projects.

========== ==========================================================================
call       ``layer(X, hidden=None)``: X [T, B, in], hidden [B, H] or [1, B, H]
returns    H [T, B, H] and c of the last step, before the output gate, [1, B, H]
zoneout p  in eval mode f, which weights the candidate, is scaled by 1 - p
source     ``torchqrnn/qrnn.py``, class ``QRNNLayer``
========== ==========================================================================
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .adapter import SavingAdapter
from .kind import Kind, agree, gates, window
from .weights import Weights, trained


class TorchQRNNLayer(SavingAdapter):
    """Ours in place of torchqrnn's layer; time-major."""

    def hidden_shape(self, batch: int) -> tuple[int, ...]:
        """See :meth:`Adapter.hidden_shape`."""
        return (1, batch, self.hidden_size)

    def forward(self, X: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over a sequence or the next chunk of one.

        Args:
            X: [T, B, input_size].
            hidden: c to start from, [B, H] or [1, B, H]; None for zeros.

        Returns:
            [T, B, H], and c after the last step [1, B, H].

        Raises:
            InputError: an argument does not fit.
        """
        y, c = self._advance(X, squeezed(hidden))
        return y, c.unsqueeze(0)


def squeezed(hidden: Tensor | None) -> Tensor | None:
    """[B, H] from [1, B, H]; anything else as it is, for the layer to judge."""
    one = hidden is not None and hidden.dim() == 3 and hidden.shape[0] == 1
    return hidden[0] if one and hidden is not None else hidden


def _replacement(upstream: Any, weights: Weights, carried: bool) -> TorchQRNNLayer:
    layer = weights.layer(
        trained(upstream.linear),
        gates=gates(upstream),
        window=window(upstream),
        zoneout=upstream.zoneout or 0.0,
        zoneout_eval="expectation" if upstream.zoneout else "identity",
    )
    agree(upstream, layer)
    return TorchQRNNLayer(
        layer, save_prev_x=bool(upstream.save_prev_x), batch_first=False, carried=carried
    )


KIND = Kind(
    "torchqrnn",
    "QRNNLayer",
    has=("linear", "window", "zoneout", "output_gate", "hidden_size", "save_prev_x"),
    has_not=("batch_first", "backward"),
    part="linear",
    replacement=_replacement,
)
