"""Takes trained PyTorch QRNN models to production.

The names below are imported when they are first used: ``import qrnn_deploy`` alone loads neither
torch nor onnx nor onnxruntime, and a machine that only runs models needs no torch at all.

>>> import qrnn_deploy
>>> qrnn_deploy.export(model, "model.onnx")                   # needs the extra `export`
>>> session = qrnn_deploy.Session("model.onnx")               # needs the extra `cpu`
>>> stream = qrnn_deploy.StreamingSession("model.onnx")       # or "model.engine"
>>> qrnn_deploy.verify("model.onnx").passed
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from .errors import QrnnDeployError

if TYPE_CHECKING:
    from .checkpoints import Given as Given
    from .checkpoints import load_checkpoint as load_checkpoint
    from .checkpoints import save_checkpoint as save_checkpoint
    from .conversion import convert as convert
    from .engines import build_engine as build_engine
    from .exporter import export as export
    from .runtime import Session as Session
    from .runtime import StreamingSession as StreamingSession
    from .runtime import open_model as open_model
    from .verifier import verify as verify

# ONNX Runtime reads it when it is imported, and would leave files in the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

_HOMES = {
    "Given": "checkpoints",
    "Session": "runtime",
    "StreamingSession": "runtime",
    "build_engine": "engines",
    "convert": "conversion",
    "export": "exporter",
    "load_checkpoint": "checkpoints",
    "open_model": "runtime",
    "save_checkpoint": "checkpoints",
    "verify": "verifier",
}

__all__ = [
    "Given",
    "QrnnDeployError",
    "Session",
    "StreamingSession",
    "__version__",
    "build_engine",
    "convert",
    "export",
    "load_checkpoint",
    "open_model",
    "save_checkpoint",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the subpackage it lives in (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
