"""`qrnn-deploy run` and `inspect` on small exported models."""

from __future__ import annotations

import io
import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import qrnn_deploy
from qrnn_deploy.cli import main
from qrnn_deploy.nn import QRNN, QRNNLanguageModel

SELFTEST = Path(qrnn_deploy.__file__).parent / "selftest"
VOCABULARY = ["\n", " ", *"abcdefghijklmnopqrstuvwxyz"]
TEXT = "the quick brown fox\njumps over the lazy dog\n" * 3


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def feed_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture(scope="module")
def language_model() -> QRNNLanguageModel:
    torch.manual_seed(1)
    size = len(VOCABULARY)
    return QRNNLanguageModel(size, 8, 16, num_layers=2, window=2, vocabulary=VOCABULARY).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, language_model) -> Path:
    folder = tmp_path_factory.mktemp("models")
    qrnn_deploy.export(language_model, folder / "lm.onnx", golden=False)
    torch.manual_seed(2)
    both = QRNN(3, 4, window=2, bidirectional=True, batch_first=True).eval()
    qrnn_deploy.export(both, folder / "whole.onnx", states="none", golden=False)
    x = torch.randn(1, 6, 3)
    with torch.no_grad():
        np.savez(folder / "whole.npz", x=x.numpy(), y=both(x)[0].numpy())
    return folder


@pytest.mark.parametrize("options", [(), ("--chunk", 1), ("--chunk", 7), ("--kernel", "off")])
def test_score_is_the_models_own_cross_entropy(folder, language_model, tmp_path, capsys, options):
    (tmp_path / "text.txt").write_text(TEXT)
    tokens = torch.tensor([[VOCABULARY.index(c) for c in TEXT]])
    with torch.no_grad():
        logits, _ = language_model(tokens)
    nats = torch.nn.functional.cross_entropy(logits[0, :-1].double(), tokens[0, 1:])
    model = folder / "lm.onnx"
    assert run_main("run", model, "--score", tmp_path / "text.txt", "--json", *options) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bits_per_character"] == pytest.approx(nats.item() / math.log(2), abs=1e-5)
    assert result["characters"] == len(TEXT) - 1
    assert len(result["implementation"]) == 2


def test_score_from_standard_input_for_people(folder, monkeypatch, capsys):
    feed_stdin(monkeypatch, TEXT.encode())
    assert run_main("run", folder / "lm.onnx", "--score") == 0
    line = capsys.readouterr().out
    assert " bits per character (131 characters, " in line and line.count("\n") == 1


def test_score_of_unknown_characters(folder, monkeypatch, capsys):
    feed_stdin(monkeypatch, b"the Quick")
    assert run_main("run", folder / "lm.onnx", "--score") == 2
    assert "error: character 'Q' (U+0051) at position 4" in capsys.readouterr().err
    feed_stdin(monkeypatch, b"the Quick")
    assert run_main("run", folder / "lm.onnx", "--score", "--unknown", "skip", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["skipped"], result["characters"]) == (1, 7)


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "holds no text"), (b"ab\xff", "is not UTF-8 text")]
)
def test_score_of_no_text(folder, monkeypatch, capsys, data, message):
    feed_stdin(monkeypatch, data)
    assert run_main("run", folder / "lm.onnx", "--score") == 2
    err = capsys.readouterr().err
    assert message in err and err.count("error:") == 1


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (b"a" * 100_000 + b"\xff", 100_000),
        (b"a" * 65_535 + b"\xc3\xa9" + b"a" * 70_000 + b"\xff", 135_537),
        (b"a" * 65_535 + b"\xe2", 65_535),
        (b"a" * 65_534 + b"\xe2\x82a", 65_534),
    ],
)
def test_place_of_the_byte_that_is_not_utf8(folder, tmp_path, capsys, text, position):
    (tmp_path / "text.txt").write_bytes(text)
    command = ("run", folder / "lm.onnx", "--score", tmp_path / "text.txt", "--unknown", "skip")
    assert run_main(*command, "--chunk", 8192) == 2
    assert f" at byte {position})" in capsys.readouterr().err


def test_multibyte_characters_across_the_reading_seam(folder, tmp_path, capsys):
    """65,535 ASCII bytes put the first byte of é at the end of one read, the second in the next."""
    (tmp_path / "text.txt").write_text("a" * 65535 + "éa")
    model = folder / "lm.onnx"
    command = ("run", model, "--score", tmp_path / "text.txt", "--unknown", "skip", "--json")
    assert run_main(*command, "--chunk", 4096) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 1


def test_generate_continues_the_prompt_and_repeats_with_a_seed(folder, capfdbinary):
    def draw(*options: object) -> str:
        command = ("run", folder / "lm.onnx", "--generate", 40, "--prompt", "the ", *options)
        assert run_main(*command) == 0
        return capfdbinary.readouterr().out.decode()

    first = draw("--seed", 3)
    assert first.startswith("the ") and len(first) == 4 + 40 + 1
    assert draw("--seed", 3) == first
    assert draw("--seed", 4) != first


def test_greedy_generation_is_the_models_argmax(folder, language_model, tmp_path):
    expected, tokens = "a", [VOCABULARY.index("a")]
    for _ in range(8):
        with torch.no_grad():
            logits, _ = language_model(torch.tensor([tokens]))
        tokens.append(int(logits[0, -1].argmax()))
        expected += VOCABULARY[tokens[-1]]
    target = tmp_path / "text.txt"
    command = ("run", folder / "lm.onnx", "--generate", 8, "--prompt", "a", "--temperature", 0)
    assert run_main(*command, "-o", target) == 0
    assert target.read_text() == expected + "\n"
    assert [p.name for p in tmp_path.iterdir()] == ["text.txt"]


def test_generation_into_a_closed_pipe_is_quiet(folder):
    command = f"{sys.executable} -m qrnn_deploy run {folder / 'lm.onnx'} --generate 100000"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -c 5 | wc -c"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "5"
    assert [line for line in done.stderr.splitlines() if not line.startswith("warning:")] == []


def test_raw_frames_stream_through_a_pipe():
    """Each frame is answered before the next is sent: nothing waits for the end of the input."""
    case = np.load(SELFTEST / "case.npz")
    x, y = case["in_x"][0].astype("<f4"), case["out_y"][0]
    model = str(SELFTEST / "model.onnx")
    command = [sys.executable, "-m", "qrnn_deploy", "run", model, "--chunk", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for frame, expected in zip(x, y, strict=True):
            process.stdin.write(frame.tobytes())
            process.stdin.flush()
            answer = os.read(process.stdout.fileno(), 4 * len(expected))
            np.testing.assert_allclose(np.frombuffer(answer, "<f4"), expected, atol=1e-6)
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("batched", [False, True])
def test_npy_in_npy_out(tmp_path, batched):
    case = np.load(SELFTEST / "case.npz")
    x, y = (case["in_x"], case["out_y"]) if batched else (case["in_x"][0], case["out_y"][0])
    np.save(tmp_path / "x.npy", x)
    model = SELFTEST / "model.onnx"
    assert run_main("run", model, tmp_path / "x.npy", "-o", tmp_path / "y.npy", "--chunk", 2) == 0
    result = np.load(tmp_path / "y.npy")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, y, atol=1e-6)


def test_whole_sequence_model_runs_in_one_piece_and_refuses_chunks(folder, tmp_path, capsys):
    case = np.load(folder / "whole.npz")
    np.save(tmp_path / "x.npy", case["x"])
    command = ("run", folder / "whole.onnx", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert run_main(*command) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), case["y"], atol=1e-6)
    assert run_main(*command, "--chunk", 2) == 2
    assert "leave out --chunk" in capsys.readouterr().err


def test_bad_frames_leave_no_output(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((4, 7), np.float32))
    command = ("run", SELFTEST / "model.onnx", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert run_main(*command) == 2
    assert "the array has shape [4, 7], expected" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_raw_frames_cut_off_leave_no_output(tmp_path, monkeypatch, capsys):
    feed_stdin(monkeypatch, bytes(3 * 4 + 1))
    assert run_main("run", SELFTEST / "model.onnx", "-o", tmp_path / "y.raw") == 2
    assert "1 bytes into a frame" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lm.onnx",), "is a language model: add --score or --generate N"),
        (("lm.onnx", "--score", "--generate", "3"), "exclude each other"),
        (("whole.onnx", "--generate", "3"), "has no vocabulary"),
        (("absent.onnx", "--score"), "absent.onnx"),
        (("lm.onnx", "--score", "absent.txt"), "absent.txt: No such file"),
        (("lm.onnx", "--generate", "3", "--temperature", "-1"), "'--temperature': -1.0"),
        (("lm.onnx", "--chunk", "0"), "--chunk"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert run_main("run", *arguments) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_inspect_shows_borders_states_and_layers(folder, capsys):
    assert run_main("inspect", folder / "lm.onnx") == 0
    out = capsys.readouterr().out
    for part in (
        "state_00_c_in -> state_00_c_out",
        "state_01_x_in -> state_01_x_out",
        "logits",
        "28 tokens",
        "layers by",
    ):
        assert part in out


def test_inspect_json(folder, capsys):
    assert run_main("inspect", folder / "lm.onnx", "--kernel", "off", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert [port["name"] for port in facts["outputs"]] == ["logits"]
    assert [state["input"] for state in facts["states"]] == [
        "state_00_c_in",
        "state_00_x_in",
        "state_01_c_in",
        "state_01_x_in",
    ]
    assert [layer["hidden_size"] for layer in facts["layers"]] == [16, 16]
    assert set(facts["implementation"].values()) == {"function"}
    assert facts["functions"] == ["QRNNPoolFO"]
    assert facts["file_bytes"] == (folder / "lm.onnx").stat().st_size


@pytest.mark.parametrize("data", [b"", b"not onnx", None])
def test_inspect_of_no_model(tmp_path, capsys, data):
    if data is not None:
        (tmp_path / "m.onnx").write_bytes(data)
    assert run_main("inspect", tmp_path / "m.onnx") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "m.onnx" in err and err.count("\n") == 1


@pytest.mark.parametrize("form", ["text", "npy"])
def test_full_disk_names_the_file_and_leaves_nothing(folder, tmp_path, form):
    """A limit on file size stands in for a full disk: the write fails part of the way."""
    target = tmp_path / "answer"
    command = ["run", folder / "lm.onnx", "--generate", "3000", "-o", target, "--kernel", "off"]
    if form == "npy":
        np.save(folder / "x.npy", np.ones((3000, 3), np.float32))
        command[1:4] = [SELFTEST / "model.onnx", folder / "x.npy"]
    done = subprocess.run(
        [sys.executable, "-m", "qrnn_deploy", *map(str, command)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (2, f"error: {target}: File too large\n")
    assert list(tmp_path.iterdir()) == []
