"""`make test-gpu` and `make bench-gpu` on a machine without a GPU, and the models they compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch

ROOT = Path(__file__).parents[1]
SCRIPTS = {"test-gpu": "tests/gpu/run.py", "bench-gpu": "bench/gpu_bench.py"}
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests/gpu")]

import gpu_bench  # noqa: E402
import gpu_build  # noqa: E402
import gpu_models  # noqa: E402


def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / SCRIPTS[name]), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_without_a_gpu_one_line_and_status_2(name: str) -> None:
    result = run(name, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"{name}: nothing to ")
    assert "GPU" in result.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_dry_run_compiles_and_lists(name: str) -> None:
    if gpu_build.find_nvcc() is None:
        result = run(name, "--dry-run")
        assert result.returncode == 2
        assert "nvcc" in result.stderr
        pytest.skip("no CUDA compiler here (nvcc in PATH or /usr/local/cuda)")
    result = run(name, "--dry-run", JOBS="2")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "built build/gpu/libqrnn_gpu.so"
    assert (ROOT / "build/gpu/libqrnn_gpu.so").is_file()
    assert sum(line.startswith("would ") for line in lines) >= 2
    if name == "test-gpu":
        plugin = [line for line in lines if "TensorRT plugin: " in line]
        assert len(plugin) == 1
        assert plugin[0].startswith(("would run ", "left out "))
        if plugin[0].startswith("would run "):
            assert all(Path(path).is_file() for path in plugin[0].split(": ")[1].split())


def test_a_plugin_that_cannot_be_built_is_named(tmp_path: Path) -> None:
    if gpu_build.find_nvcc() is None:
        pytest.skip("no CUDA compiler here (nvcc in PATH or /usr/local/cuda)")
    result = run("test-gpu", "--dry-run", JOBS="2", TENSORRT_INCLUDE_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    reason = f"TENSORRT_INCLUDE_DIR={tmp_path} holds no NvInferRuntime.h"
    assert f"left out TensorRT plugin: {reason}" in result.stdout.splitlines()
    assert "would run every kernel: " in result.stdout


WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without())
{then}
"""
"""A Python in which some modules are not installed."""


def run_without(absent: set[str], then: str) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(absent=absent, then=then)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_parity_needs_pytest_and_numpy_alone() -> None:
    """Beside PyTorch: tests/gpu is collected, and skips only for want of a GPU."""
    arguments = "-q -rs -p no:hypothesispytest -p no:cacheprovider tests/gpu/test_gpu_parity.py"
    result = run_without(
        {"hypothesis", "onnx", "onnxruntime", "onnxscript", "ml_dtypes"},
        f"import pytest; sys.exit(pytest.main({arguments.split()}))",
    )
    assert result.returncode in (0, pytest.ExitCode.NO_TESTS_COLLECTED), result.stdout
    assert "error" not in (result.stdout + result.stderr).lower()
    if gpu_build.gpu_problem() is not None:
        assert "SKIPPED [1] tests/gpu/test_gpu_parity.py" in result.stdout
        assert gpu_build.gpu_problem() in result.stdout


@pytest.mark.parametrize(
    ("absent", "named"), [({"pytest"}, "pytest not"), ({"pytest", "numpy"}, "NumPy and pytest not")]
)
def test_missing_packages_are_one_line(absent: set[str], named: str) -> None:
    then = (
        "sys.modules.update(dict.fromkeys(sorted(MISSING)))\n"
        "sys.path.insert(0, 'tests/gpu')\n"
        "sys.argv = ['run.py']\n"
        "import run; sys.exit(run.main())"
    )
    result = run_without(set(), then.replace("MISSING", repr(sorted(absent))))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"test-gpu: nothing to run: {named} installed")


def test_a_part_of_the_benchmark_that_fails_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"

    def broken() -> None:
        raise RuntimeError("no kernel image\nmore of it")

    parts: dict[str, Any] = {"pool": lambda: [1], "step": broken, "stack": lambda: [2]}
    assert gpu_bench.measure_all(parts, {"device": "none"}, path) == ["step"]
    assert json.loads(path.read_text()) == {
        "device": "none",
        "pool": [1],
        "step": {"failed": "RuntimeError: no kernel image"},
        "stack": [2],
    }
    assert "no kernel image" in capsys.readouterr().err


def test_reference_of_the_benchmark() -> None:
    gates = torch.randn(9, 3, 21, generator=torch.Generator().manual_seed(0))
    c0 = torch.randn(3, 7, generator=torch.Generator().manual_seed(1))
    h, c_T = gpu_models.reference(gates, c0)
    expected_h, expected_c = oracle.pool("fo", gates.numpy(), c0.numpy())
    np.testing.assert_allclose(h.numpy(), expected_h, atol=2e-6)
    np.testing.assert_allclose(c_T.numpy(), expected_c, atol=2e-6)


def test_stack_and_streaming_step_of_the_benchmark() -> None:
    """The stack is the oracle's, and its step in place walks through the same sequence."""
    import gpu_layers

    class Core:
        def pool(self, pooling: str, gates: Any, c0: Any, lengths: Any, h: Any, c_T: Any) -> None:
            assert pooling == "fo"
            assert lengths.tolist() == [1]
            h_out, c_out = gpu_models.reference(gates, c0)
            h.copy_(h_out)
            c_T.copy_(c_out)

    torch.manual_seed(0)
    stack = gpu_models.Stack([6, 5, 4], gpu_models.reference)
    x = torch.randn(8, 1, 6)
    core: Any = Core()
    step = gpu_layers.StreamingStep(core, stack)
    with torch.no_grad():
        whole, _ = stack(x, stack.zero_states(1))
        pieces = []
        for t in range(8):
            step.x.copy_(x[t : t + 1])
            step()
            pieces.append(step.y.clone())
    layers = [
        [
            {
                "weight": layer.weight.detach().numpy(),
                "bias": layer.bias.detach().numpy(),
                "window": 2,
                "pooling": "fo",
            }
        ]
        for layer in stack.layers
    ]
    expected, _ = oracle.stack(x.numpy(), layers)
    np.testing.assert_allclose(whole.numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(torch.cat(pieces).numpy(), expected, atol=2e-6)
