"""Stacks and models on them: wiring, state, dropout, configurations, torch.export."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy.errors import InputError
from qrnn_deploy.nn import (
    ARCHITECTURES,
    QRNN,
    ConfigError,
    LayerState,
    ProjectedQRNN,
    QRNNClassifier,
    QRNNEncoder,
    QRNNEncoderDecoder,
    QRNNLanguageModel,
    QRNNLayer,
    from_config,
)
from qrnn_deploy.nn.factory import ADDED_LATER

T, B, IN = 8, 3, 4
LENGTHS = torch.tensor([8, 0, 5])


def stack_of(*arguments: Any, **options: Any) -> QRNN:
    torch.manual_seed(3)
    stack = QRNN(*arguments, **options).eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.uniform_(-1, 1)
    return stack


def oracle_of(stack: QRNN, x: Tensor, state: list[LayerState], lengths: Any) -> Any:
    ways = 2 if stack.bidirectional else 1
    arguments = [
        {
            "weight": layer.weight.detach(),
            "bias": layer.bias.detach(),
            "window": layer.window,
            "pooling": layer.pooling,
            "c0": before.c,
            "x0": before.x,
            "direction": -1 if layer.reverse else 1,
        }
        for layer, before in zip(stack.layers, state, strict=True)
    ]
    levels = [arguments[n : n + ways] for n in range(0, len(arguments), ways)]
    return oracle.stack(x, levels, dense=stack.dense, lengths=lengths)


@pytest.mark.parametrize("way", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("dense", [False, True], ids=["plain", "dense"])
def test_parity_with_the_oracle(dense: bool, way: str) -> None:
    options = {} if way == "forward" else {way: True}
    stack = stack_of(IN, [5, 3, 4], window=[2, 1, 3], pooling="ifo", dense=dense, **options)
    x = torch.randn(T, B, IN)
    state = [
        LayerState(torch.randn_like(s.c), None if s.x is None else torch.randn_like(s.x))
        for s in stack.initial_state(B)
    ]
    for lengths in (None, LENGTHS):
        y, after = stack(x, state, lengths)
        y_ref, after_ref = oracle_of(stack, x, state, lengths)
        assert y.shape == (T, B, stack.output_size)
        np.testing.assert_allclose(y.detach(), y_ref, atol=5e-6)
        assert len(after) == len(stack.layers) == len(after_ref)
        for got, (c_ref, x_ref) in zip(after, after_ref, strict=True):
            np.testing.assert_allclose(got.c.detach(), c_ref, atol=5e-6)
            if got.x is not None:
                np.testing.assert_allclose(got.x.detach(), x_ref, atol=5e-6)


def test_directions_that_meet_at_the_end() -> None:
    options = {"window": [2, 1, 3], "pooling": "fo", "batch_first": True}
    stack = stack_of(IN, [5, 3, 4], bidirectional=True, join="end", **options)
    assert [layer.input_size for layer in stack.layers] == [IN, IN, 5, 5, 3, 3]
    ways = [QRNN(IN, [5, 3, 4], reverse=way, **options) for way in (False, True)]
    for n, layer in enumerate(stack.layers):
        ways[n % 2].layers[n // 2].load_state_dict(layer.state_dict())
    x, state = torch.randn(B, T, IN), stack.initial_state(B)
    state = [LayerState(torch.randn_like(s.c), s.x) for s in state]
    for lengths in (None, LENGTHS):
        y, after = stack(x, state, lengths)
        both = [way(x, state[n::2], lengths) for n, way in enumerate(ways)]
        assert stack.output_size == 8
        assert torch.equal(y, torch.cat([both[0][0], both[1][0]], dim=-1))
        for n, got in enumerate(after):
            assert torch.equal(got.c, both[n % 2][1][n // 2].c)
    dropped = stack_of(IN, 64, 2, bidirectional=True, join="end", dropout=0.5).train()
    assert not torch.equal(dropped(x)[0], dropped(x)[0])


def test_who_streams() -> None:
    text = (11, 6, 7)
    streaming = {
        "layer": QRNNLayer(3, 4),
        "stack": QRNN(3, 4, 2),
        "projected": ProjectedQRNN(3, 4, projection_size=2),
        "encoder": QRNNEncoder(*text),
        "model": QRNNLanguageModel(*text),
    }
    whole = {
        "layer": QRNNLayer(3, 4, reverse=True),
        "stack": QRNN(3, 4, reverse=True),
        "projected": ProjectedQRNN(3, 4, projection_size=2, bidirectional=True),
        "encoder": QRNNEncoder(*text, bidirectional=True),
        "model": QRNNLanguageModel(*text, reverse=True),
        "classifier": QRNNClassifier(*text, num_classes=2),
        "encoder-decoder": QRNNEncoderDecoder(*text, 8),
    }
    assert all(module.streams for module in streaming.values())
    assert not any(module.streams for module in whole.values())
    for name, architecture in ARCHITECTURES.items():
        assert isinstance(getattr(architecture, "streams", None), property), name


def test_any_chunking_gives_the_same_output() -> None:
    steps = 65
    lengths = torch.tensor([65, 9, 33])
    for dense, given in itertools.product((False, True), (None, lengths)):
        stack = stack_of(IN, 16, 3, window=[3, 1, 2], dense=dense)
        x = torch.randn(steps, B, IN)
        with torch.no_grad():
            whole, _ = stack(x, None, given)
            for size in (1, 2, 7, 64, steps):
                state, pieces = None, []
                for begin in range(0, steps, size):
                    part = x[begin : begin + size]
                    rest = None if given is None else (given - begin).clamp(0, len(part))
                    y, state = stack(part, state, rest)
                    pieces.append(y)
                assert (torch.cat(pieces) - whole).abs().max() <= 1e-6


def test_batch_first() -> None:
    first = stack_of(IN, 5, 2, window=2, bidirectional=True, batch_first=True)
    second = stack_of(IN, 5, 2, window=2, bidirectional=True)
    x = torch.randn(B, T, IN)
    y, state = first(x, None, LENGTHS)
    y2, state2 = second(x.transpose(0, 1), None, LENGTHS)
    assert torch.equal(y, y2.transpose(0, 1))
    assert all(torch.equal(a.c, b.c) for a, b in zip(state, state2, strict=True))


def test_dropout_acts_between_levels_in_training_only() -> None:
    stack, x = stack_of(IN, 64, 2, dropout=0.5), torch.randn(T, B, IN)
    assert torch.equal(stack(x)[0], stack(x)[0])
    seen: list[Tensor] = []
    stack.layers[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    stack.train()
    assert not torch.equal(stack(x)[0], stack(x)[0])
    assert abs((seen[0] == 0).float().mean().item() - 0.5) < 0.05
    one = stack_of(IN, 64, 1, dropout=0.5).train()
    assert torch.equal(one(x)[0], one(x)[0])


@pytest.mark.parametrize("bias", [True, False])
def test_projected_stack(bias: bool) -> None:
    torch.manual_seed(1)
    options = {"window": 2, "dense": True, "batch_first": True}
    module = ProjectedQRNN(IN, 5, 2, projection_size=7, projection_bias=bias, **options).eval()
    stack = QRNN(IN, 5, 2, **options)
    stack.load_state_dict(
        {name: t for name, t in module.state_dict().items() if not name.startswith("projection")}
    )
    x, state = torch.randn(B, T, IN), module.initial_state(B)
    y, after = module(x, state, LENGTHS)
    inner, inner_after = stack(x, state, LENGTHS)
    assert y.shape == (B, T, 7) and module.output_size == 7
    expected = inner @ module.projection.weight.T
    torch.testing.assert_close(y, expected + module.projection.bias if bias else expected)
    assert all(torch.equal(a.c, b.c) for a, b in zip(after, inner_after, strict=True))
    before = module.projection.weight.clone()
    module.reset_parameters()
    assert not torch.equal(module.projection.weight, before)
    with pytest.raises(InputError, match=r"ProjectedQRNN: x has shape \[3, 8, 2\]"):
        module(x[..., :2])


def test_encoder_is_the_stack_on_embedded_tokens() -> None:
    torch.manual_seed(2)
    model = QRNNEncoder(11, 6, [7, 4], window=2, bidirectional=True, dropout=0.5).eval()
    tokens, lengths = torch.randint(11, (B, T)), torch.tensor([8, 1, 5])
    y, state = model(tokens, None, lengths)
    inner, after = model.stack(model.embedding(tokens).transpose(0, 1), None, lengths)
    assert y.shape == (B, T, 8) and model.output_size == 8
    assert torch.equal(y, inner.transpose(0, 1))
    assert all(torch.equal(a.c, b.c) for a, b in zip(state, after, strict=True))
    assert not torch.equal(model.train()(tokens)[0], model(tokens)[0])
    with pytest.raises(InputError, match=r"QRNNEncoder: tokens is torch.float32 of rank 3"):
        model(torch.randn(B, T, 6))


def model_of(**options: Any) -> QRNNLanguageModel:
    torch.manual_seed(5)
    return QRNNLanguageModel(11, 6, [7, 6], window=2, **options).eval()


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_language_model(tied: bool) -> None:
    model = model_of(tied=tied)
    tokens = torch.randint(11, (B, T))
    logits, state = model(tokens)
    assert logits.shape == (B, T, 11) and len(state) == 2
    y, _ = model.stack(model.embedding(tokens).transpose(0, 1))
    weight = model.embedding.weight if tied else model.decoder_weight
    expected = (y @ weight.T + model.decoder_bias).transpose(0, 1)
    torch.testing.assert_close(logits, expected)
    assert ("decoder_weight" in dict(model.named_parameters())) != tied

    first, state = model(tokens[:, :3])
    second, _ = model(tokens[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), logits, atol=1e-6, rtol=0)
    time_major = model_of(tied=tied, batch_first=False)
    torch.testing.assert_close(time_major(tokens.T)[0].transpose(0, 1), logits)
    for bad in (tokens[0], tokens.float()):
        with pytest.raises(InputError, match=r"expected torch.int64"):
            model(bad)


def test_language_model_learns() -> None:
    model = model_of(dropout=0.05, zoneout=0.05).train()
    tokens = torch.arange(40).remainder(11).repeat(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(40):
        logits, _ = model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits.reshape(-1, 11), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 < math.log(11)


MODULES = {
    "layer": lambda: QRNNLayer(3, 4, window=2, pooling="if", reverse=True, bias=False),
    "layer-zoneout": lambda: QRNNLayer(3, 4, zoneout=0.5, zoneout_eval="expectation"),
    "stack": lambda: QRNN(3, [4, 5], window=[3, 1], dense=True, dropout=0.25, batch_first=True),
    "stack-bidirectional": lambda: QRNN(3, 4, 2, bidirectional=True, activation="relu"),
    "model": lambda: model_of(tied=True, vocabulary=[*"abcdefghij", "\N{REPLACEMENT CHARACTER}"]),
    "model-plain": lambda: model_of(pooling="f", forget_bias=1.0),
    "model-repeated": lambda: model_of(vocabulary=[*"abcdefg", *["xxfake"] * 4]),
    "model-both": lambda: model_of(bidirectional=True),
    "stack-end": lambda: QRNN(3, 4, 2, bidirectional=True, join="end", zoneout=0.25),
    "projected": lambda: ProjectedQRNN(3, 4, 2, projection_size=5, projection_bias=False),
    "encoder": lambda: QRNNEncoder(11, 6, [7, 5], window=[2, 1], reverse=True, dropout=0.25),
    "classifier": lambda: QRNNClassifier(
        11,
        *(6, 7, 2),
        num_classes=3,
        head_sizes=[8, 4],
        head_dropout=[0.5, 0.25, 0.0],
        head_bias=False,
        padding="chunks",
        bptt=4,
        pooled_steps=9,
        pad_token=0,
        classes=["a", "b", "c"],
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_configuration_and_state_dict_round_trip(name: str) -> None:
    module = MODULES[name]().eval()
    config = json.loads(json.dumps(module.config()))
    twin = from_config(config).eval()
    assert type(twin) is type(module) and twin.config() == module.config()
    twin.load_state_dict(module.state_dict())
    text = isinstance(module, QRNNEncoder)
    x = torch.randint(11, (B, T)) if text else torch.randn(B, T, 3)
    assert torch.equal(twin(x)[0], module(x)[0])
    assert torch.equal(copy.deepcopy(module)(x)[0], module(x)[0])
    assert from_config(config, device="meta").weight.is_meta if name == "layer" else True
    assert next(from_config(config, dtype=torch.float64).parameters()).dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("stack", {"architecture": "LSTM"}, "architecture is 'LSTM', expected one of QRNNLayer"),
        ("stack", {"architecture": ["QRNN"]}, r"architecture is \['QRNN'\]"),
        ("stack", {"colour": 1}, "has unknown 'colour'"),
        ("stack", {"device": "cuda"}, "has unknown 'device'"),
        ("stack", {"window": None}, r"window is None"),
        ("stack", {"window": [1, 2, 3]}, "window has 3 entries, expected one number or 2"),
        ("stack", {"window": [1, "2"]}, r"window\[1\] is '2', expected a whole number"),
        ("stack", {"hidden_size": "wide"}, "hidden_size is 'wide'"),
        ("stack", {"hidden_size": [4.0, 5]}, r"hidden_size\[0\] is 4.0"),
        ("stack", {"num_layers": 10**9}, "num_layers is 1000000000, expected"),
        ("stack", {"num_layers": 3}, "hidden_size has 2 entries, expected one number or 3"),
        ("stack", {"input_size": 2**24, "hidden_size": 2**24}, "weight of shape .* would hold"),
        (
            "stack",
            {"hidden_size": 9000, "window": 4, "num_layers": 4, "dense": False},
            "QRNN would hold .* parameters, expected at most",
        ),
        ("stack", {"dropout": "0.5"}, "dropout is '0.5'"),
        ("stack-bidirectional", {"reverse": True}, "bidirectional and reverse are both true"),
        ("stack", {"join": "end"}, "join is 'end' in a dense stack, expected 'level'"),
        ("stack", {"join": "end", "dense": False}, "join is 'end' in one direction"),
        ("stack-end", {"join": "sum"}, "join is 'sum', expected one of level, end"),
        ("stack-end", {"dense": True}, "join is 'end' in a dense stack"),
        ("projected", {"projection_size": 0}, "projection_size is 0"),
        ("projected", {"projection_bias": None}, "projection_bias is None"),
        (
            "projected",
            {"projection_size": 2**24, "hidden_size": 2**9},
            "projection.weight of shape",
        ),
        ("encoder", {"tied": True}, "has unknown 'tied'"),
        ("encoder", {"bidirectional": True}, "bidirectional and reverse are both true"),
        ("model", {"vocab_size": 12}, "vocabulary has 11 entries, expected vocab_size = 12"),
        ("model", {"vocabulary": ["a"] * 10}, "vocabulary has 10 entries, expected vocab_size = 1"),
        ("model", {"vocabulary": "abcdefghijk"}, "vocabulary is 'abcdefghijk', expected 11 str"),
        (
            "model",
            {"vocabulary": [*"abcdefghij", "\ud800"]},
            r"vocabulary\[10\] is '.ud800', half of a surrogate pair",
        ),
        ("model", {"vocabulary": [[1]] * 11}, "vocabulary is a list of 11 entries"),
        ("model", {"hidden_size": [7, 7]}, "tied needs a last level of embedding_size = 6"),
        ("model", {"vocab_size": 2**24, "embedding_size": 2**24, "vocabulary": None}, "embedding"),
    ],
)
def test_refused_configurations(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_config({**MODULES[name]().config(), **change})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_refused_configurations_of_wrong_form() -> None:
    config = MODULES["stack"]().config()
    del config["dense"]
    with pytest.raises(ConfigError, match="lacks 'dense'"):
        from_config(config)
    config = MODULES["projected"]().config()  # there never was one without
    del config["join"]
    with pytest.raises(ConfigError, match="configuration of ProjectedQRNN lacks 'join'"):
        from_config(config)
    with pytest.raises(ConfigError, match=r"configuration is \[\], expected an object"):
        from_config([])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="architecture is None"):
        from_config({})


@pytest.mark.parametrize("name", ["stack", "stack-bidirectional", "model"])
def test_configurations_of_earlier_releases(name: str) -> None:
    module = MODULES[name]()
    config = module.config()
    for key in ADDED_LATER[config["architecture"]]:
        del config[key]
    assert from_config(config).config() == module.config()


def test_stack_refuses_wrong_input_and_state() -> None:
    stack, x = stack_of(IN, 5, 2), torch.randn(T, B, IN)
    with pytest.raises(InputError, match=r"QRNN: x has shape \[8, 3, 2\], expected \[T, B, 4\]"):
        stack(x[..., :2])
    with pytest.raises(InputError, match="state has 1 entries, expected 2, one per layer"):
        stack(x, stack.initial_state(B)[:1])


@pytest.mark.parametrize(
    ("name", "output"),
    [("encoder", "y"), ("model-both", "logits"), ("stack-end", "y"), ("projected", "y")],
)
def test_exported_and_verified(name: str, output: str, tmp_path: Path) -> None:
    module = MODULES[name]().eval()
    states = "separate" if module.streams else "none"
    report = qrnn_deploy.export(module, tmp_path / "m.onnx", states=states, lengths=True)
    assert [port.name for port in report.metadata.outputs] == [output]
    assert report.metadata.config == module.config()
    assert qrnn_deploy.verify(tmp_path / "m.onnx", module=module).passed


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("name", ["forward", "bidirectional", "model"])
def test_export_with_dynamic_sizes(name: str, ragged: bool) -> None:
    if name == "model":
        module: nn.Module = model_of()
    else:
        options = {"bidirectional": True} if name == "bidirectional" else {}
        module = stack_of(IN, [5, 3], window=[1, 3], dense=True, batch_first=True, **options)

    def inputs(batch: int, steps: int) -> tuple[Any, ...]:
        lm = name == "model"
        x = torch.randint(11, (batch, steps)) if lm else torch.randn(batch, steps, IN)
        state = [
            LayerState(torch.randn_like(s.c), None if s.x is None else torch.randn_like(s.x))
            for s in module.initial_state(batch)
        ]
        lengths = torch.randint(0, steps + 1, (batch,)) if ragged else None
        return x, state, lengths

    b, t = torch.export.Dim("B", min=0), torch.export.Dim("T", min=0)
    example = inputs(3, 7)
    shapes = (
        {0: b, 1: t},
        [LayerState({0: b}, None if s.x is None else {0: b}) for s in example[1]],
        {0: b} if ragged else None,
    )
    program = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
    nodes = [str(n.target) for n in program.graph.nodes]
    pools = [n for n in nodes if n.startswith("qrnn_deploy.pool_fo")]
    assert len(pools) == (4 if name == "bidirectional" else 2)
    traced = program.module()
    for batch, steps in ((1, 1), (2, 1), (5, 11), (3, 0), (0, 4)):
        given = inputs(batch, steps)
        y, state = traced(*given)
        y_ref, state_ref = module(*given)
        assert torch.equal(y, y_ref)
        for got, expected in zip(state, state_ref, strict=True):
            assert torch.equal(got.c, expected.c)
            assert expected.x is None or torch.equal(got.x, expected.x)
