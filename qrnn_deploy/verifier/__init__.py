"""Proof that an exported file equals the PyTorch model it came from."""

from __future__ import annotations

from .report import Comparison, LayerFinding, VerifyReport
from .run import verify

__all__ = ["Comparison", "LayerFinding", "VerifyReport", "verify"]
