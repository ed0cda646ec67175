"""Train the word language model by the recipe of santi-pdp/quasi-rnn, and save it in its form.

    python examples/wordlm/train.py

Reads the text that data.py describes and writes, beside this script, ``model.npz``: the weights
under the names and in the shapes of upstream's TensorFlow checkpoints; ``vocabulary.txt``; and
``training-log.json``: the settings, the curve, and the perplexities.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import data
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from score import load, perplexity
from torch import Tensor

from qrnn_deploy.nn import LayerState, QRNNLanguageModel, QRNNLayer

MODEL: dict[str, Any] = {
    "embedding_size": 96,
    "hidden_size": 96,
    "num_layers": 2,
    "window": 2,
    "pooling": "fo",
    "bias": False,
    "decoder_activation": "relu",
    "zoneout": 0.1,
    "dropout": 0.0,
}
"""Upstream's ``python train_lm.py --zoneout 0.1 --dropout 0`` has 640 channels instead of 96."""

RECIPE: dict[str, Any] = {
    "epochs": 30,
    "batch": 20,
    "chunk": 35,
    "learning_rate": 4.0,
    "decay": 0.95,
    "decay_from_epoch": 6,
    "clip": 10.0,
    "seed": 0,
}
"""Plain gradient descent, each gradient clipped by its own norm, as upstream.

Its text has eleven times as many words as ours, so 72 epochs of chunks of 105 words are 31,000
steps there and 2,800 here, too few at its learning rate of 1: hence shorter chunks and a larger
rate. With zoneout as the only restraint, more epochs make the validation text worse.
"""


def initialise(model: QRNNLanguageModel, seed: int) -> None:
    """Upstream's first weights: TensorFlow's default for the embedding, Xavier for the others.

    From numbers of its own, so that they do not depend on how a module builds its parameters.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        rows, columns = weight.shape if weight.dim() == 2 else (0, 0)
        if name == "embedding.weight":
            bound = math.sqrt(3 / rows)
        elif name == "decoder_weight":
            bound = math.sqrt(6 / (rows + columns))
        elif name.startswith("stack."):
            bound = math.sqrt(6 / (columns + MODEL["window"] * MODEL["hidden_size"]))
        else:
            bound = 0.0
        with torch.no_grad():
            weight.uniform_(-1, 1, generator=generator).mul_(bound)


def as_upstream(model: QRNNLanguageModel, learning_rate: float) -> dict[str, NDArray[np.float32]]:
    """The weights as upstream's checkpoint holds them: filters [k, in, out], one per gate."""
    assert model.decoder_weight is not None
    variables = {
        "QRNN_LM/word_W": model.embedding.weight,
        "QRNN_LM/output_softmax/weights": model.decoder_weight.t(),
        "QRNN_LM/output_softmax/biases": model.decoder_bias,
        "Variable": torch.tensor(learning_rate),
    }
    for number, layer in enumerate(model.stack.layers):
        assert isinstance(layer, QRNNLayer)
        gates = layer.weight.view(-1, layer.hidden_size, layer.window, layer.input_size)
        for name, gate in zip(layer.spec.gates, gates, strict=True):
            scope = f"QRNN_LM/QRNN_layer{number}/convolutions"
            variables[f"{scope}/W{name}"] = gate.permute(1, 2, 0)
    return {name: np.ascontiguousarray(v.detach().numpy()) for name, v in variables.items()}


def train(
    model: QRNNLanguageModel,
    tokens: Tensor,
    validation: Tensor,
    recipe: dict[str, Any],
    chunks: int | None,
) -> tuple[list[dict[str, float]], float]:
    """Truncated backpropagation through time; states are carried on, and are 0 in a new epoch.

    Returns:
        The curve: epoch, learning rate, perplexity of training (with zoneout) and of validation;
        and the learning rate at the end.
    """
    torch.manual_seed(recipe["seed"])
    batch, chunk, rate = recipe["batch"], recipe["chunk"], recipe["learning_rate"]
    count = (chunks or (len(tokens) - 1) // (batch * chunk)) * batch * chunk
    inputs, targets = tokens[:count].view(batch, -1), tokens[1 : count + 1].view(batch, -1)
    parameters, curve = list(model.parameters()), []
    for epoch in range(1, recipe["epochs"] + 1):
        model.train()
        state, losses = None, []
        for begin in range(0, inputs.shape[1], chunk):
            logits, state = model(inputs[:, begin : begin + chunk], state)
            state = [LayerState(s.c.detach(), None if s.x is None else s.x.detach()) for s in state]
            loss = F.cross_entropy(
                logits.flatten(0, 1), targets[:, begin : begin + chunk].flatten()
            )
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for weight, gradient in zip(parameters, gradients, strict=True):
                    scale = min(1.0, recipe["clip"] / max(gradient.norm().item(), 1e-12))
                    weight.sub_(gradient, alpha=rate * scale)
            losses.append(loss.item())
        if epoch >= recipe["decay_from_epoch"]:
            rate *= recipe["decay"]
        if epoch % 3 == 0 or epoch == recipe["epochs"]:
            point = {
                "epoch": epoch,
                "learning_rate": round(rate, 4),
                "train": round(math.exp(sum(losses) / len(losses)), 2),
                "validation": round(perplexity(model.eval(), validation), 2),
            }
            print(json.dumps(point), flush=True)
            curve.append(point)
    return curve, rate


def main() -> None:
    """Train, save, read back what was saved, and score that."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Train the word language model.")
    parser.add_argument("--epochs", type=int, default=RECIPE["epochs"])
    parser.add_argument("--chunks", type=int, help="steps of an epoch, default: the whole text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=here, help="folder, default: beside this")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = {**RECIPE, "epochs": arguments.epochs}
    arguments.output.mkdir(parents=True, exist_ok=True)

    texts = data.parts()
    words = data.vocabulary(texts["train"])
    tokens = {name: torch.from_numpy(data.encode(text, words)) for name, text in texts.items()}
    model = QRNNLanguageModel(len(words), **MODEL)
    initialise(model, recipe["seed"])
    wall, cpu = time.perf_counter(), time.process_time()
    curve, rate = train(model, tokens["train"], tokens["validation"], recipe, arguments.chunks)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

    path = arguments.output / "model.npz"
    np.savez_compressed(path, **as_upstream(model, rate))
    (arguments.output / "vocabulary.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    imported = load(path)
    scored = tokens if arguments.chunks is None else {"heldout": tokens["heldout"]}
    log = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.system()}, {platform.machine()}, {os.cpu_count()} cores",
        "threads": arguments.threads,
        "text": {
            name: {
                "words": len(text),
                "unknown": int((tokens[name] == 0).sum()),
                "sha256": data.sha256(text),
            }
            for name, text in texts.items()
        },
        "vocabulary": len(words),
        "model": MODEL,
        "recipe": recipe,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "curve": curve,
        "perplexity": {name: round(perplexity(imported, t), 3) for name, t in scored.items()},
        "checkpoint": {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    }
    (arguments.output / "training-log.json").write_text(json.dumps(log, indent=1) + "\n")
    print(log["perplexity"], f"wrote {path}, vocabulary.txt and training-log.json")


if __name__ == "__main__":
    main()
