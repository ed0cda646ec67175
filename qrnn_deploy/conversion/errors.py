"""What can go wrong, and what a user should know, while a model is converted."""

from __future__ import annotations

from ..errors import QrnnDeployError


class ConversionError(QrnnDeployError):
    """A model whose layers cannot be replaced by ours."""


class ConversionWarning(UserWarning):
    """A layer that looks like an upstream QRNN layer stays in the converted model as it is."""
