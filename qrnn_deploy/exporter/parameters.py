"""The weights of a module before it is traced: finite, and in the type that was asked for."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..errors import ExportError
from .observed import running
from .options import DTypeName


def refuse_non_finite(module: nn.Module) -> None:
    """Check the weights.

    Raises:
        ExportError: a parameter or buffer holds NaN or infinity; it is named.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ExportError(
                f"weight {name!r} holds NaN or infinity: expected finite values, the training "
                "probably diverged; allow_non_finite=True (--allow-non-finite) exports it anyway"
            )


def converted(module: nn.Module, dtype: DTypeName, allow_non_finite: bool) -> nn.Module:
    """A copy of ``module`` in another type.

    Raises:
        ExportError: the module cannot be copied, or a weight overflows the type; it is named.
    """
    with running("to be copied"):
        copied = copy.deepcopy(module).to(getattr(torch, dtype))
    before = module.state_dict()
    for name, tensor in () if allow_non_finite else copied.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ExportError(
                f"weight {name!r} overflows {dtype}: it reaches "
                f"{before[name].abs().max().item():.3g}, expected at most "
                f"{torch.finfo(tensor.dtype).max:.3g}; export it as float32 or bfloat16"
            )
    return copied
