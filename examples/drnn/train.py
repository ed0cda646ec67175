"""Error against delay on the two synthetic tasks of the delayed RNN's paper, and the figures.

    python examples/drnn/train.py

Trains an LSTM and QRNNs for each of several delays, and a bidirectional LSTM beside them, on the
tasks that tasks.py generates, and writes, beside this script, ``results.json``, the figures (with
matplotlib, see plot.py) and ``reversal.safetensors``, the LSTM that reverses with the least delay
that suffices. Every training draws from its own seed on one thread, so that it does not matter
how many processes share the work.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time
from pathlib import Path
from typing import Any

import plot
import tasks
import torch
import torch.nn.functional as F

from qrnn_deploy import save_checkpoint
from qrnn_deploy.nn import DelayedRNN

HERE = Path(__file__).parent
BUDGET: dict[str, Any] = {"batch": 100, "clip": 1.0, "test_rows": 5000, "seed": 0}
TASKS: dict[str, dict[str, Any]] = {
    "reversal": {
        "delays": [0, 1, 3, 5, 7],
        "steps": 1500,
        "learning_rate": 0.01,
        "sizes": {"input_size": tasks.CLASSES, "hidden_size": 64, "output_size": tasks.CLASSES},
    },
    "sine": {
        "delays": [0, 1, 2, 3, 4, 5, 7],
        "steps": 2500,
        "learning_rate": 0.01,
        "sizes": {"input_size": 1, "hidden_size": 32, "output_size": 1},
    },
}
MODELS: dict[str, dict[str, Any]] = {
    "LSTM": {"cell": "LSTM"},
    "QRNN": {"cell": "QRNN", "window": 2},
    "QRNN, 2 layers": {"cell": "QRNN", "window": 2, "num_layers": 2},
}
BESIDE: tuple[tuple[str, str, dict[str, Any], int], ...] = (
    ("reversal", "LSTM, both ways", {"cell": "LSTM", "bidirectional": True}, 0),
    ("sine", "LSTM, both ways", {"cell": "LSTM", "bidirectional": True}, 0),
    (
        "sine",
        "QRNN, window 8",
        {"cell": "QRNN", "window": tasks.CAUSAL + tasks.ACAUSAL},
        tasks.ACAUSAL,
    ),
)
"""Task, name, model and delay of single trainings."""

KEPT = ("reversal", "LSTM", tasks.LENGTH - 1)


def trained(task: str, options: dict[str, Any], delay: int, steps: int) -> DelayedRNN:
    """A model after ``steps`` batches, each drawn anew."""
    facts = TASKS[task]
    torch.manual_seed(BUDGET["seed"])
    generator = torch.Generator().manual_seed(BUDGET["seed"] + 1)
    model = DelayedRNN(**facts["sizes"], **options, delay=delay)
    rate = facts["learning_rate"]
    adam = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=steps)
    for _ in range(steps):
        x, target = getattr(tasks, task)(BUDGET["batch"], generator)
        y, _ = model(x)
        if task == "reversal":
            loss = F.cross_entropy(y.flatten(0, 1), target.flatten())
        else:
            loss = F.mse_loss(y, target)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), BUDGET["clip"])
        adam.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def error_of(model: DelayedRNN, task: str) -> float:
    """On sequences that no training draws: the share of wrong classes, or the squared error."""
    generator = torch.Generator().manual_seed(10**6)
    x, target = getattr(tasks, task)(BUDGET["test_rows"], generator)
    y, _ = model(x)
    if task == "reversal":
        return float((y.argmax(dim=2) != target).double().mean())
    return float(((y - target).double() ** 2).mean())


def run(job: tuple[str, str, dict[str, Any], int, int, str]) -> dict[str, Any]:
    """One training and its score."""
    task, name, options, delay, steps, folder = job
    torch.set_num_threads(1)
    begin = time.process_time()
    model = trained(task, options, delay, steps)
    result = {
        "task": task,
        "model": name,
        "delay": delay,
        "error": error_of(model, task),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cpu_seconds": round(time.process_time() - begin, 1),
    }
    if (task, name, delay) == KEPT:
        save_checkpoint(model, Path(folder) / "reversal.safetensors")
    print(json.dumps(result), flush=True)
    return result


def settings(steps: int | None) -> dict[str, Any]:
    """What the results depend on, for the record."""
    known = {"budget": BUDGET, "tasks": TASKS, "models": MODELS, "beside": [*map(list, BESIDE)]}
    return {**known, "steps": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plot.Plain)
    parser.add_argument("--output", type=Path, default=HERE, help="folder for what is written")
    parser.add_argument("--processes", type=int, default=2, help="trainings at the same time")
    parser.add_argument("--steps", type=int, help="batches of every training, for a quick look")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    wanted = [
        (task, name, model, delay)
        for task, facts in TASKS.items()
        for name, model in MODELS.items()
        for delay in facts["delays"]
    ]
    jobs = [
        (*one, options.steps or TASKS[one[0]]["steps"], str(options.output))
        for one in (*wanted, *BESIDE)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        runs = pool.map(run, jobs, chunksize=1)
    least = {"reversal": tasks.least_reversal_error, "sine": tasks.least_sine_error}
    record = {
        "settings": settings(options.steps),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "least_error": {
            task: {str(delay): least[task](delay) for delay in facts["delays"]}
            for task, facts in TASKS.items()
        },
        "runs": runs,
    }
    path = options.output / "results.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print("wrote", path)
    plot.draw(record, options.output)


if __name__ == "__main__":
    main()
