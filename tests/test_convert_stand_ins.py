"""Our stand-ins for upstream, and their conversions, against what upstream itself recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import upstream_stand_ins as up
from live_speechbrain import speechbrain_rnn
from torch import Tensor, nn

from qrnn_deploy import convert

FOLDER = Path(__file__).parent / "data" / "upstream"
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "sf_layer_w2_og1_zo3": up.torchqrnn.QRNNLayer,
    "sf_qrnn_0_L2_w1_og1": up.torchqrnn.QRNN,
    "sf_qrnn_prevx_chunks": up.torchqrnn.QRNN,
    "fa1_layer_1_w2_og1_bwd0_bf1": up.fastai.QRNNLayer,
    "fa1_qrnn_1": up.fastai.QRNN,
    "sb_quasirnn_0": up.speechbrain.QuasiRNN,
}


def load(name: str, build: Callable[..., nn.Module] | None = None) -> tuple[Any, dict[str, Tensor]]:
    """The stand-in with upstream's weights, and the recorded arrays."""
    facts = json.loads((FOLDER / f"{name}.json").read_text())
    model = (build or BUILDERS[name])(**facts["ctor"])
    model.load_state_dict(torch.load(FOLDER / f"{name}.pt", weights_only=True))
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return model.eval(), {key: torch.from_numpy(value) for key, value in arrays.items()}


def same(got: tuple[Tensor, Tensor], y: Tensor, c: Tensor) -> None:
    """An output and a state are the recorded ones, in float32."""
    for have, want in zip(got, (y, c), strict=True):
        assert have.shape == want.shape
        assert float(want.abs().max()) > 0.1
        torch.testing.assert_close(have, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("converted", [False, True], ids=["stand-in", "converted"])
@pytest.mark.parametrize("name", BUILDERS)
@torch.no_grad()
def test_recordings(name: str, converted: bool) -> None:
    model, recorded = load(name)
    if converted:
        model = convert(model)
    if name == "sb_quasirnn_0":
        y, state = model(recorded["x"])
        # Upstream's own state is the last batch item over time; its last step is one row of ours.
        wrong = recorded["h_returned"]
        same((y, state[:, -1]), recorded["y"], wrong[:, -1]) if converted else same(
            (y, state), recorded["y"], wrong
        )
    elif name == "sf_qrnn_prevx_chunks":
        same(model(recorded["xa"]), recorded["ya"], recorded["ha"])
        same(model(recorded["xb"], recorded["ha"]), recorded["yb"], recorded["hb"])
        model.reset()
        same(model(recorded["xa"]), recorded["ya"], recorded["ha"])
        model.reset()
        again = model(recorded["xb"], recorded["ha"])
        same(again, recorded["yb_reset"], recorded["hb_reset"])
        assert not torch.allclose(again[0], recorded["yb"], atol=1e-3)
    else:
        same(model(recorded["x"]), recorded["y_nohid"], recorded["c_nohid"])
        same(model(recorded["x"], recorded["h0"]), recorded["y"], recorded["c"])
        if "y_len1" in recorded:
            first = model(recorded["x"][:1], recorded["h0"])
            same(first, recorded["y_len1"], recorded["c_len1"])


@torch.no_grad()
def test_live_speechbrain_is_the_recorded_one() -> None:
    live = speechbrain_rnn().QuasiRNN
    model, recorded = load("sb_quasirnn_0", lambda **ctor: live(**ctor))
    same(model(recorded["x"]), recorded["y"], recorded["h_returned"])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("output_gate", [False, True])
@torch.no_grad()
def test_live_speechbrain_is_the_stand_in(bidirectional: bool, output_gate: bool) -> None:
    options = {"bidirectional": bidirectional, "output_gate": output_gate, "zoneout": 0.3}
    arguments = {"hidden_size": 4, "input_size": 6, "num_layers": 2, "dropout": 0.5, **options}
    live = speechbrain_rnn().QuasiRNN(**arguments).eval()
    model = up.speechbrain.QuasiRNN(**arguments).eval()
    model.load_state_dict(live.state_dict())
    x, hidden = torch.randn(3, 5, 2, 3), torch.randn(2, 6 if bidirectional else 3, 4)
    for given in (None, hidden):
        for have, want in zip(model(x, given), live(x, given), strict=True):
            torch.testing.assert_close(have, want, rtol=0, atol=1e-6)
