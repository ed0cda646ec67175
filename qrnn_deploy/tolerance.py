"""How far an artifact may be from the float64 PyTorch model, and why.

An artifact in some precision cannot be asked to be nearer to the exact answer than PyTorch
itself is in that precision, so the bound is a multiple of PyTorch's own error. Where that
happens to be tiny (a short sequence, a lucky rounding) a floor takes over: a few units in the
last place of the largest value, times what orders of summation differ by.
"""

from __future__ import annotations

import math

FACTOR = 4.0
"""An artifact may err this many times as much as PyTorch in the same type."""

FEEDBACK_FACTOR = 16.0
"""The same where gates see the state (SRU, RHN, LSTM, GRU): there a rounding is fed back and may
grow, in each implementation in its own way. An untrained SRU erred 1.4e-6 in PyTorch, 1.6e-6 in our
kernel and 6.3e-6 in its function body, whose single steps err 1e-7."""

VOID = 0.1
"""A tolerance above this share of the largest value proves nothing, and does not pass."""

_EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}
_FLOOR_ULPS = {"float32": 16.0, "float16": 4.0, "bfloat16": 4.0, "float64": 16.0}
"""The order of a sum of n terms moves it by about sqrt(n) ulp: 16 covers n = 256. The narrow types
are summed in float32, so that only a few roundings of whole tensors remain."""

_LEAST_PEAK = 0.01
"""Gates and states are of order 1 and round as such, so a small output errs more than its own ulp;
PyTorch's own error covers most of that, and this the rest."""


def floor(peak: float, dtype: str) -> float:
    """The least tolerance for an output whose largest magnitude is ``peak``."""
    return _FLOOR_ULPS[dtype] * _EPSILON[dtype] * max(_LEAST_PEAK, peak)


def allowed_error(torch_error: float, peak: float, dtype: str, feedback: bool = False) -> float:
    """max(4 x |torch in dtype - float64|, floor), but never above a tenth of the peak.

    Args:
        torch_error: largest finite error of PyTorch in ``dtype``.
        peak: largest finite magnitude of the exact output.
        dtype: float32, float16 or bfloat16.
        feedback: whether gates see the state, so that roundings may grow: 16 x instead of 4 x.
    """
    factor = FEEDBACK_FACTOR if feedback else FACTOR
    allowed = max(factor * torch_error, floor(peak, dtype))
    return min(allowed, VOID * peak) if peak > 0 else allowed


def proves_something(allowed: float, peak: float) -> bool:
    """Whether a tolerance is finite, not negative and small beside the values it judges."""
    return math.isfinite(allowed) and allowed >= 0 and (allowed <= VOID * peak or peak == 0)
