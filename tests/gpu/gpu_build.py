"""Builds the GPU core of this checkout as a library, with CMake and nvcc, for the GPU here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/gpu"
PLUGIN = BUILD / "libqrnn_deploy_tensorrt.so"
"""The TensorRT plugin, where TensorRT's headers were found."""


class CannotBuild(RuntimeError):
    """One line: what is missing or failed."""


def find_nvcc() -> str | None:
    """Where plugins/cmake/CudaCompiler.cmake looks too."""
    places = [os.environ.get("CUDACXX"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"]
    if "CUDA_HOME" in os.environ:
        places.insert(1, os.environ["CUDA_HOME"] + "/bin/nvcc")
    return next((place for place in places if place and Path(place).is_file()), None)


def gpu_problem() -> str | None:
    """Why nothing can run on a GPU here, in one line, or None."""
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed for this Python; set GPU_PYTHON to one that has it"
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA GPU on this machine"
    return None


def architecture() -> str:
    """For CMake, e.g. 90-real: this machine's GPU, or an H100's where there is none."""
    if gpu_problem() is not None:
        return "90-real"
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}-real"


def build() -> Path:
    """The library, up to date; its folder holds gpu_check too.

    Raises:
        CannotBuild: nvcc or cmake is missing, or compiling failed (the log is in build/gpu).
    """
    if find_nvcc() is None:
        raise CannotBuild("nvcc is not in CUDACXX, CUDA_HOME, PATH or /usr/local/cuda")
    cmake = shutil.which("cmake") or shutil.which("cmake", path=str(ROOT / ".venv/bin"))
    if cmake is None:
        raise CannotBuild("cmake is not in PATH")
    BUILD.mkdir(parents=True, exist_ok=True)
    jobs = str(min(os.cpu_count() or 1, 8))
    build = [cmake, "--build", str(BUILD), "--parallel", os.environ.get("JOBS", jobs)]
    commands = [
        [
            *(cmake, "-S", str(Path(__file__).parent), "-B", str(BUILD)),
            f"-DQRNN_DEPLOY_CUDA_ARCHITECTURES={architecture()}",
            f"-DQRNN_DEPLOY_PYTHON={sys.executable}",
        ],
        [*build, "--target", "qrnn_gpu", "gpu_check"],
    ]
    log = BUILD / "build.log"
    with log.open("w") as out:
        for command in commands:
            if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode != 0:
                raise CannotBuild(f"the GPU core does not compile; see {log.relative_to(ROOT)}")
        # The plugin, where TensorRT's headers are: its failure is one check's, not all checks'.
        if subprocess.run(build, stdout=out, stderr=subprocess.STDOUT).returncode != 0:
            (BUILD / "trt_enqueue").unlink(missing_ok=True)
    return BUILD / "libqrnn_gpu.so"


def plugin_problem() -> str | None:
    """Why the last build has no TensorRT plugin, as CMake said it, or None where it has."""
    start = "qrnn-deploy: no TensorRT plugin is built ("
    lines = (BUILD / "build.log").read_text().splitlines()
    reason = next((line for line in lines if line.startswith(start)), None)
    return None if reason is None else reason.removeprefix(start)[:-1]


def device_facts() -> dict[str, str]:
    """What docs/hardware.md records beside a result."""
    import torch

    driver = "unknown"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True)
        driver = answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else driver
    return {
        "device": torch.cuda.get_device_name(),
        "driver": driver,
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
    }
