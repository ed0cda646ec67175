"""The weights of a module before it is traced: finite, and in the type that was asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ExportError
from .blocks import all_finite
from .copies import copied
from .memory import give_back
from .observed import running
from .options import DTypeName


def refuse_non_finite(module: nn.Module) -> None:
    """Check the weights.

    Raises:
        ExportError: a parameter or buffer holds NaN or infinity; it is named.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not all_finite(tensor):
            raise ExportError(
                f"weight {name!r} holds NaN or infinity: expected finite values, the training "
                "probably diverged; allow_non_finite=True (--allow-non-finite) exports it anyway"
            )


def converted(module: nn.Module, dtype: DTypeName, allow_non_finite: bool) -> nn.Module:
    """A copy of ``module`` in another type.

    Raises:
        ExportError: the module cannot be copied, or a weight overflows the type; it is named.
    """
    kind = getattr(torch, dtype)
    with running("to be copied"):
        changed = copied(module, kind, lambda tensor: tensor.to(kind))
    before = module.state_dict()
    for name, tensor in () if allow_non_finite else changed.state_dict().items():
        if tensor.is_floating_point() and not all_finite(tensor):
            raise ExportError(
                f"weight {name!r} overflows {dtype}: it reaches "
                f"{_peak(before[name]):.3g}, expected at most "
                f"{torch.finfo(tensor.dtype).max:.3g}; export it as float32 or bfloat16"
            )
    give_back(module)
    return changed


def _peak(tensor: Tensor) -> float:
    return max(abs(bound.item()) for bound in torch.aminmax(tensor))
