"""SRU and SRU++ modules: equations in plain NumPy, chunks, lengths, training, configurations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sru_oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qrnn_deploy import load_checkpoint, save_checkpoint
from qrnn_deploy.errors import ConfigError, InputError
from qrnn_deploy.nn import SRU, SRULayer, SRUpp, SRUState, from_config
from qrnn_deploy.nn.recurrent import is_state

B = 3


def randomised(module: Any, dtype: torch.dtype = torch.float64) -> Any:
    """In eval mode, with every parameter and buffer drawn anew."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.6)
    return module.to(dtype).eval()


def frames(*sizes: int) -> Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def oracle_of(module: Any, x: Tensor, **more: Any) -> Any:
    state = {name: value.double().numpy() for name, value in module.state_dict().items()}
    return sru_oracle.stack(x.numpy(), state, module.config(), **more)


def agree(got: tuple[Tensor, list[SRUState]], expected: Any) -> None:
    y, states = got
    np.testing.assert_allclose(y.detach().numpy(), expected[0], rtol=1e-9, atol=1e-9)
    assert len(states) == len(expected[1])
    for state, c in zip(states, expected[1], strict=True):
        np.testing.assert_allclose(state.c.detach().numpy(), c, rtol=1e-9, atol=1e-9)


OPTIONS = st.fixed_dictionaries(
    {
        "input_size": st.sampled_from([3, 4, 8, 9]),
        "hidden_size": st.just(4),
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "highway": st.booleans(),
        "rescale": st.booleans(),
        "activation": st.sampled_from(["identity", "tanh", "relu"]),
        "projection_size": st.sampled_from([0, 2, 5]),
        "layer_norm": st.sampled_from(["none", "before", "after"]),
        "input_to_hidden": st.booleans(),
    }
)


@settings(max_examples=40, deadline=None)
@given(OPTIONS, st.booleans())
@torch.no_grad()
def test_a_stack_is_its_equations(options: dict[str, Any], ragged: bool) -> None:
    module = randomised(SRU(**options))
    x = frames(6, B, options["input_size"])
    start = [frames(B, 4) for _ in module.layers]
    lengths = [6, 0, 4] if ragged else None
    given_lengths = None if lengths is None else torch.tensor(lengths)
    got = module(x, [SRUState(c) for c in start], given_lengths)
    agree(got, oracle_of(module, x, c0=[c.numpy() for c in start], lengths=lengths))
    if ragged and options["layer_norm"] != "after":
        assert not got[0][4:, 2].any() and not got[0][:, 1].any()


@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "input_size": st.sampled_from([3, 4, 8]),
            "hidden_size": st.just(4),
            "projection_size": st.just(6),
            "num_layers": st.integers(1, 2),
            "num_heads": st.sampled_from([1, 3]),
            "causal": st.booleans(),
            "bidirectional": st.booleans(),
            "attention_norm": st.booleans(),
            "layer_norm": st.sampled_from(["none", "before", "after"]),
            "rescale": st.booleans(),
            "input_to_hidden": st.booleans(),
        }
    ),
    st.booleans(),
    st.booleans(),
)
@torch.no_grad()
def test_attention_is_its_equations(options: dict[str, Any], ragged: bool, every: bool) -> None:
    attention = [every or level > 0 for level in range(options["num_layers"])]
    module = randomised(SRUpp(**options, attention=attention))
    x = frames(6, B, options["input_size"])
    lengths = [6, 1, 4] if ragged else None
    given_lengths = None if lengths is None else torch.tensor(lengths)
    expected = oracle_of(module, x, lengths=lengths)
    agree(module(x, None, given_lengths), expected)
    if ragged:
        x[4:, 2] = math.nan
        agree(module(x, None, given_lengths), expected)
    assert module.streams == (not options["bidirectional"] and not any(attention))


def test_a_causal_stack_of_attention_does_not_see_what_comes() -> None:
    module = randomised(SRUpp(4, 4, 6, 2, causal=True))
    x = frames(6, B, 4)
    whole, _ = module(x)
    begun, _ = module(x[:4])
    torch.testing.assert_close(whole[:4], begun)
    module = randomised(SRUpp(4, 4, 6, 2))
    assert (module(x)[0][:4] - module(x[:4])[0]).abs().max() > 1e-3


@pytest.mark.parametrize("bidirectional", [False, True])
@torch.no_grad()
def test_no_step_attends_to_one_that_is_passed_over(bidirectional: bool) -> None:
    module = randomised(SRUpp(4, 4, 6, 2, num_heads=2, bidirectional=bidirectional))
    x = frames(6, B, 4)
    hold = torch.zeros(6, B, dtype=torch.bool)
    hold[[1, 4], 0] = hold[[0, 5], 1] = hold[[2, 3], 2] = True
    rows = [row[~gone] for row, gone in zip(x.unbind(1), hold.unbind(1), strict=True)]
    short, expected = module(torch.stack(rows, dim=1))
    x[hold] = math.nan
    y, state = module(x, hold=hold)
    torch.testing.assert_close(y.transpose(0, 1)[~hold.t()], short.transpose(0, 1).flatten(0, 1))
    torch.testing.assert_close(state, expected)


@pytest.mark.parametrize("layer_norm", ["none", "before", "after"])
@torch.no_grad()
def test_chunks(layer_norm: str) -> None:
    module = randomised(SRU(5, 4, 3, layer_norm=layer_norm, projection_size=2, rescale=True))
    assert module.streams
    x, state, parts = frames(9, B, 5), None, []
    whole = module(x)
    for chunk in x.split([4, 1, 0, 4]):
        y, state = module(chunk, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole[0])
    torch.testing.assert_close(state, whole[1])
    assert not SRU(5, 4, bidirectional=True).streams


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layer_norm", ["none", "before"])
@torch.no_grad()
def test_steps_to_pass_over_are_as_if_they_were_not_there(
    bidirectional: bool, layer_norm: str
) -> None:
    module = randomised(
        SRU(5, 4, 2, layer_norm=layer_norm, bidirectional=bidirectional, batch_first=True)
    )
    x = frames(2, 7, 5)
    hold = torch.zeros(2, 7, dtype=torch.bool)
    hold[0, [0, 3, 6]] = hold[1, [2, 4, 5]] = True
    short, expected = module(torch.stack([row[~gone] for row, gone in zip(x, hold, strict=True)]))
    x[hold] = math.inf
    y, state = module(x, hold=hold)
    torch.testing.assert_close(y[~hold], short.flatten(0, 1))
    assert not y[hold].any()
    torch.testing.assert_close(state, expected)
    with pytest.raises(InputError, match=r"hold is torch.int64 \[2, 7\], expected torch.bool"):
        module(x, hold=hold.long())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_narrow_types_keep_a_wide_state(dtype: torch.dtype) -> None:
    module = randomised(SRU(4, 4, 2, rescale=True, layer_norm="before"), dtype)
    x = frames(6, B, 4).to(dtype)
    y, states = module(x)
    assert y.dtype == dtype and all(state.c.dtype == torch.float32 for state in states)
    expected, _ = oracle_of(module, x.double())
    error = np.abs(y.double().numpy() - expected).max()
    assert error < torch.finfo(dtype).eps * 20 * np.abs(expected).max()


@pytest.mark.parametrize("skip", ["weight", "input", "none"])
@pytest.mark.parametrize("reverse", [False, True])
@torch.no_grad()
def test_a_layer_alone(skip: str, reverse: bool) -> None:
    """Against a stack that was checked: one direction of one of two."""
    size = 8 if skip == "input" else 5
    stack = randomised(
        SRU(size, 4, bidirectional=True, highway=skip != "none", layer_norm="before")
    )
    layer = SRULayer(
        size,
        4,
        skip=skip,
        skip_start=4 if skip == "input" and reverse else 0,
        reverse=reverse,
        layer_norm=True,
        batch_first=True,
        dtype=torch.float64,
    )
    layer.load_state_dict(stack.layers[reverse].state_dict())
    x = frames(6, B, size)
    y, state = layer.eval()(x.transpose(0, 1))
    whole, states = stack(x)
    torch.testing.assert_close(y.transpose(0, 1), whole[:, :, 4 * reverse : 4 * reverse + 4])
    torch.testing.assert_close(state, states[reverse])
    assert is_state(state) and layer.streams is not reverse
    assert (
        layer.facts()["op_type"]
        == {
            "weight": "SRUPool",
            "input": "SRUPoolInput",
            "none": "SRUPoolNoSkip",
        }[skip]
    )


def test_the_directions_of_a_level_share_what_stands_before_their_gates(tmp_path: Path) -> None:
    module = randomised(SRU(6, 4, 2, bidirectional=True, layer_norm="before", projection_size=3))
    first, second = module.layers[2], module.layers[3]
    assert first.entry is second.entry and first.weight is not second.weight
    x = frames(5, B, 6)
    module(x)[0].sum().backward()
    assert first.entry.projection.weight.grad.abs().min() > 0
    for suffix in ("safetensors", "pt"):
        save_checkpoint(module, tmp_path / f"m.{suffix}")
        again = load_checkpoint(tmp_path / f"m.{suffix}").module
        assert again.layers[2].entry is again.layers[3].entry
        torch.testing.assert_close(again(x), module(x))


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("highway_bias", [0.0, -2.0])
@torch.no_grad()
def test_fresh_weights(rescale: bool, highway_bias: float) -> None:
    """Variances as upstream documents them; what it scales by, it scales here."""
    torch.manual_seed(2)
    options: dict[str, Any] = {"rescale": rescale, "highway_bias": highway_bias}
    layer = SRULayer(300, 200, **options)
    scale = math.sqrt(1 + 2 * math.exp(highway_bias)) if rescale else 1.0
    z, f, r, x = layer.weight.chunk(4)
    for part, variance in ((z, 1.0), (f, 0.5), (r, 0.5), (x, scale**2)):
        assert float(part.var() * 300) == pytest.approx(variance, rel=0.05)
    assert float(layer.weight_c.var()) == pytest.approx(0.5, rel=0.2)
    assert not layer.bias[0].any() and (layer.bias[1] == highway_bias).all()
    assert layer.skip_scale is None
    skipping = SRULayer(200, 200, skip="input", **options)
    assert (skipping.skip_scale is not None) == rescale
    if skipping.skip_scale is not None:
        assert float(skipping.skip_scale) == pytest.approx(scale)
    old = SRULayer(300, 200, v1=True, projection_size=50, **options)
    assert not old.weight_c.any() and not old.weight_c.requires_grad
    assert float(old.weight[200:400].var() * 50) == pytest.approx(1, rel=0.05)
    assert old.entry.projection is not None
    assert float(old.entry.projection.weight.var() * 300) == pytest.approx(1, rel=0.05)
    for norm in ("before", "after"):
        stack = SRU(300, 200, 2, layer_norm=norm)
        assert float(stack.layers[0].weight[:200].var() * 300) == pytest.approx(0.01, rel=0.05)
        stack.reset_parameters()
        assert float(stack.layers[1].weight[:200].var() * 200) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("options", [{"input_size": 5}, {"input_size": 4}, {"highway": False}])
def test_dropout_leaves_a_channel_to_the_highway(options: dict[str, Any]) -> None:
    """One mask for the whole sequence, none on the last level, none in eval mode."""
    module = randomised(SRU(**{"input_size": 5, "hidden_size": 4, "dropout": 0.5, **options}))
    x = frames(6, 40, module.input_size)
    exact, _ = module(x)
    module.train()
    torch.testing.assert_close(module(x)[0], exact)  # one level, which is the last
    layer = module.layers[0]
    layer.dropout = 0.5
    lengths = torch.full((40,), 4)
    y, _ = layer(x, None, lengths)
    assert not y[4:].any()
    if not options.get("highway", True):
        highway = torch.zeros_like(y)
    elif module.input_size == 4:
        highway = x
    else:
        highway = x @ layer.weight[12:].T
    gone, kept = (highway - y)[:4], (highway + 2 * (exact - highway) - y)[:4]
    is_gone, is_kept = (part.abs().amax(dim=0) < 1e-9 for part in (gone, kept))
    assert (is_gone ^ is_kept).all() and 0.3 < is_gone.double().mean() < 0.7


def test_input_dropout_spares_the_highway() -> None:
    layer = randomised(SRULayer(4, 4, skip="input", input_dropout=0.5))
    layer.train()
    layer.weight.detach().zero_()
    layer.bias.detach().fill_(-50.0)  # the reset gate is shut: h is the highway's input
    x = frames(6, 40, 4)
    torch.testing.assert_close(layer(x)[0], x)
    seen = layer.entry(x)
    kept = (seen - 2 * x).abs().amax(dim=0) < 1e-12
    assert (kept ^ (seen.abs().amax(dim=0) == 0)).all() and 0.3 < kept.double().mean() < 0.7


def test_gradients_reach_everything_and_padding_reaches_nothing() -> None:
    module = randomised(SRU(5, 4, 2, rescale=True, layer_norm="after")).train()
    x = frames(6, B, 5)
    x[4:, 1] = math.nan
    y, states = module(x.requires_grad_(), None, torch.tensor([6, 4, 2]))
    (y[:2].square().sum() + states[-1].c.sum()).backward()
    for parameter in module.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
        assert parameter.grad.any()
    assert x.grad is not None and not x.grad[4:, 1].any() and x.grad[:4, 1].any()


@pytest.mark.parametrize(
    "module",
    [
        SRULayer(5, 4, skip="none", v1=True, dropout=0.25, weight_c_init=0.5),
        SRULayer(9, 4, skip="input", skip_start=4, rescale=True, input_dropout=0.5, reverse=True),
        SRU(5, 4),
        SRU(8, 4, 3, bidirectional=True, layer_norm="after", projection_size=3, highway_bias=-3),
        SRU(5, 4, 2, input_to_hidden=True, highway=False, activation="tanh", batch_first=True),
        SRUpp(5, 4, 6, 2, attention=[True, False], num_heads=2, causal=True, dropout=0.5),
        SRUpp(5, 4, 6, layer_norm="before", attention_norm=False, weight_c_init=None),
    ],
    ids=lambda module: type(module).__name__,
)
def test_configurations(module: Any) -> None:
    config = json.loads(json.dumps(module.config()))
    again = from_config(config)
    assert type(again) is type(module) and again.config() == module.config()
    again.load_state_dict(module.state_dict())
    assert repr(again) == repr(module)
    x = torch.randn(2, 2, module.input_size)
    torch.testing.assert_close(again.eval()(x), module.eval()(x))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: SRULayer(4, 5, skip="input"), "skip is 'input' of features 0..5 of 4"),
        (lambda: SRULayer(4, 5, skip="highway"), "skip is 'highway', expected one of weight"),
        (lambda: SRULayer(4, 5, highway_bias=1e6), "highway_bias is 1000000.0, expected a number"),
        (lambda: SRULayer(4, 5, weight_c_init=-1), "weight_c_init is -1, expected a number in 0"),
        (lambda: SRULayer(2**24, 2**20, device="meta"), "the sizes are too large"),
        (lambda: SRU(4, 5, projection_size=-1), "projection_size is -1"),
        (lambda: SRU(4, 5, layer_norm="both"), "layer_norm is 'both', expected one of none"),
        (lambda: SRU(4, 5, 10**6, device="meta"), "num_layers is 1000000"),
        (lambda: SRUpp(4, 5, 6, num_heads=4), "projection_size is 6 with num_heads 4"),
        (
            lambda: SRUpp(4, 5, 6, 2, attention=[True]),
            "attention has 1 entries, expected one value",
        ),
        (lambda: SRUpp(4, 5, 2**20, device="meta"), "the sizes are too large"),
        (lambda: SRU(4, 5)(torch.zeros(3, 2, 5)), r"x has shape \[3, 2, 5\], expected \[T, B, 4\]"),
        (lambda: SRU(4, 5)(torch.zeros(3, 2, 4), []), "state has 0 entries, expected 1"),
        (
            lambda: SRU(4, 5)(torch.zeros(3, 2, 4), [SRUState(torch.zeros(3, 5))]),
            r"state.c is torch.float32 \[3, 5\], expected torch.float32 \[2, 5\]",
        ),
    ],
)
def test_mistakes_are_one_line(make: Any, part: str) -> None:
    with pytest.raises((ConfigError, InputError), match=part) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_stack_learns_to_remember() -> None:
    """The sign of the first frame, which is marked as such, after seven steps of noise."""

    def drawn(batch: int) -> Tensor:
        x = torch.randn(8, batch, 2)
        x[:, :, 1] = 0
        x[0, :, 1] = 1
        return x

    torch.manual_seed(3)
    model, head = SRU(2, 8, 2, highway_bias=-1.0), torch.nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], 0.03)
    for _ in range(120):
        x = drawn(32)
        wanted = x[0, :, :1].sign()
        loss = (head(model(x)[0][-1]) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = drawn(500)
    right = head(model(x)[0][-1]).sign() == x[0, :, :1].sign()
    assert right.double().mean() > 0.95
