"""How far an artifact may be from the float64 PyTorch model, and why.

An artifact in some precision cannot be asked to be nearer to the exact answer than PyTorch
itself is in that precision, so the bound is a multiple of PyTorch's own error. Where that
happens to be tiny (a short sequence, a lucky rounding) a floor takes over: a few units in the
last place of the largest value, times what orders of summation differ by.
"""

from __future__ import annotations

FACTOR = 4.0
"""An artifact may err this many times as much as PyTorch in the same type."""

_EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}
_FLOOR_ULPS = {"float32": 16.0, "float16": 4.0, "bfloat16": 4.0, "float64": 16.0}
"""The order of a sum of n terms moves it by about sqrt(n) ulp: 16 covers n = 256. The narrow types
are summed in float32, so that only a few roundings of whole tensors remain."""


def floor(peak: float, dtype: str) -> float:
    """The least tolerance for an output whose largest magnitude is ``peak``."""
    return _FLOOR_ULPS[dtype] * _EPSILON[dtype] * max(1.0, peak)


def allowed_error(torch_error: float, peak: float, dtype: str) -> float:
    """max(4 x |torch in dtype - float64|, floor): the absolute error that passes."""
    return max(FACTOR * torch_error, floor(peak, dtype))
