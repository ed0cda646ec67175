"""Checkpoints that upstream code wrote, and the answers it recorded, as one table.

The files lie in ``data/upstream``: NAME.pt as upstream saved it, NAME.json with versions and
constructor, NAME.npz with what upstream answered. Every run below is a list of chunks; states go
from one to the next unless a chunk brings its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qrnn_deploy.checkpoints import Given

Array = NDArray[Any]
FOLDER = Path(__file__).parent / "data" / "upstream"


@dataclass
class Chunk:
    """Inputs and recorded answers, batch first.

    Attributes:
        x: [B, T, ...].
        y: what the graph's output must be; None where it was not recorded.
        c_in: [layers, B, H] or one array per layer, in place of what the last chunk left; zeros
            for None in the first chunk.
        c_out: recorded states, in the order of the layers; empty where none were recorded.
        reset_window: forget the last inputs before this chunk, as upstream's ``reset()`` does.
    """

    x: Array
    y: Array | None
    c_in: list[Array] | None = None
    c_out: list[Array] = field(default_factory=list)
    reset_window: bool = False


@dataclass(frozen=True)
class Case:
    """One checkpoint.

    Attributes:
        name: of its files.
        format: that it must be recognised as.
        given: what the file does not say.
        runs: each a list of chunks, from the recordings.
        relative: allowed error of the outputs relative to their largest, for logits.
        bare: in place of ``given`` where only the tensors are left of a whole pickled module.
    """

    name: str
    format: str
    given: Given
    runs: Callable[[Any], dict[str, list[Chunk]]]
    relative: float = 0.0
    bare: Given | None = None

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return FOLDER / f"{self.name}.pt"

    def recorded(self) -> dict[str, list[Chunk]]:
        """The runs with their arrays."""
        with np.load(FOLDER / f"{self.name}.npz") as arrays:
            return self.runs(dict(arrays))

    def facts(self) -> dict[str, Any]:
        """Versions, constructor, notes."""
        result: dict[str, Any] = json.loads((FOLDER / f"{self.name}.json").read_text())
        return result


def first(x: Array) -> Array:
    """Time-major to batch first, or back."""
    return np.ascontiguousarray(np.swapaxes(x, 0, 1))


def _time_major(a: dict[str, Array]) -> dict[str, list[Chunk]]:
    """torchqrnn's layer and stack: states [L, B, H], or [B, H] given to a single layer."""
    h0 = a["h0"].reshape(-1, *a["h0"].shape[-2:])
    runs = {
        "zero state": [Chunk(first(a["x"]), first(a["y_nohid"]), None, [*a["c_nohid"]])],
        "given state": [Chunk(first(a["x"]), first(a["y"]), [*h0], [*a["c"]])],
    }
    if "y_len1" in a:
        runs["one step"] = [Chunk(first(a["x"][:1]), first(a["y_len1"]), [*h0], [*a["c_len1"]])]
    return runs


def _prev_x(a: dict[str, Array]) -> dict[str, list[Chunk]]:
    begin = Chunk(first(a["xa"]), first(a["ya"]), None, [*a["ha"]])
    return {
        "window kept": [begin, Chunk(first(a["xb"]), first(a["yb"]), None, [*a["hb"]])],
        "window reset": [
            begin,
            Chunk(first(a["xb"]), first(a["yb_reset"]), None, [*a["hb_reset"]], reset_window=True),
        ],
    }


def _batch_first(a: dict[str, Array]) -> dict[str, list[Chunk]]:
    shape = (-1, *a["h0"].shape[-2:])
    given = [Chunk(a["x"], a["y"], [*a["h0"].reshape(shape)], [*a["c"].reshape(shape)])]
    if "xb" in a:
        given.append(Chunk(a["xb"], a["yb"], None, [*a["cb"]]))
    return {
        "zero state": [Chunk(a["x"], a["y_nohid"], None, [*a["c_nohid"].reshape(shape)])],
        "given state": given,
    }


def _speechbrain(a: dict[str, Array]) -> dict[str, list[Chunk]]:
    return {"zero state": [Chunk(a["x"], a["y"])]}


def _fastai_chunk(a: dict[str, Array], name: str) -> Chunk:
    """Logits of a language model, or features of an encoder; states of both directions."""
    tokens = a[f"tokens_{name[0]}"]
    y = a.get(f"logits_{name}", a.get(f"raw_{name}"))
    return Chunk(tokens, y, None, [c for n in range(4) for c in a.get(f"hid_{name}{n}", ())])


def _fastai_lm(a: dict[str, Array]) -> dict[str, list[Chunk]]:
    return {"two chunks": [_fastai_chunk(a, "a"), _fastai_chunk(a, "b")]}


def _fastai_bidirectional(a: dict[str, Array]) -> dict[str, list[Chunk]]:
    return {"text": [_fastai_chunk(a, "a")], "another": [_fastai_chunk(a, "b_reset")]}


def _awd_lm(a: dict[str, Array]) -> dict[str, list[Chunk]]:
    def chunk(name: str) -> Chunk:
        tokens = a[f"tokens_{name}"]
        logits = a[f"logits_{name}"].reshape(*tokens.shape, -1)
        states = [a[f"h_{name}{n}"][0] for n in range(3)]
        return Chunk(first(tokens), first(logits), None, states)

    return {"two chunks": [chunk("a"), chunk("b")]}


def _classifier(a: dict[str, Array]) -> dict[str, list[Chunk]]:
    """Texts without padding and with it, and longer than ``max_len``: a run for each batch."""
    return {
        name: [Chunk(a[name], a[name.replace("tokens", "out")])]
        for name in a
        if name.startswith("tokens")
    }


def _pase(a: dict[str, Array]) -> dict[str, list[Chunk]]:
    # The projection was not recorded alone: tests compute it from W.
    return {"zero state": [Chunk(first(a["rnn_in"]), None, None, [*a["rnn_h"]])]}


def answer(case: Case, chunk: Chunk) -> Array | None:
    """The recorded output, or what follows from the recordings by plain arithmetic."""
    if case.name != "pase_wavefe_small":
        return chunk.y
    state = torch.load(case.path, weights_only=True)
    with np.load(FOLDER / f"{case.name}.npz") as arrays:
        hidden = np.swapaxes(arrays["rnn_out"], 0, 1).astype(np.float64)
    weight = state["W.weight"].double().numpy()[:, :, 0]
    return hidden @ weight.T + state["W.bias"].double().numpy()


CASES = {
    case.name: case
    for case in (
        Case(
            "sf_layer_w2_og1_zo3",
            "torchqrnn",
            Given(window=2, output_gate=True, zoneout=0.3),
            _time_major,
        ),
        Case("sf_qrnn_0_L2_w1_og1", "torchqrnn", Given(input_size=12), _time_major),
        Case("sf_qrnn_prevx_chunks", "torchqrnn", Given(), _prev_x),
        Case(
            "sf_qrnn_w2_og0_zo4",
            "torchqrnn",
            Given(window=2, output_gate=False, zoneout=0.4),
            _time_major,
        ),
        Case(
            "sf_qrnn_whole_zip",
            "torchqrnn",
            Given(),
            _time_major,
            bare=Given(window=2, zoneout=0.25),
        ),
        Case(
            "sf_qrnn_whole_legacy",
            "torchqrnn",
            Given(),
            _time_major,
            bare=Given(window=1, output_gate=False, zoneout=0.0),
        ),
        Case("awd_qrnn_tied_wd5_sd", "awd-lstm-lm", Given(), _awd_lm, relative=5e-6),
        Case("awd_qrnn_untied_wd0", "awd-lstm-lm", Given(), _awd_lm, relative=5e-6),
        Case("awd_qrnn_bare_legacy", "awd-lstm-lm", Given(), _awd_lm, relative=5e-6),
        Case(
            "fa1_layer_1_w2_og1_bwd0_bf1",
            "fastai-qrnn",
            Given(format="fastai-qrnn", input_size=12, output_gate=True),
            _batch_first,
        ),
        Case(
            "fa1_layer_w2_og1_bwd1_bf1",
            "fastai-qrnn",
            Given(format="fastai-qrnn", input_size=12, output_gate=True, direction="reverse"),
            _batch_first,
        ),
        Case(
            "fa1_layer_w2_og1_bwd1_bf0",
            "fastai-qrnn",
            Given(
                format="fastai-qrnn",
                window=2,
                output_gate=True,
                direction="reverse",
                batch_first=False,
            ),
            _time_major,
        ),
        Case(
            "fa1_layer_w2_og0_bwd0_bf1",
            "fastai-qrnn",
            Given(format="fastai-qrnn", input_size=12, output_gate=False, direction="forward"),
            _batch_first,
        ),
        Case("fa1_qrnn_1", "fastai-qrnn", Given(input_size=12), _batch_first),
        Case(
            "fa1_qrnn_L3",
            "fastai-qrnn",
            Given(format="fastai-qrnn", input_size=12),
            _batch_first,
        ),
        Case("fa1_lm_dirty_sd", "fastai1", Given(), _fastai_lm, relative=5e-6),
        Case("fa1_lm_model_opt", "fastai1", Given(), _fastai_lm, relative=5e-6),
        Case("fa1_classifier", "fastai1", Given(bptt=6, max_len=120), _classifier, relative=5e-6),
        Case(
            "fa1_classifier_head2", "fastai1", Given(bptt=4, max_len=10), _classifier, relative=5e-6
        ),
        Case("fa1047_lm", "multifit", Given(), _fastai_lm, relative=5e-6),
        Case("fa1047_encoder", "multifit", Given(), _fastai_lm),
        Case(
            "fa1047_classifier", "multifit", Given(bptt=4, max_len=11), _classifier, relative=5e-6
        ),
        Case("fa2_lm", "fastai2", Given(), _fastai_lm, relative=5e-6),
        Case("fa2_lm_untied", "fastai2", Given(), _fastai_lm, relative=5e-6),
        Case("fa2_lm_bidir", "fastai2", Given(), _fastai_bidirectional, relative=5e-6),
        Case("fa2_classifier", "fastai2", Given(bptt=5, max_len=13), _classifier, relative=5e-6),
        Case("fa2_classifier_sd", "fastai2", Given(bptt=4, max_len=9), _classifier, relative=5e-6),
        Case(
            "fa2_classifier_bidir", "fastai2", Given(bptt=8, max_len=8), _classifier, relative=5e-6
        ),
        Case("pase_wavefe_small", "pase", Given(), _pase),
        Case("sb_quasirnn_0", "speechbrain", Given(), _speechbrain),
        Case(
            "sb_quasirnn_bidir",
            "speechbrain",
            Given(bidirectional=True, output_gate=False, zoneout=0.2),
            _speechbrain,
        ),
    )
}
"""By the name of the files."""
