"""The highway recurrence: operator and function body against the oracle, gradients, export."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import rhn_oracle as oracle
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from qrnn_deploy.errors import InputError
from qrnn_deploy.exporter.function_body import IR_VERSION, OPSET, Variant, build_function
from qrnn_deploy.pooling.rhn_op import rhn, rhn_dropped
from qrnn_deploy.pooling.spec import DOMAIN, RHN
from qrnn_deploy.pooling.walk import state_dtype

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

TOLERANCES = {
    # The matrix products run in the storage type; the state is never rounded to it.
    torch.float64: (1e-13, 1e-13),
    torch.float32: (2e-6, 2e-6),
    torch.float16: (4e-3, 3e-3),
    torch.bfloat16: (3e-2, 2e-2),
}
SIZES = [(1, 1, 1, 1), (6, 4, 3, 1), (7, 3, 5, 4), (0, 2, 3, 2), (3, 0, 3, 2), (33, 2, 8, 3)]


def inputs_of(
    T: int, B: int, H: int, D: int, *, ragged: bool = False, dtype: torch.dtype = torch.float64
) -> Inputs:
    draw = np.random.default_rng(T + 10 * B + 100 * H + D)
    lengths = np.array([(T, T // 2, 0, 1)[b % 4] if ragged else T for b in range(B)], np.int64)
    arrays = [
        draw.normal(size=shape) for shape in ((T, B, 2 * H), (B, H), (D, 2 * H, H), (D, 2 * H))
    ]
    gates, s0, weight, bias = (torch.from_numpy(array) for array in arrays)
    wide = state_dtype(dtype)
    return gates.to(dtype), s0.to(wide), torch.from_numpy(lengths), weight.to(dtype), bias.to(dtype)


def expected(inputs: Inputs, direction: int) -> Any:
    gates, s0, lengths, weight, bias = (x.double().numpy() for x in inputs)
    return oracle.recurrence(gates, s0, weight, bias, lengths, direction)


def grid() -> Iterator[tuple[tuple[int, int, int, int], bool, int]]:
    return itertools.product(SIZES, (False, True), (1, -1))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda d: str(d).removeprefix("torch."))
def test_parity_with_the_oracle(dtype: torch.dtype) -> None:
    h_tolerance, s_tolerance = TOLERANCES[dtype]
    for sizes, ragged, direction in grid():
        inputs = inputs_of(*sizes, ragged=ragged, dtype=dtype)
        h, s_T = rhn(*inputs, direction)
        wanted_h, wanted_s = expected(inputs, direction)
        where = f"{sizes} ragged={ragged} direction={direction}"
        assert h.dtype == dtype and s_T.dtype == state_dtype(dtype), where
        assert h.shape == wanted_h.shape and s_T.shape == wanted_s.shape, where
        np.testing.assert_allclose(h.double(), wanted_h, rtol=0, atol=h_tolerance, err_msg=where)
        np.testing.assert_allclose(s_T, wanted_s, rtol=0, atol=s_tolerance, err_msg=where)


@pytest.mark.parametrize("direction", [1, -1])
def test_chunks_give_what_the_whole_gives(direction: int) -> None:
    gates, s0, lengths, weight, bias = inputs_of(11, 3, 4, 3, dtype=torch.float32)
    whole, s_T = rhn(gates, s0, lengths, weight, bias, direction)
    state, parts = s0, []
    for chunk in gates.split([1, 4, 6])[::direction]:
        full = torch.full((3,), len(chunk))
        part, state = rhn(chunk, state, full, weight, bias, direction)
        parts.append(part)
    assert torch.equal(torch.cat(parts[::direction]), whole) and torch.equal(state, s_T)


@pytest.mark.parametrize("direction", [1, -1])
def test_what_lies_past_the_lengths_does_not_count(direction: int) -> None:
    gates, s0, lengths, weight, bias = inputs_of(6, 4, 3, 2, ragged=True, dtype=torch.float32)
    past = (torch.arange(6)[:, None] >= lengths)[:, :, None]
    weight.requires_grad_()
    clean = rhn(gates, s0, lengths, weight, bias, direction)
    (wanted,) = torch.autograd.grad(clean[0].sum() + clean[1].sum(), weight)
    for garbage in (float("nan"), float("inf"), -float("inf")):
        dirty = gates.masked_fill(past, garbage).requires_grad_()
        h, s_T = rhn(dirty, s0, lengths, weight, bias, direction)
        assert torch.equal(h, clean[0]) and torch.equal(s_T, clean[1])
        assert torch.all(h.detach()[past.expand_as(h)] == 0)
        by_gates, by_weight = torch.autograd.grad(h.sum() + s_T.sum(), (dirty, weight))
        assert torch.all(by_gates[past.expand_as(by_gates)] == 0)
        assert torch.isfinite(by_gates).all() and torch.equal(by_weight, wanted)


def test_a_shut_gate_holds_the_state_and_an_open_one_replaces_it() -> None:
    s0 = torch.tensor([[0.3, -0.7]])
    weight, lengths = torch.zeros(2, 4, 2), torch.tensor([3])
    gates = torch.zeros(3, 1, 4)
    for t, wanted in ((-float("inf"), s0), (float("inf"), torch.full((1, 2), 0.5).tanh())):
        bias = torch.tensor([[0.5, 0.5, t, t]] * 2)
        torch.testing.assert_close(rhn(gates, s0, lengths, weight, bias)[1], wanted)


def test_gradcheck() -> None:
    for (ragged, direction), depth in itertools.product(grid_of_gradients(), (1, 3)):
        gates, s0, lengths, weight, bias = inputs_of(4, 3, 2, depth, ragged=ragged)
        learned = [x.requires_grad_() for x in (gates, s0, weight, bias)]

        def call(
            g: Tensor, s: Tensor, w: Tensor, b: Tensor, n: Any = lengths, d: Any = direction
        ) -> Any:
            return rhn(g, s, n, w, b, d)

        assert torch.autograd.gradcheck(call, learned), (ragged, direction, depth)
        for output in (0, 1):  # alone, so that an undefined gradient of the other is met too
            (by_bias,) = torch.autograd.grad(call(*learned)[output].sum(), bias)
            assert torch.isfinite(by_bias).all() and by_bias.abs().sum() > 0


def grid_of_gradients() -> Iterator[tuple[bool, int]]:
    return itertools.product((False, True), (1, -1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_in_narrow_types(dtype: torch.dtype) -> None:
    inputs = inputs_of(5, 3, 4, 2, ragged=True, dtype=dtype)
    grads = []
    for kind in (dtype, torch.float64):
        gates, s0, lengths, weight, bias = (
            x if x.dtype == torch.int64 else x.to(kind) for x in inputs
        )
        s0 = s0.to(state_dtype(kind))
        learned = [x.detach().requires_grad_() for x in (gates, s0, weight, bias)]
        h, s_T = rhn(learned[0], learned[1], lengths, learned[2], learned[3])
        grads.append(torch.autograd.grad(h.double().sum() + s_T.double().sum(), learned))
    for got, wanted in zip(*grads, strict=True):
        assert got.dtype in (dtype, torch.float32)
        scale = float(wanted.abs().max())
        np.testing.assert_allclose(got.double(), wanted, rtol=0, atol=0.03 * scale)


def test_gradients_follow_a_training_step_without_a_time_step() -> None:
    gates, s0, lengths, weight, bias = inputs_of(0, 2, 3, 2)
    learned = [x.requires_grad_() for x in (gates, s0, weight, bias)]
    h, s_T = rhn(gates, s0, lengths, weight, bias)
    grads = torch.autograd.grad(h.sum() + s_T.sum(), learned)
    assert torch.equal(grads[1], torch.ones_like(s0)) and not grads[2].any()


@pytest.mark.parametrize("count", [1, 2])
def test_dropout_of_the_state(count: int) -> None:
    """A mask is a change of the matrices, row by row of the batch."""
    gates, s0, lengths, weight, bias = inputs_of(5, 3, 4, 2, ragged=True)
    mask = torch.nn.functional.dropout(torch.ones(count, 3, 4, dtype=torch.float64), 0.5)
    assert not mask.all() and mask.any()
    h, s_T = rhn_dropped(gates, s0, lengths, weight, bias, -1, mask)
    for row in range(3):
        columns = mask[:, row].repeat_interleave(8 // count, dim=0)  # [2H, H]
        wanted_h, wanted_s = oracle.recurrence(
            gates[:, row : row + 1],
            s0[row : row + 1],
            weight * columns,
            bias,
            lengths[row : row + 1],
            -1,
        )
        np.testing.assert_allclose(h[:, row : row + 1], wanted_h, atol=1e-13)
        np.testing.assert_allclose(s_T[row : row + 1], wanted_s, atol=1e-13)
    whole = torch.ones(count, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(
        rhn_dropped(gates, s0, lengths, weight, bias, 1, whole),
        rhn(gates, s0, lengths, weight, bias),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_operator_checks_of_pytorch(dtype: torch.dtype) -> None:
    inputs = inputs_of(4, 3, 2, 2, ragged=True, dtype=dtype)
    learned = [x if x.dtype == torch.int64 else x.requires_grad_() for x in inputs]
    torch.library.opcheck(torch.ops.qrnn_deploy.pool_rhn.default, (*learned, -1))


def test_one_node_of_an_exported_graph() -> None:
    class Model(torch.nn.Module):
        def forward(self, *inputs: Tensor) -> Any:
            return rhn(*inputs)

    inputs = inputs_of(4, 3, 2, 2, dtype=torch.float32)
    time, batch = torch.export.Dim("time"), torch.export.Dim("batch")
    shapes = ({0: time, 1: batch}, {0: batch}, {0: batch}, {}, {})
    program = torch.export.export(Model(), inputs, dynamic_shapes=(shapes,))
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert calls.count(torch.ops.qrnn_deploy.pool_rhn.default) == 1
    longer = inputs_of(9, 2, 2, 2, dtype=torch.float32)
    torch.testing.assert_close(program.module()(*longer), rhn(*longer))


GOOD = inputs_of(4, 3, 2, 2, dtype=torch.float32)


@pytest.mark.parametrize(
    ("place", "value", "part"),
    [
        (0, GOOD[0][0], "gates has rank 2, expected 3"),
        (0, GOOD[0].long(), "gates: dtype torch.int64, expected float32"),
        (0, GOOD[0][:, :, :3], "gates has shape [4, 3, 3], expected [T, 3, 4] to fit s0 [3, 2]"),
        (1, GOOD[1].double(), "s0 has dtype torch.float64, expected torch.float32"),
        (1, GOOD[1][:2], "gates has shape [4, 3, 4], expected [T, 2, 4]"),
        (2, GOOD[2].int(), "lengths has dtype torch.int32, expected torch.int64"),
        (2, GOOD[2][:2], "lengths has shape [2], expected [3]"),
        (2, torch.tensor([4, 5, 0]), "lengths holds 5, expected values in 0..4"),
        (2, torch.tensor([4, -1, 0]), "lengths holds -1, expected values in 0..4"),
        (3, GOOD[3].half(), "weight has dtype torch.float16, expected torch.float32"),
        (3, GOOD[3][:, :3], "weight has shape [2, 3, 2], expected [D, 4, 2]"),
        (3, GOOD[3][:0], "weight has shape [0, ...], expected a depth of at least 1"),
        (4, GOOD[4][:1], "bias has shape [1, 4], expected [2, 4]"),
    ],
)
def test_wrong_arguments(place: int, value: Tensor, part: str) -> None:
    inputs = list(GOOD)
    inputs[place] = value
    if "depth" in part:
        inputs[4] = GOOD[4][:0]
    with pytest.raises(InputError) as caught:
        rhn(*inputs)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_direction() -> None:
    with pytest.raises(InputError, match="direction is 0, expected 1 or -1"):
        rhn(*GOOD, direction=0)


ONNX_TYPES = {
    TensorProto.FLOAT: (torch.float32, np.float32, 2e-6),
    TensorProto.FLOAT16: (torch.float16, np.float16, 6e-3),
}


def model_of(depth: int, storage: int, direction: int, ragged: bool) -> onnx.ModelProto:
    """One node and its function."""
    value = helper.make_tensor_value_info
    ports = {"gates": ["T", "B", "G"], "s0": ["B", "H"], "lengths": ["B"]}
    ports |= {"weight": [depth, "G", "H"], "bias": [depth, "G"]}
    types = {"s0": TensorProto.FLOAT, "lengths": TensorProto.INT64}
    node = helper.make_node(
        RHN.op_type, list(ports), ["h", "s_T"], domain=DOMAIN, direction=direction
    )
    outputs = [value("h", storage, ["T", "B", "H"]), value("s_T", TensorProto.FLOAT, ["B", "H"])]
    graph = helper.make_graph(
        [node], "g", [value(n, types.get(n, storage), s) for n, s in ports.items()], outputs
    )
    variant = Variant(
        RHN, "identity", storage, reversible=direction < 0, ragged=ragged, depth=depth
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        functions=[build_function(variant)],
        ir_version=IR_VERSION,
    )


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
@pytest.mark.parametrize("storage", ONNX_TYPES, ids=lambda s: TensorProto.DataType.Name(s))
def test_function_body(storage: int, runtime: str) -> None:
    torch_type, numpy_type, tolerance = ONNX_TYPES[storage]
    for depth, direction, ragged in itertools.product((1, 4), (1, -1), (False, True)):
        model = model_of(depth, storage, direction, ragged)
        onnx.checker.check_model(model, full_check=True)
        inputs = inputs_of(5, 4, 3, depth, ragged=ragged, dtype=torch_type)
        feed = {name: x.numpy() for name, x in zip(RHN.inputs, inputs, strict=True)}
        if runtime == "reference":
            h, s_T = ReferenceEvaluator(model).run(None, feed)
        else:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), providers=["CPUExecutionProvider"]
            )
            h, s_T = session.run(None, feed)
        wanted_h, wanted_s = expected(inputs, direction)
        where = f"depth={depth} direction={direction} ragged={ragged}"
        assert h.dtype == numpy_type and s_T.dtype == np.float32, where
        np.testing.assert_allclose(h, wanted_h, rtol=0, atol=tolerance, err_msg=where)
        np.testing.assert_allclose(s_T, wanted_s, rtol=0, atol=tolerance, err_msg=where)


def test_names_of_a_step_shadow_none_outside() -> None:
    for depth in (1, 3):
        function = build_function(
            Variant(RHN, "identity", TensorProto.FLOAT16, True, True, depth=depth)
        )
        outside = {name for node in function.node for name in node.output} | set(function.input)
        (scan,) = (node for node in function.node if node.op_type == "Scan")
        body = next(a.g for a in scan.attribute if a.name == "body")
        inside = {name for node in body.node for name in node.output}
        inside |= {value.name for value in body.input}
        assert inside and not inside & outside
        assert sum(node.op_type == "Gemm" for node in body.node) == depth
