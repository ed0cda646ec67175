"""The command line, and `verify`, on the two files of an encoder-decoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import qrnn_deploy
from qrnn_deploy.checkpoints import save_checkpoint
from qrnn_deploy.cli import main
from qrnn_deploy.errors import InputError
from qrnn_deploy.nn import QRNNEncoderDecoder, QRNNLanguageModel
from qrnn_deploy.runtime import Seq2Seq

READING = ["<pad>", *"abcdef", "<unk>", " "]
WRITING = ["<pad>", "<s>", "</s>", *"ABCDE\n"]
TEXT = "abc\n\nfeed a bad cab\na\n"


@pytest.fixture(scope="module")
def model() -> QRNNEncoderDecoder:
    torch.manual_seed(2)
    vocabularies = {"source_vocabulary": READING, "target_vocabulary": WRITING}
    made = QRNNEncoderDecoder(len(READING), len(WRITING), 4, [6, 5], **vocabularies)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-1.5, 1.5)
    return made.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: QRNNEncoderDecoder) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    save_checkpoint(model, folder / "model.safetensors")
    assert run("export", folder / "model.safetensors", "-o", folder / "model.onnx") == 0
    return folder


def run(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_export_names_what_it_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, output = folder / "model.safetensors", folder / "again.onnx"
    assert run("export", checkpoint, "-o", output, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [Path(name).name for name in report["files"]] == [
        *("again.encoder.golden", "again.encoder.onnx"),
        *("again.decoder.golden", "again.decoder.onnx"),
    ]
    assert report["path"] == str(folder / "again.onnx")
    assert report["metadata"]["source"]["name"] == "model.safetensors"
    assert run("export", checkpoint, "-o", output, "--no-golden") == 0
    shown = capsys.readouterr().out
    assert f"with {folder}/again.encoder.onnx" in shown
    assert f"removed {folder}/again.encoder.golden/ of an earlier export" in shown
    assert f"verify {folder}/again.onnx --checkpoint {checkpoint}" in shown


def test_export_keeps_its_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = folder / "odd.encoder.onnx"
    shutil.copy(folder / "model.safetensors", named)
    before = named.read_bytes()
    assert run("export", named, "-o", folder / "odd.onnx") == 2
    assert "would overwrite the checkpoint" in capsys.readouterr().err
    assert named.read_bytes() == before
    named.unlink()


@pytest.mark.parametrize("name", ["model.onnx", "model.encoder.onnx", "model.decoder.onnx"])
@pytest.mark.parametrize("beam", [1, 3])
def test_lines_are_translated(
    name: str, beam: int, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    pair = Seq2Seq(folder / "model.onnx", kernel="off")
    expected = []
    for line in TEXT.splitlines():
        tokens = [READING.index(character) for character in line]
        options = {"beam": beam, "length_penalty": 0.5, "max_steps": 9}
        found = pair.translate([tokens], **options)[0].tokens if tokens else ()
        expected.append("".join(WRITING[token] for token in found))
    search = ("--beam", beam, "--length-penalty", 0.5, "--max-steps", 9)
    command = ("run", folder / name, "--text", text, "--kernel", "off", *search)
    assert run(*command) == 0
    shown = capsys.readouterr().out.split("\n")[:-1]
    assert shown == [" ".join(line.splitlines()) for line in expected]
    assert run(*command, "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["line"] for record in records] == [1, 2, 3, 4]
    assert [record["tokens"] for record in records] == [3, 0, 14, 1]
    assert [record["translation"] for record in records] == [
        line if source else None for line, source in zip(expected, TEXT.splitlines(), strict=True)
    ]
    assert records[1]["finished"] is None and records[0]["log_probability"] < 0


def test_unknown_characters(folder: Path, tmp_path: Path, capsys: Any) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ab\nazb\n")
    command = ("run", folder / "model.onnx", "--text", text, "--kernel", "off")
    assert run(*command) == 2
    assert "character 'z' (U+007A) at position 1 of line 2" in capsys.readouterr().err
    assert run(*command, "--unknown", "skip", "--json") == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (second["skipped"], second["tokens"]) == (1, 2)
    assert second["translation"] == first["translation"]


def test_misuse_of_run(folder: Path, tmp_path: Path, capsys: Any) -> None:
    model, text = folder / "model.onnx", tmp_path / "text.txt"
    text.write_text("ab\n")
    torch.manual_seed(0)
    language_model = QRNNLanguageModel(3, 4, 5, vocabulary=["a", "b", "\n"]).eval()
    qrnn_deploy.export(language_model, tmp_path / "lm.onnx", golden=False)
    for arguments, reason in (
        ((model, text), "is an encoder-decoder: add --text"),
        ((model, "--score", text), "is an encoder-decoder: add --text"),
        ((model, "--generate", 3), "is an encoder-decoder: add --text"),
        ((model, "--generate", 3, "--beam", 2), "--beam goes with --text, not with --generate"),
        ((model, "--text", text, "--cuda-graph", "off"), "leave out --cuda-graph"),
        ((model, "--text", text, "--beam", 0), "--beam"),
        ((model, "--text", text, "--beam", 2000), "--beam"),
        ((model, "--text", text, "--length-penalty", "nan"), "--length-penalty"),
        ((model, "--text", folder / "model.encoder.onnx"), "is the same file as MODEL"),
        ((model, "--text", text, "-o", folder / "model.encoder.onnx"), "the same file as MODEL"),
        ((tmp_path / "lm.onnx", "--text", text, "--beam", 2), "no encoder-decoder: leave out"),
        ((tmp_path / "none.onnx", "--text", text), "does not exist"),
    ):
        assert run("run", *arguments) == 2, arguments
        shown = capsys.readouterr().err
        assert reason in shown and shown.count("\n") == 1, shown


def test_a_model_without_vocabularies(tmp_path: Path, capsys: Any) -> None:
    torch.manual_seed(0)
    model = QRNNEncoderDecoder(5, 6, 3, 4, source_vocabulary=list("abcde"))
    qrnn_deploy.export(model, tmp_path / "model.onnx", golden=False)
    (tmp_path / "text.txt").write_text("ab\n")
    assert run("run", tmp_path / "model.onnx", "--text", tmp_path / "text.txt") == 2
    assert "has no target_vocabulary" in capsys.readouterr().err


def test_inspect_shows_both(folder: Path, capsys: Any) -> None:
    assert run("inspect", folder / "model.onnx", "--kernel", "off") == 0
    shown = capsys.readouterr().out
    for part in (*("model.encoder.onnx: ", "source_lengths", "memory", "context_01"), "logits"):
        assert part in shown
    assert "Source vocabulary: 9 tokens" in shown and "Target vocabulary: 9 tokens" in shown
    assert run("inspect", folder / "model.onnx", "--kernel", "off", "--json") == 0
    both = json.loads(capsys.readouterr().out)
    assert list(both) == ["encoder", "decoder"]
    assert both["encoder"]["states"] == []
    assert [state["name"] for state in both["decoder"]["states"]][::2] == [
        *("state_00_c", "state_01_c"),
    ]
    assert run("inspect", folder / "model.encoder.onnx", "--kernel", "off", "--json") == 0
    assert json.loads(capsys.readouterr().out) == both["encoder"]


def test_verify_against_the_checkpoint(folder: Path, capsys: Any) -> None:
    command = ("verify", folder / "model.onnx", "--checkpoint", folder / "model.safetensors")
    assert run(*command, "--per-layer", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    outputs = {item["output"] for item in report["comparisons"]}
    assert {"encoder/memory", "encoder/context_01", "decoder/logits"} <= outputs
    assert {layer["name"] for layer in report["layers"]} == {
        f"{part}.layers.{level}" for part in ("encoder", "decoder") for level in (0, 1)
    }
    assert any("translated 6 sources with beams of 1 and 4" in note for note in report["notes"])
    assert run("verify", folder / "model.onnx") == 0
    shown = capsys.readouterr().out
    assert "encoder/memory" in shown and "decoder/logits" in shown and "PASS" in shown


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_verify_one_of_them(part: str, folder: Path, capsys: Any) -> None:
    file, checkpoint = folder / f"model.{part}.onnx", folder / "model.safetensors"
    for original in ((), ("--checkpoint", checkpoint)):
        assert run("verify", file, *original, "--json") == 0
        outputs = {item["output"] for item in json.loads(capsys.readouterr().out)["comparisons"]}
        assert ("memory" if part == "encoder" else "logits") in outputs


def changed(folder: Path, target: Path, name: str) -> Path:
    """The pair with one weight of the decoder changed a little."""
    for part in ("encoder", "decoder"):
        shutil.copy(folder / f"model.{part}.onnx", target)
        shutil.copytree(folder / f"model.{part}.golden", target / f"model.{part}.golden")
    path = target / "model.decoder.onnx"
    graph = onnx.load(path)
    (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name == name)
    value = numpy_helper.to_array(tensor).copy()
    value.flat[0] += 0.5
    tensor.CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(graph, path)
    return target / "model.onnx"


@pytest.mark.parametrize("name", ["decoder.layers.1.weight_T", "decoder.output.bias"])
def test_verify_finds_a_weight_that_changed(
    name: str, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    path = changed(folder, tmp_path, name)
    assert run("verify", path, "--checkpoint", folder / "model.safetensors", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    wrong = {
        item["output"]
        for item in report["comparisons"]
        if item["max_abs"] is None or item["max_abs"] > item["allowed"]
    }
    assert "decoder/logits" in wrong
    assert not any(output.startswith("encoder/") for output in wrong)


def test_verify_finds_other_translations(
    folder: Path, model: QRNNEncoderDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that goes astray is found although every number of the files is right."""
    real = Seq2Seq.translate

    def astray(self: Seq2Seq, sources: Any, **options: Any) -> Any:
        found = real(self, sources, **options)
        return [found[-1], *found[1:]]

    monkeypatch.setattr(Seq2Seq, "translate", astray)
    report = qrnn_deploy.verify(folder / "model.onnx", module=model)
    assert not report.passed
    assert all(item.passed for item in report.comparisons)
    assert "translates" in report.problems[0] and "PyTorch" in report.problems[0]


def test_verify_with_another_original(folder: Path, tmp_path: Path, capsys: Any) -> None:
    torch.manual_seed(3)
    other = QRNNEncoderDecoder(len(READING), len(WRITING), 4, [6, 5])
    save_checkpoint(other, tmp_path / "other.safetensors")
    command = ("verify", folder / "model.onnx", "--checkpoint")
    assert run(*command, tmp_path / "other.safetensors") == 1
    shown = capsys.readouterr().out
    assert "exported from another checkpoint" in shown
    assert "encoder/the weights of the PyTorch model differ" in shown
    language_model = QRNNLanguageModel(3, 4, 5)
    save_checkpoint(language_model, tmp_path / "lm.safetensors")
    assert run(*command, tmp_path / "lm.safetensors") == 2
    assert "expected the QRNNEncoderDecoder" in capsys.readouterr().err
    with pytest.raises(InputError, match="QRNNEncoderDecoder"):
        qrnn_deploy.verify(folder / "model.onnx", module=language_model)
    qrnn_deploy.export(language_model.eval(), tmp_path / "lm.onnx", golden=False)
    assert run("verify", tmp_path / "lm.onnx", "--checkpoint", folder / "model.safetensors") == 2
    assert "two files" in capsys.readouterr().err


def test_a_recording_is_for_one_file(folder: Path, tmp_path: Path, capsys: Any) -> None:
    encoder = Seq2Seq(folder / "model.onnx", kernel="off").encoder
    source = {"source": np.array([[1, 2, 3]]), "source_lengths": np.array([3])}
    np.savez(tmp_path / "recorded.npz", **source, **encoder.run(source))
    file = folder / "model.encoder.onnx"
    assert run("verify", file, "--reference", tmp_path / "recorded.npz") == 0
    assert "recorded outputs" in capsys.readouterr().out
    assert run("verify", folder / "model.onnx", "--reference", tmp_path / "recorded.npz") == 2
    assert "stands for two files" in capsys.readouterr().err


def test_an_engine_is_built_of_one_file(folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert run("build", folder / "model.onnx", "-o", tmp_path / "model.engine") == 2
    error = capsys.readouterr().err
    assert "stands for the two files of an encoder-decoder" in error
    assert "model.encoder.onnx or " in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
