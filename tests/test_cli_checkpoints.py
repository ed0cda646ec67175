"""Upstream checkpoints on the command line: inspect, export, verify, and what they print."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from upstream_cases import CASES, FOLDER

from qrnn_deploy.checkpoints import finite, formats
from qrnn_deploy.cli import main
from qrnn_deploy.metadata import Metadata


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def metadata_of(path: Path) -> Metadata:
    model = onnx.load(path, load_external_data=False)
    return Metadata.from_properties({p.key: p.value for p in model.metadata_props}, str(path))


def test_every_format_stands_in_the_docs() -> None:
    """In the README with what it was tested on, and in docs/checkpoints.md."""
    root = Path(__file__).parent.parent
    readme = (root / "README.md").read_text()
    page = (root / "docs" / "checkpoints.md").read_text()
    for name in formats():
        assert f"| `{name}` |" in page, name
        assert name == "native" or f"| `{name}`: " in readme, name


def test_inspect_shows_what_was_found_and_what_was_assumed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_main("inspect", FOLDER / "sf_qrnn_prevx_chunks.pt") == 0
    out = capsys.readouterr().out
    assert "Format: torchqrnn (salesforce/pytorch-qrnn" in out and "Becomes: QRNN\n" in out
    assert "layers.1.linear.weight" in out and "[60, 40]" in out
    assert "Inferred: 2 layers, input size 12, hidden size 20" in out
    assert "Inferred: window 2\n" in out
    assert "Assumed: zoneout 0 (--zoneout P)" in out
    assert "Next: qrnn-deploy export " in out


def test_whose_direction_is_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    """The names are also fastai's, whose layers may walk backwards; torchqrnn's never do."""
    path = FOLDER / "sf_qrnn_prevx_chunks.pt"
    for options in ((), ("--format", "torchqrnn"), ("--zoneout", 0.1), ("--direction", "forward")):
        assert run_main("inspect", path, *options) == 0
        out = capsys.readouterr().out
        assert ("Assumed: direction forward (--direction reverse)" in out) == (not options)
        assert ("know no other (--format torchqrnn, if they are)" in out) == (not options)


def test_inspect_names_weights_that_export_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = tmp_path / "nan.pt", FOLDER / "sf_qrnn_prevx_chunks.pt"
    tensors = torch.load(whole)
    for number, value in enumerate((math.nan, math.inf)):
        tensors[f"layers.{number}.linear.weight"][3, 3] = value
    torch.save(tensors, path)
    assert run_main("inspect", path) == 0
    note = "Note: NaN or infinity in layers.0.weight, layers.1.weight: export refuses it (--allow-"
    assert note in capsys.readouterr().out
    for file, expected in ((path, ["layers.0.weight", "layers.1.weight"]), (whole, [])):
        assert run_main("inspect", file, "--json") == 0
        assert json.loads(capsys.readouterr().out)["non_finite"] == expected
    assert run_main("export", path, "-o", tmp_path / "nan.onnx") == 2
    assert "tensor layers.0.weight holds NaN or infinity" in capsys.readouterr().err
    monkeypatch.setattr(finite.non_finite, "__defaults__", (1000,))
    assert run_main("inspect", path) == 0
    assert "Note: the numbers of a file of this size were not looked at" in capsys.readouterr().out
    data = bytearray(whole.read_bytes())
    place = data.index(torch.load(whole)["layers.1.linear.weight"].numpy().tobytes()[:64])
    data[place] ^= 1
    path.write_bytes(data)
    monkeypatch.undo()
    assert run_main("inspect", path) == 2
    assert "is a truncated or damaged file: the check sum of a tensor" in capsys.readouterr().err


def test_inspect_json(capsys: pytest.CaptureFixture[str]) -> None:
    path = FOLDER / "sf_layer_w2_og1_zo3.pt"
    options = ("--window", 2, "--output-gate", "--zoneout", 0.3)
    assert run_main("inspect", path, "--json", *options) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert facts["format"] == "torchqrnn" and facts["assumed"] == []
    assert facts["given"] == {"window": 2, "output_gate": True, "zoneout": 0.3}
    assert facts["config"]["input_size"] == 12 and facts["config"]["zoneout"] == 0.3
    assert facts["tensors"] == {"linear.bias": [60], "linear.weight": [60, 24]}


def test_a_part_of_a_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("inspect", FOLDER / "fa1_lm_model_opt.pt") == 0
    out = capsys.readouterr().out
    assert "16 tensors in 'model' of float32" in out


def test_what_is_said_and_assumed_reaches_the_metadata_and_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, model = FOLDER / "sf_layer_w2_og1_zo3.pt", tmp_path / "m.onnx"
    options = ("--input-size", 12, "--output-gate", "--zoneout", 0.3)
    assert run_main("export", checkpoint, "-o", model, *options) == 0
    out = capsys.readouterr().out
    assert "read as torchqrnn: 1 layer, input size 12, hidden size 20; window 2" in out
    meta = metadata_of(model)
    assert meta.source is not None and meta.source["options"]["zoneout"] == 0.3
    assert meta.layers[0].zoneout_scale == pytest.approx(0.7)
    # verify reads the checkpoint with the same facts; without them it would be ambiguous.
    assert run_main("verify", model, "--checkpoint", checkpoint, "--only", "kernel") == 0
    capsys.readouterr()
    assert run_main("inspect", model) == 0
    out = capsys.readouterr().out
    assert "Given: zoneout 0.3" in out and "Given: input_size 12" in out

    other = tmp_path / "other.onnx"
    assert run_main("export", checkpoint, "-o", other, *options[:3]) == 0
    assert "note: assumed: zoneout 0 (--zoneout P)" in capsys.readouterr().out
    assert any("zoneout 0" in text for text in metadata_of(other).assumptions)
    assert metadata_of(other).layers[0].zoneout_scale == 1


def test_models_that_cannot_stream_get_no_states_by_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "two.onnx"
    checkpoint = FOLDER / "fa1_qrnn_1.pt"
    assert run_main("export", checkpoint, "-o", model, "--input-size", 12) == 0
    assert "note: states none: the model walks backwards or" in capsys.readouterr().out
    assert metadata_of(model).state_mode == "none"
    code = run_main("export", checkpoint, "-o", model, "--input-size", 12, "--states", "packed")
    assert code == 2
    assert "cannot stream" in capsys.readouterr().err


def test_vocabulary_and_classes_reach_the_metadata(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    itos = ["xxunk", "xxpad", *(f"w{n}" for n in range(37)), "xxfake", "xxfake"]
    (tmp_path / "itos.pkl").write_bytes(pickle.dumps(itos))
    model = tmp_path / "cls.onnx"
    options = ("--vocabulary", tmp_path / "itos.pkl", "--classes", "neg, neutral,pos")
    assert run_main("export", FOLDER / "fa1_classifier.pt", "-o", model, *options) == 0
    meta = metadata_of(model)
    assert meta.vocabulary == itos and meta.classes == ["neg", "neutral", "pos"]
    capsys.readouterr()
    verify = ("verify", model, "--checkpoint", FOLDER / "fa1_classifier.pt", "--only", "function")
    assert run_main(*verify) == 0


def test_the_demo_of_a_recorded_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """verify --reference against the very numbers that upstream recorded."""
    model = tmp_path / "lm.onnx"
    assert run_main("export", FOLDER / "fa2_lm.pt", "-o", model) == 0
    recorded = CASES["fa2_lm"].recorded()["two chunks"]
    arrays = {f"tokens.{n}": chunk.x for n, chunk in enumerate(recorded)}
    arrays |= {f"logits.{n}": np.asarray(chunk.y) for n, chunk in enumerate(recorded)}
    np.savez(tmp_path / "outputs.npz", **arrays)
    assert run_main("verify", model, "--reference", tmp_path / "outputs.npz") == 0
    arrays["logits.1"] = arrays["logits.1"] + 1e-3
    np.savez(tmp_path / "wrong.npz", **arrays)
    capsys.readouterr()
    assert run_main("verify", model, "--reference", tmp_path / "wrong.npz") == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["inspect", "M.onnx", "--window", 2], "--window is for checkpoints, and"),
        (["inspect", "C.pt", "--kernel", "off"], "--kernel is for ONNX files"),
        (["inspect", "absent.pt"], "no such file, expected a checkpoint"),
        (["export", "C.pt", "-o", "x.onnx", "--window", "two"], "'two' is no number of taps"),
        (["export", "C.pt", "-o", "x.onnx", "--window", "0"], "'0' has a number below 1"),
        (["export", "C.pt", "-o", "x.onnx", "--zoneout", "1"], "1.0 is not in the range 0<=x<1"),
        (["export", "C.pt", "-o", "x.onnx", "--format", "keras"], "--format keras is no format"),
        (["export", "C.pt", "-o", "x.onnx", "--bptt", 3], "is no classifier, and --bptt is for"),
        (["export", "C.pt", "-o", "x.onnx", "--vocabulary", "no.pkl"], "no such file, expected"),
    ],
)
def test_mistakes(
    arguments: list[Any],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(FOLDER / "fa2_lm.pt", "C.pt")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), "M.onnx")
    assert run_main(*arguments) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1
    assert not Path("x.onnx").exists()
