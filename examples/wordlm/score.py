"""The perplexity of the word language model on its held-out text, by PyTorch and by ONNX Runtime.

    python examples/wordlm/score.py

Reads ``model.npz`` beside this script, a checkpoint in the form of santi-pdp/quasi-rnn, exports
the model, and prints one perplexity for each way to run it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import qrnn_deploy
from qrnn_deploy.checkpoints.npz_file import read_npz
from qrnn_deploy.checkpoints.quasi_rnn import translate
from qrnn_deploy.nn import QRNNLanguageModel, from_config

CHUNK = 512


def load(path: Path) -> QRNNLanguageModel:
    """The model of a checkpoint in upstream's form, in eval mode."""
    config, weights, _, _ = translate(read_npz(path))
    model = from_config(config)
    assert isinstance(model, QRNNLanguageModel)
    model.load_state_dict(weights)
    return model.eval()


def mean_nats(step: Callable[[NDArray[np.int64]], Any], tokens: NDArray[np.int64]) -> float:
    """Mean -log p of every word but the first, the text read once from front to back.

    Args:
        step: words [1, T] -> logits [1, T, V]; it keeps the state.
        tokens: the text [T].
    """
    nats = 0.0
    for start in range(0, len(tokens) - 1, CHUNK):
        targets = tokens[start + 1 : start + 1 + CHUNK]
        logits = np.asarray(step(tokens[None, start : start + len(targets)]))[0].astype(np.float64)
        top = logits.max(-1)
        spread = np.log(np.exp(logits - top[:, None]).sum(-1)) + top
        nats += float((spread - logits[np.arange(len(targets)), targets]).sum())
    return nats / (len(tokens) - 1)


@torch.no_grad()
def perplexity(model: QRNNLanguageModel, tokens: Tensor) -> float:
    """Of a text [T], by PyTorch."""
    state: Any = None

    def step(x: NDArray[np.int64]) -> Any:
        nonlocal state
        logits, state = model(torch.from_numpy(x), state)
        return logits

    return math.exp(mean_nats(step, tokens.numpy()))


def compare(model: QRNNLanguageModel, tokens: NDArray[np.int64]) -> dict[str, float]:
    """The perplexity by PyTorch, and by ONNX Runtime with the kernel and with the function."""
    found = {"PyTorch": perplexity(model, torch.from_numpy(tokens))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wordlm.onnx"
        qrnn_deploy.export(model, path)
        for name, kernel in (("kernel", "require"), ("function", "off")):
            stream = qrnn_deploy.StreamingSession(path, kernel=kernel)
            found[f"ONNX Runtime, stream, {name}"] = math.exp(mean_nats(stream.step, tokens))
            logits = qrnn_deploy.Session(path, kernel=kernel).run(tokens[None, :-1])["logits"]
            parts = iter(np.split(logits, range(CHUNK, logits.shape[1], CHUNK), axis=1))
            whole = mean_nats(lambda _, parts=parts: next(parts), tokens)
            found[f"ONNX Runtime, whole, {name}"] = math.exp(whole)
    return found


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description="Score the word language model.")
    parser.add_argument("--checkpoint", type=Path, default=data.HERE / "model.npz")
    path = parser.parse_args().checkpoint
    words = data.saved_vocabulary(path.with_name("vocabulary.txt"))
    tokens = data.encode(data.parts()["heldout"], words)
    print(json.dumps(compare(load(path), tokens), indent=1))


if __name__ == "__main__":
    main()
