"""The GPU core on a GPU: every kernel, storage type and regime against the float64 oracle.

`make test-gpu` runs these; elsewhere they skip with the reason.
"""

from __future__ import annotations

from typing import Any

import cases
import gpu_build
import gpu_reference
import numpy as np
import pytest

PROBLEM = gpu_build.gpu_problem()
if PROBLEM is not None:
    pytest.skip(PROBLEM, allow_module_level=True)

import torch  # noqa: E402
from gpu_core import CudaError, GpuCore, Plan  # noqa: E402

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
INVALID_VALUE = 1  # cudaErrorInvalidValue


@pytest.fixture(scope="session")
def core() -> GpuCore:
    return GpuCore(gpu_build.build())


class Inputs:
    """A case on the GPU, its gates rounded to the storage type, and what the oracle says."""

    def __init__(self, case: cases.PoolCase, dtype: str) -> None:
        gates, c0, lengths = case.inputs(np.float32)
        self.case, self.dtype = case, dtype
        self.gates = torch.from_numpy(gates).to("cuda", DTYPES[dtype])
        self.c0 = torch.from_numpy(c0).cuda()
        self.lengths = torch.from_numpy(lengths).cuda()
        self.rounded = self.gates.double().cpu().numpy()
        self.expected = case.expected(self.rounded, c0, lengths)
        self.bounds = gpu_reference.allowed(case, dtype, self.rounded, c0, lengths, *self.expected)

    def run(
        self, core: GpuCore, plan: Plan | None, c_T: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        case = self.case
        h = torch.full((case.T, case.B, case.H), 77.0, dtype=self.gates.dtype, device="cuda")
        c_T = torch.full_like(self.c0, 77.0) if c_T is None else c_T
        workspace = core.workspace(h, plan) if plan and plan[0] == "chain" else None
        if plan is None:
            needed = core.plan(self.gates, h)[1]
            workspace = torch.full((needed,), 0xA5, dtype=torch.uint8, device="cuda")
        core.pool(
            case.pooling,
            *(self.gates, self.c0, self.lengths, h, c_T),
            **case.attributes(),
            plan=plan,
            workspace=workspace,
        )
        return h, c_T

    def check(self, core: GpuCore, plan: Plan | None) -> None:
        h, c_T = self.run(core, plan)
        for got, expected, bound in zip((h, c_T), self.expected, self.bounds, strict=True):
            error = np.abs(got.double().cpu().numpy() - expected)
            assert np.all(error <= bound), (plan, np.max(error - bound))
        beyond = torch.arange(self.case.T, device="cuda")[:, None] >= self.lengths
        assert not h[beyond].any(), plan


def all_plans(case: cases.PoolCase, dtype: str) -> list[Plan | None]:
    plans: list[Plan | None] = [None, *gpu_reference.plans(case, dtype)]
    if case.T > 0 and case.B * case.H > 0:
        plans += [("scan", 2 if dtype != "float32" else 1, warps) for warps in (4, 16)]
        plans += [("chain", 2 if dtype != "float32" else 1, 8)]
    pairs = dtype == "float32" or case.H % 2 == 0
    return [p for p in plans if p is None or p[0] in ("walk", "step") or pairs]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", cases.POOL_CASES, ids=str)
def test_parity(core: GpuCore, case: cases.PoolCase, dtype: str) -> None:
    inputs = Inputs(case, dtype)
    for plan in all_plans(case, dtype):
        inputs.check(core, plan)


LARGE = [
    cases.PoolCase(p, T=T, B=B, H=H, direction=direction, lengths="ragged")
    for p in cases.POOLING_NAMES
    for T, B, H, direction in (
        (1, 32, 1550, 1),
        (512, 2, 640, 1),
        (700, 3, 130, -1),
        (4500, 1, 34, 1),
        (17, 40, 1030, -1),
    )
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_parity_of_large_shapes(core: GpuCore, case: cases.PoolCase, dtype: str) -> None:
    inputs = Inputs(case, dtype)
    for plan in all_plans(case, dtype):
        inputs.check(core, plan)


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations(core: GpuCore, dtype: str) -> None:
    """One step from c0 = 0: c = tanh(x_z) where g = 1, c = sigmoid(-x_f) where z = 1."""
    if dtype == "float32":
        x = torch.from_numpy(gpu_reference.sampled_floats()).cuda()
    else:
        every = torch.arange(-32768, 32768, dtype=torch.int32, device="cuda")
        x = every.to(torch.int16).view(DTYPES[dtype])
    c0, lengths = torch.zeros(1, x.numel(), device="cuda"), torch.ones(1, device="cuda").long()
    results = []
    forget, one = torch.full_like(x, -torch.inf), torch.ones_like(x)
    for activation, z, f in (("tanh", x, forget), ("identity", one, x)):
        gates, c_T = torch.cat([z, f])[None, None], torch.empty_like(c0)
        h = torch.empty_like(x)[None, None]
        core.pool("f", gates, c0, lengths, h, c_T, activation=activation)
        results.append(c_T[0].cpu().numpy())
    tanh, sigmoid = gpu_reference.activation_errors(x.float().cpu().numpy(), *results)
    print(f"{dtype}: relative error of tanh {tanh:.2g}, of sigmoid {sigmoid:.2g}")
    assert tanh < 5e-7 + gpu_reference.TANH_ERROR[dtype]
    assert sigmoid < 5e-7


@pytest.mark.parametrize("plan", [("walk", 1, 2), ("scan", 1, 4), ("scan", 1, 16), ("chain", 1, 8)])
def test_small_states_after_large_ones(core: GpuCore, plan: Plan) -> None:
    small = gpu_reference.small_after_large()
    gates, c0, lengths = (torch.from_numpy(x).cuda() for x in small[1:4])
    h = torch.empty((small.case.T, 1, small.case.H), device="cuda")
    c_T = torch.empty_like(c0)
    workspace = core.workspace(h, plan) if plan[0] == "chain" else None
    core.pool(
        *("f", gates, c0, lengths, h, c_T),
        **small.case.attributes(),
        plan=plan,
        workspace=workspace,
    )
    assert np.max(np.abs(h.double().cpu().numpy() - small.h) / small.bound) <= 1.0
    assert np.max(np.abs(c_T.double().cpu().numpy() - small.c_T) / small.bound[-1]) <= 1.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_closing_output_gate(core: GpuCore, dtype: str) -> None:
    """o is accurate relative to itself however far it closes. One step of f = 0 on z = 1: h = o."""
    x = torch.arange(-14, 4, 0.125, device="cuda").to(DTYPES[dtype])
    one = torch.ones_like(x)
    gates = torch.cat([one, -torch.inf * one, x])[None, None]
    c0, lengths = torch.zeros(1, x.numel(), device="cuda"), torch.ones(1, device="cuda").long()
    h, c_T = torch.empty_like(x)[None, None], torch.empty_like(c0)
    core.pool("fo", gates, c0, lengths, h, c_T, activation="identity")
    exact = torch.sigmoid(x.double()).cpu().numpy()
    allowed = (4e-6 + gpu_reference.UNIT_ROUNDOFF[dtype]) * exact + gpu_reference.SMALLEST[dtype]
    assert np.all(np.abs(h[0, 0].double().cpu().numpy() - exact) <= allowed)


@pytest.mark.parametrize("regime", ["walk", "scan", "chain"])
@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
def test_nan_and_infinity(core: GpuCore, pooling: str, regime: str) -> None:
    case = cases.PoolCase(pooling, T=300, B=2, H=66, activation="identity")
    inputs = Inputs(case, "float32")
    gates, c0 = inputs.gates.clamp(-20, 20), inputs.c0
    gates[50, 0, 1] = gates[70, 0, 66 + 2] = torch.nan
    gates[33, 1, 3], gates[290, 1, 4] = torch.inf, -torch.inf
    gates[:, 0, 66 + 4] = -15.0
    c0[0, 4], c0[1, 5] = torch.inf, torch.nan
    inputs.gates = gates
    expected = case.expected(
        gates.double().cpu().numpy(), c0.cpu().numpy(), inputs.lengths.cpu().numpy()
    )
    for got, wanted in zip(inputs.run(core, (regime, 1, 4)), expected, strict=True):
        values = got.double().cpu().numpy()
        np.testing.assert_array_equal(np.isnan(values), np.isnan(wanted))
        np.testing.assert_array_equal(np.isinf(values), np.isinf(wanted))
        finite = np.isfinite(wanted)
        np.testing.assert_allclose(values[finite], wanted[finite], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("regime", ["walk", "scan", "chain"])
def test_c_T_may_be_c0_and_bits_repeat(core: GpuCore, regime: str) -> None:
    case = cases.PoolCase("fo", T=2000, B=3, H=100, lengths="ragged")
    inputs = Inputs(case, "float32")
    first = inputs.run(core, (regime, 1, 4))
    for _ in range(20):
        state = inputs.c0.clone()
        keep, inputs.c0 = inputs.c0, state
        again = inputs.run(core, (regime, 1, 4), c_T=state)
        inputs.c0 = keep
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], state)


def test_lengths_are_clamped(core: GpuCore) -> None:
    inputs = Inputs(cases.PoolCase("fo", T=300, B=3, H=64), "float32")
    for plan in (("walk", 1, 2), ("scan", 1, 4), ("chain", 1, 8)):
        inputs.lengths = torch.tensor([-5, 2**40, 17], device="cuda")
        wild = inputs.run(core, plan)
        inputs.lengths = torch.tensor([0, 300, 17], device="cuda")
        tame = inputs.run(core, plan)
        assert torch.equal(wild[0], tame[0])
        assert torch.equal(wild[1], tame[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_unaligned_pairs(core: GpuCore, dtype: str) -> None:
    """An even H in an array that starts at an odd element: the core takes channels one by one."""
    case = cases.PoolCase("fo", T=40, B=2, H=34, lengths="ragged")
    inputs = Inputs(case, dtype)
    shifted = torch.empty(inputs.gates.numel() + 1, dtype=inputs.gates.dtype, device="cuda")[1:]
    shifted.copy_(inputs.gates.flatten())
    inputs.gates = shifted.view(inputs.gates.shape)
    inputs.check(core, None)
    with pytest.raises(CudaError) as caught:
        inputs.run(core, ("walk", 2, 2))
    assert caught.value.code == INVALID_VALUE


def test_plans_that_do_not_fit_are_refused(core: GpuCore) -> None:
    """By the core itself; what CUDA refuses is in gpu_check --errors."""
    inputs = Inputs(cases.PoolCase("fo", T=40, B=2, H=34), "float32")
    for plan in (("step", 1, 2), ("scan", 1, 17), ("walk", 2, 2)):
        with pytest.raises(CudaError) as caught:
            inputs.run(core, plan)
        assert caught.value.code == INVALID_VALUE
    h = torch.empty((40, 2, 34), device="cuda")
    small = torch.empty(64, dtype=torch.uint8, device="cuda")
    arguments: Any = (inputs.gates, inputs.c0, inputs.lengths, h, torch.empty_like(inputs.c0))
    with pytest.raises(CudaError):
        core.pool("fo", *arguments, plan=("chain", 1, 8), workspace=small)
    core.pool("fo", *arguments, workspace=small)  # by its own choice: only slower
    torch.cuda.synchronize()


@pytest.mark.parametrize("shape", [(1, 32, 1550), (512, 8, 640), (8192, 1, 1024)], ids=str)
def test_graph_replays_with_new_values(core: GpuCore, shape: tuple[int, int, int]) -> None:
    """Captured once, replayed on other inputs at the same addresses, state carried in place."""
    T, B, H = shape
    gates = torch.randn(T, B, 3 * H, device="cuda")
    state = torch.zeros(B, H, device="cuda")
    lengths = torch.full((B,), T, device="cuda")
    h = torch.empty(T, B, H, device="cuda")
    workspace = torch.empty(core.plan(gates, h)[1], dtype=torch.uint8, device="cuda")

    def step() -> None:
        core.pool("fo", gates, state, lengths, h, state, workspace=workspace)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    state.zero_()
    captured, plain = [], []
    inputs = [torch.randn_like(gates) for _ in range(3)]
    for values in inputs:
        gates.copy_(values)
        graph.replay()
        captured.append((h.clone(), state.clone()))
    state.zero_()
    for values in inputs:
        gates.copy_(values)
        step()
        plain.append((h.clone(), state.clone()))
    for one, other in zip(captured, plain, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_stream_in_chunks_agrees_with_the_whole(core: GpuCore, dtype: str) -> None:
    """Within tolerance, not bit for bit: other lengths take other kernels."""
    case = cases.PoolCase("fo", T=1200, B=2, H=64)
    whole = Inputs(case, dtype)
    h, c_T = whole.run(core, None)
    state, pieces, start = whole.c0.clone(), [], 0
    for steps in (1, 1, 7, 300, 1, 640, 250):
        gates = whole.gates[start : start + steps].contiguous()
        piece = torch.empty(steps, 2, 64, dtype=gates.dtype, device="cuda")
        lengths = torch.full((2,), steps, device="cuda")
        needed = core.plan(gates, piece)[1]
        workspace = torch.empty(needed, dtype=torch.uint8, device="cuda")
        core.pool("fo", gates, state, lengths, piece, state, workspace=workspace)
        pieces.append(piece)
        start += steps
    assert start == case.T
    difference = (torch.cat(pieces).double() - h.double()).abs().cpu().numpy()
    assert np.all(difference <= 2 * whole.bounds[0])
    assert np.all((state - c_T).abs().cpu().numpy() <= 2 * whole.bounds[1])


def test_bound_of_the_workspace_is_enough(core: GpuCore) -> None:
    h = torch.empty((3000, 4, 96), device="cuda")
    gates = torch.empty((3000, 4, 288), device="cuda")
    bound = core.plan(gates, h)[2]
    for steps in (1, 255, 256, 1000, 3000):
        for batch in (1, 2, 4):
            assert core.plan(gates, h[:steps, :batch])[1] <= bound
