"""What is advised where a pickle is refused: another way to save, or to leave the file alone."""

from __future__ import annotations

import functools
import os
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qrnn_deploy.checkpoints import Given, recognise_checkpoint
from qrnn_deploy.checkpoints.pickle_advice import advice
from qrnn_deploy.errors import CheckpointError

STATE_DICT = "torch.save(model.state_dict(), FILE)"
LEAVE_IT = "do not load the file by other means either"


class Tagger(nn.Module):
    """A network of somebody's own."""


class Asking:
    """Its pickle asks for ``function``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __reduce__(self) -> Any:
        return self.function, ("x",)


def refusal(path: Path, content: Any, **options: Any) -> str:
    torch.save(content, path, **options)
    with pytest.raises(CheckpointError) as caught:
        recognise_checkpoint(path)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [Tagger(), {"p": pathlib.Path("x")}, {"a": np.zeros(2)}])
def test_a_model_saved_whole_is_told_how_to_save_it(
    content: Any, zipped: bool, tmp_path: Path
) -> None:
    message = refusal(tmp_path / "m.pt", content, _use_new_zipfile_serialization=zipped)
    assert "which could run code: refused; if you trust its maker" in message
    assert STATE_DICT in message and "qrnn_deploy.convert(model)" in message
    assert LEAVE_IT not in message


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    "function", [os.system, eval, subprocess.Popen, functools.partial, __import__, subprocess.run]
)
def test_what_is_no_model_gets_no_such_advice(
    function: Callable[..., Any], protocol: int, tmp_path: Path
) -> None:
    """Also under Python 2's names, which protocol 2 has: commands.Popen for subprocess.Popen."""
    message = refusal(tmp_path / "m.pt", Asking(function), pickle_protocol=protocol)
    assert "which could run code: refused" in message and LEAVE_IT in message
    assert "state_dict" not in message and "convert" not in message and "load it" not in message


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("models.tagger.Tagger", True),
        ("torchqrnn.qrnn.Other", True),
        ("torch.uint16", True),
        ("torch._utils._rebuild_sparse_tensor", True),
        ("torch.hub.load", False),
        ("torch.load", False),
        ("pip.main", False),
        ("mypackage.helpers.build", False),
        ("opcode EXT1", False),
        ("os.path.X", False),
        ("a b.C", False),
        ("models.Ünïcode", False),
    ],
)
def test_names(name: str, theirs: bool) -> None:
    assert (STATE_DICT in advice(name, "ours()")) == theirs
    assert "ours()" in advice("qrnn_deploy.nn.stack.QRNN", "ours()")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_told_how_to_get_at_its_weights(tmp_path: Path) -> None:
    """What the message says works, and what comes out is read."""
    path = tmp_path / "scripted.pt"

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(10, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x)  # type: ignore[no-any-return]

    torch.jit.trace(Layer(), torch.zeros(1, 10)).save(path)  # type: ignore[no-untyped-call]
    with pytest.raises(CheckpointError, match="is a TorchScript archive") as caught:
        recognise_checkpoint(path)
    assert "torch.save(torch.jit.load(FILE).state_dict(), WEIGHTS)" in str(caught.value)
    torch.save(torch.jit.load(path).state_dict(), tmp_path / "weights.pt")  # type: ignore[no-untyped-call]
    given = Given(format="torchqrnn", window=2, output_gate=True)
    assert recognise_checkpoint(tmp_path / "weights.pt", given).reading.config["hidden_size"] == 4


def test_a_copy_of_torchqrnn_in_one_file(tmp_path: Path) -> None:
    """Its classes are torchqrnn.QRNN and torchqrnn.QRNNLayer; their attributes count."""
    (tmp_path / "torchqrnn.py").write_text(
        "from torch import nn\n"
        "class QRNNLayer(nn.Module):\n"
        "    def __init__(self, inputs):\n"
        "        super().__init__()\n"
        "        self.window, self.zoneout, self.output_gate = 2, 0.25, True\n"
        "        self.input_size, self.hidden_size = inputs, 4\n"
        "        self.linear = nn.Linear(2 * inputs, 12)\n"
        "class QRNN(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layers = nn.ModuleList([QRNNLayer(6), QRNNLayer(4)])\n"
    )
    program = "import torch, torchqrnn; torch.save(torchqrnn.QRNN(), 'whole.pt')"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    found = recognise_checkpoint(tmp_path / "whole.pt").reading
    assert (found.format, found.config["window"], found.config["zoneout"]) == (
        "torchqrnn",
        [2, 2],
        0.25,
    )
    assert found.assumed == () and "zoneout 0.25, as the file records" in found.inferred
    given = recognise_checkpoint(tmp_path / "whole.pt", Given(zoneout=0.25)).reading
    assert not any("zoneout" in text for text in given.inferred)


def test_a_bare_pickle_is_not_called_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="looks like a Python pickle, which could run code"):
        recognise_checkpoint(tmp_path / "m.pkl")
