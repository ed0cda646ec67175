"""Everything that only a GPU can show about this checkout: `make test-gpu`.

Builds the GPU core, runs the tests of this folder, and compute-sanitizer's memcheck and racecheck
over every kernel where that tool is installed. Writes build/gpu/report.json: each check with date,
device, driver and result. Exit status: 0 all passed, 1 a check failed, 2 nothing can run here.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
from pathlib import Path

import gpu_build

SANITIZERS = {"memcheck": [], "racecheck": ["--quick"]}


def find_sanitizer() -> str | None:
    """The compute-sanitizer, or None."""
    usual = Path("/usr/local/cuda/bin/compute-sanitizer")
    return shutil.which("compute-sanitizer") or (str(usual) if usual.is_file() else None)


def checks() -> dict[str, list[str]]:
    """Name and command of each check."""
    here = Path(__file__).parent
    commands = {
        "tests": [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-c", str(gpu_build.ROOT / "pyproject.toml"), str(here)),
        ],
        "every kernel": [str(gpu_build.BUILD / "gpu_check")],
    }
    sanitizer = find_sanitizer()
    if sanitizer is not None:
        for tool, arguments in SANITIZERS.items():
            commands[f"compute-sanitizer {tool}"] = [
                *(sanitizer, "--tool", tool, "--error-exitcode", "9"),
                *(str(gpu_build.BUILD / "gpu_check"), *arguments),
            ]
    return commands


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="compile and list; run nothing")
    arguments = parser.parse_args()
    problem = gpu_build.gpu_problem()
    if problem is not None and not arguments.dry_run:
        print(f"test-gpu: nothing to run: {problem}", file=sys.stderr)
        return 2
    try:
        library = gpu_build.build()
    except gpu_build.CannotBuild as error:
        print(f"test-gpu: nothing to run: {error}", file=sys.stderr)
        return 2
    print(f"built {library.relative_to(gpu_build.ROOT)}")
    if find_sanitizer() is None:
        print("compute-sanitizer is not installed: memcheck and racecheck are left out")
    if arguments.dry_run:
        for name, command in checks().items():
            print(f"would run {name}: {' '.join(command)}")
        return 0

    results = {}
    for name, command in checks().items():
        print(f"== {name}", flush=True)
        results[name] = "passed" if subprocess.run(command).returncode == 0 else "FAILED"
    report = {
        "date": datetime.date.today().isoformat(),
        **gpu_build.device_facts(),
        "results": results,
    }
    path = gpu_build.BUILD / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    for name, result in results.items():
        print(f"{result}  {name}")
    return 0 if set(results.values()) == {"passed"} else 1


if __name__ == "__main__":
    raise SystemExit(main())
