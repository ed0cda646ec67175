"""Every figure of this example's README: who answers how many of the test sentences rightly.

    python examples/sentiment/score.py

Reads ``model.safetensors`` beside this script, runs it in PyTorch, exports it and runs it in ONNX
Runtime; then the baselines. The LSTM's figures are those of ``training-log.json``. The exit status
is 1 where ONNX Runtime answers otherwise than PyTorch.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import baselines
import data
import numpy as np
import torch
from numpy.typing import NDArray

import qrnn_deploy

BATCH = 256
TOLERANCE = 1e-5
"""How far a logit may be from PyTorch's."""

Texts = Sequence[NDArray[np.int64]]


def in_batches(
    answer: Callable[[NDArray[np.int64]], Any], texts: Texts, batch: int = BATCH
) -> NDArray[np.float32]:
    """Logits [N, 2] of texts that are given in batches, padded."""
    blocks = (data.padded(texts[n : n + batch]) for n in range(0, len(texts), batch))
    return np.concatenate([np.asarray(answer(block)) for block in blocks])


@torch.no_grad()
def logits_of(model: torch.nn.Module, texts: Texts) -> NDArray[np.float32]:
    """By PyTorch, in eval mode."""
    model.eval()
    return in_batches(lambda tokens: model(torch.from_numpy(tokens)), texts)


def exported(model: torch.nn.Module, texts: Texts) -> dict[str, NDArray[np.float32]]:
    """By ONNX Runtime: with our ``kernel``, and with the ``function`` in the file."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentiment.onnx"
        qrnn_deploy.export(model, path)
        for name, kernel in (("kernel", "require"), ("function", "off")):
            session = qrnn_deploy.Session(path, kernel=kernel)
            found[name] = in_batches(lambda x, run=session.run: run(x)["logits"], texts)
    return found


def tally(right: Sequence[bool], sentences: Sequence[data.Sentence]) -> dict[str, list[int]]:
    """Right answers and questions: of ``all`` and of each source."""
    found = {name: [0, 0] for name in ("all", *data.SOURCES)}
    for hit, sentence in zip(right, sentences, strict=True):
        for name in ("all", sentence.source):
            found[name][0] += hit
            found[name][1] += 1
    return found


def interval(right: int, total: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927)."""
    z, share = 1.959964, right / total
    middle = share + z * z / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    scale = 1 + z * z / total
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def difference(first_alone: int, second_alone: int, total: int) -> tuple[float, float, float]:
    """How much more the first of two answers rightly, with a 95% interval, both asked the same."""
    gap = (first_alone - second_alone) / total
    reach = 1.959964 * math.sqrt((first_alone + second_alone) / total - gap**2) / math.sqrt(total)
    return gap, gap - reach, gap + reach


def row(name: str, counts: dict[str, list[int]]) -> str:
    """A line of the table: percentages with their intervals."""
    cells = []
    for right, total in counts.values():
        low, high = interval(right, total)
        cells.append(f"{right / total:.1%} ({low:.1%} to {high:.1%})")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> int:
    """Score everything and print it."""
    parser = argparse.ArgumentParser(description="Score the classifier of sentences.")
    parser.add_argument("--checkpoint", type=Path, default=data.HERE / "model.safetensors")
    path = parser.parse_args().checkpoint
    torch.set_num_threads(1)  # small matrices
    sentences = data.parts()
    test = sentences["test"]
    labels = np.array([s.label for s in test])
    log = json.loads(path.with_name("training-log.json").read_text())
    loaded = qrnn_deploy.load_checkpoint(path)
    texts = data.encode((s.text for s in test), loaded.config["vocabulary"])

    def counted(answers: Any) -> dict[str, list[int]]:
        return tally((np.asarray(answers) == labels).tolist(), test)

    reference = logits_of(loaded.module, texts)
    others = exported(loaded.module, texts)
    sizes = counted(labels)
    heads = [f"{name}, n = {total:,}" for name, (_, total) in sizes.items()]
    print(f"| right answers | {' | '.join(heads)} |")
    print("| --- " * (len(heads) + 1) + "|")
    print(row("QRNN, PyTorch", counted(reference.argmax(-1))))
    for name, logits in others.items():
        print(row(f"QRNN, ONNX Runtime, {name}", counted(logits.argmax(-1))))
    print(row("LSTM, PyTorch (from the log)", log["models"]["lstm"]["test"]))
    bag = baselines.BagOfWords(sentences["train"], sentences["validation"])
    print(row("bag of words and pairs", counted(bag([s.text for s in test]))))
    compound = baselines.vader()
    scores = np.array([compound(s.text) for s in test])
    print(row("VADER's rules", counted(scores >= 0)))
    # Not by what the test part has more of.
    positive = 2 * sum(s.label for s in sentences["train"]) >= len(sentences["train"])
    print(row("the training part's larger class", counted(np.full(len(test), positive))))

    pairs = log["test_right"]
    gap = difference(pairs["qrnn_alone"], pairs["lstm_alone"], sum(pairs.values()))
    print(
        "\nQRNN less LSTM, in points: {:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * g for g in gap))
    )
    for name, model in log["models"].items():
        seeds = [f"{final['test']['accuracy']:.1%}" for final in model["finals"]]
        print(f"{name.upper()}, PyTorch, each seed (from the log): {', '.join(seeds)}")
    print(f"VADER: {int((scores == 0).sum())} scores are 0 and count as positive")
    passed = True
    for name, logits in others.items():
        apart = float(np.abs(logits - reference).max())
        changed = int((logits.argmax(-1) != reference.argmax(-1)).sum())
        passed = passed and apart <= TOLERANCE and changed == 0
        print(f"ONNX Runtime, {name}: {changed} other answers, logits at most {apart:.1e} apart")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
