"""The GPU kernels without a GPU: their bodies on the host, one thread per CUDA thread, against the
float64 oracle (tests/cpp/gpu_emulation.cc), and the choice of a kernel by shape.

What only a GPU can show is in tests/gpu.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import gpu_reference
import ml_dtypes
import needs
import numpy as np
import pytest

LIBRARY = Path(__file__).parents[1] / "build/dev/tests/libqrnn_deploy_gpu_emulation.so"
NUMPY = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
H200 = 132
"""Multiprocessors."""


@pytest.fixture(scope="module")
def emulation() -> ctypes.CDLL:
    if not LIBRARY.is_file():
        needs.absent("kernel", f"{LIBRARY.name} is not built here (`make programs` builds it)")
    library = ctypes.CDLL(str(LIBRARY))
    pointer, integer, wide = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.qrnn_emulate.argtypes = [
        *[integer] * 4,
        ctypes.c_float,
        *[wide] * 3,
        *[pointer] * 5,
        *[integer] * 4,
    ]
    library.qrnn_plan.argtypes = [
        *(integer, wide, wide, wide, wide, integer, integer, ctypes.c_uint64),
        *(pointer, pointer),
    ]
    return library


def emulate(
    library: ctypes.CDLL,
    case: cases.PoolCase,
    dtype: str,
    plan: tuple[str, int, int],
    gates: np.ndarray,
    c0: np.ndarray,
    lengths: np.ndarray,
    *,
    c_T: np.ndarray | None = None,
    blocks_at_once: int = 3,
) -> tuple[np.ndarray, np.ndarray]:
    """h and c_T; both hold garbage before the call. c_T may be the array c0 itself."""
    h = np.full((case.T, case.B, case.H), 77.0, gates.dtype)
    c_T = np.full((case.B, case.H), 77.0, np.float32) if c_T is None else c_T
    regime, channels, warps = plan
    failed = library.qrnn_emulate(
        cases.POOLING_NAMES.index(case.pooling),
        cases.ACTIVATION_NAMES.index(case.activation),
        gpu_reference.STORAGES.index(dtype),
        case.direction < 0,
        case.zoneout_scale,
        *(case.T, case.B, case.H),
        *(array.ctypes.data for array in (gates, c0, lengths, h, c_T)),
        gpu_reference.REGIMES.index(regime),
        channels,
        warps,
        blocks_at_once,
    )
    assert failed == 0, f"no kernel for {plan}"
    return h.astype(np.float64), c_T


def check(
    library: ctypes.CDLL, case: cases.PoolCase, dtype: str, plan: tuple[str, int, int]
) -> None:
    gates, c0, lengths = case.inputs(NUMPY[dtype])
    h, c_T = emulate(library, case, dtype, plan, gates, c0, lengths)
    expected = case.expected(gates, c0, lengths)
    h_bound, c_bound = gpu_reference.allowed(case, dtype, gates, c0, lengths, *expected)
    assert np.all(np.abs(h - expected[0]) <= h_bound), plan
    assert np.all(np.abs(c_T - expected[1]) <= c_bound), plan
    beyond = np.arange(case.T)[:, None] >= lengths
    assert not h[beyond].any(), plan


@pytest.mark.parametrize("dtype", gpu_reference.STORAGES)
@pytest.mark.parametrize("case", cases.POOL_CASES, ids=str)
def test_parity(emulation: ctypes.CDLL, case: cases.PoolCase, dtype: str) -> None:
    for plan in gpu_reference.plans(case, dtype):
        check(emulation, case, dtype, plan)


LONG = [
    # Several chunks of kScan, and more chunks of kChain than there are between anchors.
    cases.PoolCase(p, T=T, B=3, H=10, direction=direction, lengths="ragged")
    for p in cases.POOLING_NAMES
    for T, direction in ((97, 1), (333, -1), (640, 1))
]


SPANS = [("walk", 1, 2), ("scan", 1, 2), ("scan", 1, 16), ("chain", 1, 1), ("chain", 1, 8)]


@pytest.mark.parametrize("dtype", gpu_reference.STORAGES)
@pytest.mark.parametrize("case", LONG, ids=str)
def test_many_chunks(emulation: ctypes.CDLL, case: cases.PoolCase, dtype: str) -> None:
    for plan in gpu_reference.plans(case, dtype):
        check(emulation, case, dtype, plan)


def test_slow_channels_of_a_long_sequence(emulation: ctypes.CDLL) -> None:
    """1 - g rounded would lose these weights: an error of 1e-4 after 8192 steps."""
    case = cases.PoolCase("f", T=8192, B=1, H=4)
    gates = np.zeros((8192, 1, 8), np.float32)
    gates[..., 4:] = [9.3, 10.7, 11.9, 13.1]
    gates[..., :4] = np.random.default_rng(0).normal(size=(8192, 1, 4))
    c0, lengths = np.full((1, 4), 0.9, np.float32), np.array([8192])
    expected = case.expected(gates, c0, lengths)
    for plan in (("walk", 1, 1), ("scan", 1, 2), ("chain", 1, 2)):
        h, c_T = emulate(emulation, case, "float32", plan, gates, c0, lengths)
        assert np.abs(h - expected[0]).max() < 5e-6, plan
        assert np.abs(c_T - expected[1]).max() < 5e-6, plan


@pytest.mark.parametrize("plan", SPANS, ids=str)
def test_small_states_after_large_ones(emulation: ctypes.CDLL, plan: tuple[str, int, int]) -> None:
    """However large the states before: what a step errs fades with what is kept of it."""
    small = gpu_reference.small_after_large()
    h, c_T = emulate(emulation, small.case, "float32", plan, small.gates, small.c0, small.lengths)
    assert np.max(np.abs(h - small.h) / small.bound) <= 1.0
    assert np.max(np.abs(c_T - small.c_T) / small.bound[-1]) <= 1.0


@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
@pytest.mark.parametrize("regime", ["walk", "scan", "chain"])
def test_nan_and_infinity(emulation: ctypes.CDLL, pooling: str, regime: str) -> None:
    """They spread as in the oracle: along their own lane, forwards only."""
    case = cases.PoolCase(pooling, T=120, B=2, H=6, activation="identity", lengths="ragged")
    gates, c0, lengths = case.inputs(np.float32)
    gates[..., :] = np.clip(gates, -20, 20)
    lengths[:] = [120, 90]
    gates[50, 0, 1] = np.nan  # a candidate
    gates[70, 0, 6 + 2] = np.nan  # a forget gate
    gates[33, 1, 3] = np.inf
    gates[80, 1, 4] = -np.inf
    gates[100, 1, :] = np.nan  # beyond the length
    c0[0, 4], c0[1, 5] = np.inf, np.nan
    gates[:, 0, 6 + 4] = -15.0  # what is kept of an infinite state underflows
    gates[89, 1, 2] = np.inf  # the last step: held
    expected_h, expected_c = case.expected(gates, c0, lengths)
    h, c_T = emulate(emulation, case, "float32", (regime, 1, 2), gates, c0, lengths)
    for got, expected in ((h, expected_h), (c_T, expected_c)):
        assert np.isnan(expected).any()
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
        finite = np.isfinite(expected)
        assert finite.any()
        np.testing.assert_allclose(got[finite], expected[finite], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("plan", SPANS, ids=str)
def test_least_gate_that_keeps_infinity(emulation: ctypes.CDLL, plan: tuple[str, int, int]) -> None:
    case = cases.PoolCase("if", T=300, B=1, H=2, activation="identity")
    gates = np.zeros((300, 1, 6), np.float32)
    gates[..., 2:4] = [-87.0, -60.0]
    c0, lengths = np.full((1, 2), np.inf, np.float32), np.array([300])
    h, c_T = emulate(emulation, case, "float32", plan, gates, c0, lengths)
    assert np.isinf(h).all()
    assert np.isinf(c_T).all()


@pytest.mark.parametrize("dtype", gpu_reference.STORAGES)
def test_saturated_gates(emulation: ctypes.CDLL, dtype: str) -> None:
    """f = 1 keeps the state exactly, f = 0 forgets it, and the product of f's underflows."""
    case = cases.PoolCase("f", T=200, B=1, H=4)
    gates = np.zeros((200, 1, 8), NUMPY[dtype])
    gates[..., 4:] = [np.inf, -np.inf, 120.0, -120.0]
    gates[..., :4] = 0.5
    c0, lengths = np.array([[0.25, 9.0, 0.75, 9.0]], np.float32), np.array([200])
    for plan in gpu_reference.plans(case, dtype):
        _, c_T = emulate(emulation, case, dtype, plan, gates, c0, lengths)
        assert c_T[0, 0] == 0.25
        assert c_T[0, 2] == 0.75
        assert np.allclose(c_T[0, [1, 3]], np.tanh(0.5), atol=1e-6, rtol=5e-4)


@pytest.mark.parametrize("regime", ["step", "walk", "scan", "chain"])
@pytest.mark.parametrize("lengths", ["full", "ragged"])
def test_c_T_may_be_c0(emulation: ctypes.CDLL, regime: str, lengths: Any) -> None:
    case = cases.PoolCase("ifo", T=1 if regime == "step" else 130, B=4, H=6, lengths=lengths)
    gates, c0, counts = case.inputs(np.float32)
    apart = emulate(emulation, case, "float32", (regime, 1, 2), gates, c0, counts)
    state = c0.copy()
    together = emulate(emulation, case, "float32", (regime, 1, 2), gates, state, counts, c_T=state)
    np.testing.assert_array_equal(apart[0], together[0])
    np.testing.assert_array_equal(apart[1], state)


@pytest.mark.parametrize("dtype", gpu_reference.STORAGES)
def test_activations(emulation: ctypes.CDLL, dtype: str) -> None:
    """One step from c0 = 0: c = tanh(x_z) where g = 1, c = sigmoid(-x_f) where z = 1."""
    x = gpu_reference.sampled_floats()
    if dtype != "float32":
        x = np.arange(65536, dtype=np.uint16).view(NUMPY[dtype])
    c0, lengths = np.zeros((1, x.size), np.float32), np.array([1])
    results = []
    for activation, z, f in (
        ("tanh", x, np.full_like(x, -np.inf)),
        ("identity", np.ones_like(x), x),
    ):
        case = cases.PoolCase("f", T=1, B=1, H=x.size, activation=activation)
        gates = np.concatenate([z, f])[None, None]
        _, c_T = emulate(emulation, case, dtype, ("step", 1, 2), gates, c0, lengths)
        results.append(c_T[0])
    tanh, sigmoid = gpu_reference.activation_errors(x, *results)
    assert tanh < 5e-7 + gpu_reference.TANH_ERROR[dtype]
    assert sigmoid < 5e-7


@pytest.mark.parametrize("dtype", gpu_reference.STORAGES)
@pytest.mark.parametrize("pooling", ["fo", "ifo"])
def test_closing_output_gate(emulation: ctypes.CDLL, dtype: str, pooling: str) -> None:
    """o is accurate relative to itself however far it closes; what it lets through of infinity is
    infinite."""
    x = np.arange(-14, 4, 0.125).astype(NUMPY[dtype])
    T, blocks = 40, cases.GATE_COUNT[pooling]
    gates = np.zeros((T, 1, blocks * x.size), NUMPY[dtype])
    gates[..., : x.size] = 1.0
    gates[..., 2 * x.size : 3 * x.size] = x
    lengths = np.array([T])
    case = cases.PoolCase(pooling, T=T, B=1, H=x.size, activation="identity")
    for start in (3.0, np.inf):
        if start == np.inf and pooling == "fo":
            continue  # f and fo make NaN of an infinite state, by the equation
        c0 = np.full((1, x.size), start, np.float32)
        expected, _ = case.expected(gates, c0, lengths)
        assert np.isinf(expected).all() == np.isinf(start)
        for plan in gpu_reference.plans(case, dtype):
            h, _ = emulate(emulation, case, dtype, plan, gates, c0, lengths)
            if start == np.inf:
                np.testing.assert_array_equal(h, expected)
                continue
            allowed = (4e-6 + gpu_reference.UNIT_ROUNDOFF[dtype]) * np.abs(expected)
            assert np.all(np.abs(h - expected) <= allowed + gpu_reference.SMALLEST[dtype]), plan


def test_lengths_are_clamped(emulation: ctypes.CDLL) -> None:
    case = cases.PoolCase("fo", T=40, B=3, H=6)
    gates, c0, _ = case.inputs(np.float32)
    for plan in gpu_reference.plans(case, "float32"):
        wild = emulate(emulation, case, "float32", plan, gates, c0, np.array([-5, 2**40, 17]))
        tame = emulate(emulation, case, "float32", plan, gates, c0, np.array([0, 40, 17]))
        np.testing.assert_array_equal(wild[0], tame[0])
        np.testing.assert_array_equal(wild[1], tame[1])


@pytest.mark.parametrize("regime", ["scan", "chain"])
def test_same_bits_every_time(emulation: ctypes.CDLL, regime: str) -> None:
    """Whatever order the blocks run in."""
    case = cases.PoolCase("fo", T=300, B=2, H=10, lengths="ragged")
    gates, c0, lengths = case.inputs(np.float32)
    first = emulate(emulation, case, "float32", (regime, 1, 1), gates, c0, lengths)
    for blocks_at_once in (1, 2, 5):
        again = emulate(
            emulation,
            *(case, "float32", (regime, 1, 1), gates, c0, lengths),
            blocks_at_once=blocks_at_once,
        )
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])


def test_plans_that_do_not_fit_are_refused(emulation: ctypes.CDLL) -> None:
    odd, long = cases.PoolCase("fo", T=20, H=5), cases.PoolCase("fo", T=20, H=6)
    refused = [
        (odd, "float16", ("walk", 2, 2)),  # an odd number of channels in pairs
        (odd, "float16", ("scan", 1, 2)),
        (long, "float32", ("walk", 2, 2)),
        (long, "float32", ("step", 1, 2)),  # T is not 1
        (long, "float32", ("scan", 1, 17)),
        (long, "float32", ("chain", 1, 9)),
        (long, "float32", ("walk", 1, 0)),
        (replace(long, T=0), "float32", ("scan", 1, 2)),
    ]
    for case, dtype, plan in refused:
        gates, c0, lengths = case.inputs(NUMPY[dtype])
        with pytest.raises(AssertionError, match="no kernel for"):
            emulate(emulation, case, dtype, plan, gates, c0, lengths)


def plan_of(
    library: ctypes.CDLL,
    dtype: str,
    shape: tuple[int, int, int],
    *,
    workspace: int = 2**40,
    address: int = 256,
    multiprocessors: int = H200,
) -> tuple[tuple[str, int, int], int, int]:
    plan, sizes = (ctypes.c_int * 3)(), (ctypes.c_uint64 * 2)()
    storage = gpu_reference.STORAGES.index(dtype)
    library.qrnn_plan(storage, *shape, address, multiprocessors, 90, workspace, plan, sizes)
    return (gpu_reference.REGIMES[plan[0]], plan[1], plan[2]), sizes[0], sizes[1]


@pytest.mark.parametrize(
    ("shape", "regime"),
    [
        ((1, 32, 1550), "step"),
        ((0, 4, 64), "walk"),
        ((9, 1, 64), "walk"),
        ((128, 256, 320), "walk"),
        ((2048, 16, 1024), "scan"),
        ((512, 8, 640), "scan"),
        ((8192, 1, 1024), "chain"),
        ((100000, 1, 1), "chain"),
    ],
)
def test_regime_by_shape(emulation: ctypes.CDLL, shape: tuple[int, int, int], regime: str) -> None:
    (chosen, channels, _), needed, bound = plan_of(emulation, "float32", shape)
    assert (chosen, channels) == (regime, 1)
    assert (needed > 0) == (regime == "chain")
    assert bound >= needed
    assert plan_of(emulation, "bfloat16", shape)[0][1] == (2 if shape[2] % 2 == 0 else 1)
    assert plan_of(emulation, "bfloat16", shape, address=258)[0][1] == 1


@pytest.mark.parametrize("dtype", gpu_reference.STORAGES)
@pytest.mark.parametrize("multiprocessors", [1, 40, H200])
def test_scan_has_warps_to_join(emulation: ctypes.CDLL, dtype: str, multiprocessors: int) -> None:
    """With one warp a scan is a walk with a detour."""
    regimes = set()
    for T in (16, 17, 100, 2048):
        for B in range(1, 100):
            for workspace in (0, 2**40):
                (regime, _, warps), _, _ = plan_of(
                    *(emulation, dtype, (T, B, 1024)),
                    workspace=workspace,
                    multiprocessors=multiprocessors,
                )
                regimes.add(regime)
                assert regime != "scan" or warps > 1, (T, B)
    assert "walk" in regimes
    assert multiprocessors == 1 or "scan" in regimes


def test_a_small_workspace_only_costs_speed(emulation: ctypes.CDLL) -> None:
    _, needed, _ = plan_of(emulation, "float32", (8192, 1, 1024))
    assert plan_of(emulation, "float32", (8192, 1, 1024), workspace=needed)[0][0] == "chain"
    for workspace in (0, needed // 2):
        plan = plan_of(emulation, "float32", (8192, 1, 1024), workspace=workspace)[0]
        assert plan[0] == "scan"


@pytest.mark.parametrize("dtype", gpu_reference.STORAGES)
@pytest.mark.parametrize("multiprocessors", [1, 40, H200])
def test_bound_covers_every_smaller_shape(
    emulation: ctypes.CDLL, dtype: str, multiprocessors: int
) -> None:
    for T, B, H in ((5000, 40, 66), (300, 64, 1024), (20000, 3, 7), (257, 9, 640)):
        bound = plan_of(emulation, dtype, (T, B, H), multiprocessors=multiprocessors)[2]
        for t in {1, T // 2, T - 1, T}:
            for b in range(B + 1):
                for address in (256, 258):
                    _, needed, _ = plan_of(
                        emulation,
                        dtype,
                        (t, b, H),
                        multiprocessors=multiprocessors,
                        address=address,
                    )
                    assert needed <= bound
