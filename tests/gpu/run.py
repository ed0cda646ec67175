"""Everything that only a GPU can show about this checkout: `make test-gpu`.

Builds the GPU core, runs the tests of this folder, the TensorRT plugin's enqueue where TensorRT's
headers are found, and compute-sanitizer's memcheck and racecheck over every kernel where that tool
is installed; what is left out is named with the reason. Writes build/gpu/report.json: each check
with date, device, driver and result. Exit status: 0 all passed, 1 a check failed, 2 nothing can
run here.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import gpu_build

NEEDED = {"numpy": "NumPy", "pytest": "pytest"}
SANITIZERS = {"memcheck": [], "racecheck": ["--quick"]}


def missing_package() -> str | None:
    """What this Python lacks for the tests, in one line, or None."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if not missing:
        return None
    return f"{' and '.join(missing)} not installed for this Python ({sys.executable})"


def find_sanitizer() -> str | None:
    """The compute-sanitizer, or None."""
    usual = Path("/usr/local/cuda/bin/compute-sanitizer")
    return shutil.which("compute-sanitizer") or (str(usual) if usual.is_file() else None)


def checks() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Name and command of each check; name of each that is left out, and why."""
    here = Path(__file__).parent
    commands = {
        "tests": [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-c", str(gpu_build.ROOT / "pyproject.toml"), str(here)),
        ],
        "every kernel": [str(gpu_build.BUILD / "gpu_check")],
        "errors of CUDA": [str(gpu_build.BUILD / "gpu_check"), "--errors"],
    }
    left_out = {}
    no_plugin = gpu_build.plugin_problem()
    if no_plugin is None:
        enqueue = [str(gpu_build.BUILD / "trt_enqueue"), str(gpu_build.PLUGIN)]
        commands["TensorRT plugin"] = enqueue
    else:
        left_out["TensorRT plugin"] = no_plugin
    sanitizer = find_sanitizer()
    for tool, arguments in SANITIZERS.items():
        if sanitizer is None:
            left_out[f"compute-sanitizer {tool}"] = "compute-sanitizer is not installed"
        else:
            commands[f"compute-sanitizer {tool}"] = [
                *(sanitizer, "--tool", tool, "--error-exitcode", "9"),
                *(str(gpu_build.BUILD / "gpu_check"), *arguments),
            ]
    return commands, left_out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="compile and list; run nothing")
    arguments = parser.parse_args()
    problem = missing_package() or gpu_build.gpu_problem()
    if problem is not None and not arguments.dry_run:
        print(f"test-gpu: nothing to run: {problem}", file=sys.stderr)
        return 2
    try:
        library = gpu_build.build()
    except gpu_build.CannotBuild as error:
        print(f"test-gpu: nothing to run: {error}", file=sys.stderr)
        return 2
    print(f"built {library.relative_to(gpu_build.ROOT)}")
    commands, left_out = checks()
    for name, reason in left_out.items():
        print(f"left out {name}: {reason}")
    if arguments.dry_run:
        for name, command in commands.items():
            print(f"would run {name}: {' '.join(command)}")
        return 0

    results = {}
    for name, command in commands.items():
        print(f"== {name}", flush=True)
        # From the root: the tests import this checkout, which need not be installed.
        try:
            passed = subprocess.run(command, cwd=gpu_build.ROOT).returncode == 0
        except OSError as error:  # a program that was not built, or does not start
            print(f"{error}; see build/gpu/build.log")
            passed = False
        results[name] = "passed" if passed else "FAILED"
    report = {
        "date": datetime.date.today().isoformat(),
        **gpu_build.device_facts(),
        "results": results,
        "left_out": left_out,
    }
    path = gpu_build.BUILD / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    for name, result in results.items():
        print(f"{result}  {name}")
    return 0 if set(results.values()) == {"passed"} else 1


if __name__ == "__main__":
    raise SystemExit(main())
