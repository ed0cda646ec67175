"""The encoder-decoder in PyTorch, against its NumPy oracle and against itself."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seq2seq_oracle as oracle
import torch
from torch import Tensor

from qrnn_deploy.checkpoints import load_checkpoint, save_checkpoint
from qrnn_deploy.errors import CheckpointError, InputError
from qrnn_deploy.nn import (
    ConfigError,
    EncoderMemory,
    QRNNEncoderDecoder,
    QRNNLayer,
    from_config,
)

SOURCES, TARGETS = 11, 9
FORMS: list[dict[str, Any]] = [
    {},
    {"pooling": "ifo", "encoder_window": [3, 1], "decoder_window": [1, 3]},
    {"reverse": True, "hidden_size": [7, 4], "activation": "relu"},
    {"bias": False, "num_layers": 1, "hidden_size": 5},
    {"zoneout": 0.3, "zoneout_eval": "expectation", "num_layers": 3, "hidden_size": [4, 3, 6]},
]


def model_of(**options: Any) -> QRNNEncoderDecoder:
    torch.manual_seed(5)
    arguments = {"hidden_size": [6, 5], **options}
    model = QRNNEncoderDecoder(SOURCES, TARGETS, 4, dtype=torch.float64, **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    return model


def batch(seed: int = 0, lengths: tuple[int, ...] = (6, 1, 4)) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    source = torch.randint(SOURCES, shape, generator=generator)
    target = torch.randint(TARGETS, (len(lengths), 7), generator=generator)
    return source, torch.tensor(lengths), target


def weights_of(model: QRNNEncoderDecoder) -> dict[str, Any]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_equals_the_oracle(options: dict[str, Any]) -> None:
    model = model_of(**options)
    source, lengths, target = batch(lengths=(6, 1, 4, 0))
    with torch.no_grad():
        memory = model.encode(source, lengths)
        logits, _ = model.decode(target, memory)
    weights, config = weights_of(model), model.config()
    for row, length in enumerate(lengths.tolist()):
        read = oracle.read_source(weights, config, source[row, :length].tolist())
        expected = oracle.answer(weights, config, read, target[row].tolist())
        np.testing.assert_allclose(memory.values[row, :length], read.values, atol=1e-12)
        assert not memory.values[row, length:].any()
        np.testing.assert_allclose(logits[row], expected, rtol=1e-10, atol=1e-10)


def test_the_oracle_sees_every_weight() -> None:
    """Each tensor of the model moves the oracle's answer, so that a test of it proves something."""
    model = model_of()
    config = model.config()
    source, target = [3, 7, 1, 4, 0, 2, 5, 6, 8, 9, 10], [1, 4, 0, 2, 3, 5, 6, 7, 8]

    def answer(weights: Any) -> Any:
        return oracle.answer(weights, config, oracle.read_source(weights, config, source), target)

    weights = weights_of(model)
    before = answer(weights)
    for name in weights:
        after = answer({**weights, name: weights[name] + 0.1})
        assert np.abs(after - before).max() > 1e-4, name


@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("chunks", [(1,) * 7, (3, 4), (2, 1, 4)], ids=str)
def test_steps_equal_the_whole(options: dict[str, Any], chunks: tuple[int, ...]) -> None:
    model = model_of(**options)
    source, lengths, target = batch()
    with torch.no_grad():
        whole = model(source, target, lengths)
        memory = model.encode(source, lengths)
        state = model.initial_state(len(source))
        pieces = []
        for piece in target.split(list(chunks), dim=1):
            logits, state = model.decode(piece, memory, state)
            pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_padded_sources_equal_single_ones(options: dict[str, Any]) -> None:
    model = model_of(**options)
    source, lengths, target = batch()
    with torch.no_grad():
        together = model(source, target, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(source[row : row + 1, :length], target[row : row + 1])
            torch.testing.assert_close(together[row], alone[0], rtol=1e-12, atol=1e-12)


def test_what_pads_a_source_influences_nothing() -> None:
    model = model_of()
    source, lengths, target = batch()
    other = source.clone()
    for row, length in enumerate(lengths.tolist()):
        other[row, length:] = (other[row, length:] + 1) % SOURCES
    assert not torch.equal(other, source)
    with torch.no_grad():
        assert torch.equal(model(other, target, lengths), model(source, target, lengths))


def test_an_empty_source_is_answered() -> None:
    model = model_of()
    source, _, target = batch()
    with torch.no_grad():
        logits = model(source, target, torch.tensor([0, 0, 0]))
    assert torch.isfinite(logits).all()
    read = oracle.read_source(weights_of(model), model.config(), [])
    expected = oracle.answer(weights_of(model), model.config(), read, target[0].tolist())
    np.testing.assert_allclose(logits[0], expected, atol=1e-12)


def test_it_learns_to_copy() -> None:
    """Each token must be found again by attention: the loss falls, padding ignored."""
    torch.manual_seed(0)
    model = QRNNEncoderDecoder(8, 8, 12, 24, encoder_window=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for _ in range(60):
        lengths = torch.randint(2, 5, (24,))
        source = torch.randint(3, 8, (24, 4))
        target = torch.full((24, 6), model.pad_token)
        target[:, 0] = model.bos_token
        for row, length in enumerate(lengths.tolist()):
            target[row, 1 : length + 1] = source[row, :length]
            target[row, length + 1] = model.eos_token
        logits = model(source, target[:, :-1], lengths)
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=model.pad_token
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.7
    assert np.mean(losses[-5:]) < 1.0


def test_every_weight_learns() -> None:
    model = model_of(zoneout=0.2, dropout=0.1).train()
    source, lengths, target = batch()
    model(source, target, lengths).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_checkpoint_keeps_it(tmp_path: Path, suffix: str) -> None:
    tokens = {"source_vocabulary": list("_abcdefghij"), "target_vocabulary": list("_<>ABCDEF")}
    model = model_of(**FORMS[4], **tokens)
    path = tmp_path / f"model{suffix}"
    save_checkpoint(model, path)
    loaded = load_checkpoint(path).module
    assert isinstance(loaded, QRNNEncoderDecoder)
    assert loaded.config() == model.config() == json.loads(json.dumps(model.config()))
    source, lengths, target = batch()
    with torch.no_grad():
        assert torch.equal(loaded(source, target, lengths), model(source, target, lengths))


def test_a_checkpoint_with_other_weights_is_refused(tmp_path: Path) -> None:
    model = model_of()
    model.decoder.layers[1].cell_weight = torch.nn.Parameter(torch.zeros(5, 6).double())
    path = tmp_path / "model.safetensors"
    save_checkpoint(model, path)
    with pytest.raises(CheckpointError, match=r"cell_weight has shape \[5, 6\], expected \[5, 5\]"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source_vocab_size": 0}, "source_vocab_size is 0"),
        ({"target_vocab_size": 3}, "target_vocab_size is 3"),
        ({"target_vocab_size": 2**40}, "target_vocab_size"),
        ({"hidden_size": [4]}, "hidden_size has 1 entries"),
        ({"hidden_size": [2**24, 2**24]}, "would hold"),
        ({"num_layers": 10**6}, "num_layers"),
        ({"encoder_window": [1, 2, 3]}, "encoder_window has 3"),
        ({"decoder_window": 0}, "decoder_window is 0"),
        ({"decoder_window": 2**20}, "decoder_window"),
        ({"pooling": "f"}, "pooling is 'f', expected one of fo, ifo"),
        ({"pooling": ["fo"]}, "pooling"),
        ({"activation": "gelu"}, "activation is 'gelu'"),
        ({"pooling": "ifo", "zoneout_eval": "expectation"}, "zoneout_eval"),
        ({"reverse": 1}, "reverse is 1"),
        ({"bias": None}, "bias is None"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"zoneout": "x"}, "zoneout is 'x'"),
        ({"bias": False, "forget_bias": 1.0}, "forget_bias"),
        ({"pad_token": SOURCES}, "pad_token is 11"),
        ({"pad_token": -1}, "pad_token is -1"),
        ({"bos_token": TARGETS}, "bos_token is 9"),
        ({"eos_token": True}, "eos_token is True"),
        ({"eos_token": 1}, "three different tokens"),
        ({"source_vocabulary": ["a"]}, "source_vocabulary has 1 entries"),
        ({"target_vocabulary": 7}, "target_vocabulary is 7"),
        ({"surprise": 1}, "unknown 'surprise'"),
    ],
    ids=str,
)
def test_a_strange_configuration_is_refused(change: dict[str, Any], reason: str) -> None:
    config = {**model_of().config(), **change}
    with pytest.raises(ConfigError) as caught:
        from_config(config, device="meta")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused() -> None:
    model = model_of()
    source, lengths, target = batch()
    memory = model.encode(source, lengths)
    calls: list[tuple[Any, str]] = [
        (lambda: model.encode(source.float()), "source is torch.float32"),
        (lambda: model.encode(source[0]), "source is torch.int64 [6]"),
        (lambda: model.encode(source[:, :0]), "no time steps"),
        (lambda: model.encode(source, lengths[:2]), "lengths is torch.int64 [2]"),
        (lambda: model.encode(source, lengths + 1), "lengths"),
        (lambda: model.decode(target[0], memory), "target is torch.int64 [7]"),
        (lambda: model.decode(target[:2], memory), "memory.values"),
        (lambda: model.decode(target, memory._replace(values=memory.values.float())), "float32"),
        (lambda: model.decode(target, memory._replace(lengths=lengths[:2])), "memory.lengths"),
        (lambda: model.decode(target, memory._replace(contexts=())), "has 0 entries"),
        (
            lambda: model.decode(target, memory._replace(contexts=memory.contexts[::-1])),
            "memory.contexts[0] has shape [3, 15], expected [3, 18]",
        ),
        (lambda: model.decode(target, memory, model.initial_state(3)[:1]), "state has 1"),
        (lambda: model.decode(target, memory, model.initial_state(2)), "state.c"),
    ]
    for call, reason in calls:
        with pytest.raises(InputError) as caught:
            call()
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pooling", "window", "batch_first"), [*itertools.product(("f", "ifo"), (1, 3), (False, True))]
)
def test_a_layer_with_a_context(pooling: str, window: int, batch_first: bool) -> None:
    """A context is what a bias of each row would be."""
    options = {"pooling": pooling, "window": window, "batch_first": batch_first}
    layer = QRNNLayer(4, 3, dtype=torch.float64, **options)
    x = torch.randn(5, 5, 4, dtype=torch.float64)
    context = torch.randn(5, layer.weight.shape[0], dtype=torch.float64)
    y, state = layer(x, context=context)
    axis = 0 if batch_first else 1
    for row in range(5):
        other = QRNNLayer(4, 3, dtype=torch.float64, **options)
        other.load_state_dict(layer.state_dict())
        with torch.no_grad():
            other.bias += context[row]
        alone, after = other(x.narrow(axis, row, 1))
        torch.testing.assert_close(alone, y.narrow(axis, row, 1))
        torch.testing.assert_close(after.c, state.c[row : row + 1])
    for wrong in (context[:2], context[:, 1:], context.float()):
        with pytest.raises(InputError, match="QRNNLayer: context is"):
            layer(x, context=wrong)


def test_a_memory_is_made_of_tensors() -> None:
    memory = model_of().encode(batch()[0])
    assert isinstance(memory, EncoderMemory)
    assert memory.lengths.tolist() == [6, 6, 6]
    assert [tuple(context.shape) for context in memory.contexts] == [(3, 18), (3, 15)]
