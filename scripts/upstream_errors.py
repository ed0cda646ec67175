"""Print how far exported upstream checkpoints are from what upstream recorded: the README's table.

    python scripts/upstream_errors.py

Each recorded checkpoint is exported and run in ONNX Runtime, with the kernel and with the
function; the largest error of any output and final state is printed, absolute, and for logits also
relative to the largest one.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from upstream_cases import CASES, FOLDER, Case, answer

from qrnn_deploy.exporter import export_checkpoint
from qrnn_deploy.runtime import Session


def errors(
    case: Case, path: Path, kernel: Literal["require", "off"]
) -> Iterator[tuple[float, float]]:
    """(absolute, relative to the largest) error of each recorded output and state."""
    session = Session(path, kernel=kernel)
    meta = session.metadata
    for chunks in case.recorded().values():
        states: dict[str, Any] = {}
        for chunk in chunks:
            if meta.state_mode == "none" and chunk.c_in is not None:
                continue
            feed = {}
            for entry in meta.states:
                zeros = np.zeros((len(chunk.x), *entry.shape), entry.dtype)
                fresh = chunk.c_in is not None or (chunk.reset_window and entry.kind == "x")
                feed[entry.input] = zeros if fresh else states.get(entry.input, zeros)
                if entry.kind == "c" and chunk.c_in is not None:
                    feed[entry.input] = chunk.c_in[entry.layer]
            got = session.run({meta.inputs[0].name: chunk.x} | feed)
            states = {entry.input: got[entry.output] for entry in meta.states}
            pooled = [entry for entry in meta.states if entry.kind == "c"]
            pairs = [(got[meta.outputs[0].name], answer(case, chunk))]
            pairs += [
                (states[entry.input], c) for entry, c in zip(pooled, chunk.c_out, strict=False)
            ]
            for value, recorded in pairs:
                if recorded is not None:
                    error = float(np.abs(value - recorded).max())
                    yield error, error / float(np.abs(recorded).max())


def main() -> None:
    """Print a row for each recorded checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES.values():
            path = Path(folder) / f"{case.name}.onnx"
            export_checkpoint(case.path, path, given=case.given)
            found = [pair for how in ("require", "off") for pair in errors(case, path, how)]
            facts = case.facts()
            version = facts.get("version") or facts.get("commit", "")[:10]
            print(
                f"{case.format:12} {case.name:28} {max(e for e, _ in found):.1e} "
                f"{max(r for _, r in found):.1e}  {facts['upstream']} {version}"
            )


def quasi_rnn() -> None:
    """A row for each model that TensorFlow answered."""
    with tempfile.TemporaryDirectory() as folder:
        for pooling in ("f", "fo", "ifo"):
            path = Path(folder) / f"{pooling}.onnx"
            export_checkpoint(FOLDER.parent / "quasi_rnn" / f"{pooling}.npz", path)
            answers = np.load(FOLDER.parent / "quasi_rnn" / f"{pooling}_answers.npz")
            tokens, logits = answers["tokens"], answers["logits"]
            worst = 0.0
            for kernel in ("require", "off"):
                session = Session(path, kernel=kernel)  # type: ignore[arg-type]
                states = session.metadata.states
                zeros = {s.input: np.zeros((len(tokens), *s.shape), s.dtype) for s in states}
                got = session.run({"tokens": tokens} | zeros)["logits"]
                worst = max(worst, float(np.abs(got - logits).max()))
            largest = float(np.abs(logits).max())
            name = f"{'quasi-rnn':12} {pooling:28}"
            print(f"{name} {worst:.1e} {worst / largest:.1e}  equations in TensorFlow 2.21")


if __name__ == "__main__":
    main()
    quasi_rnn()
