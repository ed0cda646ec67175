"""The translation example: its data's rules, its models, its training, its checkpoint. No network.

The phrases here were written for these tests. What needs chrF gets a stand-in for it, but for one
test where sacrebleu is installed.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from example_modules import example_modules

import qrnn_deploy

EXAMPLE = Path(__file__).parents[1] / "examples" / "translation"

PHRASES = (
    ("Please choose a page.", "Bitte eine Seite auswählen."),
    ("Delete image", "Bild löschen"),
    ("The new address is not valid.", "Die neue Adresse ist ungültig."),
    ("All orders of this week", "Alle Bestellungen dieser Woche"),
    ("Add a word", "Wort hinzufügen"),
    ("No results? Try again!", "Keine Ergebnisse? Noch einmal versuchen!"),
    ("July", "Juli"),
    ("Zażółć", "Unbekannte Zeichen"),
)


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small steps
    try:
        with example_modules(EXAMPLE, "data", "models", "search", "score", "train") as modules:
            yield modules
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(example) -> ModuleType:
    return example.data


def catalogue(*messages: tuple[str, str]) -> bytes:
    """A .mo file: header, table of originals, table of translations, then the strings."""
    head = struct.pack("<7I", 0x950412DE, 0, len(messages), 28, 28 + 8 * len(messages), 0, 0)
    tables, strings = [b"", b""], b""
    start = len(head) + 16 * len(messages)
    for side in (0, 1):
        for message in messages:
            text = message[side].encode()
            tables[side] += struct.pack("<2I", len(text), start + len(strings))
            strings += text + b"\0"
    return head + b"".join(tables) + strings


def test_messages_of_a_catalogue(data):
    content = catalogue(("", "Header"), ("month\x04May", "Mai"), ("a day\0days", "ein Tag\0Tage"))
    assert list(data.messages(content)) == [
        *(("", "Header"), ("May", "Mai")),
        *(("a day", "ein Tag"), ("days", "Tage")),
    ]


def test_what_python_writes_is_read(data, tmp_path):
    """The other way round: the standard library reads what the tests' writer makes."""
    import gettext

    content = catalogue(("", "Content-Type: text/plain; charset=UTF-8\n"), ("year", "Jahr"))
    assert gettext.GNUTranslations(io.BytesIO(content)).gettext("year") == "Jahr"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (catalogue(("a", "b"))[:30], "ends beyond the file"),
        (b"\x95\x04\x12\xde" + bytes(24), "expected 0x950412de"),
        (catalogue(("a", "b"))[:8] + b"\xff\xff\xff\xff" + bytes(40), "ends beyond the file"),
    ],
)
def test_damaged_catalogues(data, content, message):
    with pytest.raises(ValueError, match=message):
        list(data.messages(content))


def test_catalogues_of_a_wheel(data, monkeypatch):
    block = io.BytesIO()
    with zipfile.ZipFile(block, "w") as archive:
        for name in ("b", "a"):
            archive.writestr(f"pack/{name}/locale/de/LC_MESSAGES/django.mo", name)
        archive.writestr("pack/locale/fr/LC_MESSAGES/django.mo", "French")
        archive.writestr("pack/locale/de/LC_MESSAGES/django.po", "source")
    assert list(data.catalogues(block.getvalue())) == [b"a", b"b"]
    monkeypatch.setattr(data, "MAX_CATALOGUES", 1)
    with pytest.raises(ValueError, match="2 catalogues"):
        list(data.catalogues(block.getvalue()))
    monkeypatch.undo()
    monkeypatch.setattr(data, "MAX_CATALOGUE", 0)
    with pytest.raises(ValueError, match="more than 0 bytes"):
        list(data.catalogues(block.getvalue()))


def test_another_wheel_than_expected_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path)
    (tmp_path / "some_thing-1.0-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="delete it to fetch anew"):
        data.wheel("some-thing==1.0", "0" * 64)


def test_what_is_left_out(data):
    kept = data.split(
        [
            *(("Save", "Sichern"), ("Save!", "Speichern"), ("Keep", "sichern")),
            *(("%s days", "%s Tage"), ("<b>bold</b>", "fett"), ("...", "\u2026")),
            *(("Name", "name"), ("x" * 101, "lang"), ("two\nlines", "zwei Zeilen")),
            ("Ask \u201cthe  editor\u201d", "Frag \u201edie Redaktion\u201c"),
        ]
    )
    pairs = [pair for part in kept.values() for pair in part]
    assert sorted(pairs) == [
        ('Frag "die Redaktion"', 'Ask "the editor"'),
        ("Sichern", "Save"),
    ]


def test_sides(data):
    sides = [data.side(f"phrase {n}") for n in range(10_000)]
    assert abs(sides.count("test") / 10_000 - 0.15) < 0.02
    assert abs(sides.count("validation") / 10_000 - 0.1) < 0.02
    assert all(data.side(f"Phrase, {n}!") == side for n, side in enumerate(sides[:100]))
    # Fixed for good: printf page | sha256sum begins with 36, those of the others with 15 and 82.
    assert [data.side(text) for text in ("save", "Page!", "name")] == [
        "test",
        "validation",
        "train",
    ]


def test_characters(data):
    symbols = data.vocabulary(["aaaa", "abbbbb", "c"])
    assert symbols == [*data.SPECIAL, "a", "b"]
    assert symbols[data.PAD_TOKEN] == "<pad>" and symbols[data.EOS_TOKEN] == "<eos>"
    assert data.encode("abc", symbols) == [4, 5, data.UNKNOWN]


def test_padded(data):
    tokens, lengths = data.padded([[4, 5], [], [6]])
    assert tokens.tolist() == [[4, 5], [0, 0], [6, 0]] and lengths.tolist() == [2, 0, 1]
    assert data.padded([[]])[0].shape == (1, 1)


def own_task(example, monkeypatch):
    monkeypatch.setattr(example.data, "MIN_COUNT", 1)
    pairs = [example.data.Pair(german, english) for english, german in PHRASES]
    return example.train.Task.of(dict.fromkeys(("train", "validation", "test"), pairs))


def share_right(answers, wanted):
    return 100 * float(np.mean([a == b for a, b in zip(answers, wanted, strict=True)]))


def test_alphabets_of_both_sides(example, monkeypatch):
    task = own_task(example, monkeypatch)
    assert "Z" in task.source and "Z" in task.target and "ć" not in task.target
    first = task.targets("train")[0]
    assert [task.target[n] for n in (first[0], *first[-2:])] == ["<bos>", ".", "<eos>"]
    assert "".join(task.source[n] for n in task.sources("test")[6]) == "July"


def test_the_lstm_is_of_the_same_size(example):
    symbols = [str(n) for n in range(75)]
    hidden = example.models.lstm_size(symbols, symbols)
    size = example.models.parameters(example.models.lstm(symbols, symbols, 0.1, hidden))
    wanted = example.models.parameters(example.models.qrnn(symbols, symbols, 0.1))
    assert abs(size / wanted - 1) < 0.01


def test_the_lstm_reads_backwards_and_ignores_padding(example):
    torch.manual_seed(0)
    symbols = [str(n) for n in range(20)]
    model = example.models.lstm(symbols, symbols, 0.5, 24).eval()
    source = torch.randint(4, 20, (3, 7))
    lengths = torch.tensor([7, 2, 5])
    target = torch.randint(4, 20, (3, 6))
    with torch.no_grad():
        logits = model(source, target, lengths)
        for n, length in enumerate(lengths.tolist()):
            values, (h, c) = model.encoder(model.source_embedding(source[n, :length].flip(0)))
            state = (h, c)
            for step in range(target.shape[1]):
                y, state = model.decoder(model.target_embedding(target[n, step : step + 1]), state)
                k = torch.softmax(values @ y[0], 0) @ values
                mixed = torch.tanh(model.mix.weight @ torch.cat([k, y[0]]))
                torch.testing.assert_close(model.output(mixed), logits[n, step])


@pytest.mark.parametrize("kind", ["qrnn", "lstm"])
def test_searches_in_pytorch(example, kind):
    """Together as alone; a beam's probability is what teacher forcing gives its tokens."""
    torch.manual_seed(1)
    symbols = [str(n) for n in range(12)]
    models, search = example.models, example.search
    model = models.qrnn(symbols, symbols, 0.5)
    if kind == "lstm":
        model = models.lstm(symbols, symbols, 0.5, 24)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3.0  # fresh weights say nearly the same of all sources
        output = model.decoder.output if kind == "qrnn" else model.output
        output.bias[example.data.EOS_TOKEN] -= 4.0  # and what ends at once shows nothing
    sources = [[4, 5, 6, 7, 8, 9], [10], [11, 4, 11]]
    for beam in (1, 3):
        together = search.by_torch(model, sources, beam)
        for source, found in zip(sources, together, strict=True):
            (alone,) = search.by_torch(model, [source], beam)
            assert alone.tokens == found.tokens
            end = [example.data.EOS_TOKEN] if found.finished else []
            said = torch.tensor([[example.data.BOS_TOKEN, *found.tokens, *end]])
            with torch.no_grad():
                logits = model(torch.tensor([source]), said[:, :-1], torch.tensor([len(source)]))
            each = logits.log_softmax(-1).gather(2, said[:, 1:, None])
            assert each.sum().item() == pytest.approx(found.log_probability, abs=1e-3)
    assert len({one.tokens for one in together}) == 3


@pytest.mark.parametrize("kind", ["qrnn", "lstm"])
def test_a_short_training(example, kind, monkeypatch):
    """Both kinds learn the phrases by heart, and end as they were when they knew most."""
    task, train = own_task(example, monkeypatch), example.train
    monkeypatch.setattr(train, "chrf", share_right)
    budget = {**train.BUDGET, "epochs": 100, "batch": 4, "forgotten": 0.0, "check": 10}
    found = train.run(train.Start(kind, 0.01, 0.0, 0), task, budget)
    curve = found.record["curve"]
    assert [point["epoch"] for point in curve] == list(range(10, 101, 10))
    best = max(point["validation"] for point in curve)
    assert task.chrf(found.model, "validation") == found.record["validation"] == best >= 75


def test_both_scripts_from_end_to_end(example, tmp_path, monkeypatch, capsys):
    train, score = example.train, example.score
    parts = own_task(example, monkeypatch).parts
    monkeypatch.setattr(example.data, "parts", lambda: parts)
    for module in (train, score):
        monkeypatch.setattr(module, "chrf", share_right)
    monkeypatch.setattr(train, "TRIALS", train.TRIALS[:1])
    monkeypatch.setattr(score, "compared", lambda systems, wanted: list(systems))
    folder = ["--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train.py", "--epochs", "1", "--jobs", "1", *folder])
    train.main()
    log = json.loads((tmp_path / "training-log.json").read_text())
    checkpoint = tmp_path / "model.safetensors"
    assert qrnn_deploy.load_checkpoint(checkpoint).sha256 == log["checkpoint"]["sha256"]
    for model in log["models"].values():
        scores = [trial["validation"] for trial in model["trials"]]
        assert scores[model["chosen"]] == max(scores) and len(scores) == len(train.TRIALS)
    monkeypatch.setattr(sys, "argv", ["score.py", "--checkpoint", str(checkpoint)])
    capsys.readouterr()
    assert score.main() == 0
    printed = capsys.readouterr().out
    count = len(PHRASES)
    for name in ("kernel", "function"):
        for search in ("greedy", "beam 4"):
            line = f"ONNX Runtime, {name}, {search}: {count} of {count} as PyTorch translates"
            assert line in printed
    assert score.row("LSTM, PyTorch, beam 4", log["models"]["lstm"]["test"]["beam 4"]) in printed

    # An answer of ONNX Runtime's that differs is told, and fails.
    said = [SimpleNamespace(tokens=(5, n)) for n in range(5, 5 + count)]
    exported = {("kernel", beam): said for beam in score.BEAMS}
    exported["kernel", 4] = [*said[:-1], said[0]]
    monkeypatch.setattr(score, "by_torch", lambda *arguments: said)
    monkeypatch.setattr(score, "by_onnxruntime", lambda *arguments: exported)
    assert score.main() == 1
    printed = capsys.readouterr().out
    assert f"kernel, greedy: {count} of {count} as PyTorch" in printed
    assert f"kernel, beam 4: {count - 1} of {count} as PyTorch" in printed


def test_chrf_by_sacrebleu(example):
    pytest.importorskip("sacrebleu", reason="sacrebleu is not installed (extra: examples)")
    wanted = [german for _, german in PHRASES]
    assert example.score.tally(wanted, wanted) == {"chrf": 100.0, "right": len(wanted)}
    english = [english for english, _ in PHRASES]
    same, other = example.score.compared({"same": wanted, "English": english}, wanted)
    assert same.startswith("same: 100.0 +- 0.0") and "p = 0.00" in other


@pytest.fixture(scope="module")
def loaded():
    return qrnn_deploy.load_checkpoint(EXAMPLE / "model.safetensors")


def test_the_committed_checkpoint_is_the_one_in_the_log(example, loaded):
    log = json.loads((EXAMPLE / "training-log.json").read_text())
    qrnn, lstm = log["models"]["qrnn"], log["models"]["lstm"]
    assert loaded.sha256 == log["checkpoint"]["sha256"]
    assert (EXAMPLE / "model.safetensors").stat().st_size == log["checkpoint"]["bytes"] < 1_500_000
    assert example.models.parameters(loaded.module) == qrnn["parameters"]
    assert abs(lstm["parameters"] / qrnn["parameters"] - 1) < 0.01
    assert len(loaded.config["source_vocabulary"]) == log["characters"]["english"]
    assert len(loaded.config["target_vocabulary"]) == log["characters"]["german"]
    # The same number of runs on both sides, each of the whole budget.
    for model in (qrnn, lstm):
        assert [
            (run["learning_rate"], run["dropout"], run["seed"]) for run in model["trials"]
        ] == list(example.train.TRIALS)
        assert all(r["curve"][-1]["epoch"] == log["budget"]["epochs"] for r in model["trials"])
    assert log["budget"] == example.train.BUDGET


def test_figures_of_the_readme_are_in_the_log(example):
    readme = (EXAMPLE / "README.md").read_text()
    log = json.loads((EXAMPLE / "training-log.json").read_text())
    for kind, model in log["models"].items():
        for search, key in (("greedy", "beam 1"), ("beam 4", "beam 4")):
            label = f"{kind.upper()}, PyTorch, {search}"
            assert example.score.row(label, model["test"][key]) in readme
        assert f"{model['parameters']:,}" in readme
    lines = (EXAMPLE / "lstm-translations.tsv").read_text().split("\n")
    assert len(lines) - 1 == log["data"]["test"]["pairs"]
    assert all(line.count("\t") == 1 for line in lines[:-1])


def test_own_phrases_in_every_runtime(example, loaded):
    config = loaded.config
    sources = [example.data.encode(text, config["source_vocabulary"]) for text, _ in PHRASES]
    assert example.data.UNKNOWN in sources[-1]
    exported = example.search.by_onnxruntime(loaded.module, sources, (1, 4))
    assert {name for name, _ in exported} == {"kernel", "function"}
    for (_, beam), found in exported.items():
        expected = example.search.by_torch(loaded.module, sources, beam)
        assert [one.tokens for one in found] == [one.tokens for one in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3)
        texts = example.search.texts(found, config["target_vocabulary"])
        assert all(texts) and len(set(texts)) > 4
