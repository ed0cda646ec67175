"""Small models that several tests export, and how to run them as PyTorch does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from qrnn_deploy.exporter.border import Border
from qrnn_deploy.exporter.golden import make_inputs, run_border
from qrnn_deploy.exporter.plan import example_args
from qrnn_deploy.metadata import Metadata
from qrnn_deploy.nn import QRNN, QRNNLanguageModel, QRNNLayer


class FrontedModel(nn.Module):
    """Two inputs, a convolution in front, two separate stacks, a linear head, two outputs."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv1d(4, 5, 3, padding=padding)
        self.first = QRNN(5, 6, 2, window=2, batch_first=True)
        self.second = QRNNLayer(3, 4, window=3, pooling="ifo", batch_first=True)
        self.head = nn.Linear(10, 2)

    def forward(self, audio: Tensor, control: Tensor) -> dict[str, Tensor]:
        x = self.conv(audio.transpose(1, 2)).transpose(1, 2)
        y, _ = self.first(x)
        z, _ = self.second(control)
        return {"score": self.head(torch.cat([y, z], dim=-1)), "hidden": y}


class Headed(nn.Module):
    """A time-major stack and a head in a batch-first model: streams without knowing of states."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = QRNN(5, [6, 7], window=[3, 1], pooling="fo")
        self.head = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.stack(x.transpose(0, 1))
        return self.head(y).transpose(0, 1)


class Twice(nn.Module):
    """One layer called twice, which no export can take."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = QRNNLayer(5, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x)[0])[0]


BUILDERS = {
    "fo": lambda: QRNN(5, 6, 2, window=2, batch_first=True),
    "f": lambda: QRNN(5, 6, 2, window=1, pooling="f", activation="relu"),
    "ifo": lambda: QRNN(5, 6, 2, window=3, pooling="ifo", dense=True, activation="identity"),
    "if": lambda: QRNNLayer(5, 6, window=2, pooling="if"),
    "zoneout": lambda: QRNN(5, 6, 2, window=2, zoneout=0.3, zoneout_eval="expectation"),
    "nobias": lambda: QRNNLayer(5, 7, window=2, bias=False, batch_first=True),
    "lm": lambda: QRNNLanguageModel(
        11, 8, [9, 8], tied=True, window=2, vocabulary=list("abcdefghij\n")
    ),
    "headed": Headed,
}
"""Models that can stream."""

OFFLINE = {
    "bidirectional": lambda: QRNN(5, 6, 2, window=2, bidirectional=True, batch_first=True),
    "reverse": lambda: QRNN(5, 6, 2, window=3, reverse=True),
}
"""Models that only run on whole sequences."""


def build(name: str) -> nn.Module:
    """The model of that name with fixed random weights, bias included, in eval mode."""
    torch.manual_seed(3)
    module = (BUILDERS | OFFLINE)[name]()
    for parameter in module.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, -1, 1)
    return module.eval()


def arguments(module: nn.Module) -> tuple[Tensor, ...] | None:
    """Example inputs where export cannot make them itself."""
    return (torch.randn(2, 7, 5),) if isinstance(module, Headed) else None


def torch_run(
    module: nn.Module, metadata: Metadata, *, batch: int, time: int, seed: int = 1
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(inputs, outputs) of the PyTorch model at the graph's border, from a random state."""
    args = arguments(module)
    example = example_args(module) if args is None else args
    dtype = getattr(torch, metadata.dtype)
    example = tuple(a.to(dtype) if a.is_floating_point() else a for a in example)
    feed = make_inputs(metadata, example, batch=batch, time=time, seed=seed, random_state=True)
    result = run_border(Border(module.to(dtype), metadata), feed)
    return {k: v.numpy() for k, v in feed.items()}, {k: v.numpy() for k, v in result.items()}


def files_under(folder: Path) -> list[str]:
    """Names of everything in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())
