"""From a PyTorch model to ONNX. Needs the extra ``export`` (torch, onnxscript)."""

from __future__ import annotations

from .._optional import require

for _package in ("torch", "onnxscript"):
    require(_package, "qrnn-deploy export")

from .api import export, export_checkpoint  # noqa: E402
from .options import ExportOptions  # noqa: E402
from .pipeline import ExportReport  # noqa: E402

__all__ = ["ExportOptions", "ExportReport", "export", "export_checkpoint"]
