"""`qrnn-deploy inspect`, and what every command says of a file that cannot be used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from models import build

from qrnn_deploy.cli import main
from qrnn_deploy.errors import ModelError
from qrnn_deploy.exporter import export
from qrnn_deploy.inspection import inspect_model
from qrnn_deploy.model_file import external_files, read_model


def command(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([os.fspath(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model with its weights in a file beside it."""
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    export(build("fo"), path, external_data=True, golden=False)
    return path


def test_facts_of_a_good_file(exported):
    facts = inspect_model(exported)
    assert set(facts.implementation.values()) <= {"kernel", "function"} and facts.obstacle is None
    assert facts.external_bytes == {"m.onnx.data": Path(f"{exported}.data").stat().st_size}
    assert facts.parameters == sum(p.numel() for p in build("fo").parameters())
    assert external_files(exported) == [Path(f"{exported}.data")]


def test_bfloat16_is_shown_with_the_reason_why_it_cannot_run(tmp_path, capsys):
    report = export(build("fo"), tmp_path / "m.onnx", dtype="bfloat16", golden=False)
    assert command("inspect", report.path) == 0
    out, err = capsys.readouterr()
    (verdict,) = [line for line in out.splitlines() if line.startswith("Runs here: ")]
    assert verdict.startswith("Runs here: no, ") and "MatMul" in verdict
    assert "state_00_c_in -> state_00_c_out" in out and err == ""
    assert command("inspect", report.path, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["implementation"] is None and facts["obstacle"] in verdict


def test_every_command_says_why_bfloat16_does_not_run(tmp_path, capsys):
    path = export(build("fo"), tmp_path / "m.onnx", dtype="bfloat16").path
    np.save(tmp_path / "x.npy", np.zeros((3, 5), np.float32))
    for arguments in (("run", path, tmp_path / "x.npy"), ("verify", path)):
        assert command(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {path} is a bfloat16 model, and ONNX Runtime's CPU")
        assert "--dtype float32" in line and "qrnn-deploy build" in line
    assert "m.onnx is a bfloat16 model" in inspect_model(path).obstacle


def test_metadata_that_are_no_text(exported, tmp_path, capsys):
    path = tmp_path / "m.onnx"
    shutil.copy(f"{exported}.data", f"{path}.data")
    whole = exported.read_bytes()
    path.write_bytes(whole.replace(b'"state_mode"', b'"state_\xffode"'))
    assert path.stat().st_size == len(whole) and path.read_bytes() != whole
    np.save(tmp_path / "x.npy", np.zeros((3, 5), np.float32))
    for arguments in (("run", path, tmp_path / "x.npy"), ("verify", path), ("inspect", path)):
        assert command(*arguments) == 2
        assert capsys.readouterr().err == (
            f"error: {path} has damaged qrnn-deploy metadata (UnicodeDecodeError): export the "
            "model again\n"
        )


def test_bfloat16_export_names_no_next_step_that_fails(tmp_path, capsys):
    from qrnn_deploy import save_checkpoint

    save_checkpoint(build("fo"), tmp_path / "m.pt")
    flags = ("--dtype", "bfloat16", "--no-golden")
    assert command("export", tmp_path / "m.pt", "-o", tmp_path / "m.onnx", *flags) == 0
    out = capsys.readouterr().out
    assert "note: ONNX Runtime's CPU provider has no bfloat16 MatMul" in out and "Next" not in out


def unusable(kind: str, exported: Path, folder: Path) -> tuple[Path, str, str]:
    """A path to inspect, what is wrong with it, and how to fix it."""
    path = folder / "m.onnx"
    if kind == "folder":
        return folder, "is a folder", "expected the file of a model, such as"
    if kind == "absent":
        return path, "does not exist", "`qrnn-deploy export`"
    if kind == "not text":
        path = folder / os.fsdecode(b"\xff.onnx")
        path.write_bytes(b"x")
        return path, "not UTF-8", "rename it"
    if kind == "pipe":
        os.mkfifo(path)
        return path, "is not a regular file", "expected an ONNX file"
    if kind == "empty":
        path.touch()
        return path, "is empty", "export the model again"
    shutil.copy(exported, path)
    data = exported.with_name("m.onnx.data").read_bytes()
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:1500])
        return path, "may be truncated", "copy it again, or export the model again"
    if kind == "data missing":
        return path, f"{path}.data is missing", "copy it there too, or export the model again"
    assert kind == "data truncated"
    (folder / "m.onnx.data").write_bytes(data[:-1])
    return path, f"expected {len(data)} or more", "copy it again, or export the model again"


KINDS = ("folder", "absent", "not text", "pipe", "empty", "truncated")


@pytest.mark.parametrize("kind", [*KINDS, "data missing", "data truncated"])
def test_unusable_files_are_one_line_with_the_fix(kind, exported, tmp_path, capsys):
    path, problem, fix = unusable(kind, exported, tmp_path)
    assert command("inspect", path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and problem in line and fix in line


@pytest.mark.parametrize("kind", KINDS)
def test_unusable_files_read_in_the_library(kind, exported, tmp_path):
    path, problem, _ = unusable(kind, exported, tmp_path)
    with pytest.raises(ModelError, match=problem):
        read_model(path)


def test_current_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command("inspect", ".") == 2
    assert "error: . is a folder: expected the file of a model, such as model.onnx" in (
        capsys.readouterr().err
    )
