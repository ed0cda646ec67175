"""Train four word language models of equal size on one budget: QRNN, SRU, RHN and LSTM.

    python examples/wordlm/compare.py

Reads the text that data.py describes, with the vocabulary of ``vocabulary.txt``, and writes for
each model its checkpoint ``compared/NAME.safetensors`` and its log ``compared/NAME.json``: every
run, its curve, and the perplexities. All four are tuned alike, by the validation text alone; the
held-out text is looked at once, at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import data
import models
import torch
import torch.nn.functional as F
from score import exponential, perplexity
from torch import Tensor, nn

BUDGET: dict[str, Any] = {"epochs": 8, "batch": 20, "chunk": 35, "clip": 1.0}
"""Adam, with a learning rate that falls linearly to 0 and the gradient clipped by its norm.

Not the plain descent of quasi-rnn's recipe: at the rates that suit the others the SRU falls apart
under it.
"""

RATES = (0.008, 0.016, 0.032)
"""Learning rates to try first, with the first of the dropouts."""

DROPOUTS = (0.2, 0.4)
"""The second is tried at the best rate."""

SEEDS = (0, 1)
"""Of the trials, and of one more run with what came out best."""


@dataclass
class Run:
    """A trained model, and what the log tells of it."""

    model: nn.Module
    record: dict[str, Any]

    @property
    def validation(self) -> float:
        """The perplexity that runs are chosen by."""
        return float(self.record["validation"])


def detached(state: list[Any]) -> list[Any]:
    """The states of all layers, which are NamedTuples, without their history."""
    return [
        type(parts)(*(part if part is None else part.detach() for part in parts)) for parts in state
    ]


def train(
    model: nn.Module,
    texts: dict[str, Tensor],
    budget: dict[str, Any],
    rate: float,
    chunks: int | None,
) -> list[dict[str, float]]:
    """Truncated backpropagation through time; states are carried on, and are 0 in a new epoch.

    Args:
        model: tokens [B, T] and a state -> logits [B, T, V] and the state; left in eval mode.
        texts: ``train`` and ``validation``, [T] each.
        budget: as :data:`BUDGET`.
        rate: learning rate of the first epoch.
        chunks: steps of an epoch; None for as many as the text has.

    Returns:
        The curve: epoch, perplexity of training (with dropout and zoneout) and of validation.
    """
    tokens, batch, chunk = texts["train"], budget["batch"], budget["chunk"]
    count = (chunks or (len(tokens) - 1) // (batch * chunk)) * batch * chunk
    inputs, targets = tokens[:count].view(batch, -1), tokens[1 : count + 1].view(batch, -1)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    begins = range(0, inputs.shape[1], chunk)
    steps, curve = budget["epochs"] * len(begins), []
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for epoch in range(1, budget["epochs"] + 1):
        model.train()
        state, losses = None, []
        for begin in begins:
            logits, state = model(inputs[:, begin : begin + chunk], state)
            state = detached(state)
            loss = F.cross_entropy(
                logits.flatten(0, 1), targets[:, begin : begin + chunk].flatten()
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), budget["clip"])
            optimizer.step()
            falling.step()
            losses.append(loss.item())
        point = {
            "epoch": epoch,
            "train": round(exponential(sum(losses) / len(losses)), 2),
            "validation": round(perplexity(model.eval(), texts["validation"]), 3),
        }
        curve.append(point)
    return curve


def run(
    name: str,
    texts: dict[str, Tensor],
    words: list[str],
    budget: dict[str, Any],
    chunks: int | None,
    rate: float,
    dropout: float,
    seed: int,
) -> Run:
    """One training from fresh weights; the seed is that of all that is random."""
    torch.manual_seed(seed)
    model = models.build(name, words, dropout)
    wall, cpu = time.perf_counter(), time.process_time()
    curve = train(model, texts, budget, rate, chunks)
    record = {
        "learning_rate": rate,
        "dropout": dropout,
        "seed": seed,
        "validation": curve[-1]["validation"],
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "curve": curve,
    }
    shown = {key: value for key, value in record.items() if key != "curve"}
    print(f"{name}: {json.dumps(shown)}", flush=True)
    return Run(model, record)


def tuned(
    name: str,
    words: list[str],
    budget: dict[str, Any],
    chunks: int | None,
    output: Path,
) -> str:
    """All runs of one model; writes its checkpoint and its log.

    Returns:
        A line that says what came out.
    """
    torch.set_num_threads(1)
    parts = data.parts()
    texts = {part: torch.from_numpy(data.encode(text, words)) for part, text in parts.items()}

    def trial(rate: float, dropout: float, seed: int) -> Run:
        return run(name, texts, words, budget, chunks, rate, dropout, seed)

    def best(runs: list[Run]) -> Run:
        return min(runs, key=lambda one: one.validation)

    runs = [trial(rate, DROPOUTS[0], SEEDS[0]) for rate in RATES]
    rate = best(runs).record["learning_rate"]
    runs += [trial(rate, dropout, SEEDS[0]) for dropout in DROPOUTS[1:]]
    first = best(runs)
    dropout = first.record["dropout"]
    finals = [first, *(trial(rate, dropout, seed) for seed in SEEDS[1:])]
    for final in finals:
        final.record["heldout"] = round(perplexity(final.model, texts["heldout"]), 3)
    chosen = best(finals)
    path = output / f"{name}.safetensors"
    models.save(name, chosen.model, path)
    log = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.system()}, {platform.machine()}, {os.cpu_count()} cores",
        "text": {part: data.sha256(text) for part, text in parts.items()},
        "vocabulary": len(words),
        "budget": budget,
        "model": models.SETTINGS[name],
        "parameters": models.parameters(chosen.model),
        "chosen": {key: chosen.record[key] for key in ("learning_rate", "dropout", "seed")},
        "validation": round(perplexity(chosen.model, texts["validation"]), 3),
        "heldout": chosen.record["heldout"],
        "runs": [one.record for one in [*runs, *finals[1:]]],
        "checkpoint": {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    }
    (output / f"{name}.json").write_text(json.dumps(log, indent=1) + "\n")
    shown = {key: log[key] for key in ("parameters", "chosen", "validation", "heldout")}
    return f"{name}: {json.dumps(shown)}"


def main() -> None:
    """Train the models, two at a time."""
    parser = argparse.ArgumentParser(description="Train four word language models of equal size.")
    parser.add_argument("--models", nargs="+", choices=models.SETTINGS, default=models.SETTINGS)
    parser.add_argument("--epochs", type=int, default=BUDGET["epochs"])
    parser.add_argument("--chunks", type=int, help="steps of an epoch, default: the whole text")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time, a thread each")
    parser.add_argument("--output", type=Path, default=data.HERE / "compared")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    budget = {**BUDGET, "epochs": arguments.epochs}
    # The slowest first.
    names = sorted(arguments.models, key=["rhn", "sru", "qrnn", "lstm"].index)
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(
                tuned, name, data.saved_vocabulary(), budget, arguments.chunks, arguments.output
            )
            for name in names
        ]
        for job in jobs:
            print(job.result(), flush=True)


if __name__ == "__main__":
    main()
