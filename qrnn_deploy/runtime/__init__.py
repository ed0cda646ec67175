"""Running exported models in ONNX Runtime, and engines in TensorRT.

The names are imported when they are first used: ONNX files need the extra ``cpu`` or ``gpu`` and
never torch; engines need their TensorRT package and torch, and no ONNX Runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .._optional import require

if TYPE_CHECKING:
    from .session import KernelFallbackWarning as KernelFallbackWarning
    from .session import Session as Session
    from .streaming import StreamingSession as StreamingSession

_HOMES = {
    "KernelFallbackWarning": "session",
    "Session": "session",
    "StreamingSession": "streaming",
}

__all__ = ["KernelFallbackWarning", "Session", "StreamingSession"]


def __getattr__(name: str) -> Any:
    """Import a public name from the module it lives in (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home == "session":
        require("onnxruntime", "running a model")
    return getattr(importlib.import_module(f".{home}", __name__), name)
