"""Train the character language model, and an LSTM of the same size on the same budget.

    python examples/charlm/train.py

Reads the text that data.py describes and writes, beside this script, the checkpoint
``model.safetensors`` and ``training-log.json``: the settings, the curves, and the bits per
character of both models on the held-out text. Tuning looked at the validation text only; the
held-out text is scored once, at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qrnn_deploy import save_checkpoint
from qrnn_deploy.nn import LayerState, QRNNLanguageModel

QRNN_SETTINGS: dict[str, Any] = {
    "embedding_size": 64,
    "hidden_size": 128,
    "num_layers": 3,
    "window": 2,
    "pooling": "fo",
    "dense": True,
    "dropout": 0.25,
}
LSTM_SETTINGS: dict[str, Any] = {"embedding_size": 64, "num_layers": 2, "dropout": 0.25}
BUDGET: dict[str, Any] = {
    "steps": 2400,
    "streams": 32,
    "chunk": 128,
    "learning_rate": 0.02,
    "warmup": 100,
    "weight_decay": 0.1,
    "clip": 1.0,
    "seed": 0,
}


class LSTMLanguageModel(nn.Module):
    """The baseline: embedding, ``nn.LSTM``, decoder, with dropout in the same places."""

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers, dropout=dropout)
        self.decoder = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Tokens [B, T] -> logits [B, T, V] and the state."""
        x = F.dropout(self.embedding(tokens.t()), self.dropout, self.training)
        y, state = self.lstm(x, state)
        logits = self.decoder(F.dropout(y, self.dropout, self.training))
        return logits.transpose(0, 1), state


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def lstm_like(model: QRNNLanguageModel) -> tuple[LSTMLanguageModel, int]:
    """The LSTM whose parameter count is closest to the model's, and its hidden size."""
    target = parameters(model)

    def build(hidden: int, device: str) -> LSTMLanguageModel:
        with torch.device(device):
            return LSTMLanguageModel(model.vocab_size, hidden_size=hidden, **LSTM_SETTINGS)

    sizes = range(16, 512)
    best = min(sizes, key=lambda hidden: abs(parameters(build(hidden, "meta")) - target))
    return build(best, "cpu"), best


def detach(state: Any) -> Any:
    """The state without its history: gradients stop at the border of a chunk."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, LayerState):
        return LayerState(state.c.detach(), None if state.x is None else state.x.detach())
    return type(state)(detach(part) for part in state)


@torch.no_grad()
def bits_per_character(model: nn.Module, tokens: Tensor, chunk: int = 2048) -> float:
    """Mean -log2 p of every character but the first, the text read once from front to back."""
    model.eval()
    state, nats = None, 0.0
    for start in range(0, len(tokens) - 1, chunk):
        targets = tokens[start + 1 : start + 1 + chunk]
        logits, state = model(tokens[None, start : start + len(targets)], state)
        nats += F.cross_entropy(logits[0].double(), targets, reduction="sum").item()
    return nats / math.log(2) / (len(tokens) - 1)


def train(model: nn.Module, tokens: Tensor, validation: Tensor, budget: dict[str, Any]) -> Any:
    """Truncated backpropagation through time over parallel streams that carry their state.

    Every epoch cuts the text anew, at a random offset, into streams of equal length.

    Returns:
        The curve: step, bits per character of training (with dropout) and of validation.
    """
    torch.manual_seed(budget["seed"])
    streams, chunk, steps = budget["streams"], budget["chunk"], budget["steps"]
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=(0.9, 0.99), weight_decay=budget["weight_decay"]
    )

    def rate(step: int) -> float:
        if step < budget["warmup"]:
            return budget["learning_rate"] * (step + 1) / budget["warmup"]
        done = (step - budget["warmup"]) / max(1, steps - budget["warmup"])
        return budget["learning_rate"] * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    length, position = len(tokens) // streams - chunk, math.inf
    rows, state, losses, curve = tokens, None, [], []
    for step in range(steps):
        if position + chunk >= length:
            offset = int(torch.randint(len(tokens) - streams * length, ()))
            rows = tokens[offset : offset + streams * length].view(streams, length)
            rows, position, state = rows[torch.randperm(streams)], 0, None
        begin = int(position)
        position += chunk
        model.train()
        logits, state = model(rows[:, begin : begin + chunk], state)
        state = detach(state)
        targets = rows[:, begin + 1 : begin + chunk + 1]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), budget["clip"])
        optimizer.step()
        losses.append(loss.item() / math.log(2))
        if (step + 1) % 200 == 0 or step + 1 == steps:
            point = {
                "step": step + 1,
                "train": round(sum(losses) / len(losses), 4),
                "validation": round(bits_per_character(model, validation), 4),
            }
            print(json.dumps(point), flush=True)
            curve.append(point)
            losses = []
    return curve


def main() -> None:
    """Train both models and write the checkpoint and the log."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Train the character language model.")
    parser.add_argument("--steps", type=int, default=BUDGET["steps"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=here, help="folder, default: beside this")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    budget = {**BUDGET, "steps": arguments.steps}
    arguments.output.mkdir(parents=True, exist_ok=True)

    texts = data.parts()
    symbols = data.vocabulary(texts["train"])
    tokens = {name: torch.tensor(data.encode(text, symbols)) for name, text in texts.items()}
    log: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "text": {
            name: {
                "characters": len(text),
                "unknown": int((tokens[name] == len(symbols) - 1).sum()),
                "sha256": data.sha256(text),
            }
            for name, text in texts.items()
        },
        "vocabulary": len(symbols),
        "budget": budget
        | {"characters": math.prod(budget[k] for k in ("steps", "streams", "chunk"))},
        "threads": arguments.threads,
        "models": {},
    }
    torch.manual_seed(budget["seed"])
    qrnn = QRNNLanguageModel(len(symbols), vocabulary=symbols, **QRNN_SETTINGS)
    lstm, hidden = lstm_like(qrnn)
    for name, model, settings in (
        ("qrnn", qrnn, QRNN_SETTINGS),
        ("lstm", lstm, {**LSTM_SETTINGS, "hidden_size": hidden}),
    ):
        print(f"{name}: {parameters(model)} parameters, {settings}", flush=True)
        wall, cpu = time.perf_counter(), time.process_time()
        curve = train(model, tokens["train"], tokens["validation"], budget)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        log["models"][name] = {
            "parameters": parameters(model),
            "settings": settings,
            "seconds": round(wall, 1),
            "cpu_seconds": round(cpu, 1),
            "curve": curve,
            "bits_per_character": {
                part: round(bits_per_character(model, tokens[part]), 4)
                for part in ("validation", "heldout")
            },
        }
        print(name, log["models"][name]["bits_per_character"], flush=True)

    path = arguments.output / "model.safetensors"
    save_checkpoint(qrnn, path)
    log["checkpoint"] = {
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (arguments.output / "training-log.json").write_text(json.dumps(log, indent=1) + "\n")
    print(f"wrote {path} and training-log.json")


if __name__ == "__main__":
    main()
