"""The speed goals of the GPU core, each beside the limit of this GPU: `make bench-gpu`.

Writes build/gpu/bench.json and, where matplotlib is installed, a heat map of the LSTM grid; prints
tables. Exit status: 0 all was measured, 1 a part failed (the file says why), 2 nothing can be
measured here.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests/gpu")]

import gpu_build  # noqa: E402

PLAN = {
    "pool": "fo-pooling at four shapes in three types, beside copies of as many bytes",
    "step": "T=1 against an empty kernel",
    "sweep": "every regime at depths 4, 8, 16 and 1 to 16 warps",
    "baselines": "torch.compile of the loop and of an associative scan; HGRN, if fla is installed",
    "lstm": "a layer of 320 against torch.nn.LSTM over the paper's grid, with TF32 and without",
    "stack": "two layers of 640 against a two-layer torch.nn.LSTM",
    "stream": "a step of that stack in a graph against an empty graph and reading the weights",
}


def measure_all(
    parts: dict[str, Callable[[], Any]], report: dict[str, Any], path: Path
) -> list[str]:
    """Measures the parts in turn into `report` and rewrites the file after each.

    One that fails is recorded with its error, and the others still run. Returns the failed ones.
    """
    failed = []
    for name, measure in parts.items():
        print(f"== {name}: {PLAN[name]}", flush=True)
        try:
            report[name] = measure()
        except Exception as error:  # whatever stops one part must not cost the others
            traceback.print_exc()
            reason = (str(error).splitlines() or [""])[0]
            report[name] = {"failed": f"{type(error).__name__}: {reason}"}
            failed.append(name)
        path.write_text(json.dumps(report, indent=1) + "\n")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="compile and list; measure nothing")
    parser.add_argument("--only", nargs="+", choices=list(PLAN), metavar="NAME")
    parser.add_argument("--heat-map", type=Path, default=gpu_build.BUILD / "lstm-grid.png")
    arguments = parser.parse_args()
    problem = gpu_build.gpu_problem()
    if problem is not None and not arguments.dry_run:
        print(f"bench-gpu: nothing to measure: {problem}", file=sys.stderr)
        return 2
    try:
        library = gpu_build.build()
    except gpu_build.CannotBuild as error:
        print(f"bench-gpu: nothing to measure: {error}", file=sys.stderr)
        return 2
    print(f"built {library.relative_to(gpu_build.ROOT)}")
    names = arguments.only or list(PLAN)
    if arguments.dry_run:
        for name in names:
            print(f"would measure {name}: {PLAN[name]}")
        return 0

    import gpu_core
    import gpu_layers
    import gpu_pool

    core = gpu_core.GpuCore(library)
    report: dict[str, Any] = {"date": datetime.date.today().isoformat(), **gpu_build.device_facts()}
    print(", ".join(report.values()))
    path = gpu_build.BUILD / "bench.json"
    parts = {}
    for name in names:
        module = gpu_layers if name in ("lstm", "stack", "stream") else gpu_pool
        parts[name] = partial(getattr(module, f"measure_{name}"), core)
    failed = measure_all(parts, report, path)
    if "lstm" in report and "lstm" not in failed:
        try:
            gpu_layers.heat_map(report["lstm"], arguments.heat_map)
            print(f"wrote {arguments.heat_map}")
        except ImportError:
            print("matplotlib is not installed: no heat map")
    print(f"wrote {path}")
    for name in failed:
        print(f"bench-gpu: {name} failed: {report[name]['failed']}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
