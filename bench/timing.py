"""Timing side by side: competitors take turns, so that a slow moment of the machine hits all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of ``values``."""
        return cls(statistics.median(values), min(values), max(values))


def take_turns(
    runs: Mapping[str, Callable[[], object]], *, rounds: int = 15, seconds: float = 0.05
) -> dict[str, list[float]]:
    """Seconds per call of each run, one value per round.

    A run is repeated within a round until it has taken ``seconds``. The order of the competitors
    turns from round to round, and a first round is thrown away.
    """
    counts = {}
    for name, run in runs.items():
        run()
        start = time.perf_counter()
        run()
        counts[name] = max(1, round(seconds / max(time.perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for number in range(rounds + 1):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            run, count = runs[name], counts[name]
            start = time.perf_counter()
            for _ in range(count):
                run()
            if number:
                times[name].append((time.perf_counter() - start) / count)
    return times


def ratio(numerator: list[float], denominator: list[float]) -> Spread:
    """The ratio round by round: each pair was measured within the same moment."""
    return Spread.of([a / b for a, b in zip(numerator, denominator, strict=True)])
