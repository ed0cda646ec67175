"""`qrnn-deploy export` and `verify`: the round trip, and every way it can go wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
import torch

from qrnn_deploy import save_checkpoint
from qrnn_deploy.cli import main
from qrnn_deploy.nn import QRNN


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def one_line(captured: str) -> str:
    """The error line; it is the only line but for warnings."""
    lines = [line for line in captured.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("error: "), captured
    return lines[0]


@pytest.fixture(scope="module")
def model() -> QRNN:
    torch.manual_seed(5)
    return QRNN(3, 4, 2, window=2, batch_first=True).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory, model) -> Path:
    """A folder with a checkpoint and its export."""
    folder = tmp_path_factory.mktemp("exported")
    save_checkpoint(model, folder / "model.safetensors")
    assert run_main("export", folder / "model.safetensors", "-o", folder / "model.onnx") == 0
    return folder


def test_export_says_what_it_wrote(tmp_path, model, capsys):
    save_checkpoint(model, tmp_path / "m.pt")
    assert run_main("export", tmp_path / "m.pt", "-o", tmp_path / "m.onnx", "--no-golden") == 0
    out, err = capsys.readouterr()
    assert f"{tmp_path / 'm.onnx'}: " in out and "2 layers" in out and "qrnn-deploy verify" in out
    assert err == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.pt"]


def test_inspect_tells_golden_vectors_from_any_folder(exported, tmp_path, capsys):
    def golden(path: Path) -> bool:
        assert run_main("inspect", path, "--kernel", "off", "--json") == 0
        return json.loads(capsys.readouterr().out)["golden"]

    capsys.readouterr()
    (tmp_path / "m.onnx").write_bytes((exported / "model.onnx").read_bytes())
    (tmp_path / "m.golden").mkdir()
    assert golden(exported / "model.onnx") and not golden(tmp_path / "m.onnx")


def test_export_options_reach_the_file(tmp_path, capsys):
    save_checkpoint(QRNN(8, 16, 2, window=2, batch_first=True), tmp_path / "m.safetensors")
    command = ("export", tmp_path / "m.safetensors", "-o", tmp_path / "m.onnx", "--json")
    options = ("--states", "packed", "--lengths", "--dtype", "float16", "--external-data")
    assert run_main(*command, *options, "--no-golden") == 0
    report = json.loads(capsys.readouterr().out)
    meta = report["metadata"]
    assert (meta["state_mode"], meta["ragged"], meta["dtype"]) == ("packed", True, "float16")
    assert sorted(Path(name).name for name in report["files"]) == ["m.onnx", "m.onnx.data"]
    assert report["bytes"] == sum(Path(name).stat().st_size for name in report["files"])
    assert run_main(*command, "--inline", "--single-file", "--no-golden") == 0
    assert not (tmp_path / "m.onnx.data").exists()
    assert not onnx.load(tmp_path / "m.onnx").functions


def test_round_trip_passes(exported, capsys):
    command = ("verify", exported / "model.onnx")
    assert run_main(*command) == 0
    assert "PASS" in capsys.readouterr().out
    assert run_main(*command, "--checkpoint", exported / "model.safetensors", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] and len(report["comparisons"]) > 10
    assert {item["artifact"] for item in report["comparisons"]} == {"kernel", "function"}


def test_a_changed_weight_fails_with_exit_1(exported, tmp_path, model, capsys):
    changed = QRNN(3, 4, 2, window=2, batch_first=True).eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = next(n for n in state if n.startswith("layers.1") and n.endswith("weight"))
    state[name].view(-1)[0] += 0.1
    changed.load_state_dict(state)
    save_checkpoint(changed, tmp_path / "other.safetensors")
    command = ("verify", exported / "model.onnx", "--checkpoint", tmp_path / "other.safetensors")
    assert run_main(*command) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out and "layers.1" in out and "sha256 differs" in out
    # No tolerance makes another checkpoint the right one.
    assert run_main(*command, "--atol", 10) == 1
    capsys.readouterr()
    assert run_main(*command, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["passed"] and report["first_departure"] == "layers.1"


class Bomb:
    """A pickle that would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def bad_checkpoint(kind: str, folder: Path, model: QRNN) -> Path:
    path = folder / ("m.safetensors" if kind in ("truncated", "nan") else "m.pt")
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "foreign":
        path.write_bytes(b"#!/bin/sh\necho hello\n")
    elif kind == "bomb":
        path.write_bytes(pickle.dumps(Bomb(folder / "ran")))
    elif kind == "nan":
        broken = QRNN(3, 4, 2, window=2, batch_first=True)
        with torch.no_grad():
            next(iter(broken.parameters())).view(-1)[0] = float("nan")
        save_checkpoint(broken, path)
    elif kind == "truncated":
        save_checkpoint(model, path)
        path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "foreign", "bomb", "nan"])
def test_bad_checkpoint_is_one_line_and_nothing_written(tmp_path, model, kind, capsys):
    path = bad_checkpoint(kind, tmp_path, model)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert run_main("export", path, "-o", tmp_path / "m.onnx") == 2
    assert path.name in one_line(capsys.readouterr().err) or kind == "nan"
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_bad_output_is_one_line_and_nothing_written(exported, tmp_path, capsys):
    checkpoint = exported / "model.safetensors"
    (tmp_path / "file").write_text("")
    for target, message in (
        (tmp_path / "absent" / "m.onnx", "does not exist"),
        (tmp_path / "file" / "m.onnx", "file"),
        (tmp_path / "model", "does not end in .onnx"),
        (Path("/proc/m.onnx"), "/proc/m.onnx"),
    ):
        assert run_main("export", checkpoint, "-o", target) == 2
        assert message in one_line(capsys.readouterr().err)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_output_is_never_the_checkpoint(tmp_path, model, capsys):
    """Nor under another name, nor by way of the files beside the model."""
    save_checkpoint(model, tmp_path / "m.pt")
    checkpoint = tmp_path / "m.onnx"
    (tmp_path / "m.pt").rename(checkpoint)
    (tmp_path / "linked.onnx").symlink_to("m.onnx")
    os.link(checkpoint, tmp_path / "twin.onnx")
    os.link(checkpoint, tmp_path / "other.onnx.data")
    (tmp_path / "third.golden").symlink_to("m.onnx")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("m", "linked", "twin", "other", "third"):
        assert run_main("export", checkpoint, "-o", tmp_path / f"{name}.onnx") == 2
        line = one_line(capsys.readouterr().err)
        assert f"would overwrite the checkpoint {checkpoint}" in line
    assert run_main("export", tmp_path / "linked.onnx", "-o", checkpoint) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    folder = tmp_path / "fourth.golden" / "test_data_set_0"
    folder.mkdir(parents=True)
    checkpoint.rename(folder / "input_0.pb")
    capsys.readouterr()
    assert run_main("export", folder / "input_0.pb", "-o", tmp_path / "fourth.onnx") == 2
    assert "would overwrite the checkpoint" in one_line(capsys.readouterr().err)


def test_output_that_cannot_be_an_onnx_file(exported, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "x.npy").write_text("")
    (tmp_path / "away.onnx").symlink_to("elsewhere")
    (tmp_path / "circle.onnx").symlink_to("circle.onnx")
    names = sorted(path.name for path in tmp_path.iterdir())
    for name, message in (
        ("pipe.onnx", "pipe.onnx is a device or a pipe, expected the name of a file"),
        ("x.npy/a.onnx", "output folder {}/x.npy is not a folder"),
        ("away.onnx", "output {}/elsewhere does not end in .onnx"),
        ("circle.onnx", "circle.onnx: Too many levels of symbolic links"),
        (".onnx", "output {}/.onnx has no name before .onnx"),
    ):
        assert run_main("export", exported / "model.safetensors", "-o", tmp_path / name) == 2
        assert message.format(tmp_path) in one_line(capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert stat.S_ISFIFO((tmp_path / "pipe.onnx").stat().st_mode)


def test_output_keeps_links_and_permissions(exported, tmp_path):
    checkpoint, store = exported / "model.safetensors", tmp_path / "store"
    store.mkdir()
    (tmp_path / "linked.onnx").symlink_to("store/m.onnx")
    for _ in range(2):  # first it leads nowhere
        assert run_main("export", checkpoint, "-o", tmp_path / "linked.onnx") == 0
        assert [path.name for path in tmp_path.iterdir() if path.is_symlink()] == ["linked.onnx"]
        assert sorted(path.name for path in store.iterdir()) == ["m.golden", "m.onnx"]
        (store / "m.onnx").chmod(0o600)
    assert run_main("export", checkpoint, "-o", store / "m.onnx", "--no-golden") == 0
    assert stat.S_IMODE((store / "m.onnx").stat().st_mode) == 0o600
    onnx.checker.check_model(str(store / "m.onnx"), full_check=True)


def test_longest_output_name(exported, tmp_path, capsys):
    target = tmp_path / f"{'m' * 250}.onnx"
    command = ("export", exported / "model.safetensors", "-o", target)
    assert run_main(*command) == 2  # the name of the golden vectors is longer
    line = one_line(capsys.readouterr().err)
    assert "m.golden: File name too long; nothing was written" in line
    assert list(tmp_path.iterdir()) == []
    assert run_main(*command, "--no-golden") == 0
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_full_disk_says_why_and_leaves_nothing(tmp_path_factory, tmp_path):
    """A limit on file size stands in for a full disk: the first large file does not fit."""
    checkpoint = tmp_path_factory.mktemp("large") / "m.safetensors"
    save_checkpoint(QRNN(64, 64, batch_first=True), checkpoint)
    target = tmp_path / "m.onnx"
    done = subprocess.run(
        [sys.executable, "-m", "qrnn_deploy", "export", str(checkpoint), "-o", str(target)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        timeout=60,
    )
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert line.startswith(f"error: cannot write {target.with_suffix('.golden')}: ")
    assert "OSError" not in line and line.endswith("; nothing was written")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_export_leaves_nothing(exported, tmp_path):
    checkpoint = exported / "model.safetensors"
    command = [sys.executable, "-m", "qrnn_deploy", "export", checkpoint, "-o", tmp_path / "m.onnx"]
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()):  # the staging folder: the export is at work
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_reverse_layers_do_not_stream(tmp_path, capsys):
    save_checkpoint(QRNN(3, 4, bidirectional=True), tmp_path / "m.pt")
    command = ("export", tmp_path / "m.pt", "-o", tmp_path / "m.onnx")
    assert run_main(*command, "--states", "separate") == 2
    assert "--states none" in one_line(capsys.readouterr().err)
    assert run_main(*command, "--states", "none", "--no-golden") == 0
    capsys.readouterr()
    assert run_main(*command, "--no-golden") == 0
    assert "states none: the model walks backwards" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "inspect", "run"])
def test_damaged_model_is_one_line(exported, tmp_path, command, capsys):
    data = (exported / "model.onnx").read_bytes()
    for name, content in (("cut", data[: len(data) // 2]), ("empty", b""), ("text", b"hello")):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        assert run_main(command, path) == 2, name
        assert path.name in one_line(capsys.readouterr().err)


def test_foreign_model_is_one_line(exported, tmp_path, capsys):
    model = onnx.load(exported / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    for command in ("verify", "inspect", "run"):
        assert run_main(command, tmp_path / "foreign.onnx") == 2
        assert "has no qrnn-deploy metadata" in one_line(capsys.readouterr().err)


def test_newer_operator_than_the_kernel_library(exported, tmp_path, capsys):
    from qrnn_deploy.metadata import KEY, Metadata

    model = onnx.load(exported / "model.onnx")
    (entry,) = [item for item in model.metadata_props if item.key == KEY]
    metadata = Metadata.from_properties({KEY: entry.value}, "model.onnx")
    entry.value = dataclasses.replace(metadata, op_domain_version=99).to_json()
    onnx.save(model, tmp_path / "newer.onnx")
    assert run_main("inspect", tmp_path / "newer.onnx") == 2
    line = one_line(capsys.readouterr().err)
    assert "version 99" in line and "--kernel off" in line
    assert run_main("inspect", tmp_path / "newer.onnx", "--kernel", "off") == 0


def test_verify_without_golden_vectors(exported, tmp_path, capsys):
    (tmp_path / "m.onnx").write_bytes((exported / "model.onnx").read_bytes())
    assert run_main("verify", tmp_path / "m.onnx") == 2
    assert "golden" in one_line(capsys.readouterr().err)
