"""The files that every runtime is given, what is fed, and what the float64 oracle answers.

Where a file comes from a checkpoint, answers.py computes what is expected from the checkpoint.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import needs
import numpy as np
import oracle
import torch
from answers import F64, Arrays, Weights, named_states
from numpy.typing import NDArray
from torch import Tensor, nn

from qrnn_deploy import save_checkpoint
from qrnn_deploy.exporter import ExportOptions, export, export_checkpoint
from qrnn_deploy.nn import QRNN, QRNNLayer

CHARLM = Path(__file__).parents[2] / "examples" / "charlm"


@dataclass(frozen=True)
class Call:
    """One run of the file.

    Attributes:
        feed: graph inputs by name.
        expected: graph outputs by name, float64.
        carried: inputs that take an output of the call before: {input: output}.
    """

    feed: Arrays
    expected: dict[str, F64]
    carried: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """A file to export: ``export(path, inline)`` writes it, ``calls`` are made in order."""

    export: Callable[[Path, bool], object]
    calls: list[Call]


def _draw_biases(module: nn.Module) -> None:
    """Biases start at zero, which would hide one that is lost."""
    for parameter in module.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, -1, 1)


def _saved(module: QRNN, folder: Path, name: str) -> tuple[Path, Weights]:
    """The module as a checkpoint."""
    _draw_biases(module)
    path = folder / f"{name}.safetensors"
    save_checkpoint(module, path)
    return path, Weights(path)


@cache
def _charlm_data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("charlm_data", CHARLM / "data.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def charlm(folder: Path) -> File:
    """The trained language model on held-out text: 96 characters, then one, then 31 more."""
    path = CHARLM / "model.safetensors"
    if not path.is_file():
        needs.absent("charlm", "examples/charlm/model.safetensors is missing (`make train`)")
    weights = Weights(path)
    data = _charlm_data()
    text = data.heldout_text()
    rows = [text[start : start + 128] for start in (0, 5000, 10000)]
    tokens = np.array([data.encode(row, weights.config["vocabulary"]) for row in rows], np.int64)

    calls: list[Call] = []
    states: dict[tuple[int, str], NDArray[Any]] = {}
    start = 0
    for stop in (96, 97, 128):
        logits, after = weights.run(tokens[:, start:stop], states)
        feed = {"tokens": tokens[:, start:stop]}
        expected = {"logits": logits, **named_states(after)}
        names = [name for name in expected if name.startswith("state_")]
        if start == 0:
            zeros = {n: np.zeros(expected[n].shape, np.float32) for n in names}
            feed |= {n.replace("_out", "_in"): value for n, value in zeros.items()}
            carried = {}
        else:
            carried = {name.replace("_out", "_in"): name for name in names}
        calls.append(Call(feed, expected, carried))
        states = {(i, kind): s for i, pair in enumerate(after) for kind, s in zip("cx", pair)}  # noqa: B905
        start = stop
    return File(
        lambda out, inline: export_checkpoint(path, out, ExportOptions(inline=inline)), calls
    )


def bidirectional(folder: Path) -> File:
    """Both directions, ragged lengths, no states; NaN stands past the lengths."""
    module = QRNN(5, 6, 2, window=2, bidirectional=True, batch_first=True)
    path, weights = _saved(module, folder, "bidirectional")
    x = np.random.default_rng(1).standard_normal((4, 9, 5)).astype(np.float32)
    lengths = np.array([9, 0, 4, 1], np.int64)
    x[np.arange(9) >= lengths[:, None]] = np.nan
    y, _ = weights.run(x, lengths=lengths)
    return File(
        lambda out, inline: export_checkpoint(
            path, out, ExportOptions(states="none", lengths=True, inline=inline)
        ),
        [Call({"x": x, "lengths": lengths}, {"y": y})],
    )


def packed(folder: Path) -> File:
    """A dense stack with zoneout, its states in one tensor, in chunks of four and seven."""
    module = QRNN(*(5, [6, 7]), window=[3, 2], dense=True, zoneout=0.25, zoneout_eval="expectation")
    path, weights = _saved(module, folder, "packed")
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 11, 5)).astype(np.float32)
    shapes = {(0, "c"): (6,), (0, "x"): (2, 5), (1, "c"): (7,), (1, "x"): (1, 11)}
    states = {k: rng.standard_normal((2, *s)).astype(np.float32) for k, s in shapes.items()}

    def packed_row(parts: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([part.reshape(2, -1) for part in parts], axis=1)

    def chunk(stop: int) -> tuple[F64, F64]:
        y, after = weights.run(x[:, :stop], states)
        return y, packed_row([part for pair in after for part in pair])

    (y_4, state_4), (y_11, state_11) = chunk(4), chunk(11)
    first = {"x": x[:, :4], "state_in": packed_row(list(states.values()))}
    return File(
        lambda out, inline: export_checkpoint(
            path, out, ExportOptions(states="packed", inline=inline)
        ),
        [
            Call(first, {"y": y_4, "state_out": state_4}),
            Call(
                {"x": x[:, 4:]},
                {"y": y_11[:, 4:], "state_out": state_11},
                carried={"state_in": "state_out"},
            ),
        ],
    )


def ifo(folder: Path) -> File:
    """ifo-pooling over three taps, from a random state."""
    module = QRNN(6, [8, 5], window=3, pooling="ifo", activation="relu", batch_first=True)
    path, weights = _saved(module, folder, "ifo")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 10, 6)).astype(np.float32)
    shapes = {(0, "c"): (8,), (0, "x"): (2, 6), (1, "c"): (5,), (1, "x"): (2, 8)}
    states = {k: rng.standard_normal((3, *s)).astype(np.float32) for k, s in shapes.items()}
    y, after = weights.run(x, states)
    feed = {f"state_{index:02d}_{kind}_in": s for (index, kind), s in states.items()}
    return File(
        lambda out, inline: export_checkpoint(path, out, ExportOptions(inline=inline)),
        [Call({"x": x, **feed}, {"y": y, **named_states(after)})],
    )


class Chain(nn.Module):
    """Layers of different kinds, one after the other."""

    def __init__(self, *layers: QRNNLayer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x, _ = layer(x)
        return x


def _chain(*kinds: tuple[str, str, int]) -> File:
    """A chain of layers (pooling, activation, window), five channels each."""
    layers = [
        QRNNLayer(5, 5, window=window, pooling=pooling, activation=activation, batch_first=True)
        for pooling, activation, window in kinds
    ]
    chain = Chain(*layers)
    _draw_biases(chain)
    x = np.random.default_rng(4).standard_normal((2, 12, 5)).astype(np.float32)
    levels = [
        [
            {
                "weight": layer.weight.detach().numpy(),
                "bias": layer.bias.detach().numpy(),
                "window": window,
                "pooling": pooling,
                "activation": activation,
            }
        ]
        for layer, (pooling, activation, window) in zip(layers, kinds, strict=True)
    ]
    y, _ = oracle.stack(x.swapaxes(0, 1), levels)
    example = (torch.from_numpy(x),)
    return File(
        lambda out, inline: export(chain, out, example, states="none", inline=inline),
        [Call({"x": x}, {"y": y.swapaxes(0, 1)})],
    )


def poolings(folder: Path) -> File:
    """All four operators in one file."""
    return _chain(("f", "tanh", 1), ("fo", "relu", 2), ("ifo", "tanh", 2), ("if", "identity", 3))


def activations(folder: Path) -> File:
    """One operator with three activations, so three overloads of its function."""
    return _chain(("fo", "tanh", 2), ("fo", "relu", 1), ("fo", "identity", 2))


FILES: dict[str, Callable[[Path], File]] = {
    "charlm": charlm,
    "bidirectional": bidirectional,
    "packed": packed,
    "ifo": ifo,
    "poolings": poolings,
    "activations": activations,
}
