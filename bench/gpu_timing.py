"""Timing on the GPU: CUDA events, rounds that alternate between the candidates, medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Microseconds: the median over the rounds, and the least and the most."""

    median: float
    least: float
    most: float

    def per(self, calls: int) -> Timing:
        """Of one call, where so many were timed as one."""
        return Timing(self.median / calls, self.least / calls, self.most / calls)

    def __str__(self) -> str:
        return f"{self.median:9.2f} us ({self.least:.2f} to {self.most:.2f})"


def once(work: Work, repeats: int) -> float:
    """Microseconds of one call, by events around `repeats` of them."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1000.0 / repeats


def compare(works: dict[str, Work], rounds: int = 15, target_ms: float = 20.0) -> dict[str, Timing]:
    """Every candidate in every round, so that clocks and neighbours are the same for all.

    Each is called as often per round as takes about `target_ms`.
    """
    repeats = {}
    for name, work in works.items():
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        repeats[name] = max(1, min(2000, int(target_ms * 1000.0 / max(once(work, 3), 0.5))))
    samples: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            samples[name].append(once(work, repeats[name]))
    return {name: Timing(statistics.median(s), min(s), max(s)) for name, s in samples.items()}


def graphed(work: Work, calls: int = 1) -> Work:
    """`calls` calls captured into one CUDA graph; the result replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            work()
    return graph.replay


class Rotation:
    """Calls one of several works in turn, whose data together are larger than the L2 cache."""

    def __init__(self, works: list[Work]) -> None:
        self._works = works
        self._next = 0

    def __call__(self) -> None:
        """The next one."""
        self._works[self._next]()
        self._next = (self._next + 1) % len(self._works)


def sets_beyond_cache(bytes_per_set: int) -> int:
    """How many sets of that size are at least four times the L2 cache, at most 64."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(1, min(64, -(-4 * cache // max(bytes_per_set, 1))))
