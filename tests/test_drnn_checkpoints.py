"""Checkpoints of TuKo/dRNN: recorded ones, variants built here, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import lstm_oracle as oracle
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from qrnn_deploy import Session, StreamingSession, verify
from qrnn_deploy.checkpoints import Given, load_checkpoint
from qrnn_deploy.cli import main
from qrnn_deploy.errors import CheckpointError
from qrnn_deploy.exporter import ExportOptions, export_checkpoint
from qrnn_deploy.nn import DelayedRNN

FOLDER = Path(__file__).parent / "data" / "upstream"
NAMES = {"drnn_d2_wdrop": 2, "drnn_d3": 3, "drnn_d4_ckpt_tar": 4}
Array = Any


@cache
def recorded(name: str) -> dict[str, Array]:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def check(got: Any, wanted: Array) -> None:
    assert np.asarray(got).shape == wanted.shape and np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_pytorch_gives_what_upstream_gave(name: str) -> None:
    a = recorded(name)
    loaded = load_checkpoint(FOLDER / f"{name}.pt")
    module: Any = loaded.module
    assert loaded.format == "drnn" and module.delay == NAMES[name] and loaded.notes == ()
    (assumed,) = loaded.assumptions
    assert assumed.startswith("padding 0 (--padding X)")
    assert f"delay {NAMES[name]}, as the file records" in loaded.inferred
    y, state = module(torch.from_numpy(a["x"]))
    check(y, a["y"])
    check(state.h.transpose(0, 1), a["h_n"])
    check(state.c.transpose(0, 1), a["c_n"])
    check(module.module(torch.from_numpy(a["x_in"]))[0], a["y_full"])
    future = load_checkpoint(FOLDER / f"{name}.pt", given=Given(padding="future"))
    check(future.module(torch.from_numpy(a["x_in"]))[0], a["y"])
    assert future.assumptions == ()


@pytest.mark.parametrize("name", NAMES)
def test_onnx_runtime_gives_what_upstream_gave(name: str, tmp_path: Path) -> None:
    a, path = recorded(name), tmp_path / "m.onnx"
    checkpoint = FOLDER / f"{name}.pt"
    export_checkpoint(checkpoint, path, ExportOptions(states="none"))
    check(Session(path).run({"x": a["x"]})["y"], a["y"])
    report = export_checkpoint(checkpoint, path)
    meta = report.metadata
    assert meta.source is not None and meta.source["format"] == "drnn"
    assert (meta.delay, meta.padding) == (NAMES[name], 0)
    stream = StreamingSession(path, len(a["x"]))
    parts = [stream.step(a["x"][:, n : n + 5]) for n in range(0, a["x"].shape[1], 5)]
    full = np.concatenate([*parts, stream.flush()], axis=1)
    check(full, a["y_full"])
    check(full[:, meta.delay :], a["y"])
    assert verify(path, checkpoint=checkpoint).passed


def network(*, inner: bool = False, **options: Any) -> dict[str, torch.Tensor]:
    """The state dict of one of upstream's networks, built from its parts."""
    torch.manual_seed(4)
    ways = 2 if options.get("bidirectional") else 1
    lstm = nn.LSTM(3, 5, **options)
    path = "lstm.lstm" if inner else "lstm"
    weights = {f"{path}.{name}": value for name, value in lstm.state_dict().items()}
    linear = nn.Linear(5 * ways, 4)
    return weights | {f"linear.{name}": value for name, value in linear.state_dict().items()}


def beside(weights: dict[str, torch.Tensor], **recorded_: Any) -> dict[str, Any]:
    """What save_model() of the experiments writes."""
    return {"model": weights, "delay": 0, "model_layers": 1, "bidi": False} | recorded_


def answer(weights: dict[str, torch.Tensor], x: Array) -> Array:
    """By the oracle, [B, T, 4] of [B, T, 3]."""
    w = {name: value.numpy().astype(np.float64) for name, value in weights.items()}
    lstm = {
        name.rpartition("lstm.")[2].removesuffix("_drop"): value
        for name, value in w.items()
        if name.startswith("lstm")
    }
    layers = sum(name.startswith("weight_hh") for name in lstm)
    zeros = np.zeros((layers, len(x), 5))
    y, _, _ = oracle.lstm(x.swapaxes(0, 1), lstm, zeros, zeros)
    return (y @ w["linear.weight"].T + w["linear.bias"]).swapaxes(0, 1)


X = np.random.default_rng(0).standard_normal((2, 6, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({}, {"delay": 2}),
        ({"bias": False}, {"delay": 2, "seq_length": 6}),
        ({"num_layers": 3}, {"model_layers": 3}),
        ({"bidirectional": True}, {"bidi": True}),
        ({"num_layers": 2, "bidirectional": True}, {"model_layers": 2, "bidi": True}),
    ],
)
@torch.no_grad()
def test_every_network(options: dict[str, Any], facts: dict[str, Any], tmp_path: Path) -> None:
    weights, path = network(**options), tmp_path / "model_weights.pt"
    delay = facts.get("delay", 0)
    long = np.concatenate([X, np.zeros((2, delay, 3), np.float32)], axis=1)
    wanted = answer(weights, long)[:, delay:]
    torch.save(beside(weights, **facts), path)
    loaded = load_checkpoint(path)
    np.testing.assert_allclose(loaded.module(torch.from_numpy(X))[0], wanted, atol=1e-6)
    assert loaded.config["bidirectional"] == ("bidirectional" in options)
    # The weights alone, from DataParallel, and in another container.
    given = Given(delay=delay) if delay else None
    torch.save({f"module.{name}": value for name, value in weights.items()}, path)
    assert load_checkpoint(path, given=given).config == loaded.config
    path = path.with_suffix(".safetensors")
    safetensors.torch.save_file(weights, path)
    again = load_checkpoint(path, given=given)
    assert again.config == loaded.config
    np.testing.assert_allclose(again.module(torch.from_numpy(X))[0], wanted, atol=1e-6)


def test_what_nobody_says_is_assumed(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(network(), path)
    (assumed,) = load_checkpoint(path).assumptions
    assert assumed.startswith("delay 0 (--delay D): the file does not record it")
    loaded = load_checkpoint(path, given=Given(delay=3))
    assert loaded.config["delay"] == 3 and "3 steps of zeros" in loaded.assumptions[0]
    loaded = load_checkpoint(path, given=Given(delay=3, padding=0.5, batch_first=False))
    assert loaded.assumptions == () and loaded.config["padding"] == 0.5
    assert not loaded.config["batch_first"]
    torch.save(network(num_layers=2), path)
    loaded = load_checkpoint(path)
    assert loaded.assumptions == () and "delay 0: upstream delays a single" in loaded.inferred[1]


@torch.no_grad()
def test_the_masked_language_model(tmp_path: Path) -> None:
    """Tokens, of which the last is the mask; the text goes on behind a sequence."""
    weights, path = network() | {"embedding.weight": torch.randn(5, 3)}, tmp_path / "m.pt"
    facts = {"embedding_size": 3, "rnn_units": 5, "alphabet": {c: n for n, c in enumerate("abcd")}}
    torch.save(beside(weights, delay=2, dropout=None, **facts), path)
    loaded = load_checkpoint(path)
    assert loaded.config["padding"] is None and loaded.config["vocab_size"] == 5
    assert loaded.assumptions[0].startswith("padding future (--padding TOKEN)")
    assert loaded.notes[0].startswith("Token 4 is the mask")
    tokens = torch.tensor([[0, 4, 2, 3, 1], [1, 1, 4, 0, 2]])
    wanted = answer(weights, weights["embedding.weight"].numpy()[tokens.numpy()])
    np.testing.assert_allclose(loaded.module(tokens)[0], wanted[:, 2:], atol=1e-6)
    loaded = load_checkpoint(path, given=Given(padding=3))
    assert (loaded.config["padding"], loaded.assumptions) == (3, ())
    with pytest.raises(CheckpointError, match=r"padding is 0.5, expected a whole number in 0..4"):
        load_checkpoint(path, given=Given(padding=0.5))
    onnx = tmp_path / "m.onnx"
    export_checkpoint(path, onnx)
    stream = StreamingSession(onnx, 2)
    late = stream.step(tokens.numpy())
    np.testing.assert_allclose(late, wanted, atol=1e-5)


def test_weight_dropout(tmp_path: Path) -> None:
    """The trained weight has _drop behind its name; one that differs beside it is told."""
    weights, path = network(inner=True), tmp_path / "model_weights.pt"
    plain = weights.pop("lstm.lstm.weight_hh_l0")
    weights["lstm.lstm.weight_hh_l0_drop"] = plain
    wanted = answer(weights, X)
    for copy, notes in ((None, 0), (plain.clone(), 0), (plain + 1, 1)):
        both = weights | ({} if copy is None else {"lstm.lstm.weight_hh_l0": copy})
        torch.save(beside(both), path)
        loaded = load_checkpoint(path)
        assert len(loaded.notes) == notes
        with torch.no_grad():
            got = loaded.module(torch.from_numpy(X))[0]
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert (
        "weight_hh_l0 differs from lstm.lstm.weight_hh_l0_drop, which was used" in loaded.notes[0]
    )


def test_a_pickled_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of upstream's class, whose code is not there."""
    nets = ModuleType("nets")

    class SingleLayerLSTMNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.hidden_size = None, 5
            self.lstm, self.linear = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 4)

    for kind in (SingleLayerLSTMNet,):
        kind.__module__, kind.__qualname__ = "nets", kind.__name__
        setattr(nets, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "nets", nets)
    module, path = SingleLayerLSTMNet(), tmp_path / "whole.pt"
    torch.save(module, path)
    monkeypatch.delitem(sys.modules, "nets")
    loaded = load_checkpoint(path, given=Given(delay=1))
    assert isinstance(loaded.module, DelayedRNN)
    with torch.no_grad():
        got = loaded.module.module(torch.from_numpy(X))[0]
    np.testing.assert_allclose(got, answer(dict(module.state_dict()), X), atol=1e-6)


def refuse(path: Path, content: Any, given: Given | None = None) -> str:
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, given=given)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (lambda c: c["model"].pop("linear.bias"), "lacks tensor linear.bias of the format drnn"),
        (lambda c: c["model"].pop("lstm.bias_hh_l0"), "lacks tensor lstm.bias_hh_l0"),
        (
            lambda c: c["model"].update({"lstm.weight_hh_l3": torch.zeros(20, 5)}),
            "lacks tensor lstm.weight_hh_l1",
        ),
        (
            lambda c: c["model"].update({"head.weight": torch.zeros(2, 5)}),
            "has tensor head.weight that the format drnn does not have",
        ),
        (
            lambda c: c["model"].update({"lstm.weight_ih_l0": torch.zeros(18, 3)}),
            "lstm.weight_ih_l0 has 18 rows, expected a multiple of 4",
        ),
        (
            lambda c: c["model"].update({"lstm.weight_hh_l0": torch.zeros(20, 6)}),
            "lstm.weight_hh_l0 has shape [20, 6], expected [20, 5]",
        ),
        (
            lambda c: c["model"].update({"linear.weight": torch.zeros(4, 10)}),
            "linear.weight has shape [4, 10], expected [4, 5]",
        ),
        (
            lambda c: c["model"].update({"embedding.weight": torch.zeros(9, 4)}),
            "embedding.weight has shape [9, 4], expected [9, 3]",
        ),
        (lambda c: c.update(delay=-1), "records a wrong delay: delay is -1, expected a whole"),
        (lambda c: c.update(delay=2**40), "records a wrong delay: delay is 1099511627776"),
        (lambda c: c.update(delay=1.5), "records a wrong delay: delay is 1.5"),
        (lambda c: c.update(delay=True), "records a wrong delay: delay is True"),
        (lambda c: c.update(model_layers=2), "records model_layers 2, expected 1"),
        (lambda c: c.update(bidi=True), "records bidi True, expected False"),
        (lambda c: c.update(bidi=0), "records bidi 0, expected False"),
    ],
)
def test_nearly_right(edit: Callable[[Any], Any], part: str, tmp_path: Path) -> None:
    content = beside(network())
    edit(content)
    assert part in refuse(tmp_path / "model_weights.pt", content)


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    path, content = tmp_path / "model_weights.pt", beside(network(), delay=2)
    assert "records delay 2, and 3 was given" in refuse(path, content, Given(delay=3))
    assert "--window does not apply" in refuse(path, content, Given(window=2))
    for wrong, part in (
        ({"delay": -1}, "delay is -1, expected a whole number in 0..65536"),
        ({"padding": "none"}, "padding is 'none', expected one of future, a number"),
        ({"padding": float("inf")}, "padding is inf, expected a finite number"),
    ):
        with pytest.raises(CheckpointError) as caught:
            Given(**wrong)
        assert part in str(caught.value)
    given = Given(delay=2, padding="future")
    assert Given.from_json(given.to_json()) == given


def test_the_tagger_is_named(tmp_path: Path) -> None:
    content = {
        "model": {
            f"{part}_lstm.{name}": value
            for part in ("char", "word")
            for name, value in nn.LSTM(3, 5).state_dict().items()
        },
        "char_delay": 0,
        "word_delay": 1,
    }
    text = refuse(tmp_path / "model_weights.pt", content)
    assert "it looks like the part-of-speech tagger of TuKo/dRNN, which has no format" in text


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ("--delay 2", {"delay": 2, "padding": 0}),
        ("--delay 2 --padding -0.5", {"delay": 2, "padding": -0.5}),
        ("--delay 3 --padding future", {"delay": 3, "padding": None}),
    ],
)
def test_the_command_line(options: str, config: dict[str, Any], tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "weights.pt")
    onnx = tmp_path / "m.onnx"
    assert run_main("export", tmp_path / "weights.pt", "-o", onnx, *options.split()) == 0
    found = Session(onnx).metadata.config
    assert found is not None and config.items() <= found.items()


def test_a_padding_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(network(), tmp_path / "weights.pt")
    for wrong in ("zeros", "nan"):
        given = ["--delay", "1", "--padding", wrong]
        assert run_main("inspect", tmp_path / "weights.pt", *given) == 2
        assert f"'{wrong}' is no number, and not 'future'" in capsys.readouterr().err
