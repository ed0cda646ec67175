"""Live models with upstream QRNN layers, and ours in their place. Needs the extra ``export``."""

from __future__ import annotations

from .._optional import require

require("torch", "qrnn_deploy.convert")

from .api import convert  # noqa: E402
from .errors import ConversionError, ConversionWarning  # noqa: E402

__all__ = ["ConversionError", "ConversionWarning", "convert"]
