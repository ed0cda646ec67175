"""The oracle of LSTM layers and their delay: plain NumPy loops in float64.

It imports nothing of the project and shares no code with what it tests. Equations: Hochreiter and
Schmidhuber 1997 with forget gates, as ``torch.nn.LSTM`` documents them, rows i, f, g, o::

    c <- sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def sigmoid(x: F64) -> F64:
    return 1.0 / (1.0 + np.exp(-x))


def weights_of(module: Any) -> dict[str, F64]:
    """A state dict in float64."""
    return {k: v.detach().numpy().astype(np.float64) for k, v in module.state_dict().items()}


def lstm(x: F64, w: Mapping[str, F64], h0: F64, c0: F64) -> tuple[F64, F64, F64]:
    """Any ``nn.LSTM`` without projection.

    Args:
        x: [T, B, in].
        w: its state dict; what is there says how many layers and directions it has.
        h0: [layers * directions, B, H].
        c0: likewise.

    Returns:
        y [T, B, directions * H], h and c like h0.
    """
    h_T, c_T = h0.astype(np.float64), c0.astype(np.float64)
    ways = ["", "_reverse"] if "weight_ih_l0_reverse" in w else [""]
    y = x.astype(np.float64)
    for layer in range(len(h0) // len(ways)):
        outputs = []
        for number, way in enumerate(ways):
            end, at = f"_l{layer}{way}", layer * len(ways) + number
            h, c = h_T[at], c_T[at]
            out = np.zeros((len(x), x.shape[1], h.shape[1]))
            for t in range(len(x)) if way == "" else reversed(range(len(x))):
                a = y[t] @ w[f"weight_ih{end}"].T + h @ w[f"weight_hh{end}"].T
                if f"bias_ih{end}" in w:
                    a = a + w[f"bias_ih{end}"] + w[f"bias_hh{end}"]
                i, f, g, o = np.split(a, 4, axis=1)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
                out[t] = h
            h_T[at], c_T[at] = h, c
            outputs.append(out)
        y = np.concatenate(outputs, axis=2)
    return y, h_T, c_T


def longer(x: F64, delay: int, padding: float) -> F64:
    """x [T, ...] and ``delay`` steps of padding."""
    return np.concatenate([x, np.full((delay, *x.shape[1:]), padding, x.dtype)])
