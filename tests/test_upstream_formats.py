"""Every format beyond the recorded files: random weights against upstream's equations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import upstream_oracle as oracle
from upstream_oracle import Array, Weights

from qrnn_deploy.checkpoints import Given, load_checkpoint

rng = np.random.default_rng


def saved(path: Path, weights: Weights, wrap: str | None = None) -> Path:
    """Weights as a PyTorch file."""
    tensors: Any = {name: torch.from_numpy(value) for name, value in weights.items()}
    torch.save({wrap: tensors, "opt": None} if wrap else tensors, path)
    return path


def run(path: Path, x: Array, **given: Any) -> tuple[Any, Array, list[Any]]:
    """Load, and answer x (batch first) in float64: (checkpoint, y batch first, states)."""
    loaded = load_checkpoint(path, given=Given(**given))
    module: Any = loaded.module.double()
    value = torch.from_numpy(x)
    value = value.double() if value.is_floating_point() else value
    with torch.no_grad():
        result = module(value if module.batch_first else value.transpose(0, 1))
    y, state = result if isinstance(result, tuple) else (result, [])
    y = y if module.batch_first or not isinstance(result, tuple) else y.transpose(0, 1)
    return loaded, y.numpy(), [state] if hasattr(state, "c") else list(state)


def close(got: Array, expected: Array) -> None:
    """Equal in float64, and not by being constant."""
    assert expected.std() > 1e-3
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("zoneout", [None, 0.25])
@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("gates", [2, 3])
@pytest.mark.parametrize("layers", [1, 3])
def test_torchqrnn(
    gates: int, window: int, layers: int, zoneout: float | None, tmp_path: Path
) -> None:
    """Layer 0 reads another size than the others, which shows what is inferred."""
    draw, hidden = rng(gates + 10 * window + layers), 6
    x = draw.normal(size=(3, 9, 5))
    weights: Weights = {}
    y, states = x.swapaxes(0, 1), []
    for n in range(layers):
        weight, bias = oracle.random_layer(
            draw, 5 if n == 0 else hidden, hidden, window=window, gates=gates
        )
        weights[f"layers.{n}.linear.weight"], weights[f"layers.{n}.linear.bias"] = weight, bias
        y, c = oracle.qrnn_layer(
            y, weight, bias, gate=gates == 3, scale=1 - (zoneout or 0), window=window
        )
        states.append(c)
    path = saved(tmp_path / "stack.pt", weights)
    loaded, got, state = run(path, x, zoneout=zoneout, input_size=5, output_gate=gates == 3)
    close(got, y.swapaxes(0, 1))
    for entry, c in zip(state, states, strict=True):
        close(entry.c.numpy(), c)
    assert loaded.format == "torchqrnn"
    assert loaded.config["window"] == [window] * layers
    assert any("zoneout 0" in text for text in loaded.assumptions) == (zoneout is None)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("window", [1, 2])
def test_fastai_layer(window: int, backward: bool, tmp_path: Path) -> None:
    draw = rng(window)
    weight, bias = oracle.random_layer(draw, 5, 4, window=window)
    x = draw.normal(size=(2, 8, 5))
    h, c = oracle.qrnn_layer(x.swapaxes(0, 1), weight, bias, backward=backward, window=window)
    path = saved(tmp_path / "layer.pt", {"linear.weight": weight, "linear.bias": bias})
    loaded, got, state = run(
        path,
        x,
        format="fastai-qrnn",
        input_size=5,
        output_gate=True,
        direction="reverse" if backward else "forward",
    )
    close(got, h.swapaxes(0, 1))
    close(state[0].c.numpy(), c)
    assert loaded.config["reverse"] == backward and loaded.assumptions == ()


@pytest.mark.parametrize("windows", [(1, 1, 1), (2, 1, 1), (2, 2, 2)])
def test_fastai_stack_of_two_directions(windows: tuple[int, ...], tmp_path: Path) -> None:
    """Two stacks that know nothing of each other, joined at the end; states alternate."""
    draw = rng(1)
    x, weights, outputs = draw.normal(size=(2, 7, 4)), {}, []
    states: dict[tuple[int, str], Array] = {}
    for side in ("layers", "layers_bwd"):
        y = x.swapaxes(0, 1)
        for n, window in enumerate(windows):
            weight, bias = oracle.random_layer(draw, 4 if n == 0 else 6, 6, window=window)
            weights[f"{side}.{n}.linear.weight"], weights[f"{side}.{n}.linear.bias"] = weight, bias
            y, states[n, side] = oracle.qrnn_layer(
                y, weight, bias, backward="bwd" in side, window=window
            )
        outputs.append(y)
    path = saved(tmp_path / "two.pt", weights)
    _, got, state = run(path, x, input_size=4)
    close(got, np.concatenate(outputs, axis=2).swapaxes(0, 1))
    order = [(n, side) for n in range(3) for side in ("layers", "layers_bwd")]
    for entry, key in zip(state, order, strict=True):
        close(entry.c.numpy(), states[key])


@pytest.mark.parametrize("zoneout", [None, 0.4])
@pytest.mark.parametrize("gates", [2, 3])
@pytest.mark.parametrize("ways", [1, 2])
def test_speechbrain(ways: int, gates: int, zoneout: float | None, tmp_path: Path) -> None:
    """Both directions of a layer share its weight; the next layer reads both."""
    draw, hidden, weights = rng(ways), 6, {}
    x = draw.normal(size=(2, 7, 5))
    y = x.swapaxes(0, 1)
    for n in range(2):
        weight, bias = oracle.random_layer(
            draw, 5 if n == 0 else hidden * ways, hidden, gates=gates
        )
        weights[f"qrnn.{n}.w.weight"], weights[f"qrnn.{n}.w.bias"] = weight, bias
        scale = 1 - (zoneout or 0)
        sides = [
            oracle.qrnn_layer(y, weight, bias, gate=gates == 3, scale=scale, backward=back)[0]
            for back in (False, True)[:ways]
        ]
        y = np.concatenate(sides, axis=2)
    path = saved(tmp_path / "sb.pt", weights)
    loaded, got, _ = run(path, x, zoneout=zoneout)
    close(got, y.swapaxes(0, 1))
    assert loaded.config["bidirectional"] == (ways == 2)


TEXT_FORMS = {
    "fastai1": ("0.", ("layers.0.",), "linear.weight_raw"),
    "fastai2": ("0.", ("layers.0.",), "linear.weight_raw"),
    "fastai2 bidirectional": ("0.", ("layers.0.", "layers_bwd.0."), "linear.weight_raw"),
    "multifit": ("0.", ("",), "linear.weight_raw"),
}


@pytest.mark.parametrize("tied", [True, False, "missing"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", TEXT_FORMS)
def test_language_models(form: str, tied: bool | str, bias: bool, tmp_path: Path) -> None:
    prefix, ways, raw = TEXT_FORMS[form]
    draw, vocab = rng(3), 19
    sizes = [8, 6, 6, 8] if len(ways) == 1 else [8, 6, 6, 4]
    weights = oracle.text_layers(draw, prefix, sizes, raw=raw, ways=ways)
    if form == "fastai1":
        for n in range(3):
            trained = weights[f"0.rnns.{n}.layers.0.linear.weight_raw"]
            weights[f"0.rnns.{n}.layers.0.linear.module.weight"] = trained * 0.5
    embedding = draw.normal(0, 0.5, (vocab, 8)).astype(np.float32)
    weights[f"{prefix}encoder.weight"] = embedding
    weights[f"{prefix}encoder_dp.emb.weight"] = embedding
    decoder = embedding if tied else draw.normal(0, 0.5, (vocab, 8)).astype(np.float32)
    if tied != "missing":
        weights["1.decoder.weight"] = decoder
    if bias or tied == "missing":
        weights["1.decoder.bias"] = draw.normal(0, 0.5, vocab).astype(np.float32)
    tokens = draw.integers(0, vocab, (2, 7))
    features = oracle.text_features(tokens, weights, prefix, 3, raw=raw, ways=ways)
    expected = features @ decoder.T.astype(np.float64) + weights.get("1.decoder.bias", 0)
    loaded, got, _ = run(saved(tmp_path / "lm.pth", weights, "model"), tokens)
    close(got, expected)
    assert loaded.format == form.split()[0] and loaded.config["tied"] == bool(tied)
    assert len(loaded.notes) == (form == "fastai1")


@pytest.mark.parametrize("form", ["fastai2", "multifit"])
def test_encoder_files(form: str, tmp_path: Path) -> None:
    """``save_encoder`` drops ``0.``; the answer is the features."""
    ways = TEXT_FORMS[form][1]
    draw = rng(4)
    weights = oracle.text_layers(draw, "", [8, 6, 8], ways=ways)
    weights["encoder.weight"] = draw.normal(0, 0.5, (19, 8)).astype(np.float32)
    weights["encoder_dp.emb.weight"] = weights["encoder.weight"]
    tokens = draw.integers(0, 19, (2, 7))
    loaded, got, _ = run(saved(tmp_path / "enc_best.pth", weights), tokens)
    close(got, oracle.text_features(tokens, weights, "", 2, ways=ways))
    assert (loaded.format, loaded.config["architecture"]) == (form, "QRNNEncoder")


def test_a_reversed_language_model(tmp_path: Path) -> None:
    """--direction reverse on text in reading order is the model on reversed text, reversed."""
    draw = rng(5)
    weights = oracle.text_layers(draw, "0.", [8, 6, 8])
    weights["0.encoder.weight"] = draw.normal(0, 0.5, (19, 8)).astype(np.float32)
    weights["1.decoder.weight"] = weights["0.encoder.weight"]
    tokens = draw.integers(0, 19, (2, 7))
    features = oracle.text_features(tokens[:, ::-1], weights, "0.", 2)[:, ::-1]
    path = saved(tmp_path / "bwd.pth", weights)
    loaded, got, _ = run(path, tokens, direction="reverse")
    close(got, features @ weights["0.encoder.weight"].T.astype(np.float64))
    assert not any("direction" in text for text in loaded.assumptions)


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("hidden", [[], [7], [7, 5]])
def test_classifiers(generation: int, hidden: list[int], tmp_path: Path) -> None:
    """Texts without padding, shorter than a chunk: both generations pool alike."""
    draw = rng(6)
    weights = oracle.text_layers(draw, "0.module.", [8, 6, 8])
    weights["0.module.encoder.weight"] = draw.normal(0, 0.5, (19, 8)).astype(np.float32)
    widths = [24, *hidden, 3]
    weights |= oracle.random_head(draw, widths, generation=generation)
    tokens = draw.integers(2, 19, (4, 9))
    features = oracle.text_features(tokens, weights, "0.module.", 2)
    pooled = [features[:, -1], features.max(1), features.mean(1)]
    expected = oracle.head(
        np.concatenate(pooled, axis=1), weights, len(widths) - 1, generation=generation
    )
    path = saved(tmp_path / "cls_best.pth", weights)
    loaded, got, _ = run(path, tokens, classes=("a", "b", "c"))
    close(got, expected)
    assert loaded.config["head_sizes"] == hidden and loaded.config["classes"] == ["a", "b", "c"]
    # Without a head of its own sequence, nothing tells the two apart: fastai 2 has no bias there.
    assert loaded.format == f"fastai{generation}"


@pytest.mark.parametrize("wrapped", ["bare", "trainer", "whole model"])
def test_pase(wrapped: str, tmp_path: Path) -> None:
    """Window 2 in every layer, then the 1x1 convolution; the rest of the frontend is left out."""
    draw = rng(7)
    x, weights = draw.normal(size=(2, 7, 5)), {}
    y = x.swapaxes(0, 1)
    for n in range(2):
        weight, bias = oracle.random_layer(draw, 5 if n == 0 else 6, 6, window=2)
        name = f"rnn.layers.{n}.linear"
        weights[f"{name}.weight"], weights[f"{name}.bias"] = weight, bias
        y, _ = oracle.qrnn_layer(y, weight, bias, window=2)
    weights["W.weight"] = draw.normal(size=(4, 6, 1)).astype(np.float32)
    weights["W.bias"] = draw.normal(size=4).astype(np.float32)
    weights["blocks.0.conv.weight"] = draw.normal(size=(5, 1, 3)).astype(np.float32)
    weights["blocks.0.norm.num_batches_tracked"] = np.array(3)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    content: Any = tensors
    if wrapped == "trainer":
        content = {"step": 3, "state_dict": tensors, "optimizer": {"state": {}, "param_groups": []}}
    elif wrapped == "whole model":
        content = {f"frontend.{name}": value for name, value in tensors.items()}
        content["minions.0.W.weight"] = torch.zeros(3, 4)
    path = tmp_path / "FE_e0.ckpt"
    torch.save(content, path)
    loaded, got, _ = run(path, x)
    close(got, (y @ weights["W.weight"][:, :, 0].T + weights["W.bias"]).swapaxes(0, 1))
    assert loaded.format == "pase" and "left out: blocks" in loaded.notes[0]
