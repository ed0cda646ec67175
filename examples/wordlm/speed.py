"""How many words a second each model reads in ONNX Runtime, on one thread.

    python examples/wordlm/speed.py

The models of ``compared/`` take turns within each round, and what counts is the ratio to the LSTM,
taken round by round: a slow moment of the machine hits all of them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import models
import numpy as np

import qrnn_deploy

ROUNDS = 40
SECONDS = 0.05
"""Of each turn, about."""

CHUNKS = (1, 512)
"""Words per call: one, as in generation, and many, as where a text is scored."""


def seconds_per_call(run: Callable[[], Any], count: int) -> float:
    """Mean of ``count`` calls."""
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count


def in_turns(runs: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Seconds per call of each, one value per round; the order turns from round to round."""
    counts = {}
    for name, run in runs.items():
        run()
        counts[name] = max(1, round(SECONDS / seconds_per_call(run, 3)))
    order, times = list(runs), {name: [] for name in runs}
    for number in range(ROUNDS):
        turn = number % len(order)
        for name in order[turn:] + order[:turn]:
            times[name].append(seconds_per_call(runs[name], counts[name]))
    return times


def main() -> None:
    """Measure and print a table."""
    words = data.saved_vocabulary()
    tokens = data.encode(data.parts()["heldout"], words)
    print("| words per call | model | words per second | against the LSTM, median (quartiles) |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        streams = {}
        for name in models.SETTINGS:
            path = Path(folder) / f"{name}.onnx"
            checkpoint = data.HERE / "compared" / f"{name}.safetensors"
            models.export(models.load(name, checkpoint, words), path)
            session = qrnn_deploy.Session(path, kernel="require", threads=1)
            streams[name] = qrnn_deploy.StreamingSession(session)
        for chunk in CHUNKS:
            x = np.ascontiguousarray(tokens[None, :chunk])
            times = in_turns({name: lambda s=s, x=x: s.step(x) for name, s in streams.items()})
            for name, values in times.items():
                rate = chunk / statistics.median(values)
                ratios = [b / a for a, b in zip(values, times["lstm"], strict=True)]
                low, median, high = statistics.quantiles(ratios, n=4)
                print(
                    f"| {chunk} | {name} | {rate:,.0f} | {median:.2f} ({low:.2f} to {high:.2f}) |"
                )


if __name__ == "__main__":
    main()
