"""Comparison with outputs that a user recorded from upstream code (docs/verify.md)."""

from __future__ import annotations

from .compare import compare_recorded
from .recording import read_recording

__all__ = ["compare_recorded", "read_recording"]
