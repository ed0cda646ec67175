"""QRNN layers for PyTorch, trainable and exportable. Needs the extra ``export`` (torch)."""

from __future__ import annotations

from .._optional import require

require("torch", "qrnn_deploy.nn")

from .binding import Binding, active_binding, bound  # noqa: E402
from .config import ConfigError  # noqa: E402
from .factory import from_config  # noqa: E402
from .language_model import QRNNLanguageModel  # noqa: E402
from .layer import LayerState, QRNNLayer  # noqa: E402
from .stack import QRNN  # noqa: E402

__all__ = [
    "QRNN",
    "Binding",
    "ConfigError",
    "LayerState",
    "QRNNLanguageModel",
    "QRNNLayer",
    "active_binding",
    "bound",
    "from_config",
]
