"""Running exported models in ONNX Runtime, and engines in TensorRT.

The names are imported when they are first used: ONNX files need the extra ``cpu`` or ``gpu`` and
never torch; engines need their TensorRT package and torch, and no ONNX Runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .._optional import require

if TYPE_CHECKING:
    from .engine import EngineSession as EngineSession
    from .engine_plans import CudaGraphWarning as CudaGraphWarning
    from .opening import is_engine as is_engine
    from .opening import most_steps as most_steps
    from .opening import open_model as open_model
    from .seq2seq import Seq2Seq as Seq2Seq
    from .session import KernelFallbackWarning as KernelFallbackWarning
    from .session import Session as Session
    from .streaming import StreamingSession as StreamingSession

_HOMES = {
    "CudaGraphWarning": "engine_plans",
    "EngineSession": "engine",
    "KernelFallbackWarning": "session",
    "Seq2Seq": "seq2seq",
    "Session": "session",
    "StreamingSession": "streaming",
    "is_engine": "opening",
    "most_steps": "opening",
    "open_model": "opening",
}

__all__ = [
    "CudaGraphWarning",
    "EngineSession",
    "KernelFallbackWarning",
    "Seq2Seq",
    "Session",
    "StreamingSession",
    "is_engine",
    "most_steps",
    "open_model",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the module it lives in (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home in ("session", "seq2seq"):
        require("onnxruntime", "running a model")
    return getattr(importlib.import_module(f".{home}", __name__), name)
