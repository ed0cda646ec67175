"""What a failed comparison with a recording says of its cause and of its cure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import build
from recordings import Exports, in_chunks, noise, run_cli, upstream
from upstream_cases import FOLDER

import qrnn_deploy
from qrnn_deploy.checkpoints import Given
from qrnn_deploy.exporter import export_checkpoint
from qrnn_deploy.nn import QRNN
from qrnn_deploy.verifier.report import Comparison, VerifyReport

SALESFORCE = FOLDER / "sf_layer_w2_og1_zo3"


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return Exports(tmp_path_factory.mktemp("causes"))


def whole(change=0.0):
    """x and y, the answer off by ``change`` at one step."""
    x = noise(3, 11, 5)
    y = upstream(build("fo"), x)[0]
    y[1, 0] += change
    return {"x": x, "y": y}


def verdict(model, path, record, *options):
    np.savez(path, **record)
    code, out, err = run_cli(model, "--reference", path, *options)
    return code, (out or err).splitlines()[-1]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.09, 0.2, 3.0])
def test_a_tolerance_is_suggested_only_if_it_is_accepted(exports, tmp_path, share):
    record = whole()
    peak = np.abs(record["y"]).max()
    record["y"].flat[np.abs(record["y"]).argmin()] += share * peak
    peak = np.abs(record["y"]).max()
    code, line = verdict(exports["separate"], tmp_path / "r.npz", record)
    assert code == 1
    if share > 0.1:
        limit = f"more than {peak / 10:.2g}, a tenth of the values, proves nothing"
        assert "would pass" not in line and "differ too much for any --atol" in line
        assert line.endswith(limit)
        return
    suggested = line.split("--atol ")[1].split()[0]
    code, line = verdict(
        exports["separate"], tmp_path / "r.npz", record, "--atol", suggested, "--only", "kernel"
    )
    assert code == 0, line


def test_the_smallest_output_limits_the_tolerance():
    report = VerifyReport("m", "r", [Comparison("a", "c", "o", 0.2, 0.0, 1e-5)], most_atol=0.1)
    assert "0.2 would be needed, and more than 0.1, a tenth" in str(report._verdict())
    report.most_atol = 0.2
    assert "--atol 2.0e-01 would pass" in str(report._verdict())


def test_assumptions_of_the_export_are_named(tmp_path):
    """A layer that was trained with zoneout, exported without saying so."""
    model, old = tmp_path / "m.onnx", np.load(SALESFORCE.with_suffix(".npz"))
    record = {"x": old["x"], "y": old["y_nohid"], "layout": "time-major"}
    np.savez(tmp_path / "r.npz", **record)
    for zoneout in (None, 0.3):
        given = Given(window=2, output_gate=True, zoneout=zoneout)
        export_checkpoint(SALESFORCE.with_suffix(".pt"), model, given=given)
        report = qrnn_deploy.verify(model, reference=tmp_path / "r.npz")
        named = [note for note in report.notes if note.startswith("check what the export assumed")]
        assert report.passed == (zoneout is not None)
        assert any("zoneout 0 (--zoneout P)" in note for note in named) == (not report.passed)
    del record["layout"]
    np.savez(tmp_path / "r.npz", **record)
    report = qrnn_deploy.verify(model, reference=tmp_path / "r.npz")
    assert "--reference-layout time-major" in report.notes[-1]


def test_a_first_chunk_that_is_right_points_at_what_lies_between(exports, tmp_path):
    record = in_chunks()
    record["y.1"] = upstream(build("fo"), record["x.1"])[0]
    (note,) = exports.compare(record).notes
    assert "(pytorch-qrnn without save_prev_x)? See 'Carried means all of it' in docs/ver" in note
    record["y.0"] = record["y.0"] + 0.1  # then the whole model is in question
    notes = exports.compare(record).notes
    assert not any("save_prev_x" in note for note in notes)
    assert "--reference-layout" in notes[-1]
    assert not exports.compare(in_chunks()).notes


def test_without_windows_it_is_the_state(tmp_path):
    module = QRNN(5, 6, 1, window=1, batch_first=True).eval()
    torch.nn.init.normal_(module.layers[0].bias)
    qrnn_deploy.export(module, tmp_path / "m.onnx", args=(torch.zeros(2, 3, 5),))
    record = {}
    for number in range(2):
        x = noise(2, 4, 5, seed=number)
        record |= {f"x.{number}": x, f"y.{number}": upstream(module, x)[0]}
    np.savez(tmp_path / "r.npz", **record)
    report = qrnn_deploy.verify(tmp_path / "m.onnx", reference=tmp_path / "r.npz")
    assert not report.passed and "with a state of its own?" in report.notes[-1]
