"""What a GPU kernel may err, and the plans it can be asked for: shared by the tests of the host
emulation and those on a GPU. Plain NumPy and the oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import cases
import numpy as np
import oracle
from numpy.typing import NDArray

REGIMES = ("step", "walk", "scan", "chain")
STORAGES = ("float32", "float16", "bfloat16")
UNIT_ROUNDOFF = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float32": 0.0, "float16": 2.0**-24, "bfloat16": 1e-40}

TANH_ERROR = {"float32": 0.0, "float16": 2.0**-10.9, "bfloat16": 2.0**-10.9}
"""Relative, of the hardware's tanh, which the 16-bit kernels use for the candidate."""


def plans(case: cases.PoolCase, dtype: str) -> list[tuple[str, int, int]]:
    """(regime, channels per thread, warps) of every kernel that takes the case."""
    pairs = dtype != "float32" and case.H % 2 == 0
    channels = (1, 2) if pairs else (1,)
    found = [("walk", c, 2) for c in channels]
    if case.T == 1:
        found += [("step", c, 2) for c in channels]
    if case.T > 0 and (pairs or dtype == "float32"):
        spans = 2 if pairs else 1
        found += [("scan", spans, 3), ("scan", spans, 1), ("chain", spans, 2), ("chain", spans, 1)]
    return found


def allowed(
    case: cases.PoolCase,
    dtype: str,
    gates: NDArray[Any],
    c0: NDArray[Any],
    lengths: NDArray[Any],
    h: oracle.F64,
    c_T: oracle.F64,
) -> tuple[oracle.F64, oracle.F64]:
    """Bounds on |h - oracle| and |c_T - oracle|.

    In float32 one step errs about 2e-7 of the values that meet in it and earlier errors fade with
    f: ten such steps. An error of the candidate's tanh goes through the same recurrence as the
    candidate, so its bound is the recurrence of the candidates' sizes, from a state of 0.
    """
    x = gates.astype(np.float64)
    candidate = 1.0 if case.activation == "tanh" else np.abs(x).max(initial=1.0)
    states = h
    if case.pooling in ("fo", "ifo"):  # the states are the h of the pooling without output gate
        parts = np.split(x, cases.GATE_COUNT[case.pooling], axis=-1)
        del parts[2]
        plain = replace(case, pooling="f" if case.pooling == "fo" else "if")
        states, _ = plain.expected(np.concatenate(parts, axis=-1), c0, lengths)
    size = max(candidate, np.abs(c0).max(initial=0.0), np.abs(states).max(initial=0.0))
    h_bound = np.full(h.shape, 2e-6 * size)
    c_bound = np.full(c_T.shape, 2e-6 * size)
    if case.activation == "tanh" and TANH_ERROR[dtype]:
        sizes = x.copy()
        sizes[..., : case.H] = np.abs(sizes[..., : case.H])
        h_sizes, c_sizes = case.expected(sizes, np.zeros_like(c0), lengths)
        h_bound += TANH_ERROR[dtype] * h_sizes
        c_bound += TANH_ERROR[dtype] * c_sizes
    h_bound += UNIT_ROUNDOFF[dtype] * np.abs(h) + SMALLEST[dtype]
    return h_bound, c_bound


class SmallAfterLarge(NamedTuple):
    """Inputs, what the oracle says, and a bound on the error of each step's state."""

    case: cases.PoolCase
    gates: NDArray[np.float32]
    c0: NDArray[np.float32]
    lengths: NDArray[np.int64]
    h: oracle.F64
    c_T: oracle.F64
    bound: oracle.F64


def small_after_large() -> SmallAfterLarge:
    """Small states after large ones, by f-pooling: gates that keep much, little and nothing follow
    each other, and candidates up to 1e30. Each bound is of the state's own past alone: a step errs
    relative to what meets in it, and that fades with what is kept of its state."""
    T, H = 640, 48
    random = np.random.default_rng(5)
    kinds = np.array([9.0, 3.0, 0.0, -3.0, -20.0, -np.inf, 30.0])
    f = kinds[random.integers(0, len(kinds), (T // 10, 1, H))].repeat(10, axis=0)
    f += random.normal(size=f.shape)
    large = np.where(random.random(f.shape) < 0.02, random.uniform(0, 30, f.shape), 0.0)
    z = random.normal(size=f.shape) * 10.0**large
    gates = np.concatenate([z, f], axis=-1).astype(np.float32)
    c0 = (10.0 ** random.uniform(0, 30, (1, H))).astype(np.float32)
    lengths = np.array([T])
    case = cases.PoolCase("f", T=T, B=1, H=H, activation="identity")
    h, c_T = case.expected(gates, c0, lengths)
    assert (np.abs(h) > 1e20).any()
    assert (np.abs(h) < 1.0).any()
    before = np.concatenate([c0[None], h[:-1]])
    g = oracle.sigmoid(-gates[..., H:].astype(np.float64))
    own = 3e-6 * g * (np.abs(before) + np.abs(gates[..., :H])) + 2e-7 * np.abs(h)
    bound = own.copy()
    for t in range(1, T):
        bound[t] += (1.0 - g[t] + 3e-6 * g[t]) * bound[t - 1]
    return SmallAfterLarge(case, gates, c0, lengths, h, c_T, bound)


def sampled_floats() -> NDArray[np.float32]:
    """float32 numbers of every sign and exponent, infinities and NaN among them."""
    return np.arange(0, 2**32, 65521, dtype=np.uint64).astype(np.uint32).view(np.float32)


def activation_errors(
    x: NDArray[Any], tanh: NDArray[Any], sigmoid: NDArray[Any]
) -> tuple[float, float]:
    """Relative errors of tanh(x) and sigmoid(-x), the latter beyond what rounding x log2(e) costs.

    NaN must stay NaN; below the least normal float32 a value may vanish.
    """
    errors = []
    with np.errstate(over="ignore", invalid="ignore"):
        wide = x.astype(np.float64)
        for got, exact, slope in (
            (tanh, np.tanh(wide), 0.0),
            (sigmoid, oracle.sigmoid(-wide), 1e-7),
        ):
            assert np.array_equal(np.isnan(got), np.isnan(wide))
            known = ~np.isnan(wide)
            error = np.abs(got.astype(np.float64) - exact)[known]
            exact, size = np.abs(exact[known]), np.minimum(np.abs(wide[known]), 100.0)
            beyond = np.maximum(error - 1.2e-38 - slope * size * exact, 0.0)
            errors.append(float((beyond / np.maximum(exact, 1e-300)).max()))
    return errors[0], errors[1]
