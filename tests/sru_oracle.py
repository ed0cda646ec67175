"""The oracle of SRU stacks, SRU++ among them: plain NumPy in float64 over a state dict of ours.

The recurrence is :func:`oracle.sru_pool`. What stands before it: Lei et al. 2018, arXiv:1709.02755,
and for the attention Lei 2021, arXiv:2102.12459, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import oracle
from oracle import F64


def normed(x: F64, weight: F64, bias: F64) -> F64:
    """Layer norm over the last axis."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def attended(x: F64, w: Mapping[str, F64], heads: int, causal: bool, lengths: Sequence[int]) -> F64:
    """What SRU++ gives to its gates, [T, B, P], row by row and head by head; 0 past the lengths."""
    if "outer_norm.weight" in w:
        x = normed(x, w["outer_norm.weight"], w["outer_norm.bias"])
    q = x @ w["query.weight"].T
    out = q.copy()
    if "key_value.weight" in w:
        inner = q.shape[2]
        size = inner // heads
        for b, count in enumerate(lengths):
            keys = q[:, b] @ w["key_value.weight"][:inner].T
            values = q[:, b] @ w["key_value.weight"][inner:].T
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                for t in range(count):
                    seen = t + 1 if causal else count
                    scores = keys[:seen, part] @ q[t, b, part] / np.sqrt(size)
                    weights = np.exp(scores - scores.max())
                    mixed = weights @ values[:seen, part] / weights.sum()
                    out[t, b, part] += w["alpha"][0] * mixed
    if "norm.weight" in w:
        out = normed(out, w["norm.weight"], w["norm.bias"])
    return out


def below(state: Mapping[str, F64], prefix: str) -> dict[str, F64]:
    """The entries under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def stack(
    x: F64,
    state: Mapping[str, F64],
    config: Mapping[str, Any],
    c0: Sequence[F64] | None = None,
    lengths: Sequence[int] | None = None,
) -> tuple[F64, list[F64]]:
    """A stack as ``SRU`` and ``SRUpp`` describe it; x [T, B, in], one state [B, H] per layer."""
    steps, batch, _ = x.shape
    counts = [steps] * batch if lengths is None else list(lengths)
    ways, hidden = 2 if config["bidirectional"] else 1, config["hidden_size"]
    y = x @ state["input_map.weight"].T if config["input_to_hidden"] else x
    after: list[F64] = []
    for level in range(config["num_layers"]):
        source, outputs = y, []
        for way in range(ways):
            w = below(state, f"layers.{level * ways + way}.")
            if config["architecture"] == "SRUpp":
                entry = below(w, "entry.")
                e = attended(source, entry, config["num_heads"], config["causal"], counts)
            else:
                e = source
                if config["layer_norm"] == "before":
                    e = normed(e, w["entry.norm.weight"], w["entry.norm.bias"])
                if "entry.projection.weight" in w:
                    e = e @ w["entry.projection.weight"].T
            gates = e @ w["weight"].T
            skip = None
            if not config.get("highway", True):
                kind = "sru_noskip"
            elif gates.shape[2] == 4 * hidden:
                kind = "sru"
            else:
                kind = "sru_input"
                skip = source[:, :, way * hidden : (way + 1) * hidden]
                skip = skip * w["skip_scale"][0] if "skip_scale" in w else skip
            before = np.zeros((batch, hidden)) if c0 is None else c0[len(after)]
            h, c = oracle.sru_pool(
                kind,
                gates,
                before,
                counts,
                w["weight_c"],
                w["bias"],
                skip,
                direction=-1 if way else 1,
                activation=config.get("activation", "identity"),
            )
            outputs.append(h)
            after.append(c)
        y = np.concatenate(outputs, axis=-1)
        if config["layer_norm"] == "after":
            y = normed(y, state[f"norms.{level}.weight"], state[f"norms.{level}.bias"])
    return y, after
