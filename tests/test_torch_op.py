"""The torch.library operators against the oracle, autograd's checker and torch.export."""

from __future__ import annotations

import itertools
from typing import Any

import cases
import numpy as np
import pytest
import torch
from cases import PoolCase
from torch import Tensor

from qrnn_deploy.errors import InputError
from qrnn_deploy.pooling.spec import POOLINGS
from qrnn_deploy.pooling.torch_op import pool
from qrnn_deploy.pooling.walk import state_dtype

DTYPES = {
    # h and the gates are rounded once each to the storage type; c_T never is.
    torch.float64: (1e-13, 1e-13),
    torch.float32: (2e-6, 2e-6),
    torch.float16: (2e-3, 2e-6),
    torch.bfloat16: (1.6e-2, 2e-6),
}


def run(case: PoolCase, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[Any, Any]]:
    """Inputs as tensors, and what the oracle makes of exactly those values."""
    gates, c0, lengths = (torch.from_numpy(a) for a in case.inputs(np.float64))
    gates, c0 = gates.to(dtype), c0.to(state_dtype(dtype))
    expected = case.expected(gates.double().numpy(), c0.numpy(), lengths.numpy())
    return (gates, c0, lengths), expected


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_parity_with_the_oracle(dtype: torch.dtype) -> None:
    tolerance_h, tolerance_c = DTYPES[dtype]
    for case in cases.POOL_CASES:
        inputs, (expected_h, expected_c) = run(case, dtype)
        h, c_T = pool(case.pooling, *inputs, **case.attributes())
        assert h.dtype == dtype and c_T.dtype == state_dtype(dtype), case
        assert h.shape == expected_h.shape and c_T.shape == expected_c.shape, case
        # relu and identity candidates are not bounded by 1: relative above 1.
        np.testing.assert_allclose(
            h.double(), expected_h, rtol=tolerance_h, atol=tolerance_h, err_msg=str(case)
        )
        np.testing.assert_allclose(
            c_T, expected_c, rtol=tolerance_c, atol=tolerance_c, err_msg=str(case)
        )


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_lies_past_the_lengths_does_not_count(pooling: str, direction: int) -> None:
    case = PoolCase(pooling, T=6, B=4, H=3, direction=direction, lengths="ragged")
    gates, c0, lengths = (torch.from_numpy(a) for a in case.inputs())
    past = (torch.arange(6)[:, None] >= lengths)[:, :, None]
    clean = pool(pooling, gates, c0, lengths, direction)
    for garbage in (float("nan"), float("inf"), -float("inf")):
        dirty = gates.masked_fill(past, garbage).requires_grad_()
        h, c_T = pool(pooling, dirty, c0, lengths, direction)
        assert torch.equal(h, clean[0]) and torch.equal(c_T, clean[1])
        assert torch.all(h.detach()[past.expand_as(h)] == 0)
        (gradient,) = torch.autograd.grad(h.sum() + c_T.sum(), dirty)
        assert torch.isfinite(gradient).all()
        assert torch.all(gradient[past.expand_as(gradient)] == 0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_infinite_gates_keep_or_replace_the_state(pooling: str) -> None:
    hidden, c0 = 2, torch.tensor([[0.3, -0.7]])
    gates = torch.full((3, 1, len(POOLINGS[pooling].gates) * hidden), 0.25)
    forget = POOLINGS[pooling].gates.index("f")
    gates[..., forget * hidden : (forget + 1) * hidden] = float("inf")
    if POOLINGS[pooling].has_input_gate:
        gates[..., -hidden:] = -float("inf")
    lengths = torch.tensor([3])
    assert torch.equal(pool(pooling, gates, c0, lengths)[1], c0)
    gates.requires_grad_()
    (gradient,) = torch.autograd.grad(pool(pooling, gates, c0, lengths)[0].sum(), gates)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradcheck(pooling: str) -> None:
    grid = itertools.product(
        (1, -1), cases.ACTIVATION_NAMES, ("full", "ragged"), cases.scales(pooling)
    )
    for direction, activation, lengths, scale in grid:
        case = PoolCase(pooling, 4, 3, 2, direction, activation, scale, lengths, scale=1.0)
        gates, c0, counts = (torch.from_numpy(a) for a in case.inputs(np.float64))

        def call(g: Tensor, c: Tensor, case: PoolCase = case, n: Tensor = counts) -> Any:
            return pool(case.pooling, g, c, n, **case.attributes())

        inputs = (gates.requires_grad_(), c0.requires_grad_())
        assert torch.autograd.gradcheck(call, inputs), case
        # Either output alone, so that an undefined gradient of the other is met too.
        for output in (0, 1):
            assert torch.autograd.gradcheck(
                lambda g, c, output=output, call=call: call(g, c)[output], inputs
            ), case


def test_gradients_of_empty_inputs() -> None:
    for steps, batch in ((0, 2), (3, 0)):
        gates = torch.randn(steps, batch, 6, requires_grad=True)
        c0 = torch.randn(batch, 2, requires_grad=True)
        h, c_T = pool("fo", gates, c0, torch.full((batch,), steps))
        (h.sum() + 2 * c_T.sum()).backward()
        assert gates.grad is not None and gates.grad.shape == gates.shape
        assert c0.grad is not None and torch.equal(c0.grad, torch.full_like(c0, 2))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_opcheck(pooling: str) -> None:
    operator = getattr(torch.ops.qrnn_deploy, f"pool_{pooling}").default
    for case in (
        PoolCase(pooling, 4, 2, 3, lengths="ragged"),
        PoolCase(pooling, 4, 2, 3, direction=-1, lengths="ragged"),
    ):
        gates, c0, lengths = (torch.from_numpy(a) for a in case.inputs())
        inputs = (gates.requires_grad_(), c0.requires_grad_(), lengths)
        attributes = (case.direction, case.activation, case.zoneout_scale)
        torch.library.opcheck(operator, (*inputs, *attributes))
    half = (gates.detach().bfloat16(), c0.detach(), lengths)
    torch.library.opcheck(operator, (*half, *attributes))


class PoolModule(torch.nn.Module):
    """Only the operator, so that the exported graph can be read."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, gates: Tensor, c0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return pool(self.pooling, gates, c0, lengths, -1, "relu", 1.0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_export_is_one_node_with_dynamic_sizes(pooling: str) -> None:
    steps, batch = torch.export.Dim("T", min=0), torch.export.Dim("B", min=0)
    example, _ = run(PoolCase(pooling, 5, 3, 4), torch.float32)
    program = torch.export.export(
        PoolModule(pooling),
        example,
        dynamic_shapes=({0: steps, 1: batch}, {0: batch}, {0: batch}),
        strict=False,
    )
    calls = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert [c for c in calls if "qrnn_deploy" in c] == [f"qrnn_deploy.pool_{pooling}.default"]
    module = program.module()
    for t, b in ((1, 1), (9, 2), (0, 3), (4, 0)):
        inputs, _ = run(PoolCase(pooling, t, b, 4), torch.float32)
        for got, expected in zip(
            module(*inputs), pool(pooling, *inputs, -1, "relu", 1.0), strict=True
        ):
            assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates": torch.zeros(4, 6)}, "gates has rank 2, expected 3"),
        ({"gates": torch.zeros(4, 2, 7)}, r"gates has shape \[4, 2, 7\], expected \[T, 2, 9\]"),
        ({"gates": torch.zeros(4, 3, 9)}, r"gates has shape \[4, 3, 9\], expected \[T, 2, 9\]"),
        ({"gates": torch.zeros(4, 2, 9, dtype=torch.int32)}, "gates: dtype torch.int32"),
        ({"c0": torch.zeros(3)}, "c0 has rank 1"),
        ({"c0": torch.zeros(2, 3).double()}, "c0 has dtype torch.float64, expected torch.float32"),
        ({"lengths": torch.tensor([4.0, 4.0])}, "lengths has dtype torch.float32"),
        ({"lengths": torch.tensor([4])}, r"lengths has shape \[1\], expected \[2\]"),
        ({"lengths": torch.tensor([4, 5])}, r"lengths holds 5, expected values in 0\.\.4"),
        ({"lengths": torch.tensor([-1, 4])}, r"lengths holds -1, expected values in 0\.\.4"),
        ({"direction": 0}, "direction is 0, expected 1 or -1"),
        ({"activation": "gelu"}, "activation is 'gelu', expected one of tanh"),
        ({"zoneout_scale": 0.0}, "zoneout_scale is 0.0"),
        ({"zoneout_scale": 1.5}, "zoneout_scale is 1.5"),
        ({"zoneout_scale": float("nan")}, "zoneout_scale is nan"),
        ({"pooling": "ifo", "gates": torch.zeros(4, 2, 12), "zoneout_scale": 0.5}, "only f and fo"),
        ({"pooling": "lstm"}, "pooling is 'lstm', expected one of f, fo, ifo, if"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    good = {
        "pooling": "fo",
        "gates": torch.zeros(4, 2, 9),
        "c0": torch.zeros(2, 3),
        "lengths": torch.tensor([4, 2]),
    }
    pool(**good)
    with pytest.raises(InputError, match=message) as caught:
        pool(**{**good, **change})
    assert "\n" not in str(caught.value)
