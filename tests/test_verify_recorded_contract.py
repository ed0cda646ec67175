"""The contract of recordings, docs/verify.md: chunks, layouts, names of states, lengths, tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import build
from recordings import (
    ROWS,
    STEPS,
    Exports,
    failed,
    good,
    in_chunks,
    noise,
    run_cli,
    time_major,
    upstream,
)

import qrnn_deploy
from qrnn_deploy.errors import InputError
from qrnn_deploy.exporter import export
from qrnn_deploy.nn import LayerState, QRNNLanguageModel


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return Exports(tmp_path_factory.mktemp("recorded"))


@pytest.mark.parametrize("model", ["separate", "packed"])
def test_chunks_are_one_stream(exports, model):
    report = exports.compare(in_chunks(), model)
    assert report.passed, report.to_json()
    cases = {c.case for c in report.comparisons}
    assert cases == {"chunk 0, B=3 T=4", "chunk 1, B=3 T=1", "chunk 2, B=3 T=6"}
    for key, output in (("y.1", "y"), ("c_out.1", "state_00_c_out")):
        record = in_chunks()
        record[key].flat[0] += 1e-3
        assert failed(exports.compare(record, model)) == {("chunk 1", output)}
    anew, record = in_chunks(), in_chunks()
    record["y.1"] = upstream(build("fo"), anew["x.1"])[0]
    assert failed(exports.compare(record, model)) == {("chunk 1", "y")}


def test_a_state_without_a_number_is_that_of_the_end_or_the_start(exports):
    record = in_chunks()
    record["c_out"] = record.pop("c_out.2")
    del record["c_out.0"], record["y.1"]
    report = exports.compare(record | {"c_in": np.zeros((2, ROWS, 6), np.float32)})
    assert report.passed and report.missing.keys() >= {"y.1", "state_00_x_out"}
    assert "state_00_c_out" not in report.missing
    record["c_out"] = record["c_out"] + 1e-3
    assert {case for case, _ in failed(exports.compare(record))} == {"chunk 2"}
    record["c_out.2"] = record["c_out"]
    with pytest.raises(InputError, match=r"'state_00_c_out' twice, in 'c_out' and 'c_out.2'"):
        exports.compare(record)


def test_time_major_recordings(exports):
    """Said by the caller or by the file; never guessed."""
    record = time_major(good())
    assert exports.compare(record, reference_layout="time-major").passed
    record = record | {"layout": "time-major"}
    assert (
        exports.compare(record).passed
        and exports.compare(record, reference_layout="time-major").passed
    )
    with pytest.raises(InputError, match="says that it is time-major, and batch-major was asked"):
        exports.compare(record, reference_layout="batch-major")
    record = {k: v for k, v in time_major(good()).items() if k in "xy"}
    report = exports.compare(record)  # [T, B, 5] is a good [B, T, 5] too
    assert not report.passed and "--reference-layout time-major" in report.notes[0]
    record["y"] = record["y"] + 0.1
    assert not exports.compare(record, reference_layout="time-major").notes


def test_stacked_and_packed_names_of_states(exports):
    record = good()
    stacked = {k: v for k, v in record.items() if "_c_" not in k}
    for side in ("in", "out"):
        stacked[f"c_{side}"] = np.stack([record[f"state_0{n}_c_{side}"] for n in range(2)])
    assert exports.compare(stacked).passed and exports.compare(stacked, "packed").passed
    stacked["c_out"][1, 0, 0] += 1e-3
    assert failed(exports.compare(stacked)) == {("recorded", "state_01_c_out")}
    packed = {"x": record["x"], "y": record["y"]}
    for side in ("in", "out"):
        parts = [record[f"state_0{n}_{kind}_{side}"] for n in range(2) for kind in "cx"]
        packed[f"state_{side}"] = np.concatenate([p.reshape(ROWS, -1) for p in parts], axis=1)
    assert exports.compare(packed, "packed").passed
    packed["state_out"] = packed["state_out"] + np.float32(1e-3)
    assert len(failed(exports.compare(packed, "packed"))) == 4
    with pytest.raises(InputError, match="'state_in'"):
        exports.compare(packed)


def test_a_state_may_keep_the_axis_of_its_layer(exports, tmp_path):
    record = good()
    assert exports.compare({k: v[None] if "_c_" in k else v for k, v in record.items()}).passed
    single = build("nobias")
    export(single, tmp_path / "m.onnx", golden=False)
    x, c = noise(2, 7, 5), noise(2, 7)
    with torch.no_grad():
        y, after = single(torch.as_tensor(x), LayerState(torch.as_tensor(c), torch.zeros(2, 1, 5)))
    for stack in (lambda state: state, lambda state: state[None]):
        np.savez(tmp_path / "r.npz", x=x, y=y, c_in=stack(c), c_out=stack(after.c.numpy()))
        report = qrnn_deploy.verify(tmp_path / "m.onnx", reference=tmp_path / "r.npz")
        assert report.passed and "state_00_c_out" not in report.missing


def test_ragged_batches_are_compared_within_their_lengths(exports):
    x, lengths = noise(ROWS, STEPS, 5), np.array([STEPS, 0, 4], np.int32)
    y, after = upstream(build("fo"), x, lengths=lengths)
    x[2, 4:] = y[2, 4:] = np.nan  # padding, of which upstream may make anything
    record = {"x": x, "y": y, "lengths": lengths, "c_out": np.stack([c for c, _ in after])}
    assert exports.compare(record, "ragged").passed
    y[2, 3, 0] += 1e-3
    assert failed(exports.compare(record, "ragged")) == {("recorded", "y")}
    y[2, 3, 0] = np.nan
    with pytest.raises(InputError, match="'y' holds NaN"):
        exports.compare(record, "ragged")
    chunks = {"x.0": x[:, :2], "y.0": y[:, :2], "x.1": x[:, 2:4], "y.1": y[:, 2:4]}
    chunks |= {"lengths.0": np.array([2, 0, 2]), "lengths.1": np.array([2, 0, 1])}
    assert exports.compare(chunks, "ragged").passed
    del chunks["lengths.1"]
    with pytest.raises(InputError, match=r"holds no 'lengths.1': expected .* of every chunk"):
        exports.compare(chunks, "ragged")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A language model with large logits, layers of two sizes, and its path."""
    torch.manual_seed(0)
    module = QRNNLanguageModel(11, 8, [9, 8], tied=True, window=2).eval()
    with torch.no_grad():
        module.embedding.weight *= 60
    path = tmp_path_factory.mktemp("lm") / "lm.onnx"
    export(module, path, golden=False)
    return module, path


def test_tokens_of_any_whole_type_and_large_logits(language_model, tmp_path):
    module, path = language_model
    tokens = np.random.default_rng(0).integers(0, 6, (2, 9))
    logits, after = upstream(module, tokens)
    peak = np.abs(logits).max()
    assert peak > 20
    for dtype in (np.int32, np.uint8, ">i8"):
        states = {f"state_0{n}_c_out": c[None] for n, (c, _) in enumerate(after)}
        np.savez(tmp_path / "r.npz", tokens=tokens.astype(dtype), logits=logits, **states)
        report = qrnn_deploy.verify(path, reference=tmp_path / "r.npz")
        assert report.passed, report.to_json()
        allowed = {c.allowed for c in report.comparisons if c.output == "logits"}
        assert allowed == {5e-6 * peak}
    seen = len(np.unique(tokens))
    assert f"tokens holds {seen} different values" in report.missing["weights"]
    np.savez(tmp_path / "r.npz", tokens=tokens + 8, logits=logits)
    code, out, err = run_cli(path, "--reference", tmp_path / "r.npz")
    assert (code, out, err.count("\n")) == (2, "", 1) and "refused the input" in err
    np.savez(tmp_path / "r.npz", tokens=tokens, logits=logits, c_out=after[0][0])
    code, _, err = run_cli(path, "--reference", tmp_path / "r.npz")
    assert code == 2 and "differ in size: record state_00_c_out, state_01_c_out instead" in err
