"""convert: what a converted model computes, what stays as it was, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import upstream_stand_ins as up
from live_speechbrain import speechbrain_rnn
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy import convert
from qrnn_deploy.conversion.adapter import Adapter
from qrnn_deploy.conversion.torchqrnn import TorchQRNNLayer
from qrnn_deploy.errors import InputError
from qrnn_deploy.nn import QRNNLayer

IN, H, B = 5, 4, 3


@dataclass(frozen=True)
class Case:
    """An upstream layer or stack, the axes of its input, and the shape of its hidden."""

    build: Callable[[], Any]
    time_major: bool
    hidden: tuple[int, ...]

    def x(self, time: int, dtype: torch.dtype) -> Tensor:
        return torch.randn(*((time, B) if self.time_major else (B, time)), IN, dtype=dtype)

    def model(self, dtype: torch.dtype) -> Any:
        torch.manual_seed(4)
        return self.build().to(dtype).eval()


def _cases() -> dict[str, Case]:
    cases = {}
    for window in (1, 2):
        for gate in (True, False):
            options: dict[str, Any] = {"window": window, "output_gate": gate, "zoneout": 0.3}
            for save in (True, False):
                every: dict[str, Any] = {**options, "save_prev_x": save}
                label = f"w{window}{'-o' if gate else ''}{'-saved' if save else ''}"
                for name, upstream in (("torchqrnn", up.torchqrnn), ("early", up.early_fastai)):
                    time_major = name == "torchqrnn"
                    cases |= {
                        f"{name}-layer-{label}": Case(
                            lambda u=upstream, o=every: u.QRNNLayer(IN, H, **o),
                            time_major,
                            (1, B, H),
                        ),
                        f"{name}-stack-{label}": Case(
                            lambda u=upstream, o=every: u.QRNN(IN, H, 3, **o), time_major, (3, B, H)
                        ),
                    }
                for back in (False, True):
                    cases[f"fastai-layer-{label}{'-back' if back else ''}"] = Case(
                        lambda o=every, b=back: up.fastai.QRNNLayer(IN, H, backward=b, **o),
                        False,
                        (B, H),
                    )
                cases[f"fastai-stack-{label}"] = Case(
                    lambda o=every: up.fastai.QRNN(IN, H, 3, batch_first=False, **o),
                    True,
                    (3, B, H),
                )
            cases[f"fastai-both-w{window}{'-o' if gate else ''}"] = Case(
                lambda o=options: up.fastai.QRNN(IN, H, 2, bidirectional=True, **o),
                False,
                (4, B, H),
            )
    cases["torchqrnn-mixed"] = Case(_mixed, True, (3, B, H))
    cases["fastai-dropped-weights"] = Case(_weight_dropout, False, (2, B, H))
    cases["awd-dropped-weights"] = Case(_weight_drop, True, (1, B, H))
    return cases


def _mixed() -> nn.Module:
    """Layers of other windows, gates and zoneouts in one stack."""
    layer = up.torchqrnn.QRNNLayer
    layers = [
        layer(IN, H, window=2, save_prev_x=True),
        layer(H, H, output_gate=False, zoneout=0.4),
        layer(H, H, window=2),
    ]
    return up.torchqrnn.QRNN(IN, H, layers=layers)


def _weight_dropout() -> nn.Module:
    model = up.fastai.QRNN(IN, H, 2)
    layer: Any = model.layers[0]
    layer.linear = up.fastai.WeightDropout(layer.linear, 0.5)
    return model


def _weight_drop() -> nn.Module:
    layer = up.torchqrnn.QRNNLayer(IN, H, window=2)
    layer.linear = up.awd_lstm_lm.WeightDrop(layer.linear, 0.5)
    return layer


CASES = _cases()
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


def compare(got: Any, want: Any, tolerance: float) -> None:
    """Outputs and states, which must be worth comparing."""
    assert isinstance(got, tuple) and len(got) == len(want) == 2
    for have, expected in zip(got, want, strict=True):
        assert have.shape == expected.shape and have.dtype == expected.dtype
        assert float(expected.abs().max()) > 0.01
        torch.testing.assert_close(have, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_converted_gives_what_the_original_gives(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Without and with a state given, and in chunks that follow one another."""
    case = CASES[name]
    model = case.model(dtype)
    before = copy.deepcopy(model.state_dict())
    converted = convert(model)
    assert type(converted) is type(model) or isinstance(converted, Adapter)
    after = model.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)
    state = None
    for time in (6, 1, 3):
        x = case.x(time, dtype)
        wanted = model(x, state)
        compare(converted(x, state), wanted, tolerance)
        state = wanted[1]
    hidden = torch.randn(case.hidden, dtype=dtype)
    for part in (model, converted):
        part.reset()
    compare(converted(x, hidden), model(x, hidden), tolerance)
    # A model that has run holds more: the last input, the last copy of a dropped weight.
    again = convert(model)(x, hidden)
    compare(again, convert(case.model(dtype))(x, hidden), 0)


@pytest.mark.parametrize("live", [False, True], ids=["stand-in", "live"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
@pytest.mark.parametrize("output_gate", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["float64", "float32"])
@torch.no_grad()
def test_speechbrain(
    dtype: torch.dtype, tolerance: float, output_gate: bool, bidirectional: bool, live: bool
) -> None:
    """Outputs as upstream; the state is the real last one, and continues a sequence."""
    module = speechbrain_rnn() if live else up.speechbrain
    ways = 2 if bidirectional else 1
    options = {"bidirectional": bidirectional, "output_gate": output_gate, "zoneout": 0.3}
    model = module.QuasiRNN(H, input_size=6, num_layers=2, dropout=0.4, **options)
    model = model.to(dtype).eval()
    converted = convert(model)
    x, hidden = torch.randn(B, 7, 2, 3, dtype=dtype), torch.randn(2, ways * B, H, dtype=dtype)
    for given in (None, hidden):
        y, state = converted(x, given)
        assert state.shape == (2, B, ways * H)
        torch.testing.assert_close(y, model(x, given)[0], rtol=0, atol=tolerance)
        for row in range(B):
            # Of one row, upstream's state is c over time: one walk ends last, the other first.
            own = None if given is None else given[:, row::B]
            c = model(x[row : row + 1], own)[1]
            ends = torch.cat([c[:, -1, :H], c[:, 0, H:]], dim=-1)
            torch.testing.assert_close(state[:, row], ends, rtol=0, atol=tolerance)
    if bidirectional:
        # The other layout of the same states: what was returned can be given back.
        joined = torch.cat(hidden.chunk(2, dim=1), dim=-1)
        assert torch.equal(converted(x, joined)[0], converted(x, hidden)[0])
    else:
        first, state = converted(x[:, :3])
        rest, end = converted(x[:, 3:], state)
        whole, expected = converted(x)
        torch.testing.assert_close(torch.cat([first, rest], 1), whole, rtol=0, atol=tolerance)
        torch.testing.assert_close(end, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_narrow_types(dtype: torch.dtype) -> None:
    case = CASES["torchqrnn-stack-w2-o-saved"]
    model = case.model(dtype)
    x, hidden = case.x(6, dtype), torch.randn(case.hidden, dtype=dtype)
    for have, want in zip(convert(model)(x, hidden), model(x, hidden), strict=True):
        assert have.dtype == want.dtype == dtype
        torch.testing.assert_close(have, want, rtol=0, atol=8 * torch.finfo(dtype).eps)


@torch.no_grad()
def test_fastai_2_fits_the_last_input_to_the_batch() -> None:
    model = up.fastai.QRNNLayer(IN, H, window=2, save_prev_x=True).eval()
    converted = convert(model)
    for batch in (3, 5, 2, 2):
        x = torch.randn(batch, 4, IN)
        compare(converted(x), model(x), 1e-5)
    other = convert(up.torchqrnn.QRNNLayer(IN, H, window=2, save_prev_x=True))
    other(torch.randn(4, 3, IN))
    with pytest.raises(InputError, match=r"batch of 2, expected 3 .* call reset\(\)"):
        other(torch.randn(4, 2, IN))


class Network(nn.Module):
    """A user's network around an upstream stack, which is used in two places."""

    def __init__(self, stack: nn.Module) -> None:
        super().__init__()
        self.front = nn.Conv1d(4, IN, 1)
        self.stack = stack
        self.again = stack
        self.listed = [stack]
        self.head = nn.Linear(H, 2)
        self.head.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.stack(self.front(x.transpose(1, 2)).permute(2, 0, 1))
        result: Tensor = self.head(y.transpose(0, 1))
        return result


def test_the_rest_is_copied_and_what_was_shared_stays_shared() -> None:
    model = Network(up.torchqrnn.QRNN(IN, H, 2, window=2))
    stack: Any = model.stack
    stack.layers[1].linear.weight.requires_grad_(False)
    tied = up.torchqrnn.QRNNLayer(IN, H, window=2)
    tied.linear = stack.layers[0].linear
    model.tied = tied
    model.train()
    stack.layers[1].eval()
    converted: Any = convert(model)
    assert type(converted) is Network and converted.training
    assert converted.again is converted.stack is converted.listed[0] is not model.stack
    assert converted.head is not model.head
    assert torch.equal(converted.head.weight, model.head.weight)
    first, second = converted.stack.layers
    assert first.training and first.layer.training
    assert not second.training and not second.layer.training
    assert not second.layer.weight.requires_grad and second.layer.bias.requires_grad
    assert not converted.head.weight.requires_grad
    assert converted.tied is not first and converted.tied.layer.weight is first.layer.weight


def test_attributes_that_user_code_reads() -> None:
    stack: Any = convert(up.torchqrnn.QRNN(IN, H, 2, window=2, zoneout=0.2, save_prev_x=True))
    assert (stack.num_layers, stack.hidden_size, stack.batch_first, stack.bidirectional) == (
        *(2, H),
        *(False, False),
    )
    layer = stack.layers[0]
    assert isinstance(layer, TorchQRNNLayer)
    assert (layer.input_size, layer.hidden_size, layer.window) == (IN, H, 2)
    assert (layer.zoneout, layer.output_gate, layer.save_prev_x) == (0.2, True, True)
    assert layer.batch_first is False and layer.prevX is None
    stack(torch.randn(3, B, IN))
    assert layer.prevX is not None and layer.prevX.shape == (1, B, IN)
    stack.reset()
    assert layer.prevX is None
    back: Any = convert(up.fastai.QRNNLayer(IN, H, window=2, backward=True, save_prev_x=True))
    assert back.backward and back.batch_first
    back(torch.randn(B, 3, IN))
    assert back.prevX.shape == (B, 1, IN)
    both: Any = convert(up.speechbrain.QuasiRNNLayer(IN, H, True, zoneout=0.1))
    assert both.bidirectional and both.zoneout == 0.1 and both.batch_first
    assert both.layer.weight is both.layer_bwd.weight
    assert "TorchQRNNLayer" in repr(stack) and "carried=False" in repr(stack)


def test_keywords_are_upstreams_own() -> None:
    x, zeros = torch.randn(B, 3, IN), torch.zeros(B, H)
    convert(up.torchqrnn.QRNNLayer(IN, H))(X=x, hidden=None)
    convert(up.early_fastai.QRNNLayer(IN, H))(X=x, hidden=zeros)
    convert(up.fastai.QRNNLayer(IN, H))(inp=x, hid=zeros)
    convert(up.speechbrain.QuasiRNNLayer(IN, H, False))(x=x, hidden=zeros)


@pytest.mark.parametrize("name", ["torchqrnn-stack-w2-o", "fastai-both-w2-o"])
def test_gradients(name: str) -> None:
    """Those of the weights are upstream's, in our layout; x and hidden get theirs too."""
    case = CASES[name]
    results = []
    model = case.model(torch.float64)
    converted: Any = convert(model)
    x, hidden = case.x(5, torch.float64), torch.randn(case.hidden, dtype=torch.float64)
    for part in (model, converted):
        inputs = [t.clone().requires_grad_() for t in (x, hidden)]
        y, c = part(*inputs)
        (y.square().sum() + c.sum()).backward()
        results.append([t.grad for t in inputs])
    for have, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=1e-12)
    upstream, ours = model.layers[0].linear.weight.grad, converted.layers[0].layer.weight.grad
    newest, oldest = upstream.chunk(2, dim=1)
    expected = torch.cat([oldest, newest], dim=1)
    expected[H : 2 * H] *= -1
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_training_with_zoneout_and_dropout() -> None:
    model: Any = convert(up.torchqrnn.QRNN(IN, H, 2, window=2, zoneout=0.5, dropout=0.5)).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    x, target = torch.randn(5, B, IN), torch.full((5, B, H), 0.3)
    torch.manual_seed(1)
    losses = []
    for _ in range(200):
        optimiser.zero_grad()
        loss = (model(x)[0] - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


def test_weights_are_not_copied_twice_and_no_random_numbers_are_drawn() -> None:
    model: Any = Network(up.torchqrnn.QRNN(IN, H, 2, window=2))

    def refuse(memo: Any) -> None:
        raise AssertionError("copied")

    for layer in model.stack.layers:
        layer.linear.weight.__deepcopy__ = refuse
    state = torch.get_rng_state()
    convert(model)
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
def test_what_was_remembered_is_forgotten_in_the_copy_alone() -> None:
    model = up.torchqrnn.QRNNLayer(IN, H, window=2, save_prev_x=True).eval()
    fresh = copy.deepcopy(model)
    x = torch.randn(4, B, IN)
    model(x)
    remembered = model.prevX
    converted = convert(model)
    assert model.prevX is remembered is not None
    compare(converted(x), fresh(x), 1e-5)


def test_a_stale_copy_of_the_weight_stays_as_it_is() -> None:
    model: Any = _weight_dropout()
    convert(model)
    assert float(model.layers[0].linear.module.weight.min()) == 7.0
    model.train()
    model(torch.randn(B, 3, IN))  # now the copy has weights dropped, and a gradient to come
    dropped = model.layers[0].linear.module.weight
    assert not dropped.is_leaf and float((dropped == 0).float().mean()) > 0.1
    converted: Any = convert(model)
    assert converted.training and model.layers[0].linear.module.weight is dropped
    assert float((converted.layers[0].layer.weight == 0).float().mean()) == 0
    assert converted.layers[0].layer.weight.requires_grad


def test_vendored_copies_that_walk_both_ways_keep_their_own_stack() -> None:
    """Their layers are torchqrnn's; what turns the sequence is around them, and stays."""

    class BothWays(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(
                up.torchqrnn.QRNNLayer(n, H, window=2) for n in (IN, IN, 2 * H, 2 * H)
            )

        def forward(self, x: Tensor) -> Tensor:
            for forward, backward in (self.layers[:2], self.layers[2:]):
                x = torch.cat([forward(x)[0], backward(x.flip(0))[0].flip(0)], dim=2)
            return x

    model = BothWays().eval()
    x = torch.randn(6, B, IN)
    with torch.no_grad():
        torch.testing.assert_close(convert(model)(x), model(x), rtol=0, atol=1e-5)


def test_the_public_name() -> None:
    assert qrnn_deploy.convert is convert
    assert isinstance(convert(up.fastai.QRNNLayer(IN, H)).layer, QRNNLayer)
