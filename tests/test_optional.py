"""The lazy top level, and what a missing extra says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import qrnn_deploy
from qrnn_deploy import _optional
from qrnn_deploy.errors import MissingDependencyError, QrnnDeployError


def test_import_loads_nothing_heavy():
    program = (
        "import sys, qrnn_deploy\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "program",
    [
        "from qrnn_deploy import Session; from qrnn_deploy._selftest import FOLDER;"
        "Session(FOLDER / 'model.onnx')",
        "from qrnn_deploy.verifier import verify; from qrnn_deploy._selftest import FOLDER;"
        "verify(FOLDER / 'model.onnx', only=['function'])",
        "from qrnn_deploy._selftest import try_function; print(try_function())",
    ],
    ids=["session", "verify", "selftest"],
)
def test_nothing_is_left_in_the_home_folder(program, tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert not list(tmp_path.rglob("*"))
    assert "elemetry" not in done.stderr and "ModuleNotFoundError" not in done.stderr


def test_a_choice_about_telemetry_is_kept():
    program = "import os, qrnn_deploy; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for given, wanted in (({"ORT_DISABLE_TELEMETRY": "0"}, "0"), ({}, "1")):
        env = {name: v for name, v in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | given
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == wanted


def test_public_names_resolve_and_unknown_ones_do_not():
    for name in qrnn_deploy.__all__:
        assert getattr(qrnn_deploy, name) is not None
        assert name in dir(qrnn_deploy)
    with pytest.raises(AttributeError, match="no attribute 'exprot'"):
        qrnn_deploy.exprot  # noqa: B018


def test_functions_stay_functions_after_their_subpackage_was_imported():
    program = (
        "import qrnn_deploy.exporter, qrnn_deploy\n"
        "assert qrnn_deploy.export is qrnn_deploy.exporter.export"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("onnxruntime", "pip install 'onnxruntime>=1.23.0' (extra 'cpu')"),
        ("torch", "pip install 'torch>=2.13' 'onnxscript>=0.7.2' (extra 'export')"),
        ("torch.onnx", "pip install 'torch>=2.13' 'onnxscript>=0.7.2' (extra 'export')"),
    ],
)
def test_missing_package_names_its_extra(module, advice, monkeypatch):
    package = module.partition(".")[0]

    def gone(name):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(_optional.importlib, "import_module", gone)
    with pytest.raises(MissingDependencyError) as caught:
        _optional.require(module, "qrnn-deploy thing")
    assert str(caught.value) == (
        f"qrnn-deploy thing needs {package}, which is not installed: " + advice
    )
    assert isinstance(caught.value, QrnnDeployError) and isinstance(caught.value, ImportError)


def test_advice_is_what_the_extra_requires(monkeypatch):
    """Read from the metadata of the installation, and no name that is on no index."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    table = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    extras = table["project"]["optional-dependencies"]
    for package, extra in _optional.EXTRAS.items():
        wanted = " ".join(f"'{requirement}'" for requirement in extras[extra])
        assert _optional.install(package) == f"pip install {wanted} (extra '{extra}')"
    upgrade = _optional.install("tensorrt", "--upgrade")
    assert upgrade == "pip install --upgrade 'tensorrt>=10.15' (extra 'tensorrt')"

    def gone(name):
        raise _optional.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_optional.importlib.metadata, "requires", gone)
    assert _optional.install("torch") == "install torch (extra 'export' in pyproject.toml)"


def test_broken_package_is_not_called_missing(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'sympy'", name="sympy")

    monkeypatch.setattr(_optional.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="sympy") as caught:
        _optional.require("torch", "qrnn-deploy export")
    assert not isinstance(caught.value, QrnnDeployError)


def test_present_package_is_returned():
    import numpy

    _optional.EXTRAS.setdefault("numpy", "cpu")
    try:
        assert _optional.require("numpy", "a test") is numpy
    finally:
        del _optional.EXTRAS["numpy"]
