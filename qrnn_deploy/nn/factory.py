"""From a configuration back to a module."""

from __future__ import annotations

import inspect
from typing import Any, TypeAlias

import torch

from . import config as check
from .classifier import QRNNClassifier
from .delayed_rnn import DelayedRNN
from .encoder import QRNNEncoder, TextEncoder
from .language_model import QRNNLanguageModel
from .layer import QRNNLayer
from .projected import ProjectedQRNN
from .rhn import RHNLayer
from .rhn_model import RHNLanguageModel
from .rhn_stack import RHN
from .seq2seq import QRNNEncoderDecoder
from .sru import SRULayer
from .sru_levels import SRUStack
from .sru_model import SRULanguageModel
from .sru_stack import SRU
from .srupp import SRUpp
from .stack import QRNN

QRNNModule: TypeAlias = (
    QRNNLayer
    | QRNN
    | TextEncoder
    | QRNNEncoderDecoder
    | RHNLayer
    | RHN
    | SRULayer
    | SRUStack
    | DelayedRNN
)
"""What :func:`from_config` builds; the other architectures are kinds of these."""

ARCHITECTURES: dict[str, type[QRNNModule]] = {
    cls.__name__: cls
    for cls in (
        *(QRNNLayer, QRNN, ProjectedQRNN),
        *(QRNNEncoder, QRNNLanguageModel, QRNNClassifier, QRNNEncoderDecoder),
        *(RHNLayer, RHN, RHNLanguageModel),
        *(SRULayer, SRU, SRUpp, SRULanguageModel),
        DelayedRNN,
    )
}
"""The classes a configuration may name: all of the package that are whole models."""

ADDED_LATER: dict[str, dict[str, Any]] = {
    "QRNN": {"join": "level"},
    "QRNNLanguageModel": {
        "bidirectional": False,
        "reverse": False,
        "decoder_activation": "identity",
    },
}
"""Keys that configurations written by earlier releases lack, with what those releases built."""


def from_config(
    config: dict[str, Any],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> QRNNModule:
    """Build the module that ``config`` describes, with fresh weights.

    The configuration may come from a stranger: its keys must be exactly those that the class's
    ``config()`` gives or an earlier release's gave, and sizes are checked before anything is
    allocated.

    Args:
        config: what ``module.config()`` returned, perhaps by way of JSON.
        device: of the parameters; ``"meta"`` allocates nothing.
        dtype: of the parameters.

    Raises:
        ConfigError: the configuration describes no module.
    """
    if not isinstance(config, dict):
        raise check.ConfigError(f"configuration is {check.shorten(config)}, expected an object")
    arguments = dict(config)
    name = arguments.pop("architecture", None)
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise check.ConfigError(
            f"architecture is {check.shorten(name)}, expected one of {', '.join(ARCHITECTURES)}"
        )
    cls = ARCHITECTURES[name]
    arguments = {**ADDED_LATER.get(name, {}), **arguments}
    expected = set(inspect.signature(cls).parameters) - {"device", "dtype"}
    for problem, keys in (
        ("lacks", expected - arguments.keys()),
        ("has unknown", arguments.keys() - expected),
    ):
        if keys:
            named = ", ".join(sorted(check.shorten(key) for key in keys)[:4])
            raise check.ConfigError(
                f"configuration of {name} {problem} {named}: "
                "it was damaged or written by another version"
            )
    outline = cls(**arguments, device="meta")
    total = sum(parameter.numel() for parameter in outline.parameters())
    if total > check.MAX_ELEMENTS:
        raise check.ConfigError(
            f"{name} would hold {total} parameters, expected at most {check.MAX_ELEMENTS}"
        )
    if torch.device(device or "cpu").type == "meta" and dtype is None:
        return outline
    return cls(**arguments, device=device, dtype=dtype)
