"""The perplexities of the word language models, by PyTorch and by ONNX Runtime.

    python examples/wordlm/score.py            # all: every figure of the README but the speeds
    python examples/wordlm/score.py qrnn lstm  # some

``recipe`` is ``model.npz`` beside this script, a checkpoint in the form of santi-pdp/quasi-rnn; the
others are those of ``compared/``. Each is exported, and read once from front to back on each way.
The exit status is 1 where ONNX Runtime's perplexity is not PyTorch's.
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
import models
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy.checkpoints.npz_file import read_npz
from qrnn_deploy.checkpoints.quasi_rnn import translate
from qrnn_deploy.nn import QRNNLanguageModel, from_config

CHUNK = 512
TOLERANCE = 1e-4
"""How far ONNX Runtime's perplexity may be from PyTorch's, relative to it."""


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


def exponential(nats: float) -> float:
    """The perplexity of a mean of -log p; infinite where a training fell apart."""
    return math.exp(nats) if nats < 700 else math.inf  # NaN is not below


@torch.no_grad()
def perplexity(model: nn.Module, tokens: Tensor) -> float:
    """Of a text [T], by PyTorch; the model must be in eval mode."""
    state: Any = None

    def step(x: NDArray[np.int64]) -> Any:
        nonlocal state
        logits, state = model(torch.from_numpy(x), state)
        return logits

    return exponential(mean_nats(step, tokens.numpy()))


def ways(model: nn.Module, tokens: NDArray[np.int64]) -> dict[str, float]:
    """The perplexity by PyTorch, and by ONNX Runtime with the kernel and with the function."""
    found = {"PyTorch": perplexity(model, torch.from_numpy(tokens))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wordlm.onnx"
        models.export(model, path)
        for name, kernel in (("kernel", "require"), ("function", "off")):
            session = qrnn_deploy.Session(path, kernel=kernel)
            stream = qrnn_deploy.StreamingSession(session)
            found[f"ONNX Runtime, chunks, {name}"] = math.exp(mean_nats(stream.step, tokens))
            logits = session.run(tokens[None, :-1])["logits"]
            parts = iter(np.split(logits, range(CHUNK, logits.shape[1], CHUNK), axis=1))
            whole = mean_nats(lambda _, parts=parts: next(parts), tokens)
            found[f"ONNX Runtime, whole, {name}"] = math.exp(whole)
    return found


def main() -> int:
    """Score and print."""
    parser = argparse.ArgumentParser(description="Score the word language models.")
    names = ("recipe", *models.SETTINGS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(names)}")
    parser.add_argument("--folder", type=Path, default=data.HERE, help="default: beside this")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"no model {' '.join(unknown)}, expected some of {' '.join(names)}")
    torch.set_num_threads(1)  # small matrices
    words = data.saved_vocabulary(arguments.folder / "vocabulary.txt")
    texts = {part: data.encode(text, words) for part, text in data.parts().items()}
    passed, shown = True, {}
    for name in arguments.names or names:
        if name == "recipe":
            model: nn.Module = load(arguments.folder / "model.npz")
        else:
            path = arguments.folder / "compared" / f"{name}.safetensors"
            model = models.load(name, path, words)
        validation = perplexity(model, torch.from_numpy(texts["validation"]))
        heldout = ways(model, texts["heldout"])
        apart = max(abs(value / heldout["PyTorch"] - 1) for value in heldout.values())
        passed = passed and apart <= TOLERANCE
        shown[name] = {
            "parameters": models.parameters(model),
            "validation, PyTorch": validation,
            "heldout": heldout,
            "largest relative difference": apart,
        }
    print(json.dumps(shown, indent=1))
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
