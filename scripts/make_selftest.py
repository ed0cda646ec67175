"""Write qrnn_deploy/selftest/: a two-layer model of a few weights, an input, and the answer.

The answer is PyTorch's in float64. Run it again only when the exported form changes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import qrnn_deploy
from qrnn_deploy.nn import QRNN

FOLDER = Path(__file__).parent.parent / "qrnn_deploy" / "selftest"
STEPS, INPUT, HIDDEN = 9, 3, 5


def main() -> None:
    """Make the files."""
    torch.manual_seed(0)
    model = QRNN(INPUT, HIDDEN, num_layers=2, window=2, pooling="fo", batch_first=True).eval()
    x = torch.randn(2, STEPS, INPUT)
    FOLDER.mkdir(exist_ok=True)
    qrnn_deploy.export(model, FOLDER / "model.onnx", golden=False)
    with torch.no_grad():
        y, _ = model.double()(x.double())
    np.savez(FOLDER / "case.npz", in_x=x.numpy(), out_y=y.numpy())


if __name__ == "__main__":
    main()
