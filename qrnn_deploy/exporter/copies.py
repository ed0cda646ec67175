"""Copies of a module in another type that hold no weight twice on the way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def copied(module: nn.Module, dtype: torch.dtype, convert: Callable[[Tensor], Tensor]) -> nn.Module:
    """``copy.deepcopy(module).to(dtype)``, but a weight is converted without being copied first.

    Args:
        module: is left as it is.
        dtype: a floating type.
        convert: gives the tensor of type ``dtype`` that stands for a parameter of a floating
            type. What else the module holds is copied.

    Raises:
        Exception: whatever the module raises while it is copied.
    """
    instead: dict[int, Any] = {}  # what deepcopy takes for objects that it has copied already
    for weight in module.parameters():
        if _is_plain(weight):
            made = convert(weight.detach())
            instead[id(weight)] = nn.Parameter(made, weight.requires_grad)
    return copy.deepcopy(module, instead).to(dtype)


def _is_plain(weight: nn.Parameter) -> bool:
    """Whether it is a floating tensor of the usual kind; others know best how they are copied."""
    usual = type(weight) is nn.Parameter and weight.layout == torch.strided
    return usual and weight.dtype in _FLOATS
