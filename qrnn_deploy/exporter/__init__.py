"""From a PyTorch model to ONNX. Needs the extra ``export`` (torch, onnxscript)."""

from __future__ import annotations

from .._optional import require

for _package in ("torch", "onnxscript"):
    require(_package, "qrnn-deploy export")

from .checkpoint import export_checkpoint  # noqa: E402
from .pipeline import ExportReport, export  # noqa: E402

__all__ = ["ExportReport", "export", "export_checkpoint"]
