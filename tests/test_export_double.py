"""The float64 reference shares large weights, and is a float64 copy all the same."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from models import BUILDERS, arguments, build
from torch import nn

from qrnn_deploy.exporter import ExportOptions, double
from qrnn_deploy.exporter.border import Border
from qrnn_deploy.exporter.double import Widened, in_double
from qrnn_deploy.exporter.golden import golden_cases, run_border
from qrnn_deploy.exporter.parameters import converted
from qrnn_deploy.exporter.plan import example_args, make_plan
from qrnn_deploy.nn import QRNNLayer


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    """Each weight is shared, and converted in many blocks."""
    monkeypatch.setattr(double, "_LARGE", 0)
    monkeypatch.setattr(double, "_BLOCK", 16)


def both(module, example):
    """(the reference, a plain float64 copy, cases) of a module."""
    metadata = make_plan(module, example, ExportOptions(states="none"), False)
    border = Border(module, metadata)
    return in_double(border), copy.deepcopy(border).double(), golden_cases(metadata, example)


def agree(module, example):
    """Both give the same; returns the reference."""
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    reference, plain, cases = both(module, example)
    for case in cases:
        got, expected = run_border(reference, case.inputs), run_border(plain, case.inputs)
        for name, value in expected.items():
            assert got[name].dtype == value.dtype == torch.float64
            torch.testing.assert_close(got[name], value, rtol=1e-13, atol=1e-13)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]) and tensor.dtype == before[name].dtype
    return reference


class Part(nn.Module):
    """A QRNN layer and some other way to use a weight behind it."""

    def __init__(self, use, **parts):
        super().__init__()
        self.layer = QRNNLayer(5, 6, window=2, batch_first=True)
        self.use = use
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.use(self, self.layer(x)[0])


def weight(*shape):
    return nn.Parameter(torch.randn(*shape))


def tied():
    head = nn.Linear(6, 6)
    other = nn.Linear(6, 6)
    other.weight = head.weight
    return {"head": head, "other": other}


def normed():
    return {"head": nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))}


def added_up(self, y):
    with torch.enable_grad():
        return y + torch.autograd.grad((y * self.w).sum(), self.w)[0].mean()


class Typed(nn.Module):
    """Insists on the type of its weight, as our own layers do."""

    def __init__(self):
        super().__init__()
        self.w = weight(6, 4)

    def forward(self, y):
        assert self.w.dtype == y.dtype and self.w.element_size() == y.element_size()
        assert isinstance(self.w, nn.Parameter) and self.w.requires_grad
        return y @ self.w.new_ones(6, 4) + y @ self.w


SERVED = {
    "linear": lambda: Part(lambda s, y: s.head(y), head=nn.Linear(6, 4)),
    "linear of a row": lambda: Part(
        lambda s, y: F.linear(y[0, 0], s.w) + y[..., :4], w=weight(4, 6)
    ),
    "left operand": lambda: Part(
        lambda s, y: (s.w @ y.transpose(1, 2)).transpose(1, 2), w=weight(4, 6)
    ),
    "square": lambda: Part(lambda s, y: y @ (s.w @ s.w), w=weight(6, 6)),
    "added matrix": lambda: Part(
        lambda s, y: y @ torch.addmm(s.w, s.w, s.w, beta=2, alpha=3), w=weight(6, 6)
    ),
    "turned": lambda: Part(lambda s, y: y @ s.w.T @ s.w, w=weight(4, 6)),
    "views": lambda: Part(
        lambda s, y: y @ s.w[1:].reshape(2, 6, 2)[1] + s.w.unbind()[0][:2], w=weight(3, 12)
    ),
    "rows": lambda: Part(
        lambda s, y: y + s.w[torch.tensor([1, 0, 1])].sum(0) + s.w[2], w=weight(3, 6)
    ),
    "elementwise": lambda: Part(lambda s, y: y * s.w.exp() + s.w.sum().item(), w=weight(6)),
    "lists": lambda: Part(lambda s, y: y + torch.cat([s.w, s.w]).sum(), w=weight(6)),
    "rounded": lambda: Part(lambda s, y: y + s.w.float().double() + s.w.half(), w=weight(6)),
    "einsum": lambda: Part(lambda s, y: torch.einsum("bti,io->bto", y, s.w), w=weight(6, 4)),
    "product of batches": lambda: Part(
        lambda s, y: torch.bmm(s.w.expand(len(y), 6, 4).mT, y.mT).mT, w=weight(6, 4)
    ),
    "convolution": lambda: Part(lambda s, y: s.c(y.mT).mT, c=nn.Conv1d(6, 4, 3, padding=1)),
    "LSTM": lambda: Part(lambda s, y: s.rnn(y)[0], rnn=nn.LSTM(6, 4, batch_first=True)),
    "attention": lambda: Part(
        lambda s, y: s.a(y), a=nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    ),
    "norm": lambda: Part(lambda s, y: s.n(y), n=nn.LayerNorm(6)),
    "tied": lambda: Part(lambda s, y: s.other(s.head(y)), **tied()),
    "normed weight": lambda: Part(lambda s, y: s.head(y), **normed()),
    "buffer": lambda: Part(lambda s, y: s.n(y.mT).mT, n=nn.BatchNorm1d(6)),
    "gradient": lambda: Part(added_up, w=weight(6)),
    "inference mode": lambda: Part(
        lambda s, y: torch.inference_mode()(s.head)(y).clone(), head=nn.Linear(6, 4)
    ),
    "its type": lambda: Part(lambda s, y: s.typed(y), typed=Typed()),
}
"""Ways to use a weight that need no copy."""


def doubled(self, y):
    self.w.data.mul_(2)
    result = y + self.w
    self.w.data.div_(2)
    return result


def replaced(self, y):
    before = self.w.data
    self.w.data = self.w.detach() * 2
    result = y + self.w
    self.w.data = before
    return result


COPIED = {
    "changed": lambda: Part(doubled, w=weight(6)),
    "replaced": lambda: Part(replaced, w=weight(6)),
    "NumPy": lambda: Part(lambda s, y: y + torch.from_numpy(s.w.detach().numpy()), w=weight(6)),
    "plain numbers": lambda: Part(lambda s, y: y + s.w.tolist()[0], w=weight(6)),
    "bits": lambda: Part(lambda s, y: y + (s.w.view(torch.int32).sum() > 0), w=weight(6)),
    "address": lambda: Part(lambda s, y: y + s.w * (s.w.data_ptr() > 0), w=weight(6)),
}
"""Ways that do."""


def shares(reference):
    return [type(p) is Widened for p in reference.parameters()]


@pytest.mark.parametrize("name", SERVED)
def test_any_use_of_a_weight(name):
    torch.manual_seed(1)
    assert all(shares(agree(SERVED[name]().eval(), (torch.randn(2, 7, 5),))))


@pytest.mark.parametrize("name", COPIED)
def test_what_a_shared_weight_cannot_have(name):
    torch.manual_seed(1)
    assert not any(shares(agree(COPIED[name]().eval(), (torch.randn(2, 7, 5),))))


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_models_of_ours(name, dtype):
    module = converted(build(name), dtype, False)
    args = arguments(module)
    example = example_args(module) if args is None else args
    kind = getattr(torch, dtype)
    agree(module, tuple(a.to(kind) if a.is_floating_point() else a for a in example))


def test_one_block_is_the_very_same(monkeypatch):
    monkeypatch.setattr(double, "_BLOCK", 2**21)
    reference, plain, cases = both(build("lm"), example_args(build("lm")))
    for case in cases:
        got, expected = run_border(reference, case.inputs), run_border(plain, case.inputs)
        assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_small_weights_are_copied(monkeypatch):
    monkeypatch.setattr(double, "_LARGE", 2**16)
    assert not any(shares(agree(build("fo"), example_args(build("fo")))))


def test_error_of_the_model_is_its_own():
    def fail(self, y):
        if y.dtype == torch.float64:
            raise KeyError("no table")
        return y + self.w

    reference, _, cases = both(Part(fail, w=weight(6)).eval(), (torch.randn(2, 7, 5),))
    with pytest.raises(KeyError, match="no table"):
        run_border(reference, cases[0].inputs)
