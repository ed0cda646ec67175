"""convert, and whole pickled modules, for asappresearch/sru: against the live package."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_sru import sru_package
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy import convert
from qrnn_deploy.checkpoints import load_checkpoint
from qrnn_deploy.conversion import ConversionError, ConversionWarning
from qrnn_deploy.conversion.sru_adapter import SRUAdapter
from qrnn_deploy.errors import InputError
from qrnn_deploy.nn import SRU, SRULayer
from qrnn_deploy.runtime import Session
from qrnn_deploy.verifier import verify

B, T, H = 3, 6, 4

pytestmark = pytest.mark.filterwarnings("ignore:Running SRU on CPU", "ignore:.*deprecated")

OPTIONS: dict[str, Any] = {
    "bidirectional": st.booleans(),
    "use_tanh": st.booleans(),
    "layer_norm": st.booleans(),
    "normalize_after": st.booleans(),
    "has_skip_term": st.booleans(),
    "rescale": st.booleans(),
    "v1": st.booleans(),
    "highway_bias": st.sampled_from([0.0, -2.0]),
    "dropout": st.sampled_from([0.0, 0.3]),
    "rnn_dropout": st.sampled_from([0.0, 0.2]),
}
STACK = st.fixed_dictionaries(
    {
        **OPTIONS,
        "input_size": st.sampled_from([3, 4, 8, 9]),
        "hidden_size": st.just(H),
        "num_layers": st.integers(1, 3),
        "projection_size": st.sampled_from([0, 2, 5]),
        "proj_input_to_hidden_first": st.booleans(),
        "nn_rnn_compatible_return": st.booleans(),
    }
)
CELL = st.fixed_dictionaries(
    {
        **OPTIONS,
        "input_size": st.sampled_from([3, 4, 8]),
        "hidden_size": st.just(H),
        "n_proj": st.sampled_from([0, 2]),
    }
)


def built(cls: Any, options: dict[str, Any]) -> Any:
    """An upstream module in eval mode, its biases and norms away from their first values."""
    torch.manual_seed(3)
    module = cls(**options)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def answers(module: Any, *args: Any) -> tuple[Tensor, Tensor]:
    # Optimising for each set of types and shapes would take the time of a thousand calls.
    with torch.no_grad(), torch.jit.optimized_execution(False):
        h, c = module(*args)
    return h, c


def in_python(module: Any, *args: Any) -> tuple[Tensor, Tensor]:
    """Upstream's code in Python, which runs where gradients are on, in any type."""
    with torch.enable_grad():
        h, c = module(*args)
    return h.detach(), c.detach()


def allowed(options: dict[str, Any]) -> float:
    """In float32. A norm of a few channels behind the output makes their rounding larger."""
    return 2e-5 if options["layer_norm"] and options["normalize_after"] else 1e-6


def agree(
    got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float = 1e-6
) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        largest = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * largest)


@settings(max_examples=35, deadline=None)
@given(STACK)
def test_a_stack_answers_as_before(options: dict[str, Any]) -> None:
    upstream = built(sru_package().SRU, options)
    ours = convert(upstream)
    assert isinstance(ours, SRUAdapter) and not ours.training
    for name in ("input_size", "hidden_size", "output_size", "num_layers", "num_directions"):
        assert getattr(ours, name) == getattr(upstream, name)
    x = torch.randn(T, B, options["input_size"])
    c0 = torch.randn(options["num_layers"], B, upstream.output_size)
    mask = torch.rand(T, B) < 0.4
    for args in ((x,), (x, c0), (x, c0, mask), (x, None, mask.float()), (x, c0, mask.byte())):
        agree(answers(ours, *args), answers(upstream, *args), allowed(options))
    upstream, x, c0 = upstream.double(), x.double(), c0.double()
    ours = convert(upstream)
    for args in ((x,), (x, c0), (x, c0, mask)):
        agree(answers(ours, *args), in_python(upstream, *args), 1e-9)
    if not options["bidirectional"]:
        parts, c = [], c0
        for chunk in x.split([1, 4, 1]):
            h, c = answers(ours, chunk, c)
            parts.append(h)
        agree((torch.cat(parts), c), in_python(upstream, x, c0), 1e-9)


@settings(max_examples=20, deadline=None)
@given(CELL)
def test_a_cell_answers_as_before(options: dict[str, Any]) -> None:
    upstream = built(sru_package().SRUCell, options)
    ours = convert(upstream)
    x, c0 = torch.randn(T, B, options["input_size"]), torch.randn(B, upstream.output_size)
    mask = torch.rand(T, B) < 0.4
    for args in ((x,), (x, c0), (x, c0, mask)):
        agree(answers(ours, *args), answers(upstream, *args), allowed(options))
    c = theirs = c0
    for step, gone in zip(x, mask, strict=True):
        h, c = answers(ours, step, c, gone)
        expected, theirs = answers(upstream, step, theirs, gone)
        agree((h, c), (expected, theirs), allowed(options))


@settings(max_examples=20, deadline=None)
@given(STACK, st.booleans())
def test_a_pickled_module_leaves_nothing_open(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any], inside: bool
) -> None:
    upstream = built(sru_package().SRU, options)
    path = tmp_path_factory.mktemp("pickled") / "m.pt"
    torch.save(nn.Sequential(upstream) if inside else upstream, path)
    loaded = load_checkpoint(path)
    assert loaded.assumptions == () and loaded.format == "sru"
    assert loaded.config["v1"] == options["v1"]
    assert loaded.config["highway_bias"] == options["highway_bias"]
    assert loaded.config["input_dropout"] == options["rnn_dropout"]
    assert loaded.config["dropout"] == (options["dropout"] if options["num_layers"] > 1 else 0)
    x = torch.randn(T, B, options["input_size"])
    with torch.no_grad():
        y, _ = loaded.module.double()(x.double())
    h, _ = in_python(upstream.double(), x.double())
    torch.testing.assert_close(y, h, rtol=0, atol=1e-9 * max(1.0, float(h.abs().max())))


@pytest.mark.parametrize("rescale", [True, False])
def test_a_pickled_cell(rescale: bool, tmp_path: Path) -> None:
    upstream = built(sru_package().SRUCell, {"input_size": 4, "hidden_size": 4, "rescale": rescale})
    torch.save(upstream, tmp_path / "cell.pt")
    loaded = load_checkpoint(tmp_path / "cell.pt")
    assert loaded.assumptions == () and loaded.config["rescale"] == rescale
    x = torch.randn(T, B, 4)
    torch.testing.assert_close(loaded.module(x)[0], answers(upstream, x)[0])


class Tagger(nn.Module):
    """A network of somebody's own, which finds its padding itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 5, padding_idx=0)
        self.rnn = sru_package().SRU(5, H, **options)
        self.cell = sru_package().SRUCell(self.rnn.output_size, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T] to [B, T, 3]."""
        x = self.embedding(tokens).transpose(0, 1)
        pad = (tokens == 0).transpose(0, 1)
        h, _ = self.rnn(x, mask_pad=pad)
        h, _ = self.cell(h, mask_pad=pad)
        return self.head(h.transpose(0, 1))


@pytest.mark.parametrize(("bidirectional", "kernel"), [(False, "require"), (True, "off")])
def test_a_network_with_padding_is_exported(
    bidirectional: bool, kernel: Any, tmp_path: Path
) -> None:
    """Padding anywhere; in one direction in chunks, whose states the file carries."""
    torch.manual_seed(1)
    model = Tagger(bidirectional=bidirectional).eval()
    ours = convert(model)
    tokens = torch.randint(0, 4, (B, T))
    assert (tokens == 0).any()
    with torch.no_grad():
        expected = model(tokens)
        torch.testing.assert_close(ours(tokens), expected)
    states = "none" if bidirectional else "separate"
    qrnn_deploy.export(ours, tmp_path / "m.onnx", (tokens,), states=states, golden=False)
    if kernel == "require":
        assert verify(tmp_path / "m.onnx", module=ours, args=(tokens,)).passed
    session = Session(tmp_path / "m.onnx", kernel=kernel)
    carried = {s.input: np.zeros((B, *s.shape), s.dtype) for s in session.metadata.states}
    parts = []
    for chunk in tokens.split([6] if bidirectional else [1, 4, 1], dim=1):
        got = session.run({"tokens": chunk.numpy(), **carried})
        parts.append(got["y"])
        carried = {s.input: got[s.output] for s in session.metadata.states}
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, rtol=0, atol=1e-5)


def test_carried_states(tmp_path: Path) -> None:
    """A model that gives its own states back; without the promise the export refuses it."""

    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = sru_package().SRU(5, H)

        def forward(self, x: Tensor) -> Tensor:
            """X [B, T, 5]."""
            turned = x.transpose(0, 1)
            h, _ = self.rnn(turned, turned.new_zeros(2, x.shape[0], H))
            return h.transpose(0, 1)

    torch.manual_seed(1)
    model = Remembering().eval()
    x = torch.randn(B, T, 5)
    ours = convert(model, carried=True)
    report = qrnn_deploy.export(ours, tmp_path / "m.onnx", (x,))
    assert [s.name for s in report.metadata.states] == ["state_00_c", "state_01_c"]
    with pytest.raises(qrnn_deploy.QrnnDeployError, match="passes a state"):
        qrnn_deploy.export(convert(model), tmp_path / "n.onnx", (x,))


def test_the_model_stays_and_what_it_was_is_kept() -> None:
    model = Tagger().train()
    model.rnn.eval()
    model.rnn.rnn_lst[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    modes = {name: part.training for name, part in model.named_modules()}
    ours: Any = convert(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert modes == {name: part.training for name, part in model.named_modules()}
    assert not ours.rnn.training and ours.cell.training
    assert not ours.rnn.stack.layers[0].weight.requires_grad
    assert ours.rnn.stack.layers[1].weight.requires_grad
    old = built(sru_package().SRU, {"input_size": 4, "hidden_size": 4, "v1": True})
    assert not convert(old).stack.layers[0].weight_c.requires_grad


def test_what_is_shared_stays_shared() -> None:
    upstream = sru_package()
    model: Any = nn.Module()
    model.a = built(upstream.SRU, {"input_size": 5, "hidden_size": H})
    model.b = model.a
    model.c = built(upstream.SRU, {"input_size": 5, "hidden_size": H, "bidirectional": True})
    model.d = built(upstream.SRU, {"input_size": 5, "hidden_size": H, "bidirectional": True})
    model.d.rnn_lst[1].weight = model.c.rnn_lst[1].weight
    ours: Any = convert(model)
    assert ours.a is ours.b
    for index in (2, 3):
        assert ours.d.stack.layers[index].weight is ours.c.stack.layers[index].weight
        assert ours.d.stack.layers[index].bias is not ours.c.stack.layers[index].bias
    assert ours.d.stack.layers[0].weight is not ours.c.stack.layers[0].weight


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_types(dtype: torch.dtype) -> None:
    options = {"input_size": 4, "hidden_size": 4, "rescale": True, "layer_norm": True}
    upstream = built(sru_package().SRU, options).to(dtype)
    ours = convert(upstream)
    assert {p.dtype for p in ours.parameters()} == {dtype}
    x = torch.randn(T, B, 4).to(dtype)
    expected, _ = upstream(x)
    with torch.no_grad():
        h, c = ours(x)
    assert h.dtype == c.dtype == dtype
    largest = float(expected.detach().abs().max())
    torch.testing.assert_close(h, expected, rtol=0, atol=8 * torch.finfo(dtype).eps * largest)


def test_training_thins_out_like_upstream() -> None:
    """The same channels in expectation: a dropped one carries the highway alone."""
    options = {"input_size": 5, "hidden_size": H, "num_layers": 2, "dropout": 0.5}
    upstream = built(sru_package().SRU, options)
    ours = convert(upstream)
    assert [layer.dropout for layer in ours.stack.layers] == [0.5, 0.0]
    x = torch.randn(T, 1, 5).expand(T, 4000, 5).contiguous()
    means = []
    for module in (upstream, ours):
        cell = module.rnn_lst[0] if module is upstream else module.stack.layers[0]
        cell.train()
        h, _ = cell(x)
        means.append((h.mean(dim=1), h.var(dim=1)))
    for theirs, got in zip(*means, strict=True):
        torch.testing.assert_close(got, theirs, rtol=0.1, atol=0.05)
    lone = convert(
        built(sru_package().SRUCell, {"input_size": 4, "hidden_size": 4, "dropout": 0.25})
    )
    assert lone.stack.layers[0].dropout == 0.25


def changed(name: str, value: Any) -> Any:
    """A copy of upstream's class whose code computes something else."""
    upstream = sru_package()

    class SRUCell(upstream.SRUCell):  # type: ignore[name-defined,misc]
        def compute_U(self, input: Tensor) -> Tensor:
            """Another product."""
            return super().compute_U(input) * value if name == "code" else super().compute_U(input)

    return built(SRUCell, {"input_size": 4, "hidden_size": 4})


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (
            lambda up: up.SRU(4, 4, custom_m=nn.Linear(4, 12)),
            "its gates come from a module of its own (custom_m)",
        ),
        (lambda up: changed("code", 1.5), "its code computes something else than upstream's"),
        (lambda up: nn.utils.parametrizations.weight_norm(up.SRUCell(4, 4)), "it is no SRU"),
        (lambda up: hooked(up.SRU(4, 4)), "has hooks, which would be lost"),
        (lambda up: up.SRU(4, 4).to("meta"), "on the meta device"),
        (lambda up: poisoned(up.SRU(4, 4)), "records activation_type 3, expected 0 (none)"),
    ],
)
def test_refusals(make: Any, part: str) -> None:
    with pytest.raises(ConversionError) as caught:
        convert(make(sru_package()))
    text = str(caught.value)
    assert part in text and "asappresearch/sru" in text and "\n" not in text


def hooked(module: Any) -> Any:
    module.rnn_lst[1].register_forward_hook(lambda *args: None)
    return module


def poisoned(module: Any) -> Any:
    for cell in module.rnn_lst:
        cell.activation_type = 3
    return module


def test_a_mere_name_is_left_alone() -> None:
    class SRU(nn.Module):
        pass

    model = nn.Sequential(SRU(), sru_package().SRUCell(4, 4))
    with pytest.warns(ConversionWarning, match=r"'0' \(a SRU without rnn_lst, num_layers"):
        convert(model)
    with pytest.raises(ConversionError, match="has no upstream layer: expected a QRNNLayer"):
        convert(nn.Linear(2, 2))
    with pytest.raises(ConversionError, match="built on layers of qrnn_deploy already"):
        convert(nn.Sequential(SRULayer(4, 4)))


def test_ours_is_no_upstream() -> None:
    with pytest.raises(ConversionError, match="built on layers of qrnn_deploy already"):
        convert(nn.Sequential(qrnn_deploy.nn.SRU(4, 4)))
    assert SRU is qrnn_deploy.nn.SRU


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ((nn.utils.rnn.pack_sequence([torch.zeros(3, 5)]),), "is a PackedSequence, which a graph"),
        ((torch.zeros(T, B, 6),), "x has shape"),
        ((torch.zeros(T, B, 5), torch.zeros(B, H)), r"c0 has shape \[3, 4\], expected \[2, B, 4\]"),
        ((torch.zeros(T, B, 5), torch.zeros(2, B, H + 2)), "state.c is"),
        ((torch.zeros(T, B, 5), None, torch.zeros(B, T)), "hold is torch.bool"),
    ],
)
def test_wrong_inputs(args: Any, part: str) -> None:
    ours = convert(built(sru_package().SRU, {"input_size": 5, "hidden_size": H}))
    with pytest.raises(InputError, match=part):
        ours(*args)


def test_infinity_in_the_padding_reaches_nothing() -> None:
    upstream = built(sru_package().SRU, {"input_size": 5, "hidden_size": H, "bidirectional": True})
    x, mask = torch.randn(T, B, 5), torch.zeros(T, B)
    mask[4:, 1] = mask[2, 0] = 1
    expected = answers(upstream, x, None, mask)
    x[mask != 0] = math.nan
    agree(answers(convert(upstream), x, None, mask), expected)
