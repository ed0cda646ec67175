"""Write docs/parity.md: every family in every backend and type, measured here, or why not.

    python scripts/parity.py

Each model is exported, verified against PyTorch in float64 in every implementation that this
machine has, and built into an engine of TensorRT for RTX.
"""

from __future__ import annotations

import datetime
import platform
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy.engines import build_engine
from qrnn_deploy.errors import ExportError, QrnnDeployError
from qrnn_deploy.nn import QRNN, RHN, SRU, Delayed, QRNNEncoderDecoder, SRUpp

DTYPES = ("float32", "float16", "bfloat16")
BACKENDS = {
    "kernel": "ORT CPU, kernel",
    "function": "ORT CPU, function",
    "cuda": "ORT CUDA, kernel",
    "tensorrt": "TensorRT, plugin",
    "tensorrt-rtx": "TensorRT for RTX",
}
PAGE = Path(__file__).parent.parent / "docs" / "parity.md"


class Standard(nn.Module):
    """An nn.LSTM or nn.GRU and a linear map, as a user has it."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.rnn = kind(6, 16, num_layers=2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """The map of every step's output."""
        y: Tensor = self.head(self.rnn(x)[0])
        return y


MODELS: dict[str, Callable[[], nn.Module]] = {
    "QRNN f": lambda: QRNN(6, 16, 2, window=2, pooling="f", batch_first=True),
    "QRNN fo": lambda: QRNN(6, 16, 2, window=2, batch_first=True),
    "QRNN ifo": lambda: QRNN(6, 16, 2, window=2, pooling="ifo", batch_first=True),
    "QRNN if": lambda: QRNN(6, 16, 2, window=2, pooling="if", batch_first=True),
    "QRNN fo, two directions": lambda: QRNN(6, 16, 2, bidirectional=True, batch_first=True),
    "SRU": lambda: SRU(6, 16, 2, batch_first=True),
    "SRU, tanh, no skip term": lambda: SRU(
        6, 16, 2, highway=False, activation="tanh", batch_first=True
    ),
    "SRU, two directions": lambda: SRU(6, 16, 2, bidirectional=True, batch_first=True),
    "SRU++": lambda: SRUpp(6, 16, 8, 2, batch_first=True),
    "RHN": lambda: RHN(6, 16, 2, depth=3, batch_first=True),
    "delayed QRNN": lambda: Delayed(QRNN(6, 16, 2, window=2, batch_first=True), 3),
    "nn.LSTM": lambda: Standard(nn.LSTM),
    "nn.GRU": lambda: Standard(nn.GRU),
    "encoder-decoder": lambda: QRNNEncoderDecoder(11, 12, 8, 16, 2),
}


class Notes:
    """Reasons, each with a number of its own."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def mark(self, text: str) -> str:
        """The reference to ``text``."""
        line = " ".join(text.split())
        if line not in self.known:
            self.known.append(line)
        return f"({self.known.index(line) + 1})"


def measured(build: Callable[[], nn.Module], dtype: str, folder: Path, notes: Notes) -> list[str]:
    """The cells of one model in one type."""
    torch.manual_seed(0)
    module = build().eval().to(getattr(torch, dtype))
    pair = isinstance(module, QRNNEncoderDecoder)
    streams = bool(getattr(module, "streams", True))
    options: dict[str, Any] = {} if pair else {"states": "separate" if streams else "none"}
    args = None if pair else (torch.randn(2, 7, 6).to(getattr(torch, dtype)),)
    path = folder / "model.onnx"
    try:
        qrnn_deploy.export(module, path, args, **options)
    except ExportError as error:
        return [notes.mark(f"not exported: {error}")] * len(BACKENDS)
    cells = []
    for backend in BACKENDS:
        found, reason = _compared(path, module, args, backend)
        if backend == "tensorrt-rtx" and reason:
            reason = f"{_built(folder)}; {reason}"
        cells.append(found or notes.mark(reason.replace(str(folder), ".")))
    return cells


def _compared(path: Path, module: nn.Module, args: Any, backend: str) -> tuple[str, str]:
    """The figure, or why there is none."""
    try:
        finding = qrnn_deploy.verify(path, module=module, args=args, only=(backend,))
    except QrnnDeployError as error:
        inner = re.fullmatch(r"\S+ was asked for and is not here \((.*)\): leave it.*", str(error))
        return "", inner[1] if inner else str(error)
    if not finding.comparisons:
        return "", "; ".join([*finding.problems, *finding.missing.values()])
    worst = max(item.max_abs for item in finding.comparisons)
    return f"{worst:.1e}" + ("" if finding.passed else " **differs**"), ""


def _built(folder: Path) -> str:
    """Whether engines can be built here, which needs no GPU."""
    files = sorted(folder.glob("*.onnx"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for file in files:
                build_engine(file, folder / f"{file.stem}.engine", backend="tensorrt-rtx")
    except QrnnDeployError as error:
        return f"does not build ({error})"
    return "builds"


def main() -> None:
    """Measure everything and write the page."""
    torch.set_num_threads(1)
    notes = Notes()
    rows = []
    for name, build in MODELS.items():
        for dtype in DTYPES:
            with tempfile.TemporaryDirectory(prefix="qrnn-deploy-") as folder:
                cells = measured(build, dtype, Path(folder), notes)
            print(name, dtype, *cells, flush=True)
            rows.append(f"| {name} | {dtype} | {' | '.join(cells)} |")
    head = ["family", "type", *BACKENDS.values()]
    lines = [
        "# Parity: every family, backend and type",
        "",
        "Written by `python scripts/parity.py`. A figure is the largest absolute difference of any",
        "output or state from PyTorch in float64, over all sizes, chunkings and states that",
        "`qrnn-deploy verify` tries; each was within the tolerance of its type unless it says so.",
        "A number in brackets is the reason for what is not there, below the table.",
        "",
        f"Measured {datetime.date.today()} on {platform.machine()} {platform.system()}, "
        f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, "
        f"qrnn-deploy {qrnn_deploy.__version__}.",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *rows,
        "",
        *(f"{number}. {text}" for number, text in enumerate(notes.known, 1)),
    ]
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
