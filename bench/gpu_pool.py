"""Measurements of the pooling kernels alone; each prints its table and returns its rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gpu_models
import torch
from gpu_core import CudaError, GpuCore, Plan
from gpu_timing import Rotation, Work, compare, graphed, sets_beyond_cache

Shape = tuple[int, int, int]
Row = dict[str, Any]

# (T, B, H): goal as a share of copy bandwidth, by storage type.
POOL_GOALS: dict[Shape, dict[str, float]] = {
    (2048, 16, 1024): {"float32": 0.85, "bfloat16": 0.75},
    (8192, 1, 1024): {"float32": 0.65},
    (512, 8, 640): {"float32": 0.60},
    (128, 256, 320): {},
    (8192, 1, 1023): {},  # an odd H: 16-bit channels one by one, by walk alone
}
STEP_SHAPE: Shape = (1, 32, 1550)
STEP_GOAL = 1.3
MOST_WARPS = {"walk": 8, "scan": 16, "chain": 8}


class Arrays:
    """Random gates and c0, full lengths, outputs, and the workspace of the core's own choice."""

    def __init__(self, core: GpuCore, shape: Shape, dtype: str) -> None:
        T, B, H = shape
        self.core = core
        self.gates = torch.randn(T, B, 3 * H, device="cuda").to(getattr(torch, dtype))
        self.c0 = torch.randn(B, H, device="cuda")
        self.lengths = torch.full((B,), T, device="cuda")
        self.h = torch.empty(T, B, H, dtype=self.gates.dtype, device="cuda")
        self.c_T = torch.empty_like(self.c0)
        self.plan, needed, _ = core.plan(self.gates, self.h)
        self.workspace = torch.empty(needed, dtype=torch.uint8, device="cuda")

    def pool(self) -> None:
        """As the core chooses."""
        arrays = (self.gates, self.c0, self.lengths, self.h, self.c_T)
        self.core.pool("fo", *arrays, workspace=self.workspace)

    def sweep(self, depth: int, plan: Plan, workspace: torch.Tensor | None) -> None:
        """By another plan and depth."""
        arrays = (self.gates, self.c0, self.lengths, self.h, self.c_T)
        self.core.sweep(depth, plan, *arrays, workspace)

    def traffic(self) -> int:
        """Bytes that the pooling must read and write."""
        item = self.gates.element_size()
        return (self.gates.numel() + self.h.numel()) * item + 8 * self.c0.numel()


def copy_of(total: int) -> Work:
    """A copy that reads and writes `total` bytes together."""
    source = torch.empty(total // 2, dtype=torch.uint8, device="cuda")
    return partial(torch.empty_like(source).copy_, source)


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def measure_pool(core: GpuCore) -> list[Row]:
    """Shares of copy bandwidth: a copy that moves as many bytes, in the same rounds.

    Both in graphs of twenty calls or more, so that no call waits for the host. The chain's clearing
    of its workspace is part of the call.
    """
    rows = []
    for shape, goals in POOL_GOALS.items():
        for dtype in ("float32", "float16", "bfloat16"):
            first = Arrays(core, shape, dtype)
            count = sets_beyond_cache(first.traffic())
            sets = [first, *(Arrays(core, shape, dtype) for _ in range(count - 1))]
            calls = count * -(-20 // count)
            works = {
                "pool": Rotation([arrays.pool for arrays in sets]),
                "copy": Rotation([copy_of(first.traffic()) for _ in sets]),
            }
            replays = {name: graphed(work, calls) for name, work in works.items()}
            times = {name: time.per(calls) for name, time in compare(replays).items()}
            share = times["copy"].median / times["pool"].median
            goal = goals.get(dtype)
            note = "" if goal is None else f" (goal {goal}: {verdict(share >= goal)})"
            print(f"{shape!s:18} {dtype:8} {first.plan[0]:5} pool {times['pool']}", end="")
            print(f"   copy {times['copy']}   share {share:.2f}{note}", flush=True)
            rows.append({"shape": shape, "dtype": dtype, "plan": first.plan, "share": share})
            rows[-1] |= {"goal": goal, "us": {n: vars(t) for n, t in times.items()}}
    return rows


def measure_step(core: GpuCore) -> list[Row]:
    """T = 1 against an empty kernel, per kernel of a graph of a hundred."""
    rows = []
    for dtype in ("float32", "bfloat16"):
        arrays = Arrays(core, STEP_SHAPE, dtype)
        times = compare({"step": graphed(arrays.pool, 100), "empty": graphed(core.empty, 100)})
        ratio = times["step"].median / times["empty"].median
        print(f"{STEP_SHAPE} {dtype:8} step {times['step'].median / 100:.2f} us", end="")
        print(f"   empty {times['empty'].median / 100:.2f} us   {ratio:.2f}x", end="")
        print(f" (goal {STEP_GOAL}: {verdict(ratio <= STEP_GOAL)})", flush=True)
        rows.append({"dtype": dtype, "ratio": ratio, "goal": STEP_GOAL})
        rows[-1] |= {"us_of_100": {n: vars(t) for n, t in times.items()}}
    return rows


def measure_sweep(core: GpuCore) -> list[Row]:
    """Every regime, depth and number of warps at every shape; the five fastest are printed.

    Each in a graph of ten calls on the same arrays, which may stay in the L2 cache.
    """
    rows = []
    for shape in POOL_GOALS:
        if shape[2] % 2 == 1:
            continue
        for dtype in ("float32", "bfloat16"):
            arrays = Arrays(core, shape, dtype)
            works: dict[str, Work] = {}
            for regime, most in MOST_WARPS.items():
                for depth in (4, 8, 16):
                    for warps in (1, 2, 4, 8, 16):
                        if warps > most:
                            continue
                        plan = (regime, 2 if dtype == "bfloat16" else 1, warps)
                        workspace = None
                        if regime == "chain":
                            workspace = core.workspace(arrays.h, plan, depth)
                        work = partial(arrays.sweep, depth, plan, workspace)
                        try:
                            replay = graphed(work, 10)
                        except CudaError as error:
                            print(f"{shape} {dtype} {plan} depth {depth}: {error}")
                        else:
                            works[f"{regime} depth {depth} warps {warps}"] = replay
            times = compare(works, rounds=5, target_ms=5.0)
            times = {name: timing.per(10) for name, timing in times.items()}
            best = sorted(times.items(), key=lambda item: item[1].median)
            fastest = ";  ".join(f"{name} {timing.median:.1f} us" for name, timing in best[:5])
            print(f"{shape!s:18} {dtype:8} {fastest}", flush=True)
            for name, timing in best:
                rows.append({"shape": shape, "dtype": dtype, "kernel": name} | vars(timing))
    return rows


def hgrn(name: str, shape: Shape) -> Work:
    """flash-linear-attention's kernel on [B, T, D]; without activations and output gate."""
    import fla.ops.hgrn

    T, B, H = shape
    x = torch.randn(B, T, H, device="cuda")
    g = torch.nn.functional.logsigmoid(torch.randn(B, T, H, device="cuda"))
    return partial(getattr(fla.ops.hgrn, name), x, g)


def measure_baselines(core: GpuCore) -> list[Row]:
    """The same recurrence by others; what cannot run says why."""
    rows: list[Row] = []
    for shape in ((512, 8, 640), (2048, 16, 1024), (8192, 1, 1024)):
        arrays = Arrays(core, shape, "float32")
        given = (arrays.gates, arrays.c0)
        makers: dict[str, Callable[[], Work]] = {
            "HGRN fused_recurrent (fla)": partial(hgrn, "fused_recurrent_hgrn", shape),
            "HGRN chunk (fla)": partial(hgrn, "chunk_hgrn", shape),
            "torch.compile, associative scan": lambda given=given: partial(
                torch.compile(gpu_models.scanned), *given
            ),
        }
        if shape[0] <= 512:  # the loop is unrolled: beyond that, compiling takes many minutes
            makers["torch.compile, loop"] = lambda given=given: partial(
                torch.compile(gpu_models.reference), *given
            )
        works: dict[str, Work] = {"this core": arrays.pool}
        with torch.no_grad():
            for name, make in makers.items():
                try:
                    work = make()
                    work()
                    torch.cuda.synchronize()
                except Exception as error:  # other people's code: whatever it raises is the result
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    print(f"{shape!s:18} {name}: not measured: {reason[:120]}")
                    rows.append({"shape": shape, "name": name, "not_measured": reason})
                else:
                    works[name] = work
            times = compare(works)
        for name, timing in times.items():
            ratio = timing.median / times["this core"].median
            print(f"{shape!s:18} {name:32} {timing}   {ratio:.2f}x", flush=True)
            rows.append({"shape": shape, "name": name, "ratio": ratio} | vars(timing))
    return rows
