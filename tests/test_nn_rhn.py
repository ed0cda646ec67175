"""Recurrent highway layers, stacks and language models: wiring, state, dropout, configurations."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import numpy as np
import pytest
import rhn_oracle as oracle
import torch
from torch import Tensor

from qrnn_deploy.errors import ConfigError, InputError
from qrnn_deploy.nn import (
    RHN,
    Binding,
    LanguageModel,
    QRNNLanguageModel,
    RHNLanguageModel,
    RHNLayer,
    RHNState,
    bound,
    from_config,
)

T, B, IN, H = 7, 3, 5, 4
LENGTHS = torch.tensor([7, 0, 4])


def randomised(module: Any) -> Any:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1, 1)
    return module.eval()


def layer_of(**options: Any) -> RHNLayer:
    return randomised(RHNLayer(IN, H, **{"depth": 3, "dtype": torch.float64, **options}))


def frames(*sizes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*sizes, generator=generator, dtype=torch.float64).to(dtype)


def oracle_of(layer: RHNLayer, x: Any, s0: Any, lengths: Any = None) -> Any:
    """A layer's answer from its parameters, without its code."""
    w, u = layer.weight.detach().numpy(), layer.input_weight.detach().numpy()
    gates = np.asarray(x) @ u.T
    if layer.input_bias is not None:
        gates = gates + layer.input_bias.detach().numpy()
    direction = -1 if layer.reverse else 1
    return oracle.recurrence(gates, s0, w, layer.bias.detach().numpy(), lengths, direction)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("input_bias", "reverse"), [(False, False), (True, False), (True, True)])
@torch.no_grad()
def test_a_layer_is_its_equations(input_bias: bool, reverse: bool, batch_first: bool) -> None:
    layer = layer_of(input_bias=input_bias, reverse=reverse, batch_first=batch_first)
    x, s0 = frames(T, B, IN), frames(B, H)
    for lengths, state in itertools.product((None, LENGTHS), (None, RHNState(s0))):
        y, after = layer(x.transpose(0, 1) if batch_first else x, state, lengths)
        y = y.transpose(0, 1) if batch_first else y
        zeros = np.zeros((B, H))
        wanted, s_T = oracle_of(layer, x, zeros if state is None else s0, lengths)
        np.testing.assert_allclose(y, wanted, atol=1e-13)
        np.testing.assert_allclose(after.s, s_T, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@torch.no_grad()
def test_narrow_types(dtype: torch.dtype) -> None:
    layer = layer_of(dtype=dtype)
    state = layer.initial_state(B)
    assert state.s.dtype == torch.float32
    y, after = layer(frames(T, B, IN, dtype=dtype), state)
    wanted, s_T = oracle_of(
        copy.deepcopy(layer).double(), frames(T, B, IN, dtype=dtype).double(), state.s
    )
    tolerance = {torch.float32: 2e-6, torch.float16: 5e-3, torch.bfloat16: 4e-2}[dtype]
    assert y.dtype == dtype and after.s.dtype == torch.float32
    np.testing.assert_allclose(y.double(), wanted, atol=tolerance)
    np.testing.assert_allclose(after.s, s_T, atol=tolerance)


@pytest.mark.parametrize("reverse", [False, True])
@torch.no_grad()
def test_chunks_of_a_stack(reverse: bool) -> None:
    stack = randomised(RHN(IN, [H, 6], depth=2, reverse=reverse))
    x = frames(T, B, IN, dtype=torch.float32)
    whole, last = stack(x)
    state, parts = stack.initial_state(B), []
    order = -1 if reverse else 1
    for chunk in x.split([1, 2, 4])[::order]:
        part, state = stack(chunk, state)
        parts.append(part)
    assert stack.streams == (not reverse)
    torch.testing.assert_close(torch.cat(parts[::order]), whole, rtol=0, atol=1e-6)
    for after, wanted in zip(state, last, strict=True):
        torch.testing.assert_close(after.s, wanted.s, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_stack_is_its_layers() -> None:
    stack = randomised(
        RHN(IN, [H, 6, 2], depth=2, projection_size=3, input_bias=True, dtype=torch.float64)
    )
    x = frames(T, B, IN)
    y, states = stack(x, None, LENGTHS)
    wanted: Any = x
    for layer, after in zip(stack.layers, states, strict=True):
        wanted, s_T = oracle_of(layer, wanted, np.zeros((B, layer.hidden_size)), LENGTHS)
        np.testing.assert_allclose(after.s, s_T, atol=1e-13)
    assert stack.projection is not None and stack.output_size == 3
    wanted = wanted @ stack.projection.weight.numpy().T + stack.projection.bias.numpy()
    np.testing.assert_allclose(y, wanted, atol=1e-13)
    turned = RHN(**{**arguments(stack), "batch_first": True}, dtype=torch.float64)
    turned.load_state_dict(stack.state_dict())
    torch.testing.assert_close(turned(x.transpose(0, 1), None, LENGTHS)[0].transpose(0, 1), y)


def arguments(module: Any) -> dict[str, Any]:
    return {key: value for key, value in module.config().items() if key != "architecture"}


@torch.no_grad()
def test_a_binding_sees_and_changes_every_layer() -> None:
    class Seen(Binding):
        def __init__(self) -> None:
            self.gates_seen: list[Tensor] = []

        def enter(self, layer: Any, x: Tensor, state: Any, lengths: Any) -> Any:
            return x, RHNState(torch.ones(B, layer.hidden_size)), lengths

        def gates(self, layer: Any, gates: Tensor) -> Tensor:
            self.gates_seen.append(gates)
            return gates

    stack = randomised(RHN(IN, H, 2, depth=2))
    x = frames(T, B, IN, dtype=torch.float32)
    with bound(Seen()) as binding:
        y, _ = stack(x)
    assert [g.shape for g in binding.gates_seen] == [(T, B, 2 * H)] * 2
    torch.testing.assert_close(binding.gates_seen[0], x @ stack.layers[0].input_weight.T)
    torch.testing.assert_close(y, stack(x, [RHNState(torch.ones(B, H))] * 2)[0])
    assert stack.layers[0].facts() == {"op_type": "RHNRecurrence", "pooling": "rhn", "depth": 2}


def test_fresh_weights() -> None:
    torch.manual_seed(0)
    layer = RHNLayer(100, 50, depth=3, input_bias=True, transform_bias=-4.0)
    assert torch.equal(layer.bias, torch.tensor([0.0] * 50 + [-4.0] * 50).expand(3, -1))
    assert layer.input_bias is not None and not layer.input_bias.any()
    first, other = (6 / 200) ** 0.5, (6 / 100) ** 0.5
    for weight, bound_ in (
        (layer.input_weight, first),
        (layer.weight[0], first),
        (layer.weight[1:], other),
    ):
        assert 0.98 * bound_ < weight.abs().max() <= bound_
    before = copy.deepcopy(layer.state_dict())
    layer.reset_parameters()
    assert not torch.equal(layer.weight, before["weight"])


@pytest.mark.parametrize("masks", ["shared", "separate"])
def test_dropout_has_one_mask_for_a_sequence(masks: str) -> None:
    """The layer in training is one layer per row with rows and columns of its weights scaled."""
    layer = layer_of(input_dropout=0.5, state_dropout=0.5, masks=masks, input_bias=True).train()
    x, s0 = frames(T, B, IN), frames(B, H)
    torch.manual_seed(11)
    y, after = layer(x, RHNState(s0), LENGTHS)
    torch.manual_seed(11)
    count = 1 if masks == "shared" else 2
    kept = [torch.nn.functional.dropout(torch.ones(count, B, n).double(), 0.5) for n in (IN, H)]
    assert all(set(mask.unique().tolist()) == {0.0, 2.0} for mask in kept)
    for row in range(B):
        by_input, by_state = (m[:, row].repeat_interleave(2 * H // count, dim=0) for m in kept)
        alone = copy.deepcopy(layer).eval()
        alone.input_weight.data *= by_input
        alone.weight.data *= by_state
        one = slice(row, row + 1)
        wanted, s_T = oracle_of(alone, x[:, one], s0[one], LENGTHS[one])
        np.testing.assert_allclose(y.detach()[:, one], wanted, atol=1e-13)
        np.testing.assert_allclose(after.s.detach()[one], s_T, atol=1e-13)
    y.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    assert torch.equal(layer.eval()(x)[0], layer(x)[0])


def test_a_stack_can_learn_to_remember() -> None:
    """The first of two symbols, said again after some steps: a plain map of the input cannot."""
    torch.manual_seed(0)
    model = RHNLanguageModel(4, 8, 16, depth=2, state_dropout=0.05, masks="separate")
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(60):
        first = torch.randint(2, (32, 1))
        tokens = torch.cat([first, torch.full((32, 4), 2)], dim=1)
        logits, _ = model(tokens)
        loss = torch.nn.functional.cross_entropy(logits[:, -1], first[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.6 and losses[-1] < 0.2  # chance is 0.69


@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_a_language_model(tied: bool) -> None:
    model = randomised(RHNLanguageModel(9, H, [6, H], depth=2, tied=tied, dtype=torch.float64))
    tokens = torch.arange(12).reshape(2, 6) % 9
    logits, states = model(tokens)
    variables = {"model/embedding": model.embedding.weight, "model/softmax_b": model.decoder_bias}
    if not tied:
        variables["model/softmax_w"] = model.decoder_weight.T
    for number, layer in enumerate(model.stack.layers):
        width = layer.hidden_size
        for d, (block, gate) in itertools.product(range(2), enumerate("ht")):
            rows = slice(block * width, (block + 1) * width)
            matrix = layer.weight[d, rows].T
            if d == 0:
                matrix = torch.cat([layer.input_weight[rows].T, matrix])
            scope = f"model/RHN{number}/{gate}_{d}/Linear"
            variables |= {f"{scope}/Matrix": matrix, f"{scope}/Bias": layer.bias[d, rows]}
    plain = {name: value.numpy() for name, value in variables.items()}
    wanted, after = oracle.tensorflow(plain, tokens.numpy())
    np.testing.assert_allclose(logits, wanted, atol=1e-12)
    for state, s_T in zip(states, after, strict=True):
        np.testing.assert_allclose(state.s, s_T, atol=1e-13)
    pieces, state = [], None
    for chunk in tokens.split([1, 5], dim=1):
        piece, state = model(chunk, state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, dim=1), logits)
    assert isinstance(model, LanguageModel) and model.streams


def test_dropout_of_a_language_model() -> None:
    model = randomised(RHNLanguageModel(5, 8, 8, depth=1, word_dropout=0.5, output_dropout=0.5))
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]] * 6)
    model.train()
    x = model.embed(tokens.T)
    kept = x.abs().sum(-1) > 0
    assert torch.equal(kept[:5], kept[5:]) and 0 < kept.float().mean() < 1
    embedded = model.embedding.weight[tokens.T] * 2
    torch.testing.assert_close(x, embedded * kept[:, :, None])
    y = model.before_decoder(torch.ones(4, 6, 8))
    assert torch.equal(y, y[:1].expand_as(y)) and set(y.unique().tolist()) == {0.0, 2.0}
    model.eval()
    assert torch.equal(model.before_decoder(y), y)
    assert torch.equal(model.embed(tokens.T), model.embedding.weight[tokens.T])


MODULES = [
    lambda: RHNLayer(3, 4, depth=2, input_bias=True, reverse=True, state_dropout=0.1),
    lambda: RHN(3, [4, 5], depth=2, projection_size=6, input_dropout=0.2, masks="separate"),
    lambda: RHNLanguageModel(
        *(5, 4, 4, 2),
        **{"depth": 3, "tied": True, "word_dropout": 0.25, "output_dropout": 0.5},
        vocabulary=list("abcde"),
    ),
]


@pytest.mark.parametrize("make", MODULES, ids=["layer", "stack", "model"])
def test_configurations(make: Any) -> None:
    module = make()
    config = json.loads(json.dumps(module.config()))
    again = from_config(config)
    assert type(again) is type(module) and again.config() == module.config()
    again.load_state_dict(module.state_dict())
    damaged = dict(config)
    del damaged["depth"]
    with pytest.raises(ConfigError, match="lacks"):
        from_config(damaged)
    with pytest.raises(ConfigError, match=r"depth is 257, expected a whole number in 1\.\.256"):
        from_config({**config, "depth": 257})
    with pytest.raises(ConfigError, match="masks is 'none'"):
        from_config({**config, "masks": "none"})
    assert "depth=" in repr(module)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"hidden_size": 2**24, "depth": 1}, "expected at most"),
        ({"transform_bias": float("nan")}, "transform_bias is nan, expected a finite number"),
        ({"state_dropout": 1}, "state_dropout is 1, expected a number in 0 <= p < 1"),
        ({"projection_size": 0}, "projection_size is 0, expected a whole number"),
        ({"hidden_size": [3, 4], "num_layers": 3}, "hidden_size has 2 entries"),
    ],
)
def test_sizes_and_numbers_are_checked(options: dict[str, Any], part: str) -> None:
    config = {**RHN(3, 4, depth=2).config(), **options}
    if "num_layers" not in options:
        config["num_layers"] = 1
    with pytest.raises(ConfigError) as caught:
        from_config(config)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_tied_decoder_needs_the_size_of_the_embedding() -> None:
    with pytest.raises(ConfigError, match="tied needs a last level of embedding_size = 4"):
        RHNLanguageModel(5, 4, 6, depth=1, tied=True)


def test_wrong_inputs() -> None:
    stack = RHN(IN, H, 2, depth=1)
    x = torch.zeros(T, B, IN)
    for wrong, part in (
        ((x[:, :, :2],), "x has shape [7, 3, 2], expected [T, B, 5]"),
        ((x, [stack.initial_state(B)[0]]), "state has 1 entries, expected 2"),
        ((x, stack.initial_state(2)), "state.s is torch.float32 [2, 4]"),
        ((x, None, torch.tensor([8, 1, 1])), "lengths holds 8, expected values in 0..7"),
    ):
        with pytest.raises(InputError) as caught:
            stack(*wrong)
        assert part in str(caught.value)


def test_autocast_runs_the_products_in_its_type() -> None:
    layer = layer_of(dtype=torch.float32)
    x = frames(T, B, IN, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, after = layer(x)
    assert y.dtype == torch.bfloat16 and after.s.dtype == torch.float32
    torch.testing.assert_close(y.float(), layer(x)[0], rtol=0, atol=0.05)


def test_models_of_both_families_share_their_ends() -> None:
    """What the QRNN model does around its stack is what the RHN model does."""
    torch.manual_seed(0)
    one = RHNLanguageModel(6, 4, 4, depth=1).eval()
    other = QRNNLanguageModel(6, 4, 4).eval()
    ends = {k: v for k, v in one.state_dict().items() if not k.startswith("stack.")}
    assert other.load_state_dict(ends, strict=False).unexpected_keys == []
    y = torch.randn(3, 2, 4)
    other.stack.forward = one.stack.forward = lambda *_: (y, [])  # type: ignore[method-assign]
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    assert torch.equal(one(tokens)[0], other(tokens)[0])
