"""The SRU operators for PyTorch against the oracle, autograd's checker and torch.export."""

from __future__ import annotations

import itertools
from typing import Any

import cases
import numpy as np
import onnx
import pytest
import torch
from cases import SruCase
from torch import Tensor

from qrnn_deploy.errors import InputError
from qrnn_deploy.exporter.translate import translation_table
from qrnn_deploy.pooling.spec import DOMAIN, PLUGIN_VERSION, POOLINGS, SRU_POOLINGS
from qrnn_deploy.pooling.sru_op import pool_sru
from qrnn_deploy.pooling.walk import state_dtype

DTYPES = {
    # h, gates and skip are rounded once each to the storage type; c_T never is.
    torch.float64: (1e-13, 1e-13),
    torch.float32: (3e-6, 3e-6),
    torch.float16: (2e-3, 3e-6),
    torch.bfloat16: (1.6e-2, 3e-6),
}


def tensors(case: SruCase, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The inputs of a case, with gates and skip in ``dtype``."""
    wide = np.float64 if dtype == torch.float64 else np.float32
    inputs = {name: torch.from_numpy(array) for name, array in case.inputs(wide).items()}
    for name in ("gates", "skip"):
        if name in inputs:
            inputs[name] = inputs[name].to(dtype)
    return inputs


def learned(inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """All inputs but the lengths, wanting gradients."""
    return tuple(x.requires_grad_() for name, x in inputs.items() if name != "lengths")


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_parity_with_the_oracle(dtype: torch.dtype) -> None:
    tolerance_h, tolerance_c = DTYPES[dtype]
    for case in cases.SRU_CASES:
        inputs = tensors(case, dtype)
        expected_h, expected_c = case.expected({k: v.double().numpy() for k, v in inputs.items()})
        h, c_T = pool_sru(SRU_POOLINGS[case.pooling], **inputs, **case.attributes())
        assert h.dtype == dtype and c_T.dtype == state_dtype(dtype), case
        assert h.shape == expected_h.shape and c_T.shape == expected_c.shape, case
        # The candidate is not bounded: relative to the largest state where that is above 1.
        size = max(1.0, *(float(np.abs(a).max(initial=0)) for a in (expected_h, expected_c)))
        np.testing.assert_allclose(
            h.double(), expected_h, rtol=tolerance_h, atol=tolerance_h * size, err_msg=str(case)
        )
        np.testing.assert_allclose(
            c_T, expected_c, rtol=tolerance_c, atol=tolerance_c * size, err_msg=str(case)
        )


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_what_lies_past_the_lengths_does_not_count(pooling: str, direction: int) -> None:
    spec = SRU_POOLINGS[pooling]
    inputs = tensors(SruCase(pooling, T=6, B=4, H=3, lengths="ragged"))
    past = (torch.arange(6)[:, None] >= inputs["lengths"])[:, :, None]
    clean = pool_sru(spec, **inputs, direction=direction)
    gradients = torch.autograd.grad(
        sum(o.sum() for o in pool_sru(spec, **_wanting(inputs), direction=direction)),
        learned(inputs),
    )
    for garbage in (float("nan"), float("inf"), -float("inf")):
        dirty = {
            name: x.detach().masked_fill(past, garbage) if name in spec.stored else x.detach()
            for name, x in inputs.items()
        }
        h, c_T = pool_sru(spec, **_wanting(dirty), direction=direction)
        assert torch.equal(h, clean[0]) and torch.equal(c_T, clean[1])
        assert torch.all(h.detach()[past.expand_as(h)] == 0)
        got = torch.autograd.grad(h.sum() + c_T.sum(), learned(dirty))
        for gradient, expected in zip(got, gradients, strict=True):
            assert torch.equal(gradient, expected)
            if gradient.dim() == 3:
                assert torch.all(gradient[past.expand_as(gradient)] == 0)


def _wanting(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    learned(inputs)
    return inputs


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_an_infinite_forget_gate_keeps_the_state(pooling: str) -> None:
    inputs = tensors(SruCase(pooling, T=3, B=1, H=2))
    inputs["gates"][..., 2:4] = float("inf")
    h, c_T = pool_sru(SRU_POOLINGS[pooling], **_wanting(inputs))
    assert torch.equal(c_T, inputs["c0"])
    for gradient in torch.autograd.grad(h.sum() + c_T.sum(), learned(inputs)):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_a_slow_channel_keeps_its_precision(pooling: str) -> None:
    # f = 1 - 4e-8, which float32 rounds to 1: the state must still come near the candidate.
    inputs = tensors(SruCase(pooling, T=50_000, B=1, H=1))
    inputs["gates"][..., 0], inputs["gates"][..., 1] = 1e3, 17.0
    for name in ("c0", "weight_c", "bias"):
        inputs[name].zero_()
    _, c_T = pool_sru(SRU_POOLINGS[pooling], **inputs)
    expected = 1e3 * (1 - (1 / (1 + np.exp(-17.0))) ** 50_000)
    assert c_T.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_chunks_give_what_the_whole_gives(pooling: str) -> None:
    spec = SRU_POOLINGS[pooling]
    inputs = tensors(SruCase(pooling, T=9, B=2, H=3), torch.float64)
    h, c_T = pool_sru(spec, **inputs)
    pieces, c = [], inputs["c0"]
    for start, end in ((0, 1), (1, 6), (6, 9)):
        chunk = {
            **{k: v[start:end] if k in spec.stored else v for k, v in inputs.items()},
            "c0": c,
            "lengths": torch.full((2,), end - start),
        }
        piece, c = pool_sru(spec, **chunk)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces), h, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(c, c_T, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_gradcheck(pooling: str) -> None:
    spec = SRU_POOLINGS[pooling]
    grid = itertools.product((1, -1), cases.ACTIVATION_NAMES, ("full", "ragged"))
    for direction, activation, lengths in grid:
        case = SruCase(pooling, 4, 3, 2, direction, activation, lengths, scale=1.0)
        inputs = tensors(case, torch.float64)
        names = [name for name in inputs if name != "lengths"]

        def call(
            *values: Tensor, case: SruCase = case, names: Any = names, inputs: Any = inputs
        ) -> Any:
            given = {**inputs, **dict(zip(names, values, strict=True))}
            return pool_sru(spec, **given, **case.attributes())

        wanting = learned(inputs)
        assert torch.autograd.gradcheck(call, wanting), case
        # Either output alone, so that an undefined gradient of the other is met too.
        for output in (0, 1):
            assert torch.autograd.gradcheck(
                lambda *values, output=output, call=call: call(*values)[output], wanting
            ), case


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_gradients_have_the_types_of_the_inputs(pooling: str) -> None:
    inputs = _wanting(tensors(SruCase(pooling, lengths="ragged"), torch.bfloat16))
    h, c_T = pool_sru(SRU_POOLINGS[pooling], **inputs)
    (h.float().sum() + c_T.sum()).backward()
    for name, x in inputs.items():
        if name != "lengths":
            assert x.grad is not None and x.grad.dtype == x.dtype and x.grad.shape == x.shape
            assert torch.any(x.grad != 0), name


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_gradients_of_empty_inputs(pooling: str) -> None:
    for steps, batch in ((0, 2), (3, 0)):
        inputs = _wanting(tensors(SruCase(pooling, steps, batch, 2)))
        h, c_T = pool_sru(SRU_POOLINGS[pooling], **inputs)
        (h.sum() + 2 * c_T.sum()).backward()
        assert torch.equal(inputs["c0"].grad, torch.full_like(inputs["c0"], 2))
        assert torch.equal(inputs["weight_c"].grad, torch.zeros(2, 2))


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_opcheck(pooling: str) -> None:
    operator = getattr(torch.ops.qrnn_deploy, f"pool_{pooling}").default
    for direction in (1, -1):
        inputs = _wanting(tensors(SruCase(pooling, 4, 2, 3, lengths="ragged")))
        torch.library.opcheck(operator, (*inputs.values(), direction, "tanh"))
    half = tensors(SruCase(pooling, 4, 2, 3, lengths="ragged"), torch.bfloat16)
    torch.library.opcheck(operator, (*half.values(), -1, "identity"))


class SruModule(torch.nn.Module):
    """Only the operator, so that the exported graph can be read."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        skip = inputs[5] if len(inputs) > 5 else None
        return pool_sru(SRU_POOLINGS[self.pooling], *inputs[:5], skip, -1, "tanh")


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_export_is_one_node_with_dynamic_sizes(pooling: str) -> None:
    steps, batch = torch.export.Dim("T", min=0), torch.export.Dim("B", min=0)
    axes = {"gates": {0: steps, 1: batch}, "skip": {0: steps, 1: batch}}
    axes |= {"c0": {0: batch}, "lengths": {0: batch}, "weight_c": None, "bias": None}
    example = tensors(SruCase(pooling, 5, 3, 4))
    program = torch.export.export(
        SruModule(pooling),
        tuple(example.values()),
        dynamic_shapes=(tuple(axes[name] for name in example),),
        strict=False,
    )
    calls = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert [c for c in calls if "qrnn_deploy" in c] == [f"qrnn_deploy.pool_{pooling}.default"]
    module = program.module()
    for t, b in ((1, 1), (9, 2), (0, 3), (4, 0)):
        inputs = tensors(SruCase(pooling, t, b, 4))
        expected = pool_sru(SRU_POOLINGS[pooling], **inputs, direction=-1, activation="tanh")
        for got, wanted in zip(module(*inputs.values()), expected, strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_translation_gives_one_node_with_all_attributes(pooling: str) -> None:
    spec, inputs = SRU_POOLINGS[pooling], tensors(SruCase(pooling, 5, 3, 4))
    program = torch.onnx.export(
        SruModule(pooling).eval(),
        tuple(inputs.values()),
        custom_translation_table=translation_table(),
        dynamo=True,
        verbose=False,
    )
    (node,) = program.model_proto.graph.node
    assert (node.domain, node.op_type) == (DOMAIN, spec.op_type)
    assert list(node.input) == [value.name for value in program.model_proto.graph.input]
    assert {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} == {
        "direction": -1,
        "activation": b"tanh",
        "plugin_version": PLUGIN_VERSION.encode(),
        "plugin_namespace": DOMAIN.encode(),
    }
    onnx.checker.check_model(program.model_proto, full_check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates": torch.zeros(4, 6)}, r"gates has rank 2, expected 3: \[T, B, 3\*H\]"),
        ({"gates": torch.zeros(4, 2, 7)}, r"gates has shape \[4, 2, 7\], expected \[T, 2, 9\] to"),
        ({"gates": torch.zeros(4, 2, 9, dtype=torch.int32)}, "gates: dtype torch.int32"),
        ({"c0": torch.zeros(2, 3).half()}, "c0 has dtype torch.float16, expected torch.float32"),
        ({"lengths": torch.tensor([4])}, r"lengths has shape \[1\], expected \[2\]"),
        ({"lengths": torch.tensor([4, 5])}, r"lengths holds 5, expected values in 0\.\.4"),
        ({"weight_c": torch.zeros(6)}, r"weight_c has rank 1, expected 2: \[2, H\]"),
        ({"weight_c": torch.zeros(3, 3)}, r"weight_c has shape \[3, 3\], expected \[2, 3\] to fit"),
        ({"bias": torch.zeros(2, 3).double()}, "bias has dtype torch.float64"),
        ({"bias": torch.zeros(2, 4)}, r"bias has shape \[2, 4\], expected \[2, 3\] to fit c0"),
        ({"skip": None}, "pool_sru_input: skip is None, expected a tensor"),
        ({"skip": torch.zeros(3, 2, 3)}, r"skip has shape \[3, 2, 3\], expected \[4, 2, 3\]"),
        ({"skip": torch.zeros(4, 2, 3).half()}, "skip has dtype torch.float16"),
        ({"spec": SRU_POOLINGS["sru_noskip"]}, "pool_sru_noskip: skip is given, expected None"),
        ({"spec": POOLINGS["fo"]}, "pooling is 'fo', expected one of sru, sru_input, sru_noskip"),
        ({"direction": 2}, "direction is 2, expected 1 or -1"),
        ({"activation": "gelu"}, "activation is 'gelu', expected one of tanh"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    good = {
        "spec": SRU_POOLINGS["sru_input"],
        "gates": torch.zeros(4, 2, 9),
        "c0": torch.zeros(2, 3),
        "lengths": torch.tensor([4, 2]),
        "weight_c": torch.zeros(2, 3),
        "bias": torch.zeros(2, 3),
        "skip": torch.zeros(4, 2, 3),
    }
    pool_sru(**good)
    with pytest.raises(InputError, match=message) as caught:
        pool_sru(**{**good, **change})
    assert "\n" not in str(caught.value)
