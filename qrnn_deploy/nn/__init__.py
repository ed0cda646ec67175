"""QRNN layers for PyTorch, trainable and exportable. Needs the extra ``export`` (torch)."""

from __future__ import annotations

from .._optional import require

require("torch", "qrnn_deploy.nn")

from .binding import Binding, active_binding, bound  # noqa: E402
from .classifier import QRNNClassifier  # noqa: E402
from .config import ConfigError  # noqa: E402
from .delayed import Delayed  # noqa: E402
from .delayed_rnn import DelayedRNN  # noqa: E402
from .encoder import QRNNEncoder, TextEncoder  # noqa: E402
from .factory import ARCHITECTURES, QRNNModule, from_config  # noqa: E402
from .language_model import LanguageModel, QRNNLanguageModel  # noqa: E402
from .layer import LayerState, QRNNLayer  # noqa: E402
from .projected import ProjectedQRNN  # noqa: E402
from .rhn import RHNLayer, RHNState  # noqa: E402
from .rhn_model import RHNLanguageModel  # noqa: E402
from .rhn_stack import RHN  # noqa: E402
from .seq2seq import QRNNEncoderDecoder  # noqa: E402
from .seq2seq_encoder import EncoderMemory  # noqa: E402
from .sru import SRULayer  # noqa: E402
from .sru_core import SRUState  # noqa: E402
from .sru_model import SRULanguageModel  # noqa: E402
from .sru_stack import SRU  # noqa: E402
from .srupp import SRUpp  # noqa: E402
from .stack import QRNN  # noqa: E402

__all__ = [
    "ARCHITECTURES",
    "QRNN",
    "RHN",
    "SRU",
    "Binding",
    "ConfigError",
    "Delayed",
    "DelayedRNN",
    "EncoderMemory",
    "LanguageModel",
    "LayerState",
    "ProjectedQRNN",
    "QRNNClassifier",
    "QRNNEncoder",
    "QRNNEncoderDecoder",
    "QRNNLanguageModel",
    "QRNNLayer",
    "QRNNModule",
    "RHNLanguageModel",
    "RHNLayer",
    "RHNState",
    "SRULanguageModel",
    "SRULayer",
    "SRUState",
    "SRUpp",
    "TextEncoder",
    "active_binding",
    "bound",
    "from_config",
]
