"""SpeechBrain: ``speechbrain.nnet.RNN.QuasiRNNLayer``.

========== ==========================================================================
call       ``layer(x, hidden=None)``: x [B, T, in] or [B, T, C1, C2] with C1*C2 = in
two ways   the layer walks both ways with the same weights and joins [forward, reverse];
           hidden is [2*B, H] then, the rows of the forward way first
returns    [B, T, H] or [B, T, 2*H], and a state that is wrong: of the whole sequence c
           [B, T, *] it takes the last row of the batch, [T, *], not the last step
zoneout p  in eval mode f, which weights the candidate, is scaled by 1 - p
source     ``speechbrain/nnet/RNN.py`` of 1.1.2, class ``QuasiRNNLayer``
========== ==========================================================================

Ours returns c after the last step of each walk, [B, H] or [B, 2*H], and takes that back. So
``QuasiRNN`` returns [layers, B, H] or [layers, B, 2*H].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..nn.layer import LayerState, QRNNLayer
from ..pooling.walk import state_dtype
from .adapter import Adapter
from .kind import Kind, agree, gates
from .weights import Weights, trained


class SpeechBrainQRNNLayer(Adapter):
    """Ours in place of SpeechBrain's layer; batch first.

    Args:
        layer: as in :class:`Adapter`.
        layer_bwd: walks back; it shares the weights of ``layer``. None for one direction.
        carried: as in :class:`Adapter`.

    Attributes:
        bidirectional: whether there are two directions.
    """

    state_is_upstreams = False

    def __init__(self, layer: QRNNLayer, layer_bwd: QRNNLayer | None, *, carried: bool) -> None:
        super().__init__(layer, batch_first=True, carried=carried)
        self.layer_bwd = layer_bwd
        self.bidirectional = layer_bwd is not None

    def hidden_shape(self, batch: int) -> tuple[int, ...]:
        """See :meth:`Adapter.hidden_shape`."""
        return (2 * batch if self.bidirectional else batch, self.hidden_size)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over a sequence, or in one direction the next chunk of one.

        Args:
            x: [B, T, input_size], or [B, T, C1, C2] with C1*C2 = input_size.
            hidden: c to start from, [B, H]; of two directions [2*B, H] as upstream has it, or
                [B, 2*H] as it is returned. None for zeros.

        Returns:
            [B, T, D] and c after the last step of each walk [B, D], D = H or 2*H.

        Raises:
            InputError: an argument does not fit.
        """
        if x.dim() == 4:
            x = x.flatten(2)
        ways = [self.layer] if self.layer_bwd is None else [self.layer, self.layer_bwd]
        starts = self._starts(hidden, len(ways))
        turned = x.transpose(0, 1)
        outputs, states = [], []
        for layer, c in zip(ways, starts, strict=True):
            before = None
            if c is not None:
                before = LayerState(c.to(state_dtype(layer.weight.dtype)), None)
            y, after = layer(turned, before)
            outputs.append(y)
            states.append(after.c.to(y.dtype))
        c = torch.cat(states, dim=-1)
        self._remember(c)
        return torch.cat(outputs, dim=-1).transpose(0, 1), c

    def _starts(self, hidden: Tensor | None, ways: int) -> list[Tensor | None]:
        """One state [B, H] for each direction."""
        if hidden is not None and ways == 2 and hidden.shape[-1] == self.hidden_size:
            hidden = torch.cat(hidden.chunk(2, dim=0), dim=-1)
        hidden = self._lifted(hidden)
        if hidden is None:
            return [None] * ways
        return list(hidden.chunk(ways, dim=-1))


def _replacement(upstream: Any, weights: Weights, carried: bool) -> SpeechBrainQRNNLayer:
    linear = trained(upstream.w)
    zoneout_eval = "expectation" if upstream.zoneout else "identity"
    ways = [
        weights.layer(
            linear,
            gates=gates(upstream),
            window=1,
            reverse=reverse,
            zoneout=upstream.zoneout or 0.0,
            zoneout_eval=zoneout_eval,
        )
        for reverse in ((False, True) if upstream.bidirectional else (False,))
    ]
    agree(upstream, ways[0])
    return SpeechBrainQRNNLayer(ways[0], ways[1] if len(ways) == 2 else None, carried=carried)


KIND = Kind(
    "SpeechBrain",
    "QuasiRNNLayer",
    has=("w", "zoneout", "output_gate", "bidirectional", "hidden_size"),
    has_not=(),
    part="w",
    replacement=_replacement,
)
