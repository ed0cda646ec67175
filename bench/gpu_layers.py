"""Measurements of layers and stacks around the pooling; each prints its table, returns its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gpu_core import GpuCore
from gpu_models import Stack
from gpu_pool import copy_of, verdict
from gpu_timing import compare, graphed
from torch import Tensor, nn

Row = dict[str, Any]

BATCHES, STEPS = (8, 16, 32, 64, 128, 256), (32, 64, 128, 256, 512)
# Bradbury et al. 2016, figure 4, right: speed-up over cuDNN's LSTM, by batch and T as above.
PAPER = (
    (5.5, 8.8, 11.0, 12.4, 16.9),
    (5.5, 6.7, 7.8, 8.3, 10.8),
    (4.2, 4.5, 4.9, 4.9, 6.4),
    (3.0, 3.0, 3.0, 3.0, 3.7),
    (2.1, 1.9, 2.0, 2.0, 2.4),
    (1.4, 1.4, 1.3, 1.3, 1.3),
)
GRID_HIDDEN = 320
STACK = [640, 640, 640]
STREAM_GOAL = 1.5


class CorePool:
    """The core as the pool of a Stack; full lengths are made once per shape."""

    def __init__(self, core: GpuCore, device: str = "cuda") -> None:
        self.core, self.device = core, device
        self._lengths: dict[tuple[int, int], Tensor] = {}

    def lengths(self, T: int, B: int) -> Tensor:
        """[B] int64, all T."""
        if (T, B) not in self._lengths:
            self._lengths[T, B] = torch.full((B,), T, device=self.device)
        return self._lengths[T, B]

    def __call__(self, gates: Tensor, c0: Tensor) -> tuple[Tensor, Tensor]:
        """From gates [T, B, 3H] and c0 [B, H] to h [T, B, H] and c_T [B, H]."""
        T, B, H = gates.shape[0], *c0.shape
        h, c_T = gates.new_empty(T, B, H), torch.empty_like(c0)
        needed = self.core.plan(gates, h)[1]
        workspace = torch.empty(needed, dtype=torch.uint8, device="cuda")
        self.core.pool("fo", gates, c0, self.lengths(T, B), h, c_T, workspace=workspace)
        return h, c_T


def against_lstm(core: GpuCore, sizes: list[int], T: int, B: int) -> Row:
    """A stack and a torch.nn.LSTM of the same sizes, float32, both in a CUDA graph."""
    stack = Stack(sizes, CorePool(core)).cuda()
    lstm = nn.LSTM(sizes[0], sizes[1], num_layers=len(sizes) - 1).cuda()
    x = torch.randn(T, B, sizes[0], device="cuda")
    states = stack.zero_states(B)
    with torch.no_grad():
        works = {"qrnn": graphed(lambda: stack(x, states)), "lstm": graphed(lambda: lstm(x))}
        times = compare(works, rounds=9, target_ms=5.0)
    ratio = times["lstm"].median / times["qrnn"].median
    return {"T": T, "B": B, "ratio": ratio, "us": {n: vars(t) for n, t in times.items()}}


def set_tf32(allowed: bool) -> None:
    """For matrix products and cuDNN alike."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def measure_lstm(core: GpuCore) -> list[Row]:
    """The grid of the paper's figure 4, with TF32 and without, the same for both."""
    rows = []
    for tf32 in (True, False):
        set_tf32(tf32)
        print(f"TF32 {'on' if tf32 else 'off'} for both; speed-up over cuDNN's LSTM (paper's)")
        print("batch " + "".join(f"{f'T={T}':>15}" for T in STEPS))
        for B, papers in zip(BATCHES, PAPER, strict=True):
            line = f"{B:5} "
            for T, paper in zip(STEPS, papers, strict=True):
                rows.append(against_lstm(core, [GRID_HIDDEN, GRID_HIDDEN], T, B))
                rows[-1] |= {"tf32": tf32, "paper": paper}
                line += f"{rows[-1]['ratio']:8.1f} ({paper:4.1f})"
            print(line, flush=True)
    set_tf32(True)
    return rows


def measure_stack(core: GpuCore) -> list[Row]:
    """Two layers of 640 against a two-layer LSTM, TF32 for both."""
    set_tf32(True)
    rows = []
    for T, B in ((512, 1), (512, 8), (128, 32), (128, 256)):
        rows.append(against_lstm(core, STACK, T, B))
        us = rows[-1]["us"]
        print(f"T={T} B={B}: {rows[-1]['ratio']:.1f}x", end="   ")
        print(f"{us['qrnn']['median']:.1f} us, LSTM {us['lstm']['median']:.1f} us", flush=True)
    return rows


class StreamingStep:
    """One step of one row through a stack, state kept in place: three kernels per layer.

    A layer's window holds its previous input and the present one; the pooling below writes its
    h there.
    """

    def __init__(self, core: GpuCore, stack: Stack) -> None:
        weight = stack.layers[0].weight
        self.pool, self.layers = CorePool(core, str(weight.device)), stack.layers
        self.windows = [weight.new_zeros(1, 1, layer.in_features) for layer in self.layers]
        self.states = [c for c, _ in stack.zero_states(1)]
        self.x = torch.randn_like(self.present(0))
        self.y = weight.new_empty(1, 1, self.layers[-1].out_features // 3)

    def present(self, layer: int) -> Tensor:
        """Where that layer's input goes; the output's place for the one past the last."""
        if layer == len(self.windows):
            return self.y
        window = self.windows[layer]
        return window[..., window.shape[-1] // 2 :]

    def __call__(self) -> None:
        """From self.x to self.y."""
        self.present(0).copy_(self.x)
        for i, (layer, window, c) in enumerate(
            zip(self.layers, self.windows, self.states, strict=True)
        ):
            gates = layer(window)
            window[..., : window.shape[-1] // 2].copy_(self.present(i))
            self.pool.core.pool("fo", gates, c, self.pool.lengths(1, 1), self.present(i + 1), c)


def measure_stream(core: GpuCore) -> list[Row]:
    """A step in a graph against launching an empty graph plus reading the weights.

    The weights are read as the step finds them: from the cache where they fit.
    """
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        stack = Stack(STACK, CorePool(core)).to("cuda", dtype)
        weights = stack.weight_bytes()
        with torch.no_grad():
            works = {
                "step": graphed(StreamingStep(core, stack)),
                "empty": graphed(core.empty),
                "20 reads": graphed(copy_of(weights), 20),
            }
            times = compare(works)
        read = max(0.0, times["20 reads"].median - times["empty"].median) / 20
        limit = times["empty"].median + read
        ratio = times["step"].median / limit
        name = str(dtype).removeprefix("torch.")
        print(f"{name:8} step {times['step'].median:.2f} us   limit {limit:.2f} us", end="")
        print(f"   {ratio:.2f}x (goal {STREAM_GOAL}: {verdict(ratio <= STREAM_GOAL)})", flush=True)
        rows.append({"dtype": name, "ratio": ratio, "limit_us": limit, "weights": weights})
        rows[-1] |= {"us": {n: vars(t) for n, t in times.items()}}
    return rows


def heat_map(rows: list[Row], path: Path) -> None:
    """The measured speed-ups over the LSTM with TF32, as an image. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cells = {(row["B"], row["T"]): row["ratio"] for row in rows if row["tf32"]}
    values = [[cells[B, T] for T in STEPS] for B in BATCHES]
    figure, axes = pyplot.subplots(figsize=(6, 4.5))
    axes.imshow(values, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(STEPS)), [str(T) for T in STEPS])
    axes.set_yticks(range(len(BATCHES)), [str(B) for B in BATCHES])
    axes.set_xlabel("sequence length")
    axes.set_ylabel("batch")
    middle = (max(map(max, values)) + min(map(min, values))) / 2
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            color = "black" if value > middle else "white"
            axes.text(column, row, f"{value:.1f}x", ha="center", va="center", color=color)
    axes.set_title(f"QRNN layer of {GRID_HIDDEN} against cuDNN's LSTM, TF32")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
