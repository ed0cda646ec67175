"""The wheel, in an environment that holds nothing else: no torch, no checkout on the path.

One wheel is built as a user's pip would build it and installed with the extra ``cpu``; a second
one is built where no C++ compiler is to be found and replaces it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = "qrnn_deploy/lib/libqrnn_deploy_ort.so"

EXPORT = "pip install 'torch>=2.13' 'onnxscript>=0.7.2' (extra 'export')"

# The environment must not lead the installed package back to the checkout.
CLEAN = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

SMOKE = """
import sys
import warnings
import numpy as np
from importlib.resources import files
import qrnn_deploy
warnings.simplefilter("ignore")
folder = files("qrnn_deploy") / "selftest"
case = np.load(str(folder / "case.npz"))
session = qrnn_deploy.Session(str(folder / "model.onnx"), kernel=sys.argv[1])
feed = {name[3:]: case[name] for name in case.files if name.startswith("in_")}
result = session.run(feed)
error = max(np.abs(result[name[4:]] - case[name]).max() for name in case.files if "out_" in name)
assert "torch" not in sys.modules and "site-packages" in qrnn_deploy.__file__
print(set(session.implementation.values()), error < 1e-5)
"""


def call(*command: str | Path, env: dict[str, str] | None = None, code: int = 0) -> str:
    """Standard output of a command; its output is shown where the status is another."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd="/",
        env={**CLEAN, **(env or {})},
        timeout=300,
    )
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def build_wheel(folder: Path, *options: str, env: dict[str, str] | None = None) -> Path:
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    # Headers that the checkout's own build has fetched spare this one the download.
    cache = {"QRNN_DEPLOY_CACHE": str(ROOT / ".cache")}
    call(*pip, "-w", folder, *options, ROOT, env={**cache, **(env or {})})
    (wheel,) = folder.glob("*.whl")
    return wheel


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    # A build folder that stays makes every build but the first one quick.
    build = ROOT / "build" / "wheel"
    # Where there is nvcc, one architecture says as much as seven.
    options = [f"build-dir={build}", "cmake.define.QRNN_DEPLOY_CUDA_ARCHITECTURES=90-real"]
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(folder, *(word for option in options for word in ("-C", option)))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Interpreter of a fresh environment with ``qrnn-deploy[cpu]`` from the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    call(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    call(python, "-m", "pip", "install", "--quiet", f"{wheel}[cpu]")
    return python


def test_wheel_holds_the_library_the_selftest_and_the_licence(wheel):
    names = contents(wheel)
    assert LIBRARY in names
    assert {"qrnn_deploy/selftest/model.onnx", "qrnn_deploy/selftest/case.npz"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "bench/", "examples/"))]
    assert "-py3-none-" in wheel.name


def test_session_runs_with_the_kernel_and_without(python):
    assert call(python, "-c", SMOKE, "require").strip() == "{'kernel'} True"
    assert call(python, "-c", SMOKE, "off").strip() == "{'function'} True"


def test_command_line_is_installed(python):
    command = python.parent / "qrnn-deploy"
    assert "Usage: qrnn-deploy" in call(command, "--help")
    model = call(
        python, "-c", "from importlib.resources import files; print(files('qrnn_deploy'))"
    ).strip()
    shown = json.loads(call(command, "inspect", f"{model}/selftest/model.onnx", "--json"))
    assert set(shown["implementation"].values()) == {"kernel"}


def test_doctor_tells_what_works_and_how_to_get_the_rest(python):
    report = json.loads(call(python.parent / "qrnn-deploy", "doctor", "--json"))
    abilities = {ability["name"]: ability for ability in report["abilities"]}
    assert abilities["run on the CPU, kernel"]["works"]
    assert abilities["run on the CPU, function form"]["works"]
    assert not abilities["export"]["works"]
    assert abilities["export"]["remedy"] == EXPORT
    assert report["packages"]["torch"] is None
    assert report["selftest"]["library"]["path"].endswith(LIBRARY)


def test_missing_extra_is_named(python):
    shown = call(python, "-c", "import qrnn_deploy.exporter", code=1)
    assert shown.rstrip().endswith(
        "MissingDependencyError: qrnn-deploy export needs torch, which is not installed: " + EXPORT
    )
    shown = call(python.parent / "qrnn-deploy", "export", "a.pt", "-o", "a.onnx", code=2)
    assert shown == (f"error: qrnn-deploy export needs torch, which is not installed: {EXPORT}\n")


def test_without_a_compiler_the_package_installs_and_doctor_says_so(python, tmp_path):
    """Runs last in this module: it replaces the wheel that is installed."""
    wheel = build_wheel(tmp_path, env={"CXX": "/nonexistent/c++", "CC": "/nonexistent/cc"})
    assert LIBRARY not in contents(wheel)
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
    call(*pip, wheel)
    assert call(python, "-c", SMOKE, "auto").strip() == "{'function'} True"
    report = json.loads(call(python.parent / "qrnn-deploy", "doctor", "--json"))
    abilities = {ability["name"]: ability for ability in report["abilities"]}
    assert abilities["run on the CPU, function form"]["works"]
    kernel = abilities["run on the CPU, kernel"]
    assert not kernel["works"]
    assert "compiler" in kernel["remedy"]
