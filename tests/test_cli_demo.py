"""The trained character model through the command line, as `make demo` runs it."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qrnn_deploy import load_checkpoint
from qrnn_deploy.cli import main
from qrnn_deploy.text import Vocabulary

EXAMPLE = Path(__file__).parent.parent / "examples" / "charlm"
CHECKPOINT = EXAMPLE / "model.safetensors"
LOG = json.loads((EXAMPLE / "training-log.json").read_text())


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert stop.value.code == 0, err
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, EXAMPLE / "data.py", "--heldout", folder / "heldout.txt"]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(CHECKPOINT), "-o", str(folder / "charlm.onnx"), "--no-golden"])
    assert stop.value.code == 0
    return folder


@pytest.fixture(scope="module")
def torch_bits(folder) -> float:
    """Bits per character of the held-out text by PyTorch alone."""
    model = load_checkpoint(CHECKPOINT).module.eval()
    text = (folder / "heldout.txt").read_text()
    tokens = torch.from_numpy(Vocabulary(model.config()["vocabulary"]).encode(text))
    with torch.no_grad():
        logits, _ = model(tokens[None])
    nats = torch.nn.functional.cross_entropy(logits[0, :-1].double(), tokens[1:])
    return nats.item() / math.log(2)


def test_pytorch_still_scores_what_the_log_says(folder, torch_bits):
    text = (folder / "heldout.txt").read_bytes()
    if hashlib.sha256(text).hexdigest() != LOG["text"]["heldout"]["sha256"]:
        pytest.skip("this Python's pydoc_data.topics is not the one of the training log")
    assert torch_bits == pytest.approx(
        LOG["models"]["qrnn"]["bits_per_character"]["heldout"], abs=1e-4
    )


@pytest.mark.parametrize(("kernel", "ran"), [("require", "kernel"), ("off", "function")])
def test_onnx_runtime_scores_what_pytorch_scores(folder, torch_bits, capsys, kernel, ran):
    model, text = folder / "charlm.onnx", folder / "heldout.txt"
    out = output_of(capsys, "run", model, "--score", text, "--json", "--kernel", kernel)
    result = json.loads(out)
    assert result["bits_per_character"] == pytest.approx(torch_bits, abs=1e-5)
    assert set(result["implementation"].values()) == {ran}


def test_kernel_and_function_write_the_same_text(folder, capfdbinary):
    texts = set()
    for kernel in ("require", "off"):
        command = ["run", folder / "charlm.onnx", "--kernel", kernel, "--generate", "200"]
        with pytest.raises(SystemExit) as stop:
            main([*map(str, command), "--seed", "1", "--temperature", "0.7"])
        assert stop.value.code == 0
        texts.add(capfdbinary.readouterr().out)
    (text,) = texts
    assert len(text.decode()) == 201


def test_inspect_counts_the_weights_that_were_trained(folder, capsys):
    shown = json.loads(output_of(capsys, "inspect", folder / "charlm.onnx", "--json"))
    assert shown["parameters"] == LOG["models"]["qrnn"]["parameters"]
