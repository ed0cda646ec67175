"""Upstream's own equations in plain NumPy and float64, written from their description.

Nothing of the project is used: weights come under upstream's names and in upstream's layout, f
weights the candidate, and window 2 reads [x_t, x_{t-1}] (a backward layer [x_t, x_{t+1}]).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = dict[str, Array]


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    result: Array = 1 / (1 + np.exp(-x))
    return result


def qrnn_layer(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    gate: bool = True,
    scale: float = 1.0,
    backward: bool = False,
    window: int = 1,
) -> tuple[Array, Array]:
    """One torchqrnn layer over x [T, B, in] from zero.

    Returns:
        h [T, B, H] and c after the last step met [B, H].
    """
    steps, batch, _ = x.shape
    if window == 2:
        zero = np.zeros_like(x[:1])
        other = np.concatenate([x[1:], zero]) if backward else np.concatenate([zero, x[:-1]])
        x = np.concatenate([x, other], axis=2)
    parts = np.split(x @ weight.T + bias, 3 if gate else 2, axis=2)
    z, f = np.tanh(parts[0]), sigmoid(parts[1]) * scale
    c = np.zeros((batch, z.shape[2]))
    h = np.zeros_like(z)
    for t in range(steps - 1, -1, -1) if backward else range(steps):
        c = f[t] * z[t] + (1 - f[t]) * c
        h[t] = sigmoid(parts[2][t]) * c if gate else c
    return h, c


def random_layer(
    rng: np.random.Generator, inputs: int, hidden: int, *, window: int = 1, gates: int = 3
) -> tuple[Array, Array]:
    """Weight [g*H, w*in] and bias [g*H] in float32."""
    weight = rng.normal(0, 0.5, (gates * hidden, window * inputs)).astype(np.float32)
    return weight, rng.normal(0, 0.5, gates * hidden).astype(np.float32)


def text_layers(
    rng: np.random.Generator,
    prefix: str,
    sizes: list[int],
    *,
    raw: str = "linear.weight_raw",
    ways: tuple[str, ...] = ("layers.0.",),
) -> Weights:
    """Layers ``PREFIXrnns.N.WAYlinear`` of a fastai text model: window 2 first, then 1.

    Args:
        rng: draws the weights.
        prefix: before ``rnns``.
        sizes: embedding size, then H of each direction of each layer.
        raw: name of the trained weight.
        ways: what stands before ``linear``, once or for two directions.
    """
    weights: Weights = {}
    for n, (below, hidden) in enumerate(itertools.pairwise(sizes)):
        inputs = below if n == 0 else below * len(ways)
        for way in ways:
            weight, bias = random_layer(rng, inputs, hidden, window=2 if n == 0 else 1)
            wrapped = "bwd" not in way
            weights[f"{prefix}rnns.{n}.{way}{raw if wrapped else 'linear.weight'}"] = weight
            middle = "linear.module.bias" if wrapped else "linear.bias"
            weights[f"{prefix}rnns.{n}.{way}{middle}"] = bias
    return weights


def text_features(
    tokens: Array,
    weights: Weights,
    prefix: str,
    count: int,
    *,
    raw: str = "linear.weight_raw",
    ways: tuple[str, ...] = ("layers.0.",),
) -> Array:
    """What the layers of :func:`text_layers` give for tokens [B, T]: [B, T, H]."""
    x = weights[f"{prefix}encoder.weight"].astype(np.float64)[tokens].swapaxes(0, 1)
    for n in range(count):
        outputs = []
        for way in ways:
            backward = "bwd" in way
            path = f"{prefix}rnns.{n}.{way}"
            weight = weights[path + ("linear.weight" if backward else raw)]
            bias = weights[path + ("linear.bias" if backward else "linear.module.bias")]
            h, _ = qrnn_layer(x, weight, bias, backward=backward, window=2 if n == 0 else 1)
            outputs.append(h)
        x = np.concatenate(outputs, axis=2)
    return x.swapaxes(0, 1)


def random_head(rng: np.random.Generator, widths: list[int], *, generation: int) -> Weights:
    """The head of a fastai classifier: ``1.layers``, batch norm before each linear map."""
    weights: Weights = {}
    for n, (inputs, out) in enumerate(itertools.pairwise(widths)):
        norm, linear = (
            (f"1.layers.{4 * n}", f"1.layers.{4 * n + 2}")
            if generation == 1
            else (f"1.layers.{n}.0", f"1.layers.{n}.2")
        )
        for part in ("weight", "bias", "running_mean"):
            weights[f"{norm}.{part}"] = rng.normal(0, 0.5, inputs).astype(np.float32)
        weights[f"{norm}.running_var"] = rng.uniform(0.5, 2, inputs).astype(np.float32)
        weights[f"{norm}.num_batches_tracked"] = np.array(7)
        weights[f"{linear}.weight"] = rng.normal(0, 0.3, (out, inputs)).astype(np.float32)
        if generation == 1:
            weights[f"{linear}.bias"] = rng.normal(0, 0.3, out).astype(np.float32)
    return weights


def head(x: Array, weights: Weights, count: int, *, generation: int) -> Array:
    """What :func:`random_head` gives for pooled features [B, 3 D]."""
    for n in range(count):
        norm, linear = (
            (f"1.layers.{4 * n}", f"1.layers.{4 * n + 2}")
            if generation == 1
            else (f"1.layers.{n}.0", f"1.layers.{n}.2")
        )
        mean, var = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        x = (x - mean) / np.sqrt(var.astype(np.float64) + 1e-5)
        x = x * weights[f"{norm}.weight"] + weights[f"{norm}.bias"]
        x = x @ weights[f"{linear}.weight"].T.astype(np.float64)
        x = x + weights.get(f"{linear}.bias", 0)
        x = np.maximum(x, 0) if n < count - 1 else x
    return x
