"""Verification of engines: right ones pass, wrong ones fail, absent implementations are named."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout

import needs
import onnxruntime
import pytest
import torch
from fake_tensorrt import CARDS, install, write_engine
from models import build

from qrnn_deploy.checkpoints import save_checkpoint
from qrnn_deploy.cli import main
from qrnn_deploy.cli import verify as command
from qrnn_deploy.engines import build_engine
from qrnn_deploy.engines.gpu import Cards, find_cards
from qrnn_deploy.errors import EngineError, InputError
from qrnn_deploy.exporter import export, export_checkpoint
from qrnn_deploy.verifier import artifacts, verify


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a checkpoint, its model, and a model of other weights."""
    folder = tmp_path_factory.mktemp("verify")
    save_checkpoint(build("fo"), folder / "m.safetensors")
    export_checkpoint(folder / "m.safetensors", folder / "m.onnx")
    wrong = build("fo")
    with torch.no_grad():
        next(p for p in wrong.parameters() if p.dim() == 1)[0] += 0.01
    export(wrong, folder / "wrong.onnx", golden=False)
    return folder


@pytest.fixture
def folder(models, tmp_path):
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def tensorrt(monkeypatch):
    return install(monkeypatch)


@pytest.fixture
def no_cuda(monkeypatch):
    """ONNX Runtime as on a machine without a GPU."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


def run_cli(*arguments):
    """(exit status, stdout, stderr) of `qrnn-deploy verify ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main(["verify", *map(str, arguments)])
    return end.value.code, out.getvalue(), err.getvalue()


def test_right_engine_passes(folder, tensorrt):
    engine = write_engine(folder / "m.onnx", folder / "m.engine")
    for report in (verify(engine), verify(engine, checkpoint=folder / "m.safetensors")):
        assert report.passed and not report.missing, report.to_json()
        assert {c.artifact for c in report.comparisons} == {"tensorrt"}
        cases = {c.case for c in report.comparisons}
        assert any(c.endswith(("as a stream", "step by step")) for c in cases)
        assert {c.output for c in report.comparisons} >= {"y", "state_00_c_out", "state_01_x_out"}
    assert tensorrt.captures > 0
    code, out, _ = run_cli(engine)
    assert code == 0 and "PASS" in out


@pytest.mark.parametrize(
    ("fault", "only_streams"),
    [("wrong weights", False), ("forgets_state", False), ("graphs_keep_old_states", True)],
)
def test_wrong_engine_fails(folder, tensorrt, fault, only_streams):
    """Wrong weights, states that are not read, and graphs that do not hand states on."""
    source = folder / ("wrong.onnx" if fault == "wrong weights" else "m.onnx")
    faults = {} if fault == "wrong weights" else {fault: True}
    engine = write_engine(source, folder / "m.engine", says=folder / "m.onnx", **faults)
    for report in (verify(engine), verify(engine, checkpoint=folder / "m.safetensors")):
        assert not report.passed
        failed = {c.case for c in report.comparisons if not c.passed}
        assert failed and (not only_streams or all("st" in c for c in failed)), failed
        streams = {c for c in failed if c.endswith(("as a stream", "step by step"))}
        assert streams == failed if only_streams else streams < failed
    code, out, _ = run_cli(engine, "--json")
    assert code == 1 and not json.loads(out)["passed"]


def test_what_the_profiles_do_not_take(folder, tensorrt):
    """The grid stays within the profiles; golden vectors beyond them count for nothing."""
    small = write_engine(folder / "m.onnx", folder / "s.engine", maximum={"B": 2, "T": 4})
    report = verify(small, checkpoint=folder / "m.safetensors")
    assert report.passed and not report.missing
    assert {c.case for c in report.comparisons} >= {"B=2 T=4 zero state", "B=1 T=4 random state"}
    report = verify(small)
    assert report.passed and report.missing.keys() == {
        "tensorrt, golden whole",
        "tensorrt, golden whole, step by step",
        "tensorrt, golden chunk",
    }
    none = write_engine(folder / "m.onnx", folder / "n.engine", minimum={"B": 4})
    code, out, _ = run_cli(none)
    assert code == 1 and "nothing could be compared" in out


def test_engine_without_its_model(folder, tensorrt):
    engine = write_engine(folder / "m.onnx", folder / "m.engine")
    (folder / "m.onnx").write_bytes(b"another")
    report = verify(engine)
    assert report.passed and "m.onnx, which the engine was built from" in report.missing["weights"]
    assert "weights" in verify(engine, checkpoint=folder / "m.safetensors").missing


def test_golden_vectors_of_another_model(folder, tensorrt):
    engine = write_engine(folder / "wrong.onnx", folder / "m.engine")
    (folder / "m.golden").rename(folder / "wrong.golden")
    code, _, err = run_cli(engine)
    assert code == 2 and "belongs to a model with other weights" in err
    report = verify(engine, checkpoint=folder / "m.safetensors")
    assert not report.passed and any("weights" in problem for problem in report.problems)


def test_options_that_do_not_go_with_an_engine(folder, tensorrt):
    engine = write_engine(folder / "m.onnx", folder / "m.engine")
    with pytest.raises(InputError, match="is an engine, one implementation: leave --only out"):
        verify(engine, only=["tensorrt"])
    with pytest.raises(InputError, match="per-layer comparison cuts the ONNX file"):
        verify(engine, checkpoint=folder / "m.safetensors", per_layer=True)


def test_absent_implementations_are_named(folder, monkeypatch, no_cuda):
    """They count for nothing, and asking for one is an error."""
    monkeypatch.setattr(artifacts, "find_cards", lambda: Cards((), "this machine has no driver"))
    monkeypatch.setattr(artifacts, "is_installed", lambda backend: backend.name != "tensorrt")
    report = verify(folder / "m.onnx")
    assert "has no 'CUDAExecutionProvider'" in report.missing["cuda"]
    assert report.passed and report.missing == {
        "cuda": report.missing["cuda"],
        "tensorrt": "not installed: pip install 'tensorrt>=10.15' (extra 'tensorrt'); "
        "no GPU: this machine has no driver",
        "tensorrt-rtx": "no GPU: this machine has no driver",
    }
    assert json.loads(report.to_json())["missing"] == report.missing
    code, out, _ = run_cli(folder / "m.onnx")
    assert code == 0 and "not compared: tensorrt (not installed: pip install" in out
    code, out, err = run_cli(folder / "m.onnx", "--only", "function", "--only", "tensorrt-rtx")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "tensorrt-rtx was asked for and is not here (no GPU: this machine has no" in err
    report = verify(folder / "m.onnx", only=["function"])
    assert report.passed and not report.missing
    assert {c.artifact for c in report.comparisons} == {"function"}
    for wrong in (["cuda12"], []):
        with pytest.raises(InputError, match="expected some of kernel, function"):
            verify(folder / "m.onnx", only=wrong)
    assert command.ARTIFACTS == artifacts.NAMES


@pytest.mark.parametrize("right", [True, False])
def test_engines_are_built_for_the_occasion(folder, tensorrt, monkeypatch, no_cuda, right):
    """With TensorRT and a GPU the file is compared there too; its failure is told as its own."""

    def stand_in(model, engine, *, backend, arch):
        assert (backend, arch) == ("tensorrt", None)
        source = model if right else folder / "wrong.onnx"
        write_engine(source, engine, says=model, maximum={"B": 8, "T": 64})

    monkeypatch.setattr(artifacts, "find_cards", lambda: CARDS)
    monkeypatch.setattr(artifacts, "is_installed", lambda backend: backend.name == "tensorrt")
    monkeypatch.setattr(artifacts, "build_engine", stand_in)
    report = verify(folder / "m.onnx", checkpoint=folder / "m.safetensors")
    assert report.passed is right and report.missing.keys() == {"cuda", "tensorrt-rtx"}
    failed = {c.artifact for c in report.comparisons if not c.passed}
    assert failed == (set() if right else {"tensorrt"}) and not report.layers
    assert {"function", "tensorrt"} <= {c.artifact for c in report.comparisons}


def test_engine_that_cannot_be_built_is_not_compared(folder, tensorrt, monkeypatch):
    def refuse(model, engine, *, backend, arch):
        raise EngineError("TensorRT cannot build the engine: no kernel for sm90")

    monkeypatch.setattr(artifacts, "find_cards", lambda: CARDS)
    monkeypatch.setattr(artifacts, "is_installed", lambda backend: True)
    monkeypatch.setattr(artifacts, "build_engine", refuse)
    report = verify(folder / "m.onnx")
    assert report.passed and "no kernel for sm90" in report.missing["tensorrt-rtx"]
    with pytest.raises(InputError, match="tensorrt was asked for and is not here"):
        verify(folder / "m.onnx", only=["tensorrt"])


def test_real_engine_without_a_gpu(folder):
    """One line and status 2: what was asked for is not here."""
    needs.tensorrt_rtx()
    if find_cards().cards:
        pytest.skip("this machine has a GPU")
    build_engine(folder / "m.onnx", folder / "m.engine", backend="tensorrt-rtx", arch=["sm86"])
    code, out, err = run_cli(folder / "m.engine")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {folder / 'm.engine'} does not run here: it needs a GPU of sm86")
