"""Files that upstream code wrote: imported, exported, and compared with what upstream answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from upstream_cases import CASES, FOLDER, Array, Chunk, answer

from qrnn_deploy.checkpoints import (
    Given,
    load_checkpoint,
    recognise_checkpoint,
    save_checkpoint,
)
from qrnn_deploy.errors import CheckpointError
from qrnn_deploy.exporter import ExportOptions, export_checkpoint
from qrnn_deploy.nn import LayerState, QRNNClassifier, QRNNLayer
from qrnn_deploy.runtime import Session

ABSOLUTE = 1e-5
"""Allowed error of outputs (or 5e-6 of the largest, for logits) and of final states."""


def check(got: Array, recorded: Array, relative: float) -> None:
    """Equal within the tolerance, and the tolerance says something."""
    assert got.shape == recorded.shape
    allowed = max(ABSOLUTE, relative * float(np.abs(recorded).max()))
    assert np.abs(recorded).max() > 100 * allowed
    np.testing.assert_allclose(got, recorded, rtol=0, atol=allowed)


@pytest.mark.parametrize("name", CASES)
def test_pytorch_gives_what_upstream_gave(name: str) -> None:
    case = CASES[name]
    loaded = load_checkpoint(case.path, given=case.given)
    assert loaded.format == case.format
    module: Any = loaded.module
    for chunks in case.recorded().values():
        state: Any = None
        for chunk in chunks:
            x = torch.from_numpy(chunk.x)
            state = _next_state(module, state, chunk)
            with torch.no_grad():
                if isinstance(module, QRNNClassifier):
                    y = module(x)
                else:
                    turned = x if module.batch_first else x.transpose(0, 1)
                    single = isinstance(module, QRNNLayer)
                    y, after = module(turned, state[0] if single and state else state)
                    state = [after] if single else after
                    y = y if module.batch_first else y.transpose(0, 1)
            recorded = answer(case, chunk)
            assert recorded is not None
            check(y.numpy(), recorded, case.relative)
            for layer, c in enumerate(chunk.c_out):
                check(state[layer].c.numpy(), c, 0)


def _next_state(module: Any, state: Any, chunk: Chunk) -> Any:
    """States before a chunk: the recorded ones, those of the last chunk, or none."""
    if chunk.c_in is None and not chunk.reset_window:
        return state
    fresh = module.initial_state(len(chunk.x))
    fresh = [fresh] if isinstance(fresh, LayerState) else fresh
    given = chunk.c_in or [entry.c.numpy() for entry in state]
    return [LayerState(torch.from_numpy(c), f.x) for c, f in zip(given, fresh, strict=True)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Export a checkpoint as an ONNX file, once."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def export(name: str) -> Path:
        path = folder / f"{name}.onnx"
        report = export_checkpoint(CASES[name].path, path, given=CASES[name].given)
        assert report.metadata.source is not None
        assert report.metadata.source["format"] == CASES[name].format
        return path

    return export


@pytest.mark.parametrize("kernel", ["require", "off"])
@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_gives_what_upstream_gave(
    name: str, kernel: Any, exported: Callable[[str], Path]
) -> None:
    case = CASES[name]
    session = Session(exported(name), kernel=kernel)
    how = "kernel" if kernel == "require" else "function"
    assert set(session.implementation.values()) == {how}
    meta = session.metadata
    compared = 0
    for chunks in case.recorded().values():
        states: dict[str, Array] = {}
        for number, chunk in enumerate(chunks):
            if meta.state_mode == "none" and chunk.c_in is not None:
                continue  # such a file starts at zero by its contract
            before = _state_inputs(session, states, chunk)
            got = session.run({meta.inputs[0].name: chunk.x} | before)
            recorded = answer(case, chunk)
            assert recorded is not None
            check(got[meta.outputs[0].name], recorded, case.relative)
            states = {s.input: got[s.output] for s in meta.states}
            pooled = [s for s in meta.states if s.kind == "c"]
            if meta.state_mode == "separate" and chunk.c_out:
                for entry, c in zip(pooled, chunk.c_out, strict=True):
                    check(states[entry.input], c, 0)
            compared += 1
            assert number == 0 or meta.state_mode == "separate"
    assert compared >= 1


def _state_inputs(session: Session, states: dict[str, Array], chunk: Chunk) -> dict[str, Array]:
    meta = session.metadata
    result = {}
    for entry in meta.states:
        zeros = np.zeros((len(chunk.x), *entry.shape), entry.dtype)
        value = states.get(entry.input, zeros)
        if entry.kind == "c" and chunk.c_in is not None:
            value = chunk.c_in[entry.layer]
        if entry.kind == "x" and (chunk.reset_window or chunk.c_in is not None):
            value = zeros
        result[entry.input] = value
    return result


def test_speechbrain_state_is_that_of_the_last_step() -> None:
    """Upstream returns c of the last batch item over time; its last step is one row of ours."""
    case = CASES["sb_quasirnn_0"]
    module: Any = load_checkpoint(case.path, given=case.given).module
    with np.load(FOLDER / f"{case.name}.npz") as arrays:
        _, state = module(torch.from_numpy(arrays["x"]))
        for layer, entry in enumerate(state):
            check(entry.c[-1].detach().numpy(), arrays["h_returned"][layer, -1], 0)


def test_a_stale_copy_is_not_used_and_is_told() -> None:
    """fastai 1 reloads the copy with dropout applied; the trained weight is weight_raw."""
    case = CASES["fa1_lm_dirty_sd"]
    loaded = load_checkpoint(case.path)
    assert len(loaded.notes) == 1
    assert "linear.module.weight differs from" in loaded.notes[0]
    assert "(and 3 more)" in loaded.notes[0] and "not used" in loaded.notes[0]
    with np.load(FOLDER / f"{case.name}.npz") as arrays:
        stale, right = arrays["reload_logits_a"], arrays["logits_a"]
    assert np.abs(stale - right).max() > 1e-3  # the two answers can be told apart
    assert load_checkpoint(CASES["fa1_lm_model_opt"].path).notes == ()


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_that_directions_share_are_saved(suffix: str, tmp_path: Path) -> None:
    """SpeechBrain's two directions have one weight, and safetensors takes no shared memory."""
    case = CASES["sb_quasirnn_bidir"]
    module = load_checkpoint(case.path, given=case.given).module
    save_checkpoint(module, tmp_path / f"again.{suffix}")
    again = load_checkpoint(tmp_path / f"again.{suffix}").module.state_dict()
    for key, value in module.state_dict().items():
        assert torch.equal(value, again[key])


@pytest.mark.parametrize("container", ["safetensors", "legacy", "zip", "nested", "parallel"])
@pytest.mark.parametrize("name", CASES)
def test_every_container_reads_alike(name: str, container: str, tmp_path: Path) -> None:
    """The same tensors as safetensors, in both PyTorch containers, and further inside."""
    case = CASES[name]
    expected = load_checkpoint(case.path, given=case.given)
    found = recognise_checkpoint(case.path, case.given)
    assert found.table is not None
    tensors = {key: value.load() for key, value in found.table.tensors.items()}
    path = tmp_path / f"again.{'safetensors' if container == 'safetensors' else 'pth'}"
    given = case.bare or case.given
    if container == "safetensors":
        safetensors.torch.save_file(tensors, path)
    elif container == "nested":
        torch.save({"epoch": 3, "model_state_dict": tensors, "optimizer": {"state": {}}}, path)
    elif container == "parallel":
        torch.save({f"module.{key}": value for key, value in tensors.items()}, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=container == "zip")
    if case.name == "awd_qrnn_untied_wd0":
        assert not found.reading.config["tied"]
    again = load_checkpoint(path, given=given)
    assert (again.config, again.format) == (expected.config, expected.format)
    before = expected.module.state_dict()
    for key, value in again.module.state_dict().items():
        assert torch.equal(value, before[key])


def test_packed_states(tmp_path: Path) -> None:
    """One [B, S] state carries all layers of an imported model."""
    case = CASES["fa1_lm_model_opt"]
    path = tmp_path / "packed.onnx"
    export_checkpoint(case.path, path, ExportOptions(states="packed"))
    session = Session(path)
    (chunks,) = case.recorded().values()
    state = np.zeros((3, session.metadata.packed_size), np.float32)
    for chunk in chunks:
        got = session.run({"tokens": chunk.x, "state_in": state})
        assert chunk.y is not None
        check(got["logits"], chunk.y, case.relative)
        state = got["state_out"]


@pytest.mark.parametrize(
    ("name", "given", "ways"),
    [
        ("sf_layer_w2_og1_zo3", Given(), 4),
        ("sf_layer_w2_og1_zo3", Given(window=2), 2),
        ("sf_layer_w2_og1_zo3", Given(output_gate=True), 2),
        ("sf_qrnn_0_L2_w1_og1", Given(), 2),
        ("fa1_layer_1_w2_og1_bwd0_bf1", Given(), 4),
        ("fa1_qrnn_1", Given(), 2),
    ],
)
def test_what_a_file_leaves_open_is_an_error(name: str, given: Given, ways: int) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(CASES[name].path, given=given)
    text = str(caught.value)
    assert f"can be read in {ways} ways" in text and text.count("--format ") == ways
    assert "\n" not in text
