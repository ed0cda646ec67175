"""The speed goals of the GPU core, each beside the limit of this GPU: `make bench-gpu`.

Writes build/gpu/bench.json and, where matplotlib is installed, a heat map of the LSTM grid; prints
tables. Exit status 2 where nothing can be measured.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
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
    for name in names:
        print(f"== {name}: {PLAN[name]}", flush=True)
        module = gpu_layers if name in ("lstm", "stack", "stream") else gpu_pool
        report[name] = getattr(module, f"measure_{name}")(core)
        path.write_text(json.dumps(report, indent=1) + "\n")
    if "lstm" in report:
        try:
            gpu_layers.heat_map(report["lstm"], arguments.heat_map)
            print(f"wrote {arguments.heat_map}")
        except ImportError:
            print("matplotlib is not installed: no heat map")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
