"""The four word models of equal size: their sizes, checkpoints, logs, README, and every runtime.

The model by quasi-rnn's recipe beside them is tested in test_quasi_rnn.py.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from example_modules import example_modules

import qrnn_deploy

EXAMPLE = Path(__file__).parents[1] / "examples" / "wordlm"
NAMES = ("qrnn", "sru", "rhn", "lstm")


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    with example_modules(EXAMPLE, "data", "models", "score", "compare", "speed") as modules:
        yield modules


@pytest.fixture(scope="module")
def logs() -> dict[str, Any]:
    folder = EXAMPLE / "compared"
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in NAMES}


def loaded(example: SimpleNamespace, name: str) -> Any:
    path = EXAMPLE / "compared" / f"{name}.safetensors"
    return example.models.load(name, path, example.data.saved_vocabulary())


def test_the_models_are_of_one_size(example):
    assert tuple(example.models.SETTINGS) == NAMES
    words = example.data.saved_vocabulary()
    built = {name: example.models.build(name, words) for name in NAMES}
    sizes = {name: example.models.parameters(model) for name, model in built.items()}
    assert max(sizes.values()) / min(sizes.values()) < 1.02, sizes
    recurrent = {
        name: sum(p.numel() for n, p in model.named_parameters() if n[:5] in ("stack", "level"))
        for name, model in built.items()
    }
    assert max(recurrent.values()) / min(recurrent.values()) < 1.04, recurrent
    qrnn = built["qrnn"].config()
    assert qrnn["dense"] and qrnn["zoneout"] == 0.1 and qrnn["window"] == [2, 2]


def test_all_had_the_same_text_budget_and_tuning(example, logs):
    recipe = json.loads((EXAMPLE / "training-log.json").read_text())
    digests = {part: text["sha256"] for part, text in recipe["text"].items()}
    tried = set()
    for log in logs.values():
        assert log["text"] == digests and log["vocabulary"] == recipe["vocabulary"]
        assert log["budget"] == example.compare.BUDGET
        assert all(len(run["curve"]) == log["budget"]["epochs"] for run in log["runs"])
        trials, last = log["runs"][:-1], log["runs"][-1]
        first = min(trials, key=lambda run: run["validation"])
        assert [run["learning_rate"] for run in trials[:3]] == list(example.compare.RATES)
        assert all(run["seed"] == 0 for run in trials) and last["seed"] == 1
        for key in ("learning_rate", "dropout"):
            assert log["chosen"][key] == first[key] == last[key]
        best = min((first, last), key=lambda run: run["validation"])
        assert log["chosen"]["seed"] == best["seed"] and log["heldout"] == best["heldout"]
        tried.add(len(log["runs"]))
    assert tried == {5}


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_checkpoint_is_the_one_in_the_log(example, logs, name):
    content = (EXAMPLE / "compared" / f"{name}.safetensors").read_bytes()
    log = logs[name]
    assert len(content) == log["checkpoint"]["bytes"] < 1_000_000
    assert hashlib.sha256(content).hexdigest() == log["checkpoint"]["sha256"]
    model = loaded(example, name)
    assert example.models.parameters(model) == log["parameters"]
    # The text depends on the Python version: the score must agree where the text is the same.
    words = example.data.parts()["heldout"]
    same = example.data.sha256(words) == log["text"]["heldout"]
    tokens = torch.from_numpy(example.data.encode(words, example.data.saved_vocabulary()))
    found = example.score.perplexity(model, tokens)
    assert abs(found / log["heldout"] - 1) < (1e-4 if same else 0.3)


@pytest.mark.parametrize("name", NAMES)
def test_one_perplexity_in_every_runtime(example, name):
    words = example.data.parts()["heldout"][:1300]
    tokens = example.data.encode(words, example.data.saved_vocabulary())
    found = example.score.ways(loaded(example, name), tokens)
    assert len(found) == 5
    for way, value in found.items():
        assert abs(value / found["PyTorch"] - 1) < example.score.TOLERANCE, way


def test_what_runs_the_layers(example, tmp_path):
    ran = {}
    for name in NAMES:
        example.models.export(loaded(example, name), tmp_path / f"{name}.onnx")
        session = qrnn_deploy.Session(tmp_path / f"{name}.onnx", kernel="require")
        ran[name] = list(session.implementation.values())
        assert session.metadata.state_mode == "separate"
    assert ran == {
        "qrnn": ["kernel"] * 2,
        "sru": ["kernel"] * 6,
        "rhn": ["function"],
        "lstm": ["standard"] * 2,
    }


def test_every_figure_of_the_readme_is_in_the_log(logs):
    readme = (EXAMPLE / "README.md").read_text()
    for name, log in logs.items():
        finals = [run for run in log["runs"] if "heldout" in run]
        other = next(run for run in finals if run["seed"] != log["chosen"]["seed"])
        cells = (
            f"{log['parameters']:,}",
            f"{log['validation']:.2f}",
            f"{log['heldout']:.2f}",
            f"{other['heldout']:.2f}",
            f"{log['chosen']['learning_rate']}, {log['chosen']['dropout']}",
            f"{sum(run['cpu_seconds'] for run in log['runs']):.0f} s",
        )
        assert f"| {name.upper()} | {' | '.join(cells)} |" in readme


def test_a_short_training_writes_what_can_be_scored(example, tmp_path):
    command = [sys.executable, str(EXAMPLE / "compare.py"), "--epochs", "1", "--chunks", "2"]
    options = ["--models", "sru", "lstm", "--output", str(tmp_path)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    words = example.data.saved_vocabulary()
    for name in ("sru", "lstm"):
        model = example.models.load(name, tmp_path / f"{name}.safetensors", words)
        log = json.loads((tmp_path / f"{name}.json").read_text())
        tokens = torch.from_numpy(example.data.encode(example.data.parts()["validation"], words))
        assert abs(example.score.perplexity(model, tokens) / log["validation"] - 1) < 1e-4
        # Two steps teach nothing much: near the size of the vocabulary.
        assert 0.3 < log["heldout"] / len(words) < 2


def test_models_that_are_timed_take_turns(example, monkeypatch):
    monkeypatch.setattr(example.speed, "ROUNDS", 3)
    monkeypatch.setattr(example.speed, "SECONDS", 0)  # one call a turn
    called = []
    runs = {name: (lambda name=name: called.append(name)) for name in "abc"}
    times = example.speed.in_turns(runs)
    assert "".join(called) == "aaaabbbbcccc" + "abc" + "bca" + "cab"
    assert all(len(values) == 3 and min(values) >= 0 for values in times.values())
