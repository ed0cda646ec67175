"""The test oracle: QRNN pooling, one layer and a stack, and SRU, as plain NumPy float64 loops.

It imports nothing of the project, shares no code with what it tests, and is never optimised.

Equations: Bradbury et al. 2016, arXiv:1611.01576, section 2. x_z, x_f, x_o, x_i are the
pre-activations, packed along the last axis in the order z f (f), z f o (fo), z f o i (ifo),
z f i (if); f weights the previous state::

    f, fo   g = zoneout_scale * sigmoid(-x_f);  c <- c + g * (z - c)
    ifo, if c <- sigmoid(x_f) * c + sigmoid(x_i) * z
    h = sigmoid(x_o) * c  (fo, ifo)     h = c  (f, if)

SRU: Lei et al. 2018, arXiv:1709.02755, section 3, packed z f r x (sru) or z f r::

    f = sigmoid(x_f + v_f * c + b_f);  r = sigmoid(x_r + v_r * c + b_r)
    c <- f * c + (1 - f) * z
    h = r * activation(c) + (1 - r) * x     h = r * activation(c)  (sru_noskip)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

PACKING = {"f": "zf", "fo": "zfo", "ifo": "zfoi", "if": "zfi"}
SRU_PACKING = {"sru": "zfrx", "sru_input": "zfr", "sru_noskip": "zfr"}


def sigmoid(x: F64) -> F64:
    """Logistic function with full relative accuracy in both tails (and at -inf, inf, NaN)."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def activate(x: F64, activation: str) -> F64:
    """The candidate's activation: tanh, relu or identity."""
    if activation == "tanh":
        return np.tanh(x)
    if activation == "relu":
        return np.maximum(x, 0.0)
    if activation == "identity":
        return x
    raise ValueError(f"unknown activation {activation!r}")


def pool(
    pooling: str,
    gates: ArrayLike,
    c0: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    direction: int = 1,
    activation: str = "tanh",
    zoneout_scale: float = 1.0,
) -> tuple[F64, F64]:
    """Pooling of packed pre-activations.

    Args:
        pooling: f, fo, ifo or if.
        gates: [T, B, G*H], any float dtype.
        c0: [B, H].
        lengths: [B] integers in 0..T, or None for T everywhere.
        direction: 1 walks t = 0..len-1, -1 walks t = len-1..0.
        activation: tanh, relu or identity.
        zoneout_scale: weight of the candidate's coefficient, f and fo only.

    Returns:
        h [T, B, H], zero beyond the lengths, and c_T [B, H].
    """
    packing = PACKING[pooling]
    x = np.asarray(gates).astype(np.float64)
    c_T = np.array(np.asarray(c0).astype(np.float64))
    steps, batch, width = x.shape
    hidden = c_T.shape[1]
    if width != len(packing) * hidden or c_T.shape[0] != batch:
        raise ValueError(f"gates {x.shape} do not fit c0 {c_T.shape} for {pooling}")
    if direction not in (1, -1):
        raise ValueError(f"direction {direction}")
    if "i" in packing and zoneout_scale != 1.0:
        raise ValueError(f"zoneout_scale {zoneout_scale} for {pooling}")
    counts = [steps] * batch if lengths is None else [int(n) for n in np.asarray(lengths)]
    if len(counts) != batch or any(not 0 <= n <= steps for n in counts):
        raise ValueError(f"lengths {counts} for T={steps}, B={batch}")

    h = np.zeros((steps, batch, hidden))
    with np.errstate(invalid="ignore", over="ignore"):
        for b in range(batch):
            c = c_T[b].copy()
            walk = range(counts[b]) if direction == 1 else range(counts[b] - 1, -1, -1)
            for t in walk:
                part = {g: x[t, b, k * hidden : (k + 1) * hidden] for k, g in enumerate(packing)}
                z = activate(part["z"], activation)
                if "i" in packing:
                    c = sigmoid(part["f"]) * c + sigmoid(part["i"]) * z
                else:
                    g = zoneout_scale * sigmoid(-part["f"])
                    c = c + g * (z - c)
                h[t, b] = sigmoid(part["o"]) * c if "o" in packing else c
            c_T[b] = c
    return h, c_T


def sru_pool(
    pooling: str,
    gates: ArrayLike,
    c0: ArrayLike,
    lengths: ArrayLike | None,
    weight_c: ArrayLike,
    bias: ArrayLike,
    skip: ArrayLike | None = None,
    *,
    direction: int = 1,
    activation: str = "identity",
) -> tuple[F64, F64]:
    """The recurrence of an SRU over packed pre-activations.

    Args:
        pooling: sru, sru_input or sru_noskip.
        gates: [T, B, G*H], any float dtype.
        c0: [B, H].
        lengths: [B] integers in 0..T, or None for T everywhere.
        weight_c: [2, H], the rows v_f and v_r.
        bias: [2, H], the rows b_f and b_r.
        skip: [T, B, H], the highway's input for sru_input, else None.
        direction: 1 walks t = 0..len-1, -1 walks t = len-1..0.
        activation: of the state on its way to h.

    Returns:
        h [T, B, H], zero beyond the lengths, and c_T [B, H].
    """
    packing = SRU_PACKING[pooling]
    x = np.asarray(gates).astype(np.float64)
    c_T = np.array(np.asarray(c0).astype(np.float64))
    (v_f, v_r), (b_f, b_r) = (np.asarray(a).astype(np.float64) for a in (weight_c, bias))
    steps, batch, width = x.shape
    hidden = c_T.shape[1]
    if width != len(packing) * hidden or c_T.shape[0] != batch:
        raise ValueError(f"gates {x.shape} do not fit c0 {c_T.shape} for {pooling}")
    if (skip is not None) != (pooling == "sru_input") or direction not in (1, -1):
        raise ValueError(f"skip or direction {direction} for {pooling}")
    counts = [steps] * batch if lengths is None else [int(n) for n in np.asarray(lengths)]
    if len(counts) != batch or any(not 0 <= n <= steps for n in counts):
        raise ValueError(f"lengths {counts} for T={steps}, B={batch}")

    h = np.zeros((steps, batch, hidden))
    with np.errstate(invalid="ignore", over="ignore"):
        for b in range(batch):
            c = c_T[b].copy()
            walk = range(counts[b]) if direction == 1 else range(counts[b] - 1, -1, -1)
            for t in walk:
                part = {g: x[t, b, k * hidden : (k + 1) * hidden] for k, g in enumerate(packing)}
                if skip is not None:
                    part["x"] = np.asarray(skip)[t, b].astype(np.float64)
                to_forget, to_reset = part["f"] + v_f * c + b_f, part["r"] + v_r * c + b_r
                c = sigmoid(to_forget) * c + sigmoid(-to_forget) * part["z"]
                h[t, b] = sigmoid(to_reset) * activate(c, activation)
                if "x" in part:
                    h[t, b] += sigmoid(-to_reset) * part["x"]
            c_T[b] = c
    return h, c_T


def layer(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    *,
    window: int,
    pooling: str,
    c0: ArrayLike | None = None,
    x0: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    direction: int = 1,
    activation: str = "tanh",
    zoneout_scale: float = 1.0,
) -> tuple[F64, F64, F64]:
    """One QRNN layer: causal convolution with a loop over its taps, then pooling.

    Args:
        x: [T, B, in].
        weight: [G*H, window*in], columns tap by tap, in the order the walk meets the inputs.
        bias: [G*H] or None.
        window: number of taps k.
        pooling: f, fo, ifo or if.
        c0: [B, H] or None for zeros.
        x0: [B, k-1, in], the inputs met before this call, oldest first, or None for zeros.
        lengths: [B] or None.
        direction: 1 or -1; a reverse layer meets x[len-1] first.
        activation: of the candidate.
        zoneout_scale: as in :func:`pool`.

    Returns:
        y [T, B, H], c_T [B, H], x_T [B, k-1, in].
    """
    inputs = np.asarray(x).astype(np.float64)
    matrix = np.asarray(weight).astype(np.float64)
    steps, batch, features = inputs.shape
    hidden = matrix.shape[0] // len(PACKING[pooling])
    offset = np.zeros(matrix.shape[0]) if bias is None else np.asarray(bias).astype(np.float64)
    start_c = np.zeros((batch, hidden)) if c0 is None else np.asarray(c0).astype(np.float64)
    start_x = (
        np.zeros((batch, window - 1, features)) if x0 is None else np.asarray(x0).astype(np.float64)
    )
    counts = [steps] * batch if lengths is None else [int(n) for n in np.asarray(lengths)]

    # NaN beyond the lengths: whatever stands there must not reach the result.
    gates = np.full((steps, batch, matrix.shape[0]), np.nan)
    x_T = np.zeros_like(start_x)
    for b in range(batch):
        seen = [start_x[b, k] for k in range(window - 1)]
        walk = range(counts[b]) if direction == 1 else range(counts[b] - 1, -1, -1)
        for t in walk:
            seen.append(inputs[t, b])
            total = offset.copy()
            for tap in range(window):
                columns = matrix[:, tap * features : (tap + 1) * features]
                total = total + columns @ seen[len(seen) - window + tap]
            gates[t, b] = total
        for k in range(window - 1):
            x_T[b, k] = seen[len(seen) - (window - 1) + k]
    y, c_T = pool(
        pooling,
        gates,
        start_c,
        counts,
        direction=direction,
        activation=activation,
        zoneout_scale=zoneout_scale,
    )
    return y, c_T, x_T


def stack(
    x: ArrayLike,
    layers: Sequence[Sequence[Mapping[str, Any]]],
    *,
    dense: bool = False,
    lengths: ArrayLike | None = None,
) -> tuple[F64, list[tuple[F64, F64]]]:
    """Layers on top of each other, each level one direction or several side by side.

    Args:
        x: [T, B, in].
        layers: per level, the keyword arguments of :func:`layer` (without x and lengths) of each
            direction; the outputs of a level are concatenated in that order.
        dense: each level reads the stack's input and the outputs of all earlier levels,
            concatenated (paper, section 2, "densely connected layers").
        lengths: [B] or None.

    Returns:
        The last level's output [T, B, H or 2H], and (c_T, x_T) of every layer in order.
    """
    available = [np.asarray(x).astype(np.float64)]
    output = available[0]
    states: list[tuple[F64, F64]] = []
    for level in layers:
        source = np.concatenate(available, axis=-1) if dense else available[-1]
        outputs = []
        for arguments in level:
            y, c_T, x_T = layer(source, lengths=lengths, **arguments)
            outputs.append(y)
            states.append((c_T, x_T))
        output = np.concatenate(outputs, axis=-1)
        available.append(output)
    return output, states
