"""`qrnn-deploy run` on models of words, and its answers to single lines (--text)."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy.cli import main
from qrnn_deploy.metadata import KEY
from qrnn_deploy.nn import QRNNClassifier, QRNNEncoder, QRNNLanguageModel
from qrnn_deploy.text import Vocabulary, generate

WORDS = ["xxunk", "xxpad", "<eos>", "the", "cat", "sat", "on", "mat", "\u2581a", "xxfake", "xxfake"]
TEXT = "the cat sat on the mat\nthe dog sat\n\n  \u2581a cat\n"
NUMBERS = [3, 4, 5, 6, 3, 7, 2, 3, 0, 5, 2, 2, 8, 4, 2]
CLASSES = ["bad", "so so", "good"]
SIZE = len(WORDS)


def weights(model: nn.Module, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    for name, tensor in model.state_dict().items():
        tensor.uniform_(*((0.5, 2) if "running_var" in name else (-1.5, 1.5)))
    return model.eval()


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    text = {"vocabulary": WORDS}
    characters = {"vocabulary": [*"abcdef \n"]}
    return {
        "words": weights(QRNNLanguageModel(SIZE, 6, [8, 7], window=[2, 1], **text), 1),
        "characters": weights(QRNNLanguageModel(8, 6, 8, window=2, **characters), 2),
        "both": weights(QRNNLanguageModel(SIZE, 6, 8, bidirectional=True, **text), 3),
        "strict": weights(QRNNLanguageModel(3, 6, 8, vocabulary=["the", "cat", "sat"]), 4),
        "classifier": weights(
            QRNNClassifier(SIZE, 6, [8, 7], num_classes=3, classes=CLASSES, **text), 5
        ),
        "unnamed": weights(QRNNClassifier(SIZE, 6, 8, num_classes=2, **text), 6),
        "numbers": weights(QRNNClassifier(SIZE, 6, 8, num_classes=2), 7),
        "encoder": weights(QRNNEncoder(SIZE, 6, 8, **text), 8),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, models: dict[str, nn.Module]) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, model in models.items():
        states = "separate" if model.streams else "none"
        qrnn_deploy.export(model, folder / f"{name}.onnx", states=states, golden=False)
    (folder / "text").write_text(TEXT)
    np.save(folder / "tokens.npy", np.array(NUMBERS))
    return folder


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def output_of(capsys: Any, *arguments: object) -> str:
    assert run_main("run", *arguments) == 0
    return str(capsys.readouterr().out)


def mistake(capsys: Any, *arguments: object) -> str:
    assert run_main("run", *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return str(err)


def feed_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def bits_of(model: nn.Module, tokens: list[int]) -> float:
    """Mean bits of all tokens but the first, by PyTorch in float64."""
    with torch.no_grad():
        logits, _ = model(torch.tensor([tokens]))
    target = torch.tensor(tokens[1:])
    return nn.functional.cross_entropy(logits[0, :-1].double(), target).item() / math.log(2)


@pytest.mark.parametrize("options", [(), ("--chunk", 1), ("--chunk", 4)])
def test_score_of_words(folder, models, capsys, options):
    found = output_of(capsys, folder / "words.onnx", "--score", folder / "text", *options, "--json")
    result = json.loads(found)
    bits = bits_of(models["words"], NUMBERS)
    assert result["unit"] == "token" and result["tokens"] == len(NUMBERS) - 1
    assert result["bits_per_token"] == pytest.approx(bits, abs=1e-5)
    assert result["perplexity_per_token"] == pytest.approx(2**bits, rel=1e-5)
    assert result["bits_per_character"] is result["characters"] is None
    assert result["skipped"] == 0


def test_score_of_words_for_people(folder, models, capsys):
    line = output_of(capsys, folder / "words.onnx", "--score", folder / "text")
    bits = bits_of(models["words"], NUMBERS)
    assert line.startswith(f"perplexity {2**bits:.4f}, {bits:.4f} bits per token (14 tokens, ")
    assert line.count("\n") == 1


def test_score_of_characters_has_both_sets_of_names(folder, monkeypatch, capsys):
    feed_stdin(monkeypatch, b"abc fed\n")
    result = json.loads(output_of(capsys, folder / "characters.onnx", "--score", "--json"))
    assert result["unit"] == "character"
    assert result["bits_per_character"] == result["bits_per_token"]
    assert result["characters"] == result["tokens"] == 7
    assert result["perplexity_per_token"] == pytest.approx(2 ** result["bits_per_character"])


def test_words_across_the_reading_seam(folder, models, tmp_path, capsys):
    """65,536 bytes are read at a time: the seam falls into a word of a text without line ends."""
    words = ["the", "\u2581a", "cat", "sat"] * 6000
    (tmp_path / "long").write_text(" ".join(words))
    tokens = [WORDS.index(word) for word in words]
    command = (folder / "words.onnx", "--score", tmp_path / "long", "--chunk", 4096, "--json")
    result = json.loads(output_of(capsys, *command))
    assert result["tokens"] == len(words) - 1
    assert result["bits_per_token"] == pytest.approx(bits_of(models["words"], tokens), abs=1e-5)


def test_unknown_words(folder, monkeypatch, capsys):
    strict = folder / "strict.onnx"
    feed_stdin(monkeypatch, b"the cat\nthe dog sat")
    message = mistake(capsys, strict, "--score")
    assert "token 'dog' at position 12 is not one of the 3 tokens" in message
    assert "--unknown skip" in message
    for model, skipped, predicted in ((strict, 1, 3), (folder / "words.onnx", 1, 4)):
        feed_stdin(monkeypatch, b"the cat\nthe dog sat")
        command = (model, "--score", "--unknown", "skip", "--json")
        result = json.loads(output_of(capsys, *command))
        assert (result["skipped"], result["tokens"]) == (skipped, predicted)
    feed_stdin(monkeypatch, b"x" * 200_000)
    assert "white space between them" in mistake(capsys, strict, "--score")
    feed_stdin(monkeypatch, b"dog")
    command = (strict, "--score", "--unknown", "skip")
    assert "expected at least 2 tokens of the vocabulary" in mistake(capsys, *command)


@pytest.mark.parametrize("prompt", ["the cat", "the cat ", ""])
def test_generated_words_have_blanks_between_them(folder, models, capfdbinary, prompt):
    tokens = [WORDS.index(word) for word in prompt.split()] or [WORDS.index("<eos>")]
    for _ in range(4):
        with torch.no_grad():
            tokens.append(int(models["words"](torch.tensor([tokens]))[0][0, -1].argmax()))
    command = ("run", folder / "words.onnx", "--generate", 4, "--temperature", 0)
    assert run_main(*command, "--prompt", prompt) == 0
    drawn = " ".join(WORDS[token] for token in tokens[-4:])
    before = f"{prompt.rstrip()} " if prompt else ""
    assert capfdbinary.readouterr().out.decode() == f"{before}{drawn}\n"


def test_unknown_words_of_a_prompt(folder, capfdbinary):
    command = ("run", folder / "strict.onnx", "--generate", 1, "--prompt", "the dog cat")
    assert run_main(*command) == 2
    assert b"token 'dog' at position 4" in capfdbinary.readouterr().err
    assert run_main(*command, "--unknown", "skip") == 0
    assert capfdbinary.readouterr().out.startswith(b"the cat ")


def shares_of(model: nn.Module, tokens: list[int]) -> Tensor:
    with torch.no_grad():
        return model(torch.tensor([tokens]))[0].double().softmax(-1)


LINES = "the cat\n\nthe dog sat on the mat\r\n   \n\u2581a mat"
LINE_TOKENS = [[3, 4], [], [3, 0, 5, 6, 3, 7], [], [8, 7]]


@pytest.mark.parametrize("name", ["classifier", "unnamed"])
def test_a_classifier_answers_each_line(folder, models, tmp_path, capsys, name):
    (tmp_path / "lines").write_bytes(LINES.encode())
    command = (folder / f"{name}.onnx", "--text", tmp_path / "lines")
    lines = output_of(capsys, *command).split("\n")
    records = [json.loads(line) for line in output_of(capsys, *command, "--json").splitlines()]
    assert lines.pop() == "" and len(lines) == len(records) == 5
    names = CLASSES if name == "classifier" else ["0", "1"]
    for number, (line, record, tokens) in enumerate(zip(lines, records, LINE_TOKENS, strict=True)):
        assert (record["line"], record["tokens"]) == (number + 1, len(tokens))
        assert record["skipped"] == 0
        if not tokens:
            assert line == ""
            assert record["class"] is record["class_index"] is record["probabilities"] is None
            continue
        shares = shares_of(models[name], tokens).tolist()
        best = max(range(len(names)), key=shares.__getitem__)
        assert record["class"] == names[best] and record["class_index"] == best
        assert list(record["probabilities"]) == names
        assert list(record["probabilities"].values()) == pytest.approx(shares, abs=1e-5)
        winner, *columns = line.split("\t")
        assert winner == names[best]
        assert [column.split("=")[0] for column in columns] == names
        assert [float(column.split("=")[1]) for column in columns] == pytest.approx(
            shares, abs=1e-4
        )


@pytest.mark.parametrize("name", ["words", "characters", "both"])
def test_a_language_model_answers_each_line(folder, models, tmp_path, capsys, name):
    vocabulary = models[name].vocabulary
    rows = ["abc", "", "fa de", "b"] if name == "characters" else ["the cat", "", "on dog", "mat"]
    (tmp_path / "lines").write_text("\n".join(rows) + "\n")
    command = (folder / f"{name}.onnx", "--text", tmp_path / "lines")
    lines = output_of(capsys, *command).splitlines()
    records = [json.loads(line) for line in output_of(capsys, *command, "--json").splitlines()]
    for row, line, record in zip(rows, lines, records, strict=True):
        parts = row if name == "characters" else row.split()
        tokens = [vocabulary.index(p) if p in vocabulary else 0 for p in parts]
        if not tokens:
            assert line == "" and record["perplexity"] is record["next"] is None
            continue
        with torch.no_grad():
            following = models[name](torch.tensor([tokens]))[0][0, -1].double().softmax(-1)
        assert record["next"] == vocabulary[int(following.argmax())]
        assert record["next_probability"] == pytest.approx(following.max().item(), abs=1e-5)
        perplexity, shown, probability = line.split("\t")
        assert shown == f"next {record['next']!r}"
        assert float(probability) == pytest.approx(following.max().item(), abs=1e-4)
        if len(tokens) == 1:
            assert perplexity == "perplexity -" and record["perplexity"] is None
            continue
        bits = bits_of(models[name], tokens)
        assert record["bits_per_token"] == pytest.approx(bits, abs=1e-5)
        assert record["perplexity"] == pytest.approx(2**bits, rel=1e-5)
        assert float(perplexity.split()[1]) == pytest.approx(2**bits, rel=1e-4)


def test_lines_longer_than_a_chunk(folder, models, tmp_path, capsys):
    words = ["the", "cat", "sat"] * 300
    (tmp_path / "lines").write_text(" ".join(words))
    found = output_of(capsys, folder / "words.onnx", "--text", tmp_path / "lines", "--json")
    bits = bits_of(models["words"], [WORDS.index(word) for word in words])
    assert json.loads(found)["bits_per_token"] == pytest.approx(bits, abs=1e-5)


def test_lines_are_answered_as_they_come(folder):
    command = [sys.executable, "-m", "qrnn_deploy", "run", folder / "classifier.onnx", "--text"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for line in (b"the cat\n", b"\n", b"on the mat\n"):
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer.endswith(b"\n") and (answer == b"\n") == (line == b"\n")
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_no_lines_no_answers(folder, monkeypatch, capsys):
    feed_stdin(monkeypatch, b"")
    assert output_of(capsys, folder / "classifier.onnx", "--text") == ""


def test_answers_go_to_the_output(folder, tmp_path, capsys):
    command = (folder / "classifier.onnx", "--text", folder / "text", "-o", tmp_path / "answers")
    assert output_of(capsys, *command) == ""
    assert len((tmp_path / "answers").read_text().splitlines()) == 4


def test_unknown_words_of_a_line(folder, tmp_path, capsys):
    (tmp_path / "lines").write_text("the cat\nsat the dog\ndog\n")
    command = (folder / "strict.onnx", "--text", tmp_path / "lines")
    message = mistake(capsys, *command, "-o", tmp_path / "answers")
    assert "token 'dog' at position 8 of line 2 is not one of the 3 tokens" in message
    assert not (tmp_path / "answers").exists()
    found = output_of(capsys, *command, "--unknown", "skip", "--json").splitlines()
    counts = [(r["tokens"], r["skipped"]) for r in map(json.loads, found)]
    assert counts == [(2, 0), (2, 1), (0, 1)]


@pytest.mark.parametrize(
    ("data", "position"), [(b"the\nca\xfft\n", 6), (b"the\n\xe2\x96", 4), (b"\x80", 0)]
)
def test_lines_that_are_not_utf8(folder, tmp_path, capsys, data, position):
    (tmp_path / "lines").write_bytes(data)
    message = mistake(capsys, folder / "classifier.onnx", "--text", tmp_path / "lines")
    assert "is not UTF-8 text" in message and f" at byte {position})" in message


@pytest.mark.parametrize("name", ["classifier", "words", "encoder", "numbers"])
def test_numbers_of_tokens_as_an_array(folder, models, tmp_path, capsys, name):
    command = (folder / f"{name}.onnx", folder / "tokens.npy", "-o", tmp_path / "y.npy")
    assert output_of(capsys, *command) == ""
    with torch.no_grad():
        answer = models[name](torch.tensor([NUMBERS]))
    expected = answer[0] if isinstance(answer, Tensor) else answer[0][0]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["classifier", "words", "encoder", "numbers"])
def test_numbers_that_are_no_tokens(folder, tmp_path, capfd, name):
    """Found before the run, so that ONNX Runtime has nothing to write about it."""
    for number, place in ((SIZE, "row 1, step 2"), (-1, "row 1, step 2"), (SIZE - 1, None)):
        tokens = np.zeros((2, 4), np.int64)
        tokens[1, 2] = number
        np.save(tmp_path / "tokens.npy", tokens)
        command = [str(folder / f"{name}.onnx"), str(tmp_path / "tokens.npy")]
        with pytest.raises(SystemExit) as end:
            main(["run", *command, "-o", str(tmp_path / "y.npy"), "--kernel", "off"])
        err = capfd.readouterr().err
        if place is None:
            assert (end.value.code, err) == (0, "")
        else:
            assert end.value.code == 2 and err.count("\n") == 1
            assert f"holds {number} at {place}: expected token numbers in 0..{SIZE - 1} for" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("words.onnx",), "is a language model: add --score or --generate N, or --text"),
        (("classifier.onnx",), "is a classifier: add --text to have each line classified"),
        (("encoder.onnx",), "is an encoder: its answers are features"),
        (("encoder.onnx", "--text"), "leave out --text and give INPUT as a .npy array of token"),
        (("encoder.onnx", "--score"), "is no language model, which --score needs"),
        (("classifier.onnx", "--score"), "(classifier): add --text to have each line classified"),
        (("classifier.onnx", "--generate", "3"), "is no language model, which --generate needs"),
        (("numbers.onnx", "--text"), "has no vocabulary, so it neither reads nor writes text"),
        (("both.onnx", "--score"), "carries no state"),
        (("words.onnx", "--text", "--score"), "--score and --text exclude each other: choose one"),
        (
            ("words.onnx", "--text", "--score", "--generate", "2"),
            "--score, --generate and --text exclude each other",
        ),
        (("words.onnx", "--text", "--chunk", "4"), "--chunk goes with --score and frames, not"),
        (("words.onnx", "--text", "--prompt", "a"), "--prompt goes with --generate, not with"),
        (("words.onnx", "--text", "--format", "npy"), "--format goes with frames, not with --text"),
        (("words.onnx", "--text", "absent"), "absent: No such file"),
        (("words.onnx", "--text", "words.onnx"), "is the same file as MODEL"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    feed_stdin(monkeypatch, b"the cat\n")
    assert message in mistake(capsys, *arguments)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("classifier", {"classes": ["a", "b"]}, "damaged qrnn-deploy metadata (names of 2 answers"),
        ("words", {"vocabulary": ["a", "b"]}, "damaged qrnn-deploy metadata (names of 2 answers"),
        ("words", {"architecture": "QRNNTagger"}, "is no model of text that this qrnn-deploy"),
        ("words", {"architecture": ["QRNN"]}, "is no model of text that this qrnn-deploy"),
    ],
)
def test_names_that_do_not_fit(folder, tmp_path, monkeypatch, capsys, name, change, message):
    model = onnx.load(folder / f"{name}.onnx")
    entry = next(item for item in model.metadata_props if item.key == KEY)
    content = json.loads(entry.value)
    content["config"].update(change)
    entry.value = json.dumps(content)
    onnx.save(model, tmp_path / "changed.onnx")
    feed_stdin(monkeypatch, b"the cat\n")
    assert message in mistake(capsys, tmp_path / "changed.onnx", "--text")


def test_tokens_can_be_banned_as_documented(folder, tmp_path, monkeypatch, capsys):
    """docs/text.md, on a model that draws the token which is banned there."""
    page = (Path(__file__).parent.parent / "docs" / "text.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    shutil.copy(folder / "words.onnx", tmp_path / "lm.onnx")
    monkeypatch.chdir(tmp_path)
    names = {"np": np, "qrnn_deploy": qrnn_deploy, "Vocabulary": Vocabulary, "generate": generate}
    exec(compile(block, "docs/text.md", "exec"), names)
    assert len(capsys.readouterr().out.split()) == 20
    plain = qrnn_deploy.StreamingSession("lm.onnx")
    drawn = [
        list(generate(stream, names["vocabulary"], 200, seed=1))
        for stream in (plain, names["stream"])
    ]
    assert "xxunk" in drawn[0] and "xxunk" not in drawn[1] and len(set(drawn[1])) > 3


def test_weights_that_make_no_sense(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    model = QRNNClassifier(SIZE, 4, 4, num_classes=2, vocabulary=WORDS).eval()
    with torch.no_grad():
        model.head[1].linear.bias.fill_(math.nan)
    options = {"states": "none", "golden": False, "allow_non_finite": True}
    qrnn_deploy.export(model, tmp_path / "m.onnx", **options)
    feed_stdin(monkeypatch, b"the cat\n")
    assert "answers with nan" in mistake(capsys, tmp_path / "m.onnx", "--text")
