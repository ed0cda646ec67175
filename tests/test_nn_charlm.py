"""The character language model of the examples: its text, its training script, its checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from qrnn_deploy import load_checkpoint

EXAMPLE = Path(__file__).parents[1] / "examples" / "charlm"


@pytest.fixture(scope="module")
def data() -> ModuleType:
    sys.path.insert(0, str(EXAMPLE))
    try:
        import data
    finally:
        sys.path.pop(0)
    return data


@pytest.fixture(scope="module")
def train(data: ModuleType) -> ModuleType:
    sys.path.insert(0, str(EXAMPLE))
    try:
        import train
    finally:
        sys.path.pop(0)
    return train


def test_no_paragraph_is_on_two_sides(data: ModuleType) -> None:
    texts = data.parts()
    assert len(texts["heldout"]) > 30_000 and len(texts["validation"]) > 10_000
    assert len(texts["train"]) > 5 * len(texts["heldout"])
    paragraphs = {
        name: {p.strip() for p in text.split("\n\n") if len(p.strip()) >= data.MIN_PARAGRAPH}
        for name, text in texts.items()
    }
    assert not paragraphs["train"] & paragraphs["heldout"]
    assert not paragraphs["train"] & paragraphs["validation"]
    assert not paragraphs["validation"] & paragraphs["heldout"]


def test_unknown_characters(data: ModuleType) -> None:
    symbols = data.vocabulary("aaaaabbbbbc\n\n\n\n\n")
    assert symbols == ["\n", "a", "b", data.UNKNOWN]
    assert data.encode("abc€\n", symbols) == [1, 2, 3, 3, 0]


def test_held_out_text_as_a_file(data: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "heldout.txt"
    command = [sys.executable, str(EXAMPLE / "data.py"), "--heldout", str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = path.read_text(encoding="utf-8")
    assert text == data.heldout_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest() in output


def test_a_short_training_writes_checkpoint_and_log(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "train.py"), "--steps", "2", "--threads", "1"]
    subprocess.run([*command, "--output", str(tmp_path)], check=True, capture_output=True)
    log = json.loads((tmp_path / "training-log.json").read_text())
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.sha256 == log["checkpoint"]["sha256"]
    for model in log["models"].values():
        assert model["curve"][-1]["step"] == 2
        # Two steps teach nothing much: near log2 of the vocabulary, from either side.
        assert 0.5 < model["bits_per_character"]["heldout"] / math.log2(log["vocabulary"]) < 2


def test_the_committed_checkpoint_is_the_one_in_the_log(
    data: ModuleType, train: ModuleType
) -> None:
    log = json.loads((EXAMPLE / "training-log.json").read_text())
    path = EXAMPLE / "model.safetensors"
    loaded = load_checkpoint(path)
    assert loaded.sha256 == log["checkpoint"]["sha256"]
    assert path.stat().st_size == log["checkpoint"]["bytes"] <= 2_000_000
    qrnn, lstm = log["models"]["qrnn"], log["models"]["lstm"]
    assert abs(lstm["parameters"] / qrnn["parameters"] - 1) <= 0.02
    assert train.parameters(loaded.module) == qrnn["parameters"]

    # The text depends on the Python version: the score must agree where the text is the same.
    text = data.heldout_text()
    tokens = torch.tensor(data.encode(text, loaded.config["vocabulary"]))
    bits = train.bits_per_character(loaded.module, tokens)
    expected = qrnn["bits_per_character"]["heldout"]
    same = data.sha256(text) == log["text"]["heldout"]["sha256"]
    assert abs(bits - expected) < (1e-3 if same else 0.2)
