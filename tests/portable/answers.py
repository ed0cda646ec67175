"""What a native checkpoint answers in float64.

The weights and the configuration are read with safetensors and computed by tests/oracle.py, the
embedding and the decoder in NumPy: neither PyTorch nor the project takes part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import oracle
from numpy.typing import NDArray
from safetensors import safe_open

Arrays = dict[str, NDArray[Any]]
F64 = NDArray[np.float64]


class Weights:
    """The weights and the configuration of a native checkpoint."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="numpy") as opened:
            self.config = json.loads(opened.metadata()["qrnn_deploy"])["config"]
            self.tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118

    def float64(self, name: str) -> F64 | None:
        value = self.tensors.get(name)
        return None if value is None else value.astype(np.float64)

    def run(
        self,
        x: NDArray[Any],
        states: Mapping[tuple[int, str], NDArray[Any]] | None = None,
        lengths: NDArray[Any] | None = None,
    ) -> tuple[F64, list[tuple[F64, F64]]]:
        """The model's output [B, T, *] for x [B, T, in] (tokens [B, T]) and its new states."""
        config = self.config
        language_model = config["architecture"] == "QRNNLanguageModel"
        if language_model:
            x = self.float64("embedding.weight")[x]
        ways = (1, -1) if config.get("bidirectional") else (1,)
        scale = 1.0 - config["zoneout"] if config["zoneout_eval"] == "expectation" else 1.0
        levels, index = [], 0
        for window in config["window"]:
            level = []
            for direction in ways:
                prefix = f"{'stack.' if language_model else ''}layers.{index}."
                level.append(
                    {
                        "weight": self.float64(f"{prefix}weight"),
                        "bias": self.float64(f"{prefix}bias"),
                        "window": window,
                        "pooling": config["pooling"],
                        "activation": config["activation"],
                        "zoneout_scale": scale,
                        "direction": direction,
                        "c0": (states or {}).get((index, "c")),
                        "x0": (states or {}).get((index, "x")),
                    }
                )
                index += 1
            levels.append(level)
        y, after = oracle.stack(x.swapaxes(0, 1), levels, dense=config["dense"], lengths=lengths)
        if language_model:
            decoder = "embedding.weight" if config["tied"] else "decoder_weight"
            y = y @ self.float64(decoder).T + self.float64("decoder_bias")
        return y.swapaxes(0, 1), after


def named_states(states: list[tuple[F64, F64]]) -> dict[str, F64]:
    """Outputs of the graph, state by state; a layer of one tap keeps no inputs."""
    named = {}
    for index, (c, x) in enumerate(states):
        named[f"state_{index:02d}_c_out"] = c
        if x.shape[1]:
            named[f"state_{index:02d}_x_out"] = x
    return named
