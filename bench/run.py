"""Every speed goal of the CPU path, measured in one run: `make bench`.

Only ratios count: competitors take turns within each round and the ratio is taken round by
round. Writes a Markdown table with --markdown.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import models
import numpy as np
import onnxruntime
import rhn_layers
import sru_layers
from timing import Spread, ratio, take_turns

from qrnn_deploy.runtime import Session, StreamingSession
from qrnn_deploy.runtime.library import load_library


@dataclass(frozen=True)
class Row:
    """One goal. ``better`` is ``high`` or ``low``; ``goal`` None is reported only."""

    name: str
    value: Spread
    goal: float | None
    better: str = "high"
    unit: str = "x"

    @property
    def verdict(self) -> str:
        """Whether the median meets the goal."""
        if self.goal is None:
            return "reported"
        met = self.value.median >= self.goal if self.better == "high" else (
            self.value.median <= self.goal
        )  # fmt: skip
        return "met" if met else "MISSED"

    def cells(self) -> list[str]:
        """Goal, measured median, spread, verdict."""
        sign = {"high": ">=", "low": "<="}[self.better]
        goal = "-" if self.goal is None else f"{sign} {self.goal:g} {self.unit}"
        spread = f"{self.value.low:.2f}..{self.value.high:.2f}"
        return [self.name, goal, f"{self.value.median:.2f} {self.unit}", spread, self.verdict]


def options(threads: int) -> onnxruntime.SessionOptions:
    """ONNX Runtime options shared by all competitors."""
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.add_session_config_entry("session.force_spinning_stop", "1")
    return chosen


def bare(path: Path, feed: dict[str, np.ndarray], *, kernel: bool) -> Callable[[], object]:
    """A session's run_with_iobinding with inputs and outputs bound once."""
    chosen = options(1)
    if kernel:
        library = load_library()
        assert library is not None, "build the kernel library first: make setup"
        chosen.register_custom_ops_library(str(library.path))
    session = onnxruntime.InferenceSession(str(path), chosen)
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    first = session.run(None, feed)
    kept = [onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(value)) for value in first]
    for output, value in zip(session.get_outputs(), kept, strict=True):
        binding.bind_ortvalue_output(output.name, value)
    run = session.run_with_iobinding
    return lambda: (run(binding), kept)[0]


def stack_rows(folder: Path, rounds: int) -> list[Row]:
    """The whole stack against ORT's LSTM and against its own matrix products."""
    models.write_stack(folder / "stack.onnx")
    models.write_lstm(folder / "lstm.onnx")
    models.write_products(folder / "products.onnx")
    rng = np.random.default_rng(0)
    rows = []
    for (time, batch), goal in (((512, 1), 7.0), ((512, 8), 1.75), ((128, 32), 1.3)):
        x = rng.standard_normal((batch, time, models.HIDDEN)).astype(np.float32)
        wide = rng.standard_normal((time, batch, 2 * models.HIDDEN)).astype(np.float32)
        turned = np.ascontiguousarray(x.transpose(1, 0, 2))
        runs = {
            "stack": bare(folder / "stack.onnx", {"x": x}, kernel=True),
            "function": bare(folder / "stack.onnx", {"x": x}, kernel=False),
            "lstm": bare(folder / "lstm.onnx", {"x": turned}, kernel=False),
            "products": bare(folder / "products.onnx", {"x0": wide, "x1": wide}, kernel=False),
        }
        times = take_turns(runs, rounds=rounds)
        at = f"T={time} B={batch}"
        rows.append(Row(f"ORT LSTM / our stack, {at}", ratio(times["lstm"], times["stack"]), goal))
        limit = f"its limit: ORT LSTM / our MatMul alone, {at}"
        rows.append(Row(limit, ratio(times["lstm"], times["products"]), None))
        outside = [1 - b / a for a, b in zip(times["stack"], times["products"], strict=True)]
        name = f"share of the stack outside MatMul, {at}"
        rows.append(Row(name, Spread.of(outside), 0.12, "low", ""))
        rows.append(
            Row(f"stack, function / kernel, {at}", ratio(times["function"], times["stack"]), None)
        )
    return rows


def pool_rows(folder: Path, rounds: int) -> list[Row]:
    """Our kernel against our own function body, pooling alone."""
    models.write_pool(folder / "pool.onnx")
    rng = np.random.default_rng(0)
    rows = []
    for time, batch, hidden in ((512, 8, 640), (4096, 1, 1024), (512, 1, 640)):
        feed = {
            "gates": rng.standard_normal((time, batch, 3 * hidden)).astype(np.float32),
            "c0": np.zeros((batch, hidden), np.float32),
            "lengths": np.full((batch,), time, np.int64),
        }
        runs = {
            "kernel": bare(folder / "pool.onnx", feed, kernel=True),
            "function": bare(folder / "pool.onnx", feed, kernel=False),
        }
        times = take_turns(runs, rounds=rounds)
        name = f"pool, function / kernel, T={time} B={batch} H={hidden}"
        rows.append(Row(name, ratio(times["function"], times["kernel"]), None))
    return rows


def sru_rows(folder: Path, rounds: int) -> list[Row]:
    """SRU: our kernel against our function body, and the stack against the ``sru`` package."""
    feed = sru_layers.write_pool(folder / "sru_pool.onnx", models.save)
    runs = {
        "kernel": bare(folder / "sru_pool.onnx", feed, kernel=True),
        "function": bare(folder / "sru_pool.onnx", feed, kernel=False),
    }
    times = take_turns(runs, rounds=rounds)
    at = f"T={sru_layers.TIME} B={sru_layers.BATCH} H={sru_layers.HIDDEN}"
    rows = [
        Row(f"SRU pool, function / kernel, {at}", ratio(times["function"], times["kernel"]), None)
    ]
    model = sru_layers.upstream()
    sru_layers.write_stack(folder / "sru.onnx", model)
    shape = (sru_layers.BATCH, sru_layers.TIME, sru_layers.HIDDEN)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    runs = {
        "ours": bare(folder / "sru.onnx", {"x": x}, kernel=True),
        "package": sru_layers.package_run(model),
    }
    times = take_turns(runs, rounds=rounds)
    name = f"the sru package (C++, PyTorch) / our SRU stack, 2 layers, {at}"
    return [*rows, Row(name, ratio(times["package"], times["ours"]), 1.0)]


def rhn_rows(folder: Path, rounds: int) -> list[Row]:
    """How much of a highway layer's time a kernel could save at most: what is not its products."""
    rows = []
    for time, batch, hidden in ((64, 1, 640), (64, 8, 640), (64, 8, 64)):
        rhn_layers.write_layer(folder / "rhn.onnx", hidden)
        rhn_layers.write_products(folder / "rhn_products.onnx", hidden, models.save)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((batch, time, hidden)).astype(np.float32)
        state = {"s0": np.zeros((batch, hidden), np.float32)}
        runs = {
            "layer": bare(folder / "rhn.onnx", {"x": x}, kernel=False),
            "products": bare(
                folder / "rhn_products.onnx",
                {**state, "x": np.zeros((time, batch, 1), np.float32)},
                kernel=False,
            ),
        }
        times = take_turns(runs, rounds=rounds)
        at = f"T={time} B={batch} H={hidden} depth {rhn_layers.DEPTH}"
        name = f"RHN layer / its products of the state alone, {at}"
        rows.append(Row(name, ratio(times["layer"], times["products"]), None))
    return rows


def streaming_rows(folder: Path, rounds: int) -> list[Row]:
    """What StreamingSession.step adds to a bare run_with_iobinding, T=1."""
    path = folder / "stream.onnx"
    models.write_stack(path, hidden=64, states="separate")
    session = Session(path, threads=1)
    x = np.random.default_rng(0).standard_normal((1, 1, 64)).astype(np.float32)
    stream = StreamingSession(session, 1)
    stream.step(x)
    feed = {"x": x} | {s.input: np.zeros((1, *s.shape), s.dtype) for s in session.metadata.states}
    runs = {
        "stream": lambda: stream.step(x),
        "bare": bare(path, feed, kernel=True),
        "session.run": lambda: session.onnxruntime_session.run(None, feed),
    }
    times = take_turns(runs, rounds=rounds)
    added = [1e6 * (a - b) for a, b in zip(times["stream"], times["bare"], strict=True)]
    plain = [1e6 * (a - b) for a, b in zip(times["session.run"], times["bare"], strict=True)]
    return [
        Row("StreamingSession.step adds to run_with_iobinding", Spread.of(added), 10, "low", "us"),
        Row("session.run adds to run_with_iobinding", Spread.of(plain), None, "low", "us"),
    ]


def memory_rows(program: Path | None) -> list[Row]:
    """The C++ pool against a stream of the same bytes; the program prints JSON."""
    if program is None:
        print("not measured: pool against a stream (--pool-bench names the built program)")
        return []
    rows = []
    for pooling, what, wanted in (("fo", "pool", 0.6), ("sru", "SRU pool", 0.5)):
        command = [program, "--json", "--pooling", pooling]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        report = json.loads(done.stdout)
        at = f"T={report['T']} B={report['B']} H={report['H']}"
        for result in report["results"]:
            threads = result["threads"]
            where = f"{at}, {threads} thread{'s' if threads > 1 else ''}"
            goal = wanted if threads == 1 else None
            name = f"{what} / stream of its bytes, {where}"
            rows.append(Row(name, Spread(*result["ratio"]), goal))
            name = f"{what} / the faster of two streams (non-temporal stores too), {where}"
            rows.append(Row(name, Spread(*result["strict_ratio"]), None))
    return rows


def main() -> None:
    """Run everything, print the table, optionally write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds per comparison")
    parser.add_argument("--pool-bench", type=Path, help="the built C++ program pool_bench")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a goal is missed")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = (
            lambda: memory_rows(arguments.pool_bench),
            lambda: pool_rows(folder, arguments.rounds),
            lambda: stack_rows(folder, arguments.rounds),
            lambda: sru_rows(folder, arguments.rounds),
            lambda: rhn_rows(folder, arguments.rounds),
            lambda: streaming_rows(folder, arguments.rounds),
        )
        for part in parts:
            for row in part():
                rows.append(row)
                print("  ".join(row.cells()), flush=True)
    if arguments.markdown:
        write_markdown(arguments.markdown, rows)
    missed = [row.name for row in rows if row.verdict == "MISSED"]
    if missed and arguments.strict:
        sys.exit(f"missed: {'; '.join(missed)}")


def write_markdown(path: Path, rows: list[Row]) -> None:
    """The table with the machine it was measured on."""
    head = ["goal", "wanted", "median", "spread", ""]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    library = load_library()
    machine = (
        f"{processor()}, {os.cpu_count()} cores; {platform.system()}, CPython "
        f"{platform.python_version()}, ONNX Runtime {onnxruntime.__version__}, kernel "
        f"{library.isa if library else 'absent'}"
    )
    table = "\n".join(lines)
    today = datetime.date.today().isoformat()
    path.write_text(TEMPLATE.format(machine=machine, date=today, table=table))


def processor() -> str:
    """The processor's name as Linux tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


TEMPLATE = """# Benchmarks

Written by `make bench`. Ratios only: the competitors take turns within each round, the ratio is
taken round by round, and the table shows the median over the rounds with the smallest and largest.
One thread; two layers, H = 640, k = 2, fo-pooling, float32 where nothing else is said. "LSTM" is
ONNX Runtime's own LSTM operator with as many inputs, layers and hidden units.

The stack can be no faster than its own matrix products, so "its limit" says what the LSTM ratio
would be if everything but MatMul took no time. Where a goal lies above that limit, no change around
the product can reach it on this machine: the goals were set on another one, where the same product
was faster beside ONNX Runtime's LSTM.

Machine: {machine}. Measured {date}.

{table}
"""

if __name__ == "__main__":
    main()
