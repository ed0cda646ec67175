"""The ONNX Runtime kernels of the SRU operators, through ONNX Runtime, against the float64 oracle.

As tests/test_kernel.py has it: Cast -> node -> Cast, float32 at the border.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cases
import needs
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from test_kernel import (
    INSTRUCTION_SETS,
    NUMPY,
    ONNX,
    SMALLEST,
    UNIT_ROUNDOFF,
    check_instruction_set,
    make_session,
)

from qrnn_deploy.pooling.spec import DOMAIN, OPSET_VERSION, PLUGIN_VERSION, SRU_POOLINGS

STORED = ("gates", "skip")


@pytest.fixture(scope="module")
def library() -> Path:
    return needs.kernel_library().path


def make_model(
    pooling: str,
    dtype: str = "float32",
    *,
    shapes: Mapping[str, list[Any]] | None = None,
    types: Mapping[str, str] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """types: of single inputs, where they are not those of the operator."""
    spec = SRU_POOLINGS[pooling]
    names = [f"{name}_cast" if name in STORED else name for name in spec.inputs]
    node = helper.make_node(spec.op_type, names, ["h_stored", "c_T"], name="the_node")
    node.domain = DOMAIN
    node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    to = {name: ONNX[(types or {}).get(name, dtype)] for name in STORED}
    inputs = [
        helper.make_tensor_value_info(
            name,
            TensorProto.INT64 if name == "lengths" else TensorProto.FLOAT,
            None if shapes is None else shapes[name],
        )
        for name in spec.inputs
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("h", "c_T")]
    casts = [
        helper.make_node("Cast", [name], [f"{name}_cast"], to=to[name])
        for name in STORED
        if name in spec.inputs
    ]
    back = helper.make_node("Cast", ["h_stored"], ["h"], to=TensorProto.FLOAT)
    graph = helper.make_graph([*casts, node, back], "sru", inputs, outputs)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, OPSET_VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@lru_cache(maxsize=256)
def case_session(
    library: Path, pooling: str, dtype: str, threads: int, *attributes: tuple[str, Any]
) -> ort.InferenceSession:
    return make_session(library, make_model(pooling, dtype, **dict(attributes)), threads)


def run_case(
    library: Path,
    case: cases.SruCase,
    inputs: Mapping[str, np.ndarray],
    dtype: str = "float32",
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    attributes = sorted(case.attributes().items())
    session = case_session(library, case.pooling, dtype, threads, *attributes)
    feeds = {k: v.astype(np.float32) if k in STORED else v for k, v in inputs.items()}
    h, c_T = session.run(["h", "c_T"], feeds)
    assert c_T.dtype == np.float32
    return h, c_T


def check_parity(library: Path, case: cases.SruCase, dtype: str) -> None:
    inputs = case.inputs(NUMPY[dtype])
    h, c_T = run_case(library, case, inputs, dtype)
    h_expected, c_expected = case.expected(inputs)
    assert h.shape == h_expected.shape
    assert c_T.shape == c_expected.shape
    # As in test_kernel.py, and twice that: the gates see the state and what it errs.
    size = max([1.0, *(np.abs(a.astype(float)).max(initial=0.0) for a in inputs.values())])
    allowed = 4e-6 * size
    storage = UNIT_ROUNDOFF[dtype] * np.abs(h_expected) + SMALLEST[dtype]
    assert np.all(np.abs(c_T - c_expected) <= allowed)
    assert np.all(np.abs(h - h_expected) <= allowed + storage)
    beyond = np.arange(case.T)[:, None] >= inputs["lengths"]
    assert not h[beyond].any()


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("case", cases.SRU_CASES, ids=str)
def test_parity(library: Path, case: cases.SruCase, dtype: str) -> None:
    check_parity(library, case, dtype)


@pytest.mark.parametrize("pooling", cases.SRU_NAMES)
@pytest.mark.parametrize("direction", [1, -1])
def test_parity_of_sizes(library: Path, pooling: str, direction: int) -> None:
    for T, B, H in itertools.product((0, 1, 2, 63), (0, 1, 3), (1, 7, 16, 31, 129)):
        case = cases.SruCase(pooling, T=T, B=B, H=H, direction=direction, lengths="ragged")
        check_parity(library, case, "float32")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set(isa: str) -> None:
    check_instruction_set(isa, __file__, "parity or nan")


@pytest.mark.parametrize("pooling", cases.SRU_NAMES)
def test_threads_do_not_change_a_bit(library: Path, pooling: str) -> None:
    for B, H in ((4, 700), (1, 2900)):  # split by rows, and by channels
        case = cases.SruCase(pooling, T=64, B=B, H=H, lengths="ragged")
        inputs = case.inputs()
        one = run_case(library, case, inputs, threads=1)
        two = run_case(library, case, inputs, threads=2)
        assert [x.tobytes() for x in one] == [x.tobytes() for x in two]


@pytest.mark.parametrize("pooling", cases.SRU_NAMES)
def test_chunks_do_not_change_a_bit(library: Path, pooling: str) -> None:
    case = cases.SruCase(pooling, T=20, B=2, H=33, activation="tanh")
    inputs = case.inputs()
    whole_h, whole_c = run_case(library, case, inputs)
    parts, c = [], inputs["c0"]
    for begin, end in itertools.pairwise((0, 1, 1, 8, 20)):
        piece = {k: v[begin:end] if k in STORED else v for k, v in inputs.items()}
        lengths = np.full(2, end - begin, np.int64)
        h, c = run_case(library, case, {**piece, "c0": c, "lengths": lengths})
        parts.append(h)
    assert np.concatenate(parts).tobytes() == whole_h.tobytes()
    assert c.tobytes() == whole_c.tobytes()


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("pooling", cases.SRU_NAMES)
@pytest.mark.parametrize("direction", [1, -1])
def test_nan_beyond_the_length_does_not_leak(
    library: Path, pooling: str, direction: int, dtype: str
) -> None:
    case = cases.SruCase(pooling, T=6, B=3, H=19, direction=direction, lengths="ragged")
    inputs = case.inputs(NUMPY[dtype])
    lengths = inputs["lengths"]
    for row, length in enumerate(lengths):
        for name in STORED:
            if name in inputs:
                inputs[name][length:, row] = np.nan
    h, c_T = run_case(library, case, inputs, dtype)
    for row, length in enumerate(lengths):
        assert not h[length:, row].any()
        assert not np.any(np.signbit(h[length:, row]))
    assert np.all(np.isfinite(h))
    assert np.all(np.isfinite(c_T))
    assert np.array_equal(c_T[lengths == 0], inputs["c0"][lengths == 0])


@pytest.mark.parametrize("name", ["gates", "c0", "weight_c", "bias", "skip"])
def test_nan_spreads_along_its_own_channel(library: Path, name: str) -> None:
    case = cases.SruCase("sru_input", T=8, B=2, H=21)
    inputs = case.inputs()
    clean_h, clean_c = run_case(library, case, inputs)
    index = {"gates": (3, 1, 5), "c0": (1, 5), "skip": (3, 1, 5)}.get(name, (0, 5))
    inputs[name][index] = np.nan
    h, c_T = run_case(library, case, inputs)
    expected = np.zeros(h.shape, bool)
    rows = slice(None) if name in ("weight_c", "bias") else 1
    begin, end = {"gates": (3, 8), "skip": (3, 4)}.get(name, (0, 8))
    expected[begin:end, rows, 5] = True
    np.testing.assert_array_equal(np.isnan(h), expected)
    assert np.array_equal(h[~expected], clean_h[~expected])
    held = np.isnan(c_T)
    assert held.any() == (name != "skip")
    assert np.array_equal(c_T[~held], clean_c[~held])


@pytest.mark.parametrize("pooling", cases.SRU_NAMES)
def test_attributes_have_defaults(library: Path, pooling: str) -> None:
    """A bare node equals one with every attribute written out; identity is the activation."""
    inputs = cases.SruCase(pooling).inputs()
    written = {"direction": 1, "activation": "identity", "zoneout_scale": 1.0}
    names = {"plugin_version": PLUGIN_VERSION, "plugin_namespace": ""}
    bare = make_session(library, make_model(pooling)).run(None, inputs)
    full = make_session(library, make_model(pooling, **written, **names)).run(None, inputs)
    assert [x.tobytes() for x in bare] == [x.tobytes() for x in full]


FULL = {"gates": (5, 2, 30), "c0": (2, 10), "lengths": (2,), "weight_c": (2, 10), "bias": (2, 10)}
FULL["skip"] = (5, 2, 10)
BAD_INPUTS = {
    "rank of weight_c": ("weight_c", (20,), "weight_c [2, H] has 1 dimensions, expected 2"),
    "rows of weight_c": ("weight_c", (3, 10), "has the shape [3, 10], expected [2, 10]"),
    "columns of weight_c": ("weight_c", (2, 9), "weight_c [2, H] has the shape [2, 9], expected"),
    "rank of bias": ("bias", (2, 1, 10), "bias [2, H] has 3 dimensions, expected 2"),
    "columns of bias": ("bias", (2, 11), "for the hidden size 10 of c0"),
    "rank of skip": ("skip", (10, 10), "skip [T, B, H] has 2 dimensions, expected 3"),
    "steps of skip": ("skip", (4, 2, 10), "has the shape [4, 2, 10], expected [5, 2, 10] as h"),
    "rows of skip": ("skip", (5, 1, 10), "has the shape [5, 1, 10], expected [5, 2, 10] as h"),
    "columns of skip": ("skip", (5, 2, 30), "has the shape [5, 2, 30], expected [5, 2, 10] as h"),
    "columns of gates": ("gates", (5, 2, 40), "gates has 40 columns, expected 3 times the hidden"),
}


@pytest.mark.parametrize(("name", "shape", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_input(library: Path, name: str, shape: tuple[int, ...], message: str) -> None:
    session = make_session(library, make_model("sru_input"))
    good = {k: np.zeros(v, np.int64 if k == "lengths" else np.float32) for k, v in FULL.items()}
    with pytest.raises(Exception, match="SRUPoolInput 'the_node'") as caught:
        session.run(None, {**good, name: np.zeros(shape, np.float32)})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    h, c_T = session.run(None, good)
    assert not h.any()
    assert not c_T.any()


def test_bad_attributes(library: Path) -> None:
    for attributes, message in (
        ({"zoneout_scale": 0.5}, "zoneout_scale is 0.5, expected 1: an SRU has no zoneout"),
        ({"direction": 0}, "direction is 0, expected 1 (forward) or -1 (reverse)"),
        ({"activation": "sigmoid"}, "'sigmoid', expected tanh, relu or identity"),
        ({"plugin_version": "2"}, "plugin_version is '2', expected '1'"),
    ):
        with pytest.raises(Exception, match="SRUPool 'the_node'") as caught:
            make_session(library, make_model("sru", **attributes))
        assert message in str(caught.value)


def test_skip_of_another_type_is_refused(library: Path) -> None:
    model = make_model("sru_input", types={"skip": "float16"})
    with pytest.raises(Exception, match=r"SRUPoolInput|the_node"):
        make_session(library, model)


def test_shapes_are_inferred(library: Path) -> None:
    shapes = {"gates": ["T", "B", 40], "c0": ["B", 10], "lengths": ["B"]}
    shapes |= {"weight_c": [2, 10], "bias": [2, 10]}
    model = make_model("sru", "bfloat16", shapes=shapes)
    outputs = make_session(library, model).get_outputs()
    assert [output.shape for output in outputs] == [["T", "B", 10], ["B", 10]]
