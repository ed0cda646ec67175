"""The function bodies alone, where no kernel is: ONNX Runtime and onnx.reference run them.

A model here is Cast -> node -> Cast, float32 at the border, and the node's function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cases
import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from cases import PoolCase, SruCase
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from qrnn_deploy.exporter.function_body import IR_VERSION, OPSET, Variant, build_functions
from qrnn_deploy.exporter.schema import register_schemas
from qrnn_deploy.pooling.spec import DOMAIN, OPERATORS, OPSET_VERSION, SRU_POOLINGS

STORAGE = {
    "float32": (TensorProto.FLOAT, np.float32, 0.0),
    "float16": (TensorProto.FLOAT16, np.float16, 2.0**-11),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 2.0**-8),
}
SHAPES = {
    "gates": ["T", "B", "width"],
    "c0": ["B", "H"],
    "lengths": ["B"],
    "weight_c": [2, "H"],
    "bias": [2, "H"],
    "skip": ["T", "B", "H"],
}
Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], tuple[NDArray[Any], NDArray[Any]]]

register_schemas()


def make_model(variants: tuple[Variant, ...], directions: tuple[int, ...]) -> onnx.ModelProto:
    """A node for each variant of one operator; the outputs are h_0, last_0, h_1, last_1, ..."""
    spec, storage = variants[0].spec, variants[0].storage
    functions = build_functions(variants)
    types = {"lengths": TensorProto.INT64}
    nodes, outputs = [], []
    for name in spec.stored:
        nodes.append(helper.make_node("Cast", [name], [f"{name}_stored"], to=storage))
    for k, (variant, direction) in enumerate(zip(variants, directions, strict=True)):
        inputs = [f"{name}_stored" if name in spec.stored else name for name in spec.inputs]
        node = helper.make_node(
            spec.op_type, inputs, [f"stored_{k}", f"last_{k}"], name=f"node_{k}", domain=DOMAIN
        )
        attributes: dict[str, Any] = {"direction": direction, "activation": variant.activation}
        if "zoneout_scale" in spec.attributes and variant.scaled:
            attributes["zoneout_scale"] = 0.75
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
        node.overload = functions[variant.key].overload
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [f"stored_{k}"], [f"h_{k}"], to=TensorProto.FLOAT))
        outputs += [(f"h_{k}", ["T", "B", "H"]), (f"last_{k}", ["B", "H"])]
    graph = helper.make_graph(
        nodes,
        "bodies",
        [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), SHAPES[name])
            for name in spec.inputs
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, OPSET_VERSION)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, functions=list(functions.values())
    )


def variant_of(case: PoolCase | SruCase, storage: int, *, general: bool = False) -> Variant:
    """The least general variant that serves a case, or the most general one."""
    return Variant(
        OPERATORS[case.pooling],
        case.activation,  # type: ignore[arg-type]
        storage,
        reversible=general or case.direction == -1,
        ragged=general or case.lengths != "full",
        scaled=getattr(case, "zoneout_scale", 1.0) != 1.0,
    )


@lru_cache(maxsize=256)
def session(variant: Variant, direction: int, runtime: str) -> Run:
    """What runs one node of a variant."""
    model = make_model((variant,), (direction,))
    onnx.checker.check_model(model, full_check=True)
    if runtime == "reference":
        evaluator = ReferenceEvaluator(model)
        return lambda feeds: evaluator.run(None, dict(feeds))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    made = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda feeds: made.run(None, dict(feeds))


def inputs_of(case: PoolCase | SruCase, dtype: Any) -> tuple[Arrays, tuple[Any, Any]]:
    """What the model is fed, and what the oracle makes of it."""
    if isinstance(case, SruCase):
        arrays: Arrays = case.inputs(dtype)
        expected = case.expected(arrays)
    else:
        arrays = dict(zip(("gates", "c0", "lengths"), case.inputs(dtype), strict=True))
        expected = case.expected(arrays["gates"], arrays["c0"], arrays["lengths"])
    stored = OPERATORS[case.pooling].stored
    feeds = {k: v.astype(np.float32) if k in stored else v for k, v in arrays.items()}
    return feeds, expected


def check(case: PoolCase | SruCase, dtype: str, runtime: str, *, general: bool = False) -> None:
    """Compare with the oracle: c_T in float32, h rounded once to the storage type."""
    storage, numpy_type, roundoff = STORAGE[dtype]
    feeds, (expected_h, expected_c) = inputs_of(case, numpy_type)
    run = session(variant_of(case, storage, general=general), case.direction, runtime)
    h, c_T = run(feeds)
    assert h.shape == expected_h.shape and c_T.shape == expected_c.shape
    size = max(1.0, *(float(np.abs(a).max(initial=0)) for a in (feeds["gates"], feeds["c0"])))
    np.testing.assert_allclose(c_T, expected_c, rtol=0, atol=2e-6 * size)
    allowed = 3e-6 * size + roundoff * np.abs(expected_h)
    assert np.all(np.abs(h - expected_h) <= allowed)
    past = np.arange(case.T)[:, None] >= feeds["lengths"]
    assert np.all(h[past] == 0)


# ONNX Runtime's Scan and the one of onnx.reference take no empty sequence.
SRU_CASES = [c for c in cases.SRU_CASES if c.T]
QRNN_SAMPLE = [c for c in cases.ATTRIBUTE_CASES if c.activation == "tanh"]
"""The pooling functions at one shape; tests/test_export.py runs the bodies of whole models."""


@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("case", SRU_CASES, ids=str)
def test_sru_in_onnx_runtime(case: SruCase, dtype: str) -> None:
    check(case, dtype, "onnxruntime")
    check(case, dtype, "onnxruntime", general=True)


@pytest.mark.parametrize("case", QRNN_SAMPLE, ids=str)
def test_qrnn_in_onnx_runtime(case: PoolCase) -> None:
    for dtype in STORAGE:
        check(case, dtype, "onnxruntime")
        check(case, dtype, "onnxruntime", general=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning:onnx.reference")  # its sigmoid of -80
@pytest.mark.parametrize("case", [c for c in SRU_CASES if c.T < 50 and c.B] + QRNN_SAMPLE, ids=str)
def test_onnx_reference(case: PoolCase | SruCase) -> None:
    check(case, "float32", "reference")
    check(case, "float32", "reference", general=True)


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_nodes_of_one_operator_share_a_body(pooling: str, runtime: str) -> None:
    case = SruCase(pooling, lengths="ragged", direction=-1, activation="tanh")
    plain = variant_of(replace(case, direction=1, lengths="full"), TensorProto.FLOAT)
    functions = build_functions([plain, variant_of(case, TensorProto.FLOAT)])
    assert len(functions) == 1
    model = make_model((plain, variant_of(case, TensorProto.FLOAT)), (1, -1))
    feeds, backward = inputs_of(case, np.float32)
    forward = replace(case, direction=1).expected(feeds)
    if runtime == "reference":
        got = ReferenceEvaluator(model).run(None, dict(feeds))
    else:
        made = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        got = made.run(None, dict(feeds))
    for value, expected in zip(got, (*forward, *backward), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
def test_other_activations_are_overloads(pooling: str) -> None:
    case = SruCase(pooling)
    variants = tuple(
        variant_of(replace(case, activation=name), TensorProto.FLOAT)
        for name in cases.ACTIVATION_NAMES
    )
    functions = build_functions(variants)
    assert [f.overload for f in functions.values()] == ["", "relu_float", "identity_float"]
    made = ort.InferenceSession(
        make_model(variants, (1, 1, 1)).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds, _ = inputs_of(case, np.float32)
    got = made.run(None, dict(feeds))
    for k, name in enumerate(cases.ACTIVATION_NAMES):
        expected = replace(case, activation=name).expected(feeds)
        for value, wanted in zip(got[2 * k : 2 * k + 2], expected, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", SRU_POOLINGS)
@pytest.mark.parametrize("direction", [1, -1])
def test_what_lies_past_the_lengths_does_not_count(pooling: str, direction: int) -> None:
    case = SruCase(pooling, T=6, B=4, lengths="ragged", direction=direction)
    feeds, _ = inputs_of(case, np.float32)
    run = session(variant_of(case, TensorProto.FLOAT), direction, "onnxruntime")
    clean = run(feeds)
    past = np.arange(6)[:, None] >= feeds["lengths"]
    for garbage in (np.nan, np.inf, -np.inf):
        dirty = dict(feeds)
        for name in OPERATORS[pooling].stored:
            dirty[name] = np.where(past[:, :, None], np.float32(garbage), feeds[name])
        for value, expected in zip(run(dirty), clean, strict=True):
            np.testing.assert_array_equal(value, expected)


def test_a_body_holds_only_what_its_variant_needs() -> None:
    def operators(**changes: Any) -> set[str]:
        variant = replace(
            Variant(SRU_POOLINGS["sru_input"], "identity", TensorProto.FLOAT), **changes
        )
        (function,) = build_functions([variant]).values()
        inner = next(n for n in function.node if n.op_type == "Scan").attribute
        body = next(a.g for a in inner if a.name == "body")
        return {n.op_type for n in (*function.node, *body.node)}

    plain = operators()
    assert plain.isdisjoint({"Slice", "Where", "Less", "Cast", "Tanh", "Relu"})
    assert operators(reversible=True) - plain >= {"Slice"}
    assert operators(ragged=True) - plain >= {"Where", "Less"}
    assert operators(storage=TensorProto.FLOAT16) - plain == {"Cast"}
    assert operators(activation="tanh") - plain == {"Tanh"}
