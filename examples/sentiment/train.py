"""Train the classifier of sentences, and an LSTM of the same size on the same budget.

    python examples/sentiment/train.py

Reads the sentences that data.py describes and writes, beside this script, the checkpoint
``model.safetensors`` and ``training-log.json``: every run, its curve, and what both kinds of model
answer on the test part. Both are tuned over the same trials, by the validation part alone; the
test part is looked at once, at the end.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import classifiers
import data
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from score import logits_of, tally
from torch import Tensor, nn

from qrnn_deploy import save_checkpoint

BUDGET: dict[str, Any] = {
    "epochs": 6,
    "batch": 128,
    "word_dropout": 0.3,
    "weight_decay": 0.1,
    "clip": 1.0,
}
TRIALS = ((0.004, 0.6), (0.008, 0.6), (0.008, 0.4))
"""Learning rate and dropout of each, all with the first seed."""

SEEDS = (0, 1, 2)
"""The best trial is run with each."""

Part = tuple[Sequence[NDArray[np.int64]], Tensor]


@dataclass
class Run:
    """A trained model, and what the log tells of it."""

    model: nn.Module
    record: dict[str, Any]

    @property
    def loss(self) -> float:
        """Of validation, by which runs are chosen."""
        return float(self.record["validation"]["loss"])


def quality(model: nn.Module, part: Part) -> dict[str, float]:
    """Mean -log p of the labels, and the share of right answers, in eval mode."""
    texts, labels = part
    logits = torch.from_numpy(logits_of(model, texts))
    return {
        "loss": round(F.cross_entropy(logits.double(), labels).item(), 4),
        "accuracy": round((logits.argmax(-1) == labels).double().mean().item(), 4),
    }


def batches(texts: Sequence[NDArray[np.int64]], size: int) -> list[Tensor]:
    """An epoch's batches, in random order; the texts of one are about equally long."""
    order = torch.randperm(len(texts)).tolist()
    pool = 20 * size
    cut: list[Tensor] = []
    for start in range(0, len(order), pool):
        near = sorted(order[start : start + pool], key=lambda n: len(texts[n]))
        # The norm in the head needs two texts at least.
        cut += [part for part in torch.tensor(near).split(size) if len(part) > 1]
    return [cut[n] for n in torch.randperm(len(cut)).tolist()]


def train(
    model: nn.Module, parts: dict[str, Part], rate: float, budget: dict[str, Any]
) -> list[dict[str, float]]:
    """Train, and leave the model as it was after the epoch with the lowest validation loss.

    Args:
        model: it is trained in place.
        parts: ``train`` and ``validation``.
        rate: learning rate of the first epoch; it falls linearly.
        budget: as :data:`BUDGET`.

    Returns:
        The curve: epoch, training loss (with dropout), and :func:`quality` of validation.
    """
    texts, labels = parts["train"]
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=budget["weight_decay"])
    curve: list[dict[str, float]] = []
    best, lowest = copy.deepcopy(model.state_dict()), math.inf
    for epoch in range(budget["epochs"]):
        model.train()
        losses = []
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - epoch / budget["epochs"])
        for rows in batches(texts, budget["batch"]):
            tokens = torch.from_numpy(data.padded([texts[n] for n in rows.tolist()]))
            forgotten = torch.rand(tokens.shape) < budget["word_dropout"]
            tokens = tokens.masked_fill(forgotten & (tokens != data.PAD_TOKEN), 0)
            loss = F.cross_entropy(model(tokens), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), budget["clip"])
            optimizer.step()
            losses.append(loss.item())
        now = quality(model, parts["validation"])
        if now["loss"] < lowest:
            best, lowest = copy.deepcopy(model.state_dict()), now["loss"]
        curve.append({"epoch": epoch + 1, "train": round(sum(losses) / len(losses), 4), **now})
        print(json.dumps(curve[-1]), flush=True)
    model.load_state_dict(best)
    return curve


def run(
    build: Callable[[float], nn.Module],
    parts: dict[str, Part],
    trial: tuple[float, float],
    seed: int,
    budget: dict[str, Any],
) -> Run:
    """One training from fresh weights; the seed is that of all that is random."""
    rate, dropout = trial
    torch.manual_seed(seed)
    model = build(dropout)
    wall, cpu = time.perf_counter(), time.process_time()
    curve = train(model, parts, rate, budget)
    record = {
        "learning_rate": rate,
        "dropout": dropout,
        "seed": seed,
        "validation": quality(model, parts["validation"]),
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "curve": curve,
    }
    print(json.dumps({key: record[key] for key in record if key != "curve"}), flush=True)
    return Run(model, record)


def tuned(
    build: Callable[[float], nn.Module], parts: dict[str, Part], budget: dict[str, Any]
) -> tuple[list[Run], list[Run]]:
    """All trials, and the best one's runs with every seed."""
    trials = [run(build, parts, trial, SEEDS[0], budget) for trial in TRIALS]
    best = min(trials, key=lambda trial: trial.loss)
    settings = (best.record["learning_rate"], best.record["dropout"])
    return trials, [best, *(run(build, parts, settings, seed, budget) for seed in SEEDS[1:])]


def main() -> None:
    """Train both kinds of model and write the checkpoint and the log."""
    parser = argparse.ArgumentParser(description="Train the classifier of sentences.")
    parser.add_argument("--epochs", type=int, default=BUDGET["epochs"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=data.HERE, help="default: beside this")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    budget = {**BUDGET, "epochs": arguments.epochs}
    arguments.output.mkdir(parents=True, exist_ok=True)

    sentences = data.parts()
    words = data.vocabulary(data.words(s.text) for s in sentences["train"])
    parts = {
        name: (data.encode((s.text for s in part), words), torch.tensor([s.label for s in part]))
        for name, part in sentences.items()
    }
    hidden = classifiers.lstm_size(words)
    log: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": arguments.threads,
        "data": {
            name: {
                "sentences": len(part),
                "positive": sum(s.label for s in part),
                "sha256": data.sha256(part),
            }
            for name, part in sentences.items()
        },
        "vocabulary": len(words),
        "budget": budget,
        "models": {},
    }
    right: dict[str, Tensor] = {}
    for name, settings, build in (
        ("qrnn", classifiers.QRNN_SETTINGS, lambda dropout: classifiers.qrnn(words, dropout)),
        (
            "lstm",
            {**classifiers.LSTM_SETTINGS, "hidden_size": hidden},
            lambda dropout: classifiers.lstm(words, dropout, hidden),
        ),
    ):
        trials, finals = tuned(build, parts, budget)
        for final in finals:
            final.record["test"] = quality(final.model, parts["test"])
        chosen = min(finals, key=lambda final: final.loss)
        answers = logits_of(chosen.model, parts["test"][0]).argmax(-1)
        right[name] = torch.from_numpy(answers) == parts["test"][1]
        log["models"][name] = {
            "parameters": classifiers.parameters(chosen.model),
            "settings": {**settings, "head_dropout": classifiers.HEAD_DROPOUT},
            "chosen_seed": chosen.record["seed"],
            "test": tally(right[name].tolist(), sentences["test"]),
            "finals": [final.record for final in finals],
            "trials": [trial.record for trial in trials if trial is not finals[0]],
        }
        if name == "qrnn":
            path = arguments.output / "model.safetensors"
            save_checkpoint(chosen.model, path)
    log["test_right"] = {
        "both": int((right["qrnn"] & right["lstm"]).sum()),
        "qrnn_alone": int((right["qrnn"] & ~right["lstm"]).sum()),
        "lstm_alone": int((right["lstm"] & ~right["qrnn"]).sum()),
        "neither": int((~right["qrnn"] & ~right["lstm"]).sum()),
    }
    log["checkpoint"] = {
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (arguments.output / "training-log.json").write_text(json.dumps(log, indent=1) + "\n")
    print(f"wrote {path} and training-log.json: {log['test_right']}")


if __name__ == "__main__":
    main()
