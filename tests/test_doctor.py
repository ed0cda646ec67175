"""The doctor on healthy and on broken installations."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import needs
import numpy as np
import onnxruntime
import pytest

import qrnn_deploy
from qrnn_deploy import _selftest, doctor
from qrnn_deploy._optional import library_remedy
from qrnn_deploy.cli import doctor as cli_doctor
from qrnn_deploy.engines.gpu import find_cards
from qrnn_deploy.errors import KernelLibraryError, MissingDependencyError

ABILITIES = [
    "export",
    "run on the CPU, function form",
    "run on the CPU, kernel",
    "run on CUDA",
    "build TensorRT engines",
    "run TensorRT engines",
]


def ability(diagnosis: doctor.Diagnosis, name: str) -> doctor.Ability:
    (found,) = [item for item in diagnosis.abilities if item.name == name]
    return found


def test_this_machine():
    diagnosis = doctor.diagnose()
    assert [item.name for item in diagnosis.abilities] == ABILITIES
    for name in ABILITIES[:3]:
        assert ability(diagnosis, name).works, ability(diagnosis, name)
    library = diagnosis.selftest["library"]
    assert Path(library["path"]).is_file()
    assert library["isa"] in ("avx512", "avx2", "portable")
    assert library["op_version"] >= 1
    assert library["cuda"] == needs.kernel_library().cuda
    assert diagnosis.selftest["providers"] == onnxruntime.get_available_providers()
    assert diagnosis.cpu["processors"] >= 1
    # Nothing is claimed that was not tried.
    for name in ABILITIES[3:]:
        found = ability(diagnosis, name)
        tried = "self-test error" in found.detail or "TensorRT for RTX" in found.detail
        assert found.works is tried or found.remedy, found
    if not find_cards().cards:
        assert "driver" in diagnosis.gpu or "GPU" in diagnosis.gpu
        assert not ability(diagnosis, "run on CUDA").works
        assert not ability(diagnosis, "run TensorRT engines").works


def test_engines_are_built_where_there_is_a_builder():
    needs.tensorrt_rtx()
    report = _selftest.try_engine()
    assert report["build"]["works"] and "TensorRT" in report["build"]["detail"]
    if not find_cards().cards:
        assert report["engine"]["detail"].startswith("it needs a GPU of sm80, sm86, sm89, sm120")


def test_no_torch_is_imported():
    program = "import sys; from qrnn_deploy.doctor import diagnose; diagnose(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = done.stdout.split()
    assert "qrnn_deploy.doctor" in loaded
    assert not {"torch", "onnxruntime"} & set(loaded)


def test_nothing_is_imported_from_the_working_folder(tmp_path, monkeypatch):
    for name in ("json", "numpy", "onnxruntime", "runpy", "qrnn_deploy"):
        (tmp_path / f"{name}.py").write_text(f"open('imported-{name}', 'w')\nraise ImportError\n")
    monkeypatch.chdir(tmp_path)
    for part, names in doctor.SELFTEST_RESULTS.items():
        report = doctor.run_selftest(part)
        assert all("self-test process" not in report[name]["detail"] for name in names), report
    assert doctor.run_selftest("function")["function"]["works"]
    assert not list(tmp_path.glob("imported-*"))


def test_library_that_is_no_library(tmp_path, monkeypatch):
    fake = tmp_path / "libqrnn_deploy_ort.so"
    fake.write_text("not ELF")
    monkeypatch.setenv("QRNN_DEPLOY_LIBRARY", str(fake))
    diagnosis = doctor.diagnose()
    kernel = ability(diagnosis, "run on the CPU, kernel")
    assert not kernel.works and str(fake) in kernel.detail and kernel.remedy
    assert ability(diagnosis, "run on the CPU, function form").works


def test_no_library(monkeypatch):
    monkeypatch.setattr("qrnn_deploy.runtime.library.load_library", lambda: None)
    report = _selftest.try_kernel()
    assert report["library"] is None
    assert report["kernel"] == {
        "works": False,
        "detail": "no kernel library is installed",
        "remedy": _selftest.REBUILD,
    }


def test_library_that_cannot_be_used(monkeypatch):
    def broken():
        raise KernelLibraryError(f"kernel library x cannot be used: {library_remedy()}")

    monkeypatch.setattr("qrnn_deploy.runtime.library.load_library", broken)
    # The advice is given once.
    assert _selftest.try_kernel()["kernel"] == {
        "works": False,
        "detail": "kernel library x cannot be used",
        "remedy": library_remedy(),
    }


def test_no_runtime(monkeypatch):
    def gone(module, feature):
        raise MissingDependencyError("running a model needs onnxruntime, which is not in: pip ...")

    monkeypatch.setattr(_selftest, "require", gone)
    wanted = {
        "works": False,
        "detail": "running a model needs onnxruntime, which is not in",
        "remedy": "pip install 'onnxruntime>=1.23.0' (extra 'cpu')",
    }
    assert _selftest.try_function() == {"providers": [], "function": wanted}
    assert _selftest.try_kernel() == {"library": None, "kernel": wanted}


def test_wrong_answer_is_not_called_working(monkeypatch, tmp_path):
    for name in ("model.onnx", "case.npz"):
        (tmp_path / name).write_bytes((_selftest.FOLDER / name).read_bytes())
    case = dict(np.load(tmp_path / "case.npz"))
    np.savez(tmp_path / "case.npz", in_x=case["in_x"], out_y=case["out_y"] + 1e-3)
    monkeypatch.setattr(_selftest, "FOLDER", tmp_path)
    result = _selftest.try_function()["function"]
    assert not result["works"] and "wrong answer: error 1.0e-03" in result["detail"]
    np.savez(tmp_path / "case.npz", in_x=case["in_x"], out_y=case["out_y"] * np.nan)
    assert not _selftest.try_function()["function"]["works"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})", "status -11"),
        ("raise RuntimeError('out of luck')", "RuntimeError: out of luck"),
        ("print('no json')", "status 0"),
    ],
)
def test_crash_of_the_selftest_is_a_line_in_the_report(monkeypatch, body, reason):
    monkeypatch.setattr(doctor, "SELFTEST_PROGRAM", body)
    diagnosis = doctor.diagnose()
    for name in ABILITIES[1:3]:
        found = ability(diagnosis, name)
        assert not found.works and reason in found.detail and found.remedy


def test_a_library_that_crashes_takes_only_the_kernel_down(tmp_path, monkeypatch):
    """A library that kills its process as soon as it is loaded: a defect that no header shows."""
    source = tmp_path / "bad.cc"
    source.write_text("#include <cstdlib>\nstatic int now = (std::abort(), 0);\n")
    library = tmp_path / "libqrnn_deploy_ort.so"
    compiler = shutil.which("c++") or needs.absent("kernel", "there is no C++ compiler")
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    monkeypatch.setenv("QRNN_DEPLOY_LIBRARY", str(library))
    diagnosis = doctor.diagnose()
    assert ability(diagnosis, "run on the CPU, function form").works
    kernel = ability(diagnosis, "run on the CPU, kernel")
    assert not kernel.works and f"status {-signal.SIGABRT}" in kernel.detail
    assert kernel.remedy.startswith("unset QRNN_DEPLOY_LIBRARY") and "--kernel off" in kernel.remedy
    assert diagnosis.selftest["library"] is None


@pytest.mark.parametrize("named", [True, False])
def test_remedy_of_a_library_that_was_cut_off(tmp_path, monkeypatch, named):
    library = tmp_path / "libqrnn_deploy_ort.so"
    library.write_bytes(needs.kernel_library().path.read_bytes()[:20_000])
    if named:
        monkeypatch.setenv("QRNN_DEPLOY_LIBRARY", str(library))
    else:
        monkeypatch.delenv("QRNN_DEPLOY_LIBRARY", raising=False)
        monkeypatch.setattr("qrnn_deploy.runtime.library.find_library", lambda: library)
    kernel = _selftest.try_kernel()["kernel"]
    assert f"{library} cannot be used (it ends after 20000 bytes" in kernel["detail"]
    assert kernel["remedy"] not in kernel["detail"] and "--kernel off" in kernel["remedy"]
    assert ("unset QRNN_DEPLOY_LIBRARY" in kernel["remedy"]) == named
    assert ("reinstall qrnn-deploy" in kernel["remedy"]) != named


def test_selftest_that_hangs(monkeypatch):
    monkeypatch.setattr(doctor, "SELFTEST_PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "SELFTEST_SECONDS", 0.2)
    assert "no answer within 0.2 seconds" in doctor.run_selftest("kernel")["kernel"]["detail"]


def test_what_there_is_for_a_gpu(monkeypatch, tmp_path, capsys):
    library = {"path": "l.so", "op_version": 1, "isa": "avx2", "cuda": "sm_75 sm_90", "build": {}}
    monkeypatch.setattr(doctor, "_gpu", lambda: "NVIDIA H200 (sm90)")
    monkeypatch.setattr(
        doctor,
        "run_selftest",
        lambda part: {
            **{name: _selftest.result(True, "fine", "") for name in doctor.SELFTEST_RESULTS[part]},
            **{"library": library, "providers": ["CUDAExecutionProvider"]},
        },
    )
    versions = {"tensorrt": "11.0"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    plugin = tmp_path / "plugin.so"
    monkeypatch.setenv("QRNN_DEPLOY_TENSORRT_LIBRARY", str(plugin))

    def shown() -> dict[str, str]:
        cli_doctor._print(doctor.diagnose())
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) <= 24
        return {line[:17].strip(): line[17:] for line in lines[:10]}

    rows = shown()
    assert rows["gpu"] == "NVIDIA H200 (sm90)" and rows["providers"] == "CUDAExecutionProvider"
    assert rows["packages"] == "tensorrt 11.0"
    assert "onnxruntime-gpu (extra 'gpu')" in rows["not installed"]
    assert "tensorrt_rtx_cu13_bindings (extra 'tensorrt-rtx')" in rows["not installed"]
    assert rows["kernel library"].endswith("avx2 on this CPU, CUDA kernels for sm_75 sm_90")
    assert f"{plugin} is not a file" in rows["TensorRT plugin"]
    plugin.touch()
    library["cuda"] = None
    rows = shown()
    assert rows["TensorRT plugin"] == str(plugin)
    assert rows["kernel library"].endswith("no CUDA kernels, as there was no nvcc")


def test_command_prints_one_screen_and_json(tmp_path):
    env = {**os.environ, "QRNN_DEPLOY_LIBRARY": str(tmp_path / "absent.so")}
    command = [sys.executable, "-m", "qrnn_deploy", "doctor"]
    shown = subprocess.run(command, capture_output=True, text=True, env=env)
    assert shown.returncode == 0 and shown.stderr == ""
    assert len(shown.stdout.splitlines()) <= 24
    assert "absent.so is not a file" in shown.stdout
    assert "to get it: " in shown.stdout
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True)
    report = json.loads(as_json.stdout)
    assert report["version"] == qrnn_deploy.__version__
    assert [item["name"] for item in report["abilities"]] == ABILITIES
