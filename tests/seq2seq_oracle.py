"""A second opinion on the encoder-decoder: one source, one target, one step at a time, in float64.

It imports nothing of the project. Equations: Bradbury et al. 2016, arXiv:1611.01576, section 2.1.
Weights come by the names they have in a checkpoint; a gate is a block of rows of ``weight``, and a
tap a block of its columns, the oldest first. The pooling gates are z f o, with an input gate
z f o i, and in the decoder's last layer z f o or z f i o with o from a weight of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Weights = Mapping[str, F64]


class Read(NamedTuple):
    """A source that was read: [S, H] of the last layer, and the end [H] of every layer."""

    values: F64
    ends: list[F64]


def logistic(x: F64) -> F64:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def candidate(x: F64, activation: str) -> F64:
    return {"tanh": np.tanh(x), "relu": np.maximum(x, 0.0), "identity": x}[activation]


def convolved(inputs: Sequence[F64], step: int, weight: F64, taps: int) -> F64:
    """The causal convolution at one step: zeros before the start."""
    width = inputs[0].shape[0]
    result = np.zeros(weight.shape[0])
    for tap in range(taps):
        source = step - (taps - 1) + tap
        if source >= 0:
            result += weight[:, tap * width : (tap + 1) * width] @ inputs[source]
    return result


def read_source(weights: Weights, config: Mapping[str, Any], tokens: Sequence[int]) -> Read:
    """The encoder on one source. ``reverse`` is the reading of the mirrored source."""
    order = "zfo" if config["pooling"] == "fo" else "zfoi"
    flow = [weights["encoder.embedding.weight"][token] for token in tokens]
    if config["reverse"]:
        flow = flow[::-1]
    ends = []
    for level, hidden in enumerate(config["hidden_size"]):
        name = f"encoder.layers.{level}"
        c = np.zeros(hidden)
        outputs = []
        for step in range(len(flow)):
            taps = config["encoder_window"][level]
            sums = convolved(flow, step, weights[f"{name}.weight"], taps)
            if f"{name}.bias" in weights:
                sums = sums + weights[f"{name}.bias"]
            gate = {g: sums[k * hidden : (k + 1) * hidden] for k, g in enumerate(order)}
            c = pooled(gate, c, config)
            outputs.append(logistic(gate["o"]) * c)
        ends.append(outputs[-1] if outputs else np.zeros(hidden))
        flow = outputs
    values = np.array(flow[::-1] if config["reverse"] else flow)
    return Read(values.reshape(len(tokens), config["hidden_size"][-1]), ends)


def pooled(gate: Mapping[str, F64], c: F64, config: Mapping[str, Any]) -> F64:
    z = candidate(gate["z"], config["activation"])
    if "i" in gate:
        return logistic(gate["f"]) * c + logistic(gate["i"]) * z
    keep = logistic(gate["f"])
    if config.get("zoneout_eval") == "expectation":
        keep = 1.0 - (1.0 - config["zoneout"]) * (1.0 - keep)
    return keep * c + (1.0 - keep) * z


def attended(c: F64, values: F64) -> F64:
    """k of one step; zeros where there is nothing to read."""
    k = np.zeros_like(c)
    if not len(values):
        return k
    scores = [float(c @ h) for h in values]
    powers = [np.exp(score - max(scores)) for score in scores]
    for power, h in zip(powers, values, strict=True):
        k = k + power / sum(powers) * h
    return k


def answer(weights: Weights, config: Mapping[str, Any], read: Read, tokens: Sequence[int]) -> F64:
    """Logits [T, V] of the decoder on one target."""
    flow = [weights["decoder.embedding.weight"][token] for token in tokens]
    last = len(config["hidden_size"]) - 1
    for level, hidden in enumerate(config["hidden_size"]):
        name = f"decoder.layers.{level}"
        order = "zfo" if config["pooling"] == "fo" else "zfoi"
        matrix = weights[f"{name}.weight"]
        if level == last:
            order = "zfo" if config["pooling"] == "fo" else "zfio"
            matrix = np.concatenate([matrix, weights[f"{name}.output_gate_weight"]])
        added = weights[f"encoder.contexts.{level}.weight"] @ read.ends[level]
        if f"encoder.contexts.{level}.bias" in weights:
            added = added + weights[f"encoder.contexts.{level}.bias"]
        c = np.zeros(hidden)
        outputs = []
        for step in range(len(flow)):
            sums = convolved(flow, step, matrix, config["decoder_window"][level]) + added
            gate = {g: sums[k * hidden : (k + 1) * hidden] for k, g in enumerate(order)}
            c = pooled(gate, c, config)
            if level < last:
                outputs.append(logistic(gate["o"]) * c)
                continue
            k = attended(c, read.values)
            mixed = weights[f"{name}.memory_weight"] @ k + weights[f"{name}.cell_weight"] @ c
            outputs.append(logistic(gate["o"]) * mixed)
        flow = outputs
    output, bias = weights["decoder.output.weight"], weights["decoder.output.bias"]
    return np.array([output @ h + bias for h in flow])
