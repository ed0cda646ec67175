"""Verification of engines: right ones pass, wrong ones fail, absent implementations are named."""

from __future__ import annotations

import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import needs
import onnxruntime
import pytest
import torch
from fake_tensorrt import CARDS, install, write_engine
from models import build

from qrnn_deploy import runtime
from qrnn_deploy.checkpoints import save_checkpoint
from qrnn_deploy.cli import main
from qrnn_deploy.cli import verify as command
from qrnn_deploy.engines import build_engine
from qrnn_deploy.engines.gpu import Cards, find_cards
from qrnn_deploy.errors import DeviceError, EngineError, InputError, ProofError
from qrnn_deploy.exporter import export, export_checkpoint
from qrnn_deploy.runtime import Session, provider_probe
from qrnn_deploy.runtime.library import KernelLibrary
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


@pytest.fixture
def here(monkeypatch, no_cuda):
    """A machine with a GPU, TensorRT and the plugin library, and nothing else."""
    monkeypatch.setattr(artifacts, "find_cards", lambda: CARDS)
    monkeypatch.setattr(artifacts, "is_installed", lambda backend: backend.name == "tensorrt")
    monkeypatch.setattr(artifacts, "find_plugin", lambda: None)


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
    line = next(line for line in out.splitlines() if line.startswith("not compared"))
    assert code == 0 and "tensorrt (not installed), tensorrt-rtx (no GPU); `qrnn-dep" in line
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
def test_engines_are_built_for_the_occasion(folder, tensorrt, monkeypatch, here, right):
    """With TensorRT and a GPU the file is compared there too; its failure is told as its own."""

    def stand_in(model, engine, *, backend, arch):
        assert (backend, arch) == ("tensorrt", None)
        source = model if right else folder / "wrong.onnx"
        write_engine(source, engine, says=model, maximum={"B": 8, "T": 64})

    monkeypatch.setattr(artifacts, "build_engine", stand_in)
    report = verify(folder / "m.onnx", checkpoint=folder / "m.safetensors")
    assert report.passed is right and report.missing.keys() == {"cuda", "tensorrt-rtx"}
    failed = {c.artifact for c in report.comparisons if not c.passed}
    assert failed == (set() if right else {"tensorrt"}) and not report.layers
    assert {"function", "tensorrt"} <= {c.artifact for c in report.comparisons}


def refuses(error):
    def build_engine(model, engine, *, backend, arch):
        raise error

    return build_engine


def contradicts(model, engine, *, backend, arch):
    write_engine(model.parent / "packed.onnx", engine, says=model)


@pytest.mark.parametrize(
    ("stand_in", "message"),
    [
        (refuses(ProofError("m.onnx: holds a plugin layer for 0 of 3 nodes")), "0 of 3 nodes"),
        (refuses(EngineError("TensorRT cannot build the engine: no tactic")), "no tactic"),
        (contradicts, "m.engine contradicts its manifest"),
    ],
)
def test_engine_that_fails_is_no_absent_one(folder, tensorrt, here, monkeypatch, stand_in, message):
    """What the build or its proof says against the model fails the report, asked for or not."""
    export(build("fo"), folder / "packed.onnx", states="packed", golden=False)
    monkeypatch.setattr(artifacts, "build_engine", stand_in)
    for options in ({}, {"checkpoint": folder / "m.safetensors"}):
        report = verify(folder / "m.onnx", **options)
        assert not report.passed and report.comparisons and not report.layers
        (problem,) = report.problems
        assert problem.startswith("tensorrt: ") and message in problem
        assert report.missing.keys() == {"cuda", "tensorrt-rtx"}
    code, out, err = run_cli(folder / "m.onnx", "--only", "tensorrt")
    assert (code, err) == (1, "")
    assert "problem: tensorrt: " in out and "FAIL: nothing could be compared" in out
    code, out, _ = run_cli(folder / "m.onnx", "--only", "tensorrt", "--json")
    assert code == 1 and json.loads(out)["problems"][0].startswith("tensorrt: ")


def test_what_an_engine_needs_is_looked_at_first(folder, tensorrt, here, monkeypatch):
    """Without it there is no engine to judge, and nothing is built."""
    monkeypatch.setattr(artifacts, "build_engine", lambda *a, **k: pytest.fail("was built"))
    rtx = SimpleNamespace(
        __version__="1.7", ComputeCapability=SimpleNamespace(__members__={"SM86": 86})
    )
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", rtx)
    monkeypatch.setattr(artifacts, "is_installed", lambda backend: True)

    def missing(name, path=folder / "m.onnx"):
        report = verify(path, module=build("fo"))
        assert report.passed and not report.problems, report.to_json()
        return report.missing[name]

    with monkeypatch.context() as lacking:
        lacking.setattr(artifacts, "find_plugin", raising(EngineError("no plugin library")))
        assert missing("tensorrt") == "no plugin library"
        assert "got --arch sm90: TensorRT for RTX 1.7 builds for sm86" in missing("tensorrt-rtx")
    with monkeypatch.context() as lacking:
        lacking.setattr(artifacts, "CudaDevice", raising(EngineError("torch without CUDA")))
        assert missing("tensorrt") == missing("tensorrt-rtx") == "torch without CUDA"
    with monkeypatch.context() as lacking:
        lacking.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="9.0"))
        assert "TensorRT 9.0 is installed: expected 10.0" in missing("tensorrt")
    export(build("fo"), folder / "inline.onnx", inline=True)
    assert "made with --inline has none" in missing("tensorrt", folder / "inline.onnx")


def raising(error):
    def call(*arguments):
        raise error

    return call


@pytest.fixture
def cuda(monkeypatch):
    """ONNX Runtime with a GPU, of which the CPU plays the part; say there which kernels it ran."""
    needs.kernel_library()
    places = {}

    def open_there(path, *, device=None, cuda_graph="off", **options):
        if device == "cuda" and "error" in places:
            raise places["error"]
        session = Session(path, **options)
        if device == "cuda":
            session.kernel_devices = {
                node: places.get(number, "cuda")
                for number, node in enumerate(session.kernel_devices)
            }
        return session

    monkeypatch.setattr(runtime, "Session", open_there)
    monkeypatch.setattr(provider_probe, "check_starts", lambda placement: None)
    monkeypatch.setattr(KernelLibrary, "cuda", "90")
    return places


def test_cuda_is_our_kernel_on_the_gpu(folder, cuda, monkeypatch):
    """Which kernels ran, and where, is asked; nothing else is reported as `cuda`."""
    model = folder / "m.onnx"
    report = verify(model, only=["cuda"])
    assert report.passed and not report.missing
    assert {c.artifact for c in report.comparisons} == {"cuda"}
    cuda[1] = "cpu"
    report = verify(model)
    assert "only 1 of 2 pooling nodes run in our CUDA kernel" in report.missing["cuda"]
    assert report.passed and {c.artifact for c in report.comparisons} == {
        *("kernel", "function", "mixed-cuda")
    }
    with pytest.raises(InputError, match="cuda was asked for and is not here"):
        verify(model, only=["cuda"])
    cuda[0] = "cpu"
    report = verify(model)
    assert "runs in our CUDA kernel (2 of 2 in the one for the CPU)" in report.missing["cuda"]
    export(build("fo"), folder / "inline.onnx", inline=True)
    report = verify(folder / "inline.onnx", module=build("fo"))
    assert report.passed and "(0 of 2 in the one" in report.missing["cuda"]


def test_cuda_that_fails_is_no_absent_one(folder, cuda, monkeypatch):
    """Where an addition runs on the GPU, it is the model that does not."""
    cuda["error"] = DeviceError("m.onnx cannot be loaded on CUDAExecutionProvider (no such thing)")
    report = verify(folder / "m.onnx")
    assert not report.passed and report.problems == [f"cuda: {cuda['error']}"]
    assert run_cli(folder / "m.onnx", "--only", "cuda")[0] == 1
    monkeypatch.setattr(provider_probe, "check_starts", raising(DeviceError("no such GPU")))
    report = verify(folder / "m.onnx")
    assert report.passed and report.missing["cuda"] == "no such GPU"


def test_what_is_neither_file_nor_engine(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for folder_name in ("", "."):
        code, out, err = run_cli(folder_name)
        assert (code, out) == (2, "")
        assert err == "error: . is a folder: expected the file of a model, such as model.onnx\n"
    (folder / ".engine").write_bytes(b"")
    code, out, err = run_cli(".engine")
    assert (code, out) == (2, "") and "ONNX" not in err and ".engine.json is missing" in err


def test_real_engine_without_a_gpu(folder):
    """One line and status 2: what was asked for is not here."""
    needs.tensorrt_rtx()
    if find_cards().cards:
        pytest.skip("this machine has a GPU")
    build_engine(folder / "m.onnx", folder / "m.engine", backend="tensorrt-rtx", arch=["sm86"])
    code, out, err = run_cli(folder / "m.engine")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {folder / 'm.engine'} does not run here: it needs a GPU of sm86")
