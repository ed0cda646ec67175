"""A large model is exported in little more memory than its checkpoint takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from qrnn_deploy import weights
from qrnn_deploy.errors import ModelError
from qrnn_deploy.exporter.blocks import BLOCK, all_finite, blocks
from qrnn_deploy.exporter.memory import Meter, give_back
from qrnn_deploy.weights import file_digest

BENCH = Path(__file__).parent.parent / "bench" / "large_export.py"
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux alone")


@linux
@pytest.mark.slow
def test_export_of_a_large_model_takes_less_than_1_8_times_its_checkpoint():
    """60,000 words, 176 MB; `make test-large` has the others."""
    done = subprocess.run(
        [sys.executable, str(BENCH), "--words", "60000", "--check", "1.8", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert 1 < result["ratio"] <= 1.8


# Memory


def resident(kind):
    """Bytes of RssFile or RssAnon."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(kind)


ELEMENTS = 2**22


@pytest.fixture
def mapped(tmp_path):
    """A module whose weight lies in a private mapping of a file, read once."""
    values = torch.arange(ELEMENTS, dtype=torch.float32)
    file = tmp_path / "weights"
    file.write_bytes(values.numpy().tobytes())
    storage = torch.UntypedStorage.from_file(str(file), shared=False, nbytes=4 * ELEMENTS)
    module = nn.Module()
    module.weight = nn.Parameter(torch.empty(0).set_(storage, 0, (2**11, 2**11)))
    assert torch.equal(module.weight.detach().reshape(-1), values)
    return module


@linux
def test_mapped_weights_are_let_go(mapped):
    before = resident("RssFile")
    give_back(mapped)
    assert resident("RssFile") < before - 3 * ELEMENTS
    assert mapped.weight[5, 3].item() == 5 * 2**11 + 3


@linux
def test_changed_weights_stay(mapped):
    """Page by page: two rows are one."""
    with torch.no_grad():
        mapped.weight[1000] = -1
    give_back(mapped)
    expected = torch.arange(ELEMENTS, dtype=torch.float32).reshape(2**11, 2**11)
    expected[1000] = -1
    assert torch.equal(mapped.weight, expected)


@linux
def test_weights_in_memory_stay():
    """Also where they are no plain tensors, or nowhere."""
    module = nn.Linear(300, 300)
    module.turned = nn.Parameter(torch.randn(200, 300).T)
    module.nothing = nn.Parameter(torch.empty(0, 3))
    module.nowhere = nn.Parameter(torch.empty(30, 3, device="meta"))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    give_back(module)
    del before["nowhere"]
    for name, value in before.items():
        assert torch.equal(module.get_parameter(name), value)


@linux
def test_meter_gives_back_now_and_then(mapped):
    before = resident("RssFile")
    meter = Meter(mapped)
    meter.use(2**20)
    assert resident("RssFile") > before - ELEMENTS
    meter.use(2**24)
    assert resident("RssFile") < before - 3 * ELEMENTS


# Blocks


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, BLOCK), (2, 3, 2**19 + 1)])
def test_blocks_make_up_the_whole(shape):
    x = torch.ones(shape)
    found = list(blocks(x))
    assert all(block.numel() <= BLOCK for block in found)
    assert sum(block.sum().item() for block in found) == x.numel()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_non_finite_is_found_anywhere(dtype):
    x = torch.randn(30, 40, dtype=torch.float64).to(dtype)
    assert all_finite(x) and all_finite(x.T) and all_finite(x[:0]) and all_finite(x[3, 3])
    for value in (float("nan"), float("inf"), float("-inf")):
        spoiled = x.clone()
        spoiled[17, 23] = value
        assert not all_finite(spoiled) and not all_finite(spoiled.T)
        spoiled[3, 4] = float("nan")
        assert not all_finite(spoiled)


# Digests of weights


def digest_of_whole_arrays(path):
    """As the digest is defined: everything in memory at once."""
    import hashlib

    digest = hashlib.sha256()
    for tensor in sorted(onnx.load(path).graph.initializer, key=lambda item: item.name):
        array = numpy_helper.to_array(tensor)
        digest.update(f"{tensor.name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A model with weights of many types in a file of their own."""
    monkeypatch.setattr(weights, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(rng.standard_normal((5, 3)).astype(kind), f"{kind}")
        for kind in ("float32", "float16", "float64", "int64", "int8", "bool")
    ]
    tensors += [
        helper.make_tensor(name, kind, (5, 3), rng.bytes(size), raw=True)
        for name, kind, size in (("bf", TensorProto.BFLOAT16, 30), ("four", TensorProto.INT4, 8))
    ]
    tensors.append(numpy_helper.from_array(np.float32(2.5), "one"))
    tensors.append(numpy_helper.from_array(np.zeros((0, 3), np.float32), "none"))
    graph = helper.make_graph([], "g", [], [], tensors)
    path = tmp_path / "m.onnx"
    onnx.save(
        helper.make_model(graph), path, save_as_external_data=True, location="m.data",
        size_threshold=0, convert_attribute=False,
    )  # fmt: skip
    return path


def test_digest_is_that_of_whole_arrays(file):
    assert file_digest(file) == digest_of_whole_arrays(file)
    data = file.with_name("m.data")
    spoiled = bytearray(data.read_bytes())
    spoiled[-1] ^= 1
    data.write_bytes(spoiled)
    assert file_digest(file) == digest_of_whole_arrays(file)


@pytest.mark.parametrize("damage", ["missing", "short", "elsewhere"])
def test_weights_that_cannot_be_read_are_named(damage, file):
    data = file.with_name("m.data")
    if damage == "missing":
        data.unlink()
    elif damage == "short":
        data.write_bytes(data.read_bytes()[:-100])
    else:
        model = onnx.load(file, load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = "../m.data"
        onnx.save(model, file)
    with pytest.raises(ModelError, match=r"weight '\w+' cannot be read .*export the model again"):
        file_digest(file)
