"""Running exported models in ONNX Runtime. Needs the extra ``cpu`` or ``gpu``; never torch."""

from __future__ import annotations

from .._optional import require

require("onnxruntime", "running a model")

from .session import KernelFallbackWarning, Session  # noqa: E402
from .streaming import StreamingSession  # noqa: E402

__all__ = ["KernelFallbackWarning", "Session", "StreamingSession"]
