"""The files of an export: all replaced or none, and never one that is the user's own."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from models import build, files_under

from qrnn_deploy import save_checkpoint
from qrnn_deploy.cli import main
from qrnn_deploy.errors import ExportError
from qrnn_deploy.exporter import export, files
from qrnn_deploy.exporter.earlier import earlier_files
from qrnn_deploy.nn import QRNN


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def old_and_staged(tmp_path, names):
    """A folder with an earlier export in it, and a staged new one."""
    target, folder = tmp_path / "out" / "m.onnx", tmp_path / "out" / ".staged"
    for place, text in ((target.parent, "old"), (folder, "new")):
        place.mkdir()
        for name in names:
            if name.endswith(".golden"):
                (place / name).mkdir()
                (place / name / "golden.json").write_text(text)
            else:
                (place / name).write_text(text)
    return target, folder


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("late", [False, True])
def test_publishing_replaces_all_or_nothing(error, late, tmp_path, monkeypatch):
    """Every rename fails or is interrupted in turn, before it happens or just behind it."""
    names = ["m.golden", "m.onnx.data", "m.onnx"]
    for failing in range(10):
        place = tmp_path / str(failing)
        place.mkdir()
        target, folder = old_and_staged(place, names)
        before = contents(target.parent)
        calls = []
        move = os.replace

        def replace(source, destination, failing=failing, calls=calls, move=move):
            calls.append(source)
            fails = len(calls) == failing + 1
            if fails and not late:
                raise error
            move(source, destination)
            if fails:
                raise error

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", replace)
            try:
                files.publish(folder, target, names, [])
                break
            except (ExportError, KeyboardInterrupt):
                pass
        texts = {(target.parent / name).read_text() for name in names[1:]}
        texts.add((target.parent / "m.golden" / "golden.json").read_text())
        finished = late and failing == len(calls) - 1 and texts == {"new"}
        assert finished or contents(target.parent) == before
        assert set(files_under(target.parent)) - {".staged"} == set(names)
    assert failing == 6, "three files step aside and three come"


def test_stale_files_that_stay_are_told(tmp_path, monkeypatch):
    target, folder = old_and_staged(tmp_path, ["m.onnx", "m.golden"])

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.shutil, "rmtree", refuse)
    with pytest.raises(ExportError, match=r"wrote .*m\.onnx, but .*m\.golden .*Permission denied"):
        files._remove_stale(target, ["m.golden"])
    assert folder.exists()


# What an earlier export left


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with one export: model, golden vectors and external data."""
    folder = tmp_path_factory.mktemp("exported")
    export(build("fo"), folder / "m.onnx", external_data=True)
    return folder


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of it to spoil; the path of the model."""
    for name, data in contents(exported).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path / "m.onnx"


def test_what_an_export_wrote_is_recognised(copy):
    assert earlier_files(copy) == ["m.golden", "m.onnx.data"]
    assert earlier_files(copy.with_name("other.onnx")) == []


def test_stale_files_of_ours_go_and_are_told(copy):
    report = export(build("fo"), copy, golden=False)
    assert files_under(copy.parent) == ["m.onnx"]
    assert report.removed == [f"{copy.parent / 'm.golden'}/", f"{copy}.data"]
    assert report.to_json()["removed"] == report.removed
    assert export(build("fo"), copy, golden=False).removed == []


def foreign(place: Path, kind: str) -> str:
    """Put something of the user's where an export would write; returns what the error says."""
    golden, data = place / "m.golden", place / "m.onnx.data"
    if kind == "golden is a file":
        files.shutil.rmtree(golden)
        golden.write_text("mine")
        return "m.golden is in the way"
    if kind == "golden is a link":
        golden.rename(place / "elsewhere")
        golden.symlink_to(place / "elsewhere")
        return "is a symbolic link"
    if kind == "golden is another folder":
        files.shutil.rmtree(golden)
        golden.mkdir()
        (golden / "photo.jpg").write_text("mine")
        return "holds photo.jpg"
    if kind == "golden is empty":
        files.shutil.rmtree(golden)
        golden.mkdir()
        return "holds no golden.json"
    if kind == "a note in golden":
        (golden / "notes.txt").write_text("mine")
        return "holds notes.txt, which no export writes"
    if kind == "a note in a set":
        (golden / "test_data_set_0" / "notes.txt").write_text("mine")
        return "holds test_data_set_0/notes.txt, which no export writes"
    if kind == "a linked set":
        (golden / "test_data_set_9").symlink_to(place)
        return "holds test_data_set_9, a symbolic link"
    if kind == "golden.json of another tool":
        (golden / "golden.json").write_text('{"sets": 3}')
        return "golden.json that no export wrote"
    if kind == "golden.json damaged":
        (golden / "golden.json").write_text("{")
        return "golden.json that is damaged"
    if kind == "data without a model":
        (place / "m.onnx").unlink()
        return "m.onnx.data is in the way"
    if kind == "data of another model":
        export(build("fo"), place / "single.onnx", golden=False)
        (place / "single.onnx").rename(place / "m.onnx")
        return "is not what m.onnx refers to"
    if kind == "data beside a damaged model":
        (place / "m.onnx").write_text("mine")
        return "lies beside a m.onnx that cannot be read"
    assert kind == "data is a folder"
    data.unlink()
    data.mkdir()
    (data / "mine").write_text("mine")
    return "is a folder"


@pytest.mark.parametrize(
    "kind",
    [
        "golden is a file",
        "golden is a link",
        "golden is another folder",
        "golden is empty",
        "a note in golden",
        "a note in a set",
        "a linked set",
        "golden.json of another tool",
        "golden.json damaged",
        "data without a model",
        "data of another model",
        "data beside a damaged model",
        "data is a folder",
    ],
)
def test_files_of_the_user_stop_an_export(kind, copy):
    message = foreign(copy.parent, kind)
    before, names = contents(copy.parent), files_under(copy.parent)
    for options in ({}, {"golden": False}, {"external_data": True}):
        with pytest.raises(ExportError, match="move it elsewhere, or give another") as caught:
            export(build("fo"), copy, **options)
        assert message in str(caught.value) and "\n" not in str(caught.value)
        assert contents(copy.parent) == before and files_under(copy.parent) == names


def test_files_that_come_during_an_export_are_kept(tmp_path):
    def intrude(stage):
        if stage == "writing golden vectors":
            (tmp_path / "m.golden").write_text("mine")

    with pytest.raises(ExportError, match=r"m\.golden is in the way"):
        export(build("fo"), tmp_path / "m.onnx", progress=intrude)
    assert contents(tmp_path) == {Path("m.golden"): b"mine"}


def test_weights_too_small_for_a_file_leave_none(tmp_path):
    """torch.onnx keeps tensors below 256 bytes in the model and leaves an empty file."""
    target = tmp_path / "m.onnx"
    for _ in range(2):
        module = QRNN(3, 4, 2, batch_first=True)
        report = export(module, target, dtype="float16", external_data=True, golden=False)
        assert files_under(tmp_path) == ["m.onnx"]
        assert any("too small for a file" in note for note in report.notes)
        onnx.checker.check_model(str(target), full_check=True)


# At the command line


def command(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["export", *(os.fspath(argument) for argument in arguments)])
    return stop.value.code


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "a b.safetensors"
    save_checkpoint(build("fo"), path)
    return path


def test_command_tells_what_it_removes_and_what_comes_next(checkpoint, copy, capsys):
    assert command(checkpoint, "-o", copy, "--no-golden") == 0
    out = capsys.readouterr().out
    assert f"  removed {copy.parent / 'm.golden'}/ of an earlier export\n" in out
    assert f"Next: qrnn-deploy verify {copy} --checkpoint '{checkpoint}'\n" in out


def test_command_leaves_files_of_the_user(checkpoint, tmp_path, capsys):
    (tmp_path / "m.golden").mkdir()
    (tmp_path / "m.golden" / "mine").write_text("mine")
    before = contents(tmp_path)
    assert command(checkpoint, "-o", tmp_path / "m.onnx", "--no-golden") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "m.golden is in the way" in line
    assert contents(tmp_path) == before


def test_contradictory_flags_are_a_usage_error(checkpoint, tmp_path, capsys):
    flags = ("--external-data", "--single-file")
    for order in (flags, flags[::-1]):
        assert command(checkpoint, "-o", tmp_path / "m.onnx", *order) == 2
        assert "--external-data and --single-file exclude each other" in capsys.readouterr().err
    assert files_under(tmp_path) == [checkpoint.name]


def test_paths_that_are_not_text(checkpoint, tmp_path, capsys, monkeypatch):
    """Bytes that are not UTF-8 in the file's name, in its folder's, or in the current folder's."""
    odd = Path(os.fsdecode(b"a\xffb"))
    (tmp_path / odd).mkdir()
    before = files_under(tmp_path)
    targets = [tmp_path / f"{odd}.onnx", tmp_path / odd / "m.onnx"]
    for target in targets:
        for flags in ((), ("--external-data",)):
            assert command(checkpoint, "-o", target, *flags) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert "not UTF-8" in line and "choose another name" in line
    monkeypatch.chdir(tmp_path / odd)
    assert command(checkpoint, "-o", "m.onnx") == 2
    assert "not UTF-8" in capsys.readouterr().err
    assert files_under(tmp_path) == before and files_under(tmp_path / odd) == []


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_checkpoint_whose_path_is_not_text(suffix, tmp_path, capsys):
    save_checkpoint(build("fo"), tmp_path / f"m{suffix}")
    odd = tmp_path / os.fsdecode(b"a\xff" + suffix.encode())
    (tmp_path / f"m{suffix}").rename(odd)
    assert command(odd, "-o", tmp_path / "m.onnx") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not UTF-8" in line and "rename it" in line
    assert files_under(tmp_path) == [odd.name]


def test_non_finite_weights_name_both_ways_to_allow_them(tmp_path, capsys):
    module = build("fo")
    with pytest.raises(ExportError, match=r"allow_non_finite=True \(--allow-non-finite\)"):
        module.layers[0].weight.data[0, 0] = float("nan")
        export(module, tmp_path / "m.onnx")
    save_checkpoint(module, tmp_path / "m.pt")
    assert command(tmp_path / "m.pt", "-o", tmp_path / "m.onnx") == 2
    assert "--allow-non-finite" in capsys.readouterr().err
    assert command(tmp_path / "m.pt", "-o", tmp_path / "m.onnx", "--allow-non-finite") == 0
