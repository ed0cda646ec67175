"""QRNN layers for PyTorch, trainable and exportable."""

from .binding import Binding, active_binding, bound
from .config import ConfigError
from .factory import from_config
from .language_model import UNKNOWN, QRNNLanguageModel
from .layer import LayerState, QRNNLayer
from .stack import QRNN

__all__ = [
    "QRNN",
    "UNKNOWN",
    "Binding",
    "ConfigError",
    "LayerState",
    "QRNNLanguageModel",
    "QRNNLayer",
    "active_binding",
    "bound",
    "from_config",
]
