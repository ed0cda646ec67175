"""The test oracle for recurrent highway networks, as plain NumPy float64 loops.

It imports nothing of the project and shares no code with what it tests. Equations: Zilly et al.
2016, arXiv:1607.03474, (6) to (9), with the carry gate c = 1 - t::

    s_d = h_d * t_d + s_{d-1} * (1 - t_d)
    h_d = tanh(W_H x [d = 0] + R_H s_{d-1} + b_H),  t_d = sigmoid(W_T x [d = 0] + ...)

:func:`recurrence` takes our packed gates; the other functions take weights under upstream's names
and follow upstream's source in its own layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]


def sigmoid(x: F64) -> F64:
    """Logistic function."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def f64(x: ArrayLike) -> F64:
    """A float64 copy."""
    return np.array(np.asarray(x), dtype=np.float64)


def recurrence(
    gates: ArrayLike,
    s0: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    lengths: ArrayLike | None = None,
    direction: int = 1,
) -> tuple[F64, F64]:
    """What the operator computes, row by row.

    Args:
        gates: [T, B, 2H], columns h then t.
        s0: [B, H].
        weight: [D, 2H, H], rows h then t.
        bias: [D, 2H].
        lengths: [B], or None for T everywhere.
        direction: 1 or -1.

    Returns:
        h [T, B, H], zero past the lengths, and s_T [B, H].
    """
    x, w, b, s_T = f64(gates), f64(weight), f64(bias), f64(s0)
    steps, batch, _ = x.shape
    hidden = s_T.shape[1]
    out = np.zeros((steps, batch, hidden))
    for row in range(batch):
        count = steps if lengths is None else int(np.asarray(lengths)[row])
        order = range(count) if direction == 1 else reversed(range(count))
        for t in order:
            for d in range(len(w)):
                entering = x[t, row] if d == 0 else np.zeros(2 * hidden)
                candidate = np.tanh(w[d, :hidden] @ s_T[row] + b[d, :hidden] + entering[:hidden])
                gate = sigmoid(w[d, hidden:] @ s_T[row] + b[d, hidden:] + entering[hidden:])
                s_T[row] = candidate * gate + s_T[row] * (1 - gate)
            out[t, row] = s_T[row]
    return out, s_T


def labml(weights: Weights, x: ArrayLike, s0: Sequence[ArrayLike] | None = None) -> Any:
    """labml-nn's ``RHN`` on x [T, B, in]: y [T, B, H] and the states of the cells [L, B, H]."""
    cells = 1 + max(int(name.split(".")[1]) for name in weights)
    y = f64(x)
    states = []
    for cell in range(cells):
        own = {
            n.split(".", 2)[2]: f64(w) for n, w in weights.items() if n.startswith(f"cells.{cell}.")
        }
        maps = sum(name.startswith("hidden_lin") for name in own) // 2
        hidden = own["hidden_lin.0.weight"].shape[1]
        s = np.zeros((y.shape[1], hidden)) if s0 is None else f64(s0[cell])
        outputs = []
        for step in y:
            for d in range(maps):
                hg = s @ own[f"hidden_lin.{d}.weight"].T + own[f"hidden_lin.{d}.bias"]
                if d == 0:
                    hg = hg + step @ own["input_lin.weight"].T
                h, g = np.split(hg, 2, axis=-1)
                s = np.tanh(h) * sigmoid(g) + s * (1 - sigmoid(g))
            outputs.append(s)
        y = np.stack(outputs) if outputs else np.zeros((0, y.shape[1], hidden))
        states.append(s)
    return y, np.stack(states)


def jit(weights: Weights, x: ArrayLike, s0: ArrayLike) -> F64:
    """The JIT port's ``RHN`` on x [B, T, in] from s0 [B, H]: [B, T, H]."""
    w = {name: f64(value) for name, value in weights.items()}
    further = sum("fc_layers" in name for name in w) // 2

    def linear(path: str, value: F64) -> F64:
        return value @ w[f"{path}.weight"].T + w[f"{path}.bias"]

    s, outputs = f64(s0), []
    for step in f64(x).swapaxes(0, 1):
        hidden = linear("rhncell.input_fc", step) + linear("rhncell.first_fc_layer", s)
        for n in range(further + 1):
            if n:
                hidden = linear(f"rhncell.fc_layers.{n - 1}", s)
            h, t = np.split(hidden, 2, axis=-1)
            s = np.tanh(h) * sigmoid(t) + s * (1 - sigmoid(t))
        outputs.append(s)
    return linear("output_fc", np.stack(outputs, axis=1))


def tensorflow(
    variables: Weights, tokens: NDArray[np.int64], states: list[F64] | None = None
) -> Any:
    """The authors' ``Model`` on tokens [B, T]: logits [B, T, V] and the final states."""
    v = {name: f64(value) for name, value in variables.items()}
    x = v["model/embedding"][tokens]
    layers = 1 + max(int(n.split("/")[1][3:]) for n in v if n.startswith("model/RHN"))
    after = []
    for layer in range(layers):
        scope = f"model/RHN{layer}"
        depth = sum(n.startswith(f"{scope}/h_") and n.endswith("Matrix") for n in v)
        size = v[f"{scope}/h_0/Linear/Bias"].shape[0]
        s = np.zeros((len(x), size)) if states is None else states[layer]
        outputs = []
        for t in range(x.shape[1]):
            for i in range(depth):
                args = np.concatenate([x[:, t], s], axis=1) if i == 0 else s
                h, g = (
                    args @ v[f"{scope}/{gate}_{i}/Linear/Matrix"]
                    + v[f"{scope}/{gate}_{i}/Linear/Bias"]
                    for gate in "ht"
                )
                s = (np.tanh(h) - s) * sigmoid(g) + s
            outputs.append(s)
        x = np.stack(outputs, axis=1)
        after.append(s)
    softmax = v["model/softmax_w"] if "model/softmax_w" in v else v["model/embedding"].T
    return x @ softmax + v["model/softmax_b"], after
