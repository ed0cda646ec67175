"""What works on this machine, and how to get the rest.

:func:`diagnose` gathers facts; it fails on no machine, since a broken one is what it is for. What
runs models and builds engines is tried in processes of their own (:mod:`qrnn_deploy._selftest`): a
library that crashes takes down its process alone, and the report says so.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import __version__, _selftest
from ._optional import install, library_remedy
from .errors import EngineError

PACKAGES = (
    "numpy",
    "onnx",
    "click",
    "safetensors",
    "rich",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "onnxscript",
    "tensorrt",
    "tensorrt_rtx_cu13_bindings",
)
"""Distributions whose versions matter to a report."""

CPU_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_bf16", "amx_bf16")
"""Flags of /proc/cpuinfo that the kernel or ONNX Runtime make use of."""

SELFTEST_RESULTS = {
    "function": ("function",),
    "kernel": ("kernel",),
    "cuda": ("cuda",),
    "engine": ("build", "engine"),
}
"""Part of the self-test -> the abilities that it reports."""

_USES = {"function": "onnxruntime", "cuda": "onnxruntime-gpu", "engine": "TensorRT"}
SELFTEST_SECONDS = 60
SELFTEST_PROGRAM = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]
import runpy, typing
sys.path.insert(0, sys.argv[1])
import qrnn_deploy
del sys.path[0]
runpy.run_module("qrnn_deploy._selftest", run_name="__main__")
"""
"""Imports nothing from the working folder, which ``python -c`` has first in its path as ``''``.

Takes the package, and nothing else, from where this process did.
"""


@dataclass(frozen=True)
class Ability:
    """One thing the toolkit can do.

    Attributes:
        name: what.
        works: whether it works here, as tried or found, not assumed.
        detail: what was seen.
        remedy: how to get it, empty where it works or nothing can be done yet.
    """

    name: str
    works: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The whole report.

    Attributes:
        version: of qrnn-deploy.
        location: folder of the package.
        python: version and executable.
        system: operating system and machine.
        gpu: names of the NVIDIA GPUs, or why there are none.
        plugin: path of the TensorRT plugin, or why there is none.
        cpu: model name, processors usable by this process, and which of :data:`CPU_FLAGS` it has.
        packages: version of each of :data:`PACKAGES`, None where absent.
        selftest: what the parts of :mod:`qrnn_deploy._selftest` reported.
        abilities: what works.
    """

    version: str
    location: str
    python: str
    system: str
    cpu: dict[str, Any]
    gpu: str
    plugin: str
    packages: dict[str, str | None]
    selftest: dict[str, Any]
    abilities: list[Ability]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def diagnose() -> Diagnosis:
    """Look at this machine and try what can be tried; takes a second or two."""
    packages = {name: _version(name) for name in PACKAGES}
    selftest: dict[str, Any] = {"library": None, "providers": []}
    with ThreadPoolExecutor(2) as pool:
        for report in pool.map(run_selftest, SELFTEST_RESULTS):
            selftest |= report
    return Diagnosis(
        version=__version__,
        location=str(Path(__file__).parent),
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{_distribution()} {platform.machine()}",
        cpu=_cpu(),
        gpu=_gpu(),
        plugin=_plugin(),
        packages=packages,
        selftest=selftest,
        abilities=_abilities(packages, selftest),
    )


def run_selftest(part: str) -> dict[str, Any]:
    """Run one part of :mod:`qrnn_deploy._selftest` in a process of its own.

    Args:
        part: of :data:`SELFTEST_RESULTS`.

    Returns:
        What it printed. Where it did not live to print it, its end as the reason why ``part`` does
        not work.
    """
    package = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", SELFTEST_PROGRAM, package, part]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SELFTEST_SECONDS)
        report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return report
    except subprocess.TimeoutExpired:
        reason = f"no answer within {SELFTEST_SECONDS} seconds"
    except (IndexError, json.JSONDecodeError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        reason = f"the self-test process ended with status {done.returncode}: {last}"
    remedy = library_remedy() if part == "kernel" else f"reinstall qrnn-deploy and {_USES[part]}"
    return {name: _selftest.result(False, reason, remedy) for name in SELFTEST_RESULTS[part]}


def _abilities(packages: dict[str, str | None], selftest: dict[str, Any]) -> list[Ability]:
    export_missing = [name for name in ("torch", "onnxscript") if packages[name] is None]
    return [
        Ability(
            "export",
            not export_missing,
            f"torch {packages['torch']}"
            if not export_missing
            else f"{' and '.join(export_missing)} not installed",
            install("torch") if export_missing else "",
        ),
        Ability("run on the CPU, function form", **selftest["function"]),
        Ability("run on the CPU, kernel", **selftest["kernel"]),
        Ability("run on CUDA", **selftest["cuda"]),
        Ability("build TensorRT engines", **selftest["build"]),
        Ability("run TensorRT engines", **selftest["engine"]),
    ]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _gpu() -> str:
    from .engines.gpu import find_cards

    found = find_cards()
    return ", ".join(f"{c.name} ({c.capability})" for c in found.cards) or found.obstacle


def _plugin() -> str:
    from .engines.plugin import find_plugin

    try:
        return str(find_plugin())
    except EngineError as error:
        return str(error)


def _cpu() -> dict[str, Any]:
    facts: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    present = facts.get("flags", "").split()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": facts.get("model name") or platform.processor() or "unknown",
        "processors": usable,
        "flags": [flag for flag in CPU_FLAGS if flag in present],
    }
