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

from qrnn_deploy.checkpoints import Given
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


def highway_networks() -> None:
    """A row for each recurrent highway network, whose recordings are of one kind each."""
    batch_axes = {"rhn_labml_d3_L2": 1, "rhn_vermajit_d2": 0}  # axis of the batch
    with tempfile.TemporaryDirectory() as folder:
        for name, batch_axis in batch_axes.items():
            path = Path(folder) / f"{name}.onnx"
            metadata = export_checkpoint(FOLDER / f"{name}.pt", path).metadata
            with np.load(FOLDER / f"{name}.npz") as arrays:
                recorded = dict(arrays)
            x, y = (np.moveaxis(recorded[key], batch_axis, 0) for key in ("x", "y"))
            start = recorded["s0"].reshape(len(metadata.states), *recorded["s0"].shape[-2:])
            feed = {entry.input: start[entry.layer] for entry in metadata.states}
            got = Session(path).run({metadata.inputs[0].name: np.ascontiguousarray(x)} | feed)
            worst = float(np.abs(got[metadata.outputs[0].name] - y).max())
            for entry in metadata.states if "s" in recorded else ():
                error = float(np.abs(got[entry.output] - recorded["s"][entry.layer]).max())
                worst = max(worst, error)
            source = metadata.source or {}
            relative = worst / float(np.abs(y).max())
            print(f"{source['format']:12} {name:28} {worst:.1e} {relative:.1e}")


def simple_recurrent_units() -> None:
    """A row for each SRU, from zeros, and for SRU++ without a mask, as upstream recorded them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("sru_v1", "sru_v2_basic", "sru_v2_bidir", "sru_v2_postln", "sru_v2_proj"):
            _sru(name, Path(folder), Given(bidirectional=name == "sru_v2_bidir"))
        _sru("srupp_basic", Path(folder), Given(bidirectional=False, causal=False))


def _sru(name: str, folder: Path, given: Given) -> None:
    path = folder / f"{name}.onnx"
    metadata = export_checkpoint(FOLDER / f"{name}.pt", path, given=given).metadata
    with np.load(FOLDER / f"{name}.npz") as arrays:
        recorded = dict(arrays)
    x = np.ascontiguousarray(recorded["x"].swapaxes(0, 1))
    zeros = {s.input: np.zeros((len(x), *s.shape), s.dtype) for s in metadata.states}
    worst = relative = 0.0
    for kernel in ("require", "off"):
        got = Session(path, kernel=kernel).run({"x": x} | zeros)  # type: ignore[arg-type]
        pairs = [(got["y"].swapaxes(0, 1), recorded["y_noc0"])]
        pairs += [(got[s.output], recorded["c_noc0"][s.layer]) for s in metadata.states]
        for value, answered in pairs:
            error = float(np.abs(value - answered).max())
            worst = max(worst, error)
            relative = max(relative, error / float(np.abs(answered).max()))
    source = metadata.source or {}
    print(f"{source['format']:12} {name:28} {worst:.1e} {relative:.1e}")


def delayed_networks() -> None:
    """A row for each delayed RNN: all outputs, the first ones too, and the final states."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("drnn_d2_wdrop", "drnn_d3", "drnn_d4_ckpt_tar"):
            path = Path(folder) / f"{name}.onnx"
            states = export_checkpoint(FOLDER / f"{name}.pt", path).metadata.states
            with np.load(FOLDER / f"{name}.npz") as arrays:
                recorded = dict(arrays)
            x = recorded["x_in"]
            zeros = {s.input: np.zeros((len(x), *s.shape), s.dtype) for s in states}
            got = Session(path).run({"x": x} | zeros)
            pairs = [(got["y"], recorded["y_full"])]
            pairs += [(got[s.output].swapaxes(0, 1), recorded[f"{s.kind}_n"]) for s in states]
            errors = [(float(np.abs(a - b).max()), float(np.abs(b).max())) for a, b in pairs]
            worst, relative = max(e for e, _ in errors), max(e / size for e, size in errors)
            print(f"{'drnn':12} {name:28} {worst:.1e} {relative:.1e}  TuKo/dRNN 150acff")


if __name__ == "__main__":
    main()
    quasi_rnn()
    highway_networks()
    simple_recurrent_units()
    delayed_networks()
