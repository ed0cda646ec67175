"""Train the encoder-decoder, and an LSTM of the same size on the same budget.

    python examples/translation/train.py

Reads the pairs that data.py describes and writes, beside this script, the checkpoint
``model.safetensors``, ``lstm-translations.tsv``, what the LSTM makes of the test part, and
``training-log.json``: every run and its curve. Both kinds of model are tuned over the same trials,
by chrF on the validation part alone; the test part is looked at once, at the end.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import data
import models
import torch
import torch.nn.functional as F
from score import BEAMS, chrf, tally
from search import Model, by_torch, texts
from torch import Tensor, nn

from qrnn_deploy import save_checkpoint

BUDGET: dict[str, Any] = {
    "epochs": 36,
    "batch": 32,
    "forgotten": 0.15,
    "label_smoothing": 0.1,
    "weight_decay": 0.05,
    "clip": 1.0,
    "check": 6,
}
"""``forgotten``: the share of target characters that the decoder gets as U+FFFD instead, so that it
must look at the source. Every ``check`` epochs the validation part is translated."""

KINDS = ("qrnn", "lstm")
TRIALS = ((0.004, 0.2, 0), (0.008, 0.2, 0))
"""Learning rate, dropout and seed of each, for both kinds."""

Part = list[data.Pair]


class Start(NamedTuple):
    """What a training starts from."""

    kind: str
    learning_rate: float
    dropout: float
    seed: int


@dataclass(frozen=True)
class Task:
    """Pairs and alphabets.

    Attributes:
        parts: ``train``, ``validation`` and ``test``.
        source: what English is written with.
        target: what German is written with.
    """

    parts: dict[str, Part]
    source: list[str]
    target: list[str]

    @classmethod
    def of(cls, parts: dict[str, Part]) -> Task:
        """With the characters of the training part."""
        train = parts["train"]
        source = data.vocabulary(pair.english for pair in train)
        return cls(parts, source, data.vocabulary(pair.german for pair in train))

    def sources(self, name: str) -> list[list[int]]:
        """The English of a part."""
        return [data.encode(pair.english, self.source) for pair in self.parts[name]]

    def targets(self, name: str) -> list[list[int]]:
        """The German of a part, with its beginnings and ends."""
        return [
            [data.BOS_TOKEN, *data.encode(pair.german, self.target), data.EOS_TOKEN]
            for pair in self.parts[name]
        ]

    def translations(self, model: Model, name: str, beam: int = 1) -> list[str]:
        """What a model makes of a part."""
        return texts(by_torch(model, self.sources(name), beam), self.target)

    def chrf(self, model: Model, name: str) -> float:
        """Of greedy translations."""
        wanted = [pair.german for pair in self.parts[name]]
        return round(chrf(self.translations(model, name), wanted), 2)


@dataclass
class Run:
    """A trained model, and what the log tells of it."""

    model: Model
    record: dict[str, Any]


def batches(lengths: Sequence[int], size: int) -> list[Tensor]:
    """An epoch's batches, in random order; the pairs of one are about equally long."""
    order = torch.randperm(len(lengths)).tolist()
    pool = 20 * size
    cut: list[Tensor] = []
    for start in range(0, len(order), pool):
        near = sorted(order[start : start + pool], key=lambda n: lengths[n])
        cut += torch.tensor(near).split(size)
    return [cut[n] for n in torch.randperm(len(cut)).tolist()]


def loss_of(
    model: Model, pairs: Sequence[tuple[list[int], list[int]]], budget: dict[str, Any]
) -> Tensor:
    """Cross-entropy of a character, under teacher forcing with some characters forgotten."""
    source, lengths = (torch.from_numpy(a) for a in data.padded([one for one, _ in pairs]))
    target = torch.from_numpy(data.padded([other for _, other in pairs])[0])
    given, wanted = target[:, :-1], target[:, 1:]
    forgotten = torch.rand(given.shape) < budget["forgotten"]
    forgotten[:, 0] = False
    logits = model(source, given.masked_fill(forgotten, data.UNKNOWN), lengths)
    return F.cross_entropy(
        logits.flatten(0, 1),
        wanted.flatten(),
        ignore_index=data.PAD_TOKEN,
        label_smoothing=budget["label_smoothing"],
    )


def train(model: Model, task: Task, rate: float, budget: dict[str, Any]) -> list[dict[str, float]]:
    """Train, and leave the model as it was when it translated the validation part best.

    Args:
        model: it is trained in place.
        task: the ``train`` and ``validation`` parts are used.
        rate: learning rate of the first epoch; it falls linearly.
        budget: as :data:`BUDGET`.

    Returns:
        The curve: epoch, mean training loss of the epochs since the point before, and chrF.
    """
    sources, targets = task.sources("train"), task.targets("train")
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=budget["weight_decay"])
    curve: list[dict[str, float]] = []
    losses: list[float] = []
    best, highest = copy.deepcopy(model.state_dict()), -1.0
    for epoch in range(budget["epochs"]):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - epoch / budget["epochs"])
        for rows in batches([len(target) for target in targets], budget["batch"]):
            pairs = [(sources[n], targets[n]) for n in rows.tolist()]
            loss = loss_of(model, pairs, budget)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), budget["clip"])
            optimizer.step()
            losses.append(loss.item())
        if (epoch + 1) % budget["check"] and epoch + 1 < budget["epochs"]:
            continue
        now = task.chrf(model, "validation")
        if now > highest:
            best, highest = copy.deepcopy(model.state_dict()), now
        loss_now = round(sum(losses) / len(losses), 4)
        curve.append({"epoch": epoch + 1, "train": loss_now, "validation": now})
        losses.clear()
        print(json.dumps({"model": type(model).__name__, **curve[-1]}), flush=True)
    model.load_state_dict(best)
    return curve


def builder(kind: str, task: Task) -> tuple[Callable[[float], Model], dict[str, Any]]:
    """What makes a model of a kind from its dropout, and its settings for the log."""
    if kind == "qrnn":
        return partial(models.qrnn, task.source, task.target), models.QRNN_SETTINGS
    hidden = models.lstm_size(task.source, task.target)
    settings = {**models.LSTM_SETTINGS, "hidden_size": hidden}
    return partial(models.lstm, task.source, task.target, hidden_size=hidden), settings


def run(start: Start, task: Task, budget: dict[str, Any]) -> Run:
    """One training from fresh weights; the seed is that of all that is random."""
    torch.set_num_threads(1)
    torch.manual_seed(start.seed)
    model = builder(start.kind, task)[0](start.dropout)
    before = time.process_time()
    curve = train(model, task, start.learning_rate, budget)
    record = {
        **{name: value for name, value in start._asdict().items() if name != "kind"},
        "validation": max(point["validation"] for point in curve),
        "cpu_seconds": round(time.process_time() - before, 1),
        "curve": curve,
    }
    return Run(model, record)


def trained(starts: Sequence[Start], task: Task, budget: dict[str, Any], jobs: int) -> list[Run]:
    """Several trainings, ``jobs`` at a time; no result depends on how many."""
    one = partial(run, task=task, budget=budget)
    if jobs == 1:
        return [one(start) for start in starts]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        return list(pool.map(one, starts))


def main() -> None:
    """Train both kinds of model and write the checkpoint, the LSTM's answers and the log."""
    parser = argparse.ArgumentParser(description="Train the translator of phrases.")
    parser.add_argument("--epochs", type=int, default=BUDGET["epochs"])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time; default 2")
    parser.add_argument("--output", type=Path, default=data.HERE, help="default: beside this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small matrices
    folder, budget = arguments.output, {**BUDGET, "epochs": arguments.epochs}
    folder.mkdir(parents=True, exist_ok=True)

    task = Task.of(data.parts())
    starts = [Start(kind, *trial) for trial in TRIALS for kind in KINDS]
    runs = trained(starts, task, budget, arguments.jobs)
    best: dict[str, Run] = {}
    logs: dict[str, Any] = {}
    for kind in KINDS:
        own = [one for one, start in zip(runs, starts, strict=True) if start.kind == kind]
        best[kind] = max(own, key=lambda one: one.record["validation"])
        logs[kind] = {
            "parameters": models.parameters(best[kind].model),
            "settings": builder(kind, task)[1],
            "chosen": own.index(best[kind]),
            "trials": [one.record for one in own],
            "test": {},
        }
    answers = {
        kind: [task.translations(best[kind].model, "test", beam) for beam in BEAMS]
        for kind in KINDS
    }
    wanted = [pair.german for pair in task.parts["test"]]
    for kind, log in logs.items():
        for beam, said in zip(BEAMS, answers[kind], strict=True):
            log["test"][f"beam {beam}"] = tally(said, wanted)
    path = folder / "model.safetensors"
    save_checkpoint(best["qrnn"].model, path)
    rows = "".join("\t".join(row) + "\n" for row in zip(*answers["lstm"], strict=True))
    (folder / "lstm-translations.tsv").write_text(rows, encoding="utf-8")
    log = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "data": {
            name: {"pairs": len(part), "sha256": data.sha256(part)}
            for name, part in task.parts.items()
        },
        "characters": {"english": len(task.source), "german": len(task.target)},
        "budget": budget,
        "models": logs,
        "checkpoint": {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    }
    (folder / "training-log.json").write_text(json.dumps(log, indent=1) + "\n")
    print(f"wrote {path}, lstm-translations.tsv and training-log.json")


if __name__ == "__main__":
    main()
