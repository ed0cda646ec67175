"""Write the files of tests/data/vN that every later version must run.

Run once per metadata format, when it is new; the files of earlier formats are never rewritten.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from qrnn_deploy.exporter import export
from qrnn_deploy.metadata import FORMAT
from qrnn_deploy.nn import QRNN, RHN, SRU, DelayedRNN, QRNNLanguageModel

MODELS = {
    "language_model": (
        lambda: QRNNLanguageModel(
            7, 6, [8, 6], window=2, tied=True, zoneout=0.2, zoneout_eval="expectation",
            vocabulary=[*"abcde ", "\n"],
        ),
        {},
    ),
    "packed_ragged": (
        lambda: QRNN(3, 5, 2, window=3, pooling="ifo", dense=True, batch_first=True),
        {"states": "packed", "lengths": True},
    ),
    "bidirectional": (
        lambda: QRNN(3, 4, 2, window=2, bidirectional=True, activation="relu"),
        {"states": "none", "lengths": True},
    ),
    "float16": (lambda: QRNN(3, 4, 1, pooling="f"), {"dtype": "float16"}),
    "sru": (lambda: SRU(3, 4, 2, batch_first=True), {"states": "packed", "lengths": True}),
    "sru_input": (lambda: SRU(4, 4, 1, activation="tanh"), {}),
    "rhn": (lambda: RHN(3, 4, 2, depth=2, batch_first=True), {}),
    "delayed_lstm": (lambda: DelayedRNN(3, 4, 2, delay=2), {}),
}  # fmt: skip


def main() -> None:
    """Write the folder of the current format, which must not exist yet."""
    folder = Path(__file__).parent.parent / "tests" / "data" / f"v{FORMAT}"
    if folder.exists():
        sys.exit(f"{folder} exists: files of a released format are never rewritten")
    folder.mkdir(parents=True)
    for name, (build, options) in MODELS.items():
        torch.manual_seed(0)
        module = build()
        for parameter in module.parameters():
            if parameter.dim() == 1:
                nn.init.uniform_(parameter, -1, 1)
        export(module, folder / f"{name}.onnx", **options)


if __name__ == "__main__":
    main()
