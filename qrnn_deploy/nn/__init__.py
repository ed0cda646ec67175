"""QRNN layers for PyTorch, trainable and exportable. Needs the extra ``export`` (torch)."""

from __future__ import annotations

from .._optional import require

require("torch", "qrnn_deploy.nn")

from .binding import Binding, active_binding, bound  # noqa: E402
from .classifier import QRNNClassifier  # noqa: E402
from .config import ConfigError  # noqa: E402
from .encoder import QRNNEncoder  # noqa: E402
from .factory import ARCHITECTURES, QRNNModule, from_config  # noqa: E402
from .language_model import QRNNLanguageModel  # noqa: E402
from .layer import LayerState, QRNNLayer  # noqa: E402
from .projected import ProjectedQRNN  # noqa: E402
from .stack import QRNN  # noqa: E402

__all__ = [
    "ARCHITECTURES",
    "QRNN",
    "Binding",
    "ConfigError",
    "LayerState",
    "ProjectedQRNN",
    "QRNNClassifier",
    "QRNNEncoder",
    "QRNNLanguageModel",
    "QRNNLayer",
    "QRNNModule",
    "active_binding",
    "bound",
    "from_config",
]
