"""`verify --reference`: recordings of upstream code that are right pass, and wrong ones fail."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from fake_tensorrt import install, write_engine
from models import FrontedModel, build
from recordings import ROWS, STEPS, Exports, failed, good, in_chunks, noise, run_cli, upstream
from torch import nn

import qrnn_deploy
from qrnn_deploy.cli import verify as command
from qrnn_deploy.engines.model import file_sha256
from qrnn_deploy.errors import InputError
from qrnn_deploy.exporter import export
from qrnn_deploy.verifier.recorded import recording


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return Exports(tmp_path_factory.mktemp("recorded"))


@pytest.mark.parametrize("model", ["separate", "packed", "half", "ragged"])
def test_right_recording_passes_in_every_implementation(exports, model):
    report = exports.compare(good(), model)
    assert report.passed, report.to_json()
    assert {"function"} <= {c.artifact for c in report.comparisons} <= {"kernel", "function"}
    assert {c.output for c in report.comparisons} == {k for k in good() if k[-2:] != "in"} - {"x"}
    assert not {"y", "state_00_c_out", "weights"} & report.missing.keys()
    assert max(c.allowed for c in report.comparisons) < (0.03 if model == "half" else 2e-5)


@pytest.mark.parametrize("name", ["y", "state_00_c_out", "state_01_x_out"])
@pytest.mark.parametrize("model", ["separate", "packed"])
def test_a_thousandth_fails_and_names_the_output(exports, tmp_path, name, model):
    record = good()
    record[name][1, 0] += 1e-3
    np.savez(tmp_path / "r.npz", **record)
    code, out, err = run_cli(exports[model], "--reference", tmp_path / "r.npz", "--json")
    assert (code, err) == (1, "")
    report = json.loads(out)
    assert {c["output"] for c in report["comparisons"] if c["max_abs"] > c["allowed"]} == {name}
    assert report["would_pass"] == pytest.approx(1e-3, rel=0.01)


def test_every_state_that_is_fed_matters(exports):
    for name in ("state_00_c_in", "state_01_x_in"):
        record = good()
        del record[name]  # means zeros, which upstream did not start from
        assert ("recorded", "y") in failed(exports.compare(record))


def test_the_report_says_what_it_is_about(exports, tmp_path):
    path = tmp_path / "r.npz"
    x = noise(ROWS, STEPS, 5)
    texts = {
        "upstream": "pytorch-qrnn 1634991",
        "note": b"caf\xc3\xa9",
        "bell": "\a",
        "essay": "x" * 200,
    }
    np.savez(path, x=x, y=upstream(build("fo"), x)[0], several=["a", "b"], **texts)
    code, out, err = run_cli(exports["separate"], "--reference", path)
    assert (code, err) == (0, "")
    assert f"against recorded outputs {path} (sha256 {file_sha256(path)})" in out
    assert "note: recorded upstream: pytorch-qrnn 1634991" in out and "recorded note: café" in out
    assert "essay" not in out and "bell" not in out and "several" not in out
    for name in ("state_00_c_out", "state_00_x_out", "state_01_c_out", "state_01_x_out"):
        assert f"not compared: {name} (not recorded)" in out
    code, out, _ = run_cli(exports["separate"], "--reference", path, "--json")
    report = json.loads(out)
    assert (code, report["passed"]) == (0, True) and file_sha256(path) in report["reference"]
    assert report["missing"]["state_01_c_out"] == "not recorded"


def test_several_inputs_and_outputs(tmp_path):
    """Of a user's own module, whole numbers among its outputs."""

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = FrontedModel(padding=1)

        def forward(self, audio, control):
            found = self.inner(audio, control)
            return found | {"best": found["score"].argmax(dim=-1)}

    torch.manual_seed(0)
    module, args = Counted().eval(), (torch.randn(2, 7, 4), torch.randn(2, 7, 3))
    export(module, tmp_path / "m.onnx", args, states="none", golden=False)
    with torch.no_grad():
        record = {k: v.numpy() for k, v in module(*args).items()}
    record |= {"audio": args[0], "control": args[1]}

    def verify():
        np.savez(tmp_path / "r.npz", **record)
        return qrnn_deploy.verify(tmp_path / "m.onnx", reference=tmp_path / "r.npz")

    report = verify()
    assert report.passed and {c.output for c in report.comparisons} == {"score", "hidden", "best"}
    record["best"] = record["best"].copy()
    record["best"][0, 0] ^= 1
    assert failed(verify()) == {("recorded", "best")}
    del record["hidden"], record["best"]
    assert verify().missing.keys() >= {"hidden", "best"}


def test_the_tolerance(exports):
    record = good()
    record["y"] = record["y"] + 5e-4
    for options, passes in (({"atol": 4e-4}, False), ({"atol": 6e-4}, True)):
        assert exports.compare(record, **options).passed is passes
    for options, passes in (({}, True), ({"atol": 4e-5}, False)):
        assert exports.compare(record, "half", **options).passed is passes
    with pytest.raises(InputError, match=r"expected at most .*, a tenth of the largest magnitude"):
        exports.compare(record, atol=0.5)
    narrow = good() | {"y": good()["y"].astype(np.float16)}
    report = exports.compare(narrow)
    assert not report.passed and "float16, coarser than the tolerance" in report.notes[0]
    wide = good() | {"x": good()["x"].astype(np.float64) * (1 + 1e-12)}
    report = exports.compare(wide)
    assert report.passed and report.notes == ["x, recorded as float64, was rounded to float32"]


def test_small_outputs_have_a_small_tolerance(exports, tmp_path):
    class Faint(nn.Module):
        def __init__(self):
            super().__init__()
            self.stack = build("fo")

        def forward(self, x):
            return self.stack(x)[0] * 1e-6

    x = torch.as_tensor(noise(2, 7, 5))
    export(Faint(), tmp_path / "m.onnx", (x,), golden=False)
    y = upstream(build("fo"), x)[0] * 1e-6
    for factor, passes in ((1, True), (1.2, False)):
        np.savez(tmp_path / "r.npz", x=x, y=y * factor)
        report = qrnn_deploy.verify(tmp_path / "m.onnx", reference=tmp_path / "r.npz")
        assert report.passed is passes and report.comparisons[0].allowed < 1.3e-7


def test_engines_take_recordings_too(exports, tmp_path, monkeypatch):
    """Also as a stream; what the profiles do not take is named."""
    install(monkeypatch)
    engine = write_engine(exports["separate"], tmp_path / "m.engine")
    np.savez(tmp_path / "r.npz", **in_chunks())
    report = qrnn_deploy.verify(engine, reference=tmp_path / "r.npz")
    assert report.passed and {c.artifact for c in report.comparisons} == {"tensorrt"}
    assert {"chunk 2, B=3 T=6", "chunk 2, B=3 T=6, as a stream"} <= {
        c.case for c in report.comparisons
    }
    write_engine(exports["separate"], tmp_path / "m.engine", forgets_state=True)
    report = qrnn_deploy.verify(engine, reference=tmp_path / "r.npz")
    assert {case for case, _ in failed(report)} == {"chunk 1", "chunk 2"}
    write_engine(exports["separate"], tmp_path / "m.engine", maximum={"B": 3, "T": 5})
    report = qrnn_deploy.verify(engine, reference=tmp_path / "r.npz")
    assert report.passed and "tensorrt, chunk 2, B=3 T=6" in report.missing


def test_no_torch_is_needed(exports, tmp_path):
    np.savez(tmp_path / "r.npz", **good())
    code = (
        "import sys\n"
        "from qrnn_deploy import verify\n"
        f"assert verify({str(exports['separate'])!r}, reference='r.npz').passed\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_one_original_at_a_time(exports, tmp_path):
    model = exports["separate"]
    for options, message in (
        (("--reference", "r.npz", "--checkpoint", "m.pt"), "are two originals: compare with one"),
        (("--reference-layout", "time-major"), "--reference-layout is for --reference"),
        (("--reference", "r.npz", "--reference-layout", "BTC"), "'BTC' is not one of"),
    ):
        code, out, err = run_cli(model, *options)
        assert (code, out, err.count("\n")) == (2, "", 1) and message in err
    with pytest.raises(InputError, match="got a checkpoint and a reference: expected at most one"):
        qrnn_deploy.verify(model, reference="r.npz", checkpoint="m.pt")
    with pytest.raises(InputError, match="reference_layout is for a reference"):
        qrnn_deploy.verify(model, reference_layout="time-major")
    np.savez(tmp_path / "r.npz", **good())
    with pytest.raises(InputError, match="per-layer comparison needs the PyTorch model"):
        qrnn_deploy.verify(model, reference=tmp_path / "r.npz", per_layer=True)
    with pytest.raises(InputError, match="the layout is 'BTC', expected batch-major or time-major"):
        qrnn_deploy.verify(model, reference=tmp_path / "r.npz", reference_layout="BTC")
    assert command.LAYOUTS == recording.LAYOUTS
