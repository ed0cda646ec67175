"""The ONNX Runtime kernels, through ONNX Runtime, against the float64 oracle.

A model here is Cast -> pooling node -> Cast, float32 at the border, so that every storage type is
fed the same way. The casts of the gates are exact: the cases are made in the storage type.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import cases
import ml_dtypes
import needs
import numpy as np
import onnx
import onnxruntime as ort
import oracle
import pytest
from onnx import TensorProto, helper

from qrnn_deploy.pooling.spec import DOMAIN, OPSET_VERSION, PLUGIN_VERSION, POOLINGS

NUMPY = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
ONNX = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
UNIT_ROUNDOFF = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float32": 0.0, "float16": 2.0**-24, "bfloat16": 1e-40}

INSTRUCTION_SETS = ("avx512", "avx2", "portable")


@pytest.fixture(scope="module")
def library() -> Path:
    return needs.kernel_library().path


def make_model(
    pooling: str,
    dtype: str = "float32",
    *,
    shapes: tuple[list[Any] | None, list[Any] | None, list[Any] | None] = (
        ["T", "B", "width"],
        ["B", "H"],
        ["B"],
    ),
    name: str = "the_node",
    **attributes: Any,
) -> onnx.ModelProto:
    op_type = POOLINGS[pooling].op_type
    node = helper.make_node(
        op_type, ["stored", "c0", "lengths"], ["h_stored", "c_T"], name=name, domain=DOMAIN
    )
    node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    types = (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["gates"], ["stored"], to=ONNX[dtype]),
            node,
            helper.make_node("Cast", ["h_stored"], ["h"], to=TensorProto.FLOAT),
        ],
        "pooling",
        [
            helper.make_tensor_value_info(input_name, element, shape)
            for input_name, element, shape in zip(
                ("gates", "c0", "lengths"), types, shapes, strict=True
            )
        ],
        [
            helper.make_tensor_value_info("h", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("c_T", TensorProto.FLOAT, None),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, OPSET_VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def make_session(library: Path, model: onnx.ModelProto, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(library))
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # the errors that the tests provoke
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@lru_cache(maxsize=256)
def case_session(
    library: Path, pooling: str, dtype: str, threads: int, *attributes: tuple[str, Any]
) -> ort.InferenceSession:
    return make_session(library, make_model(pooling, dtype, **dict(attributes)), threads)


def run_case(
    library: Path,
    case: cases.PoolCase,
    gates: np.ndarray,
    c0: np.ndarray,
    lengths: np.ndarray,
    dtype: str = "float32",
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    session = case_session(
        library, case.pooling, dtype, threads, *sorted(case.attributes().items())
    )
    feeds = {"gates": gates.astype(np.float32), "c0": c0, "lengths": lengths}
    h, c_T = session.run(["h", "c_T"], feeds)
    assert h.shape == (case.T, case.B, case.H)
    assert c_T.shape == (case.B, case.H)
    assert c_T.dtype == np.float32
    return h, c_T


def check_parity(library: Path, case: cases.PoolCase, dtype: str) -> None:
    gates, c0, lengths = case.inputs(NUMPY[dtype])
    h, c_T = run_case(library, case, gates, c0, lengths, dtype)
    h_expected, c_expected = case.expected(gates, c0, lengths)
    # One step errs about 2e-7 of the values that meet in it, and earlier errors fade with f: ten
    # such steps. The hidden output is then rounded once to the storage type.
    candidate = 1.0 if case.activation == "tanh" else np.abs(gates.astype(float)).max(initial=1.0)
    size = max(candidate, np.abs(c0).max(initial=0.0), np.abs(c_expected).max(initial=0.0))
    allowed = 2e-6 * size
    storage = UNIT_ROUNDOFF[dtype] * np.abs(h_expected) + SMALLEST[dtype]
    assert np.all(np.abs(c_T - c_expected) <= allowed)
    assert np.all(np.abs(h - h_expected) <= allowed + storage)


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("case", cases.POOL_CASES, ids=str)
def test_parity(library: Path, case: cases.PoolCase, dtype: str) -> None:
    check_parity(library, case, dtype)


@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
@pytest.mark.parametrize("direction", [1, -1])
def test_parity_of_sizes(library: Path, pooling: str, direction: int) -> None:
    """Sizes 0, 1, even, odd, and around the widths of the vectors, crossed."""
    for T, B, H in itertools.product((0, 1, 2, 63), (0, 1, 3), (1, 7, 16, 31, 129)):
        case = cases.PoolCase(pooling, T=T, B=B, H=H, direction=direction, lengths="ragged")
        check_parity(library, case, "float32")


def check_instruction_set(isa: str, file: str, selection: str) -> None:
    """Tests of ``file`` again in a process whose kernels use ``isa``."""
    environment = {**os.environ, "QRNN_DEPLOY_ISA": isa}
    environment.pop("PYTEST_XDIST_WORKER", None)
    program = "import needs; print(needs.kernel_library().isa)"
    chosen = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if chosen != isa:
        assert isa in INSTRUCTION_SETS[: INSTRUCTION_SETS.index(chosen)]
        pytest.skip(f"this machine has {chosen} but not {isa}")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *(file, "-k", selection),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-2000:]
    assert "passed" in result.stdout
    assert "skipped" not in result.stdout


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set(library: Path, isa: str) -> None:
    check_instruction_set(isa, __file__, "parity or nan or saturated")


def test_unknown_instruction_set_is_ignored(library: Path) -> None:
    program = (
        "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]);"
        "library.qrnn_deploy_isa.restype = ctypes.c_char_p;"
        "print(library.qrnn_deploy_isa().decode())"
    )
    command = [sys.executable, "-c", program, str(library)]
    chosen = [
        subprocess.run(
            command,
            env={**os.environ, "QRNN_DEPLOY_ISA": value},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for value in ("", "mmx", "AVX2 ")
    ]
    assert len(set(chosen)) == 1
    assert chosen[0].strip() in INSTRUCTION_SETS


@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
def test_threads_do_not_change_a_bit(library: Path, pooling: str) -> None:
    for B, H in ((4, 700), (1, 2900)):  # split by rows, and by channels
        case = cases.PoolCase(pooling, T=64, B=B, H=H, lengths="ragged")
        inputs = case.inputs()
        one = run_case(library, case, *inputs, threads=1)
        two = run_case(library, case, *inputs, threads=2)
        assert one[0].tobytes() == two[0].tobytes()
        assert one[1].tobytes() == two[1].tobytes()


def test_chunks_do_not_change_a_bit(library: Path) -> None:
    case = cases.PoolCase("fo", T=20, B=2, H=33)
    gates, c0, _ = case.inputs()
    session = case_session(library, "fo", "float32", 1)

    def run(part: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.full(2, len(part), np.int64)
        h, c_T = session.run(["h", "c_T"], {"gates": part, "c0": c, "lengths": lengths})
        return h, c_T

    whole_h, whole_c = run(gates, c0)
    parts, c = [], c0
    for begin, end in itertools.pairwise((0, 1, 1, 8, 20)):
        h, c = run(gates[begin:end], c)
        parts.append(h)
    assert np.concatenate(parts).tobytes() == whole_h.tobytes()
    assert c.tobytes() == whole_c.tobytes()


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
@pytest.mark.parametrize("direction", [1, -1])
def test_nan_beyond_the_length_does_not_leak(
    library: Path, pooling: str, direction: int, dtype: str
) -> None:
    case = cases.PoolCase(pooling, T=6, B=3, H=19, direction=direction, lengths="ragged")
    gates, c0, lengths = case.inputs(NUMPY[dtype])
    for row, length in enumerate(lengths):
        gates[length:, row] = np.nan
    h, c_T = run_case(library, case, gates, c0, lengths, dtype)
    for row, length in enumerate(lengths):
        assert np.all(h[length:, row] == 0.0)
        assert not np.any(np.signbit(h[length:, row]))
    assert np.all(np.isfinite(h))
    assert np.all(np.isfinite(c_T))
    assert np.array_equal(c_T[lengths == 0], c0[lengths == 0])


@pytest.mark.parametrize("activation", cases.ACTIVATION_NAMES)
@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
def test_nan_and_infinity_as_in_the_oracle(library: Path, pooling: str, activation: str) -> None:
    """Every pair of special values, in every gate and in the state."""
    special = np.array([np.nan, np.inf, -np.inf, 0.0, 1.5, -30.0], np.float32)
    count = len(POOLINGS[pooling].gates)
    table = np.array(list(itertools.product(special, repeat=count + 1)), np.float32).T
    gates = np.ascontiguousarray(table[:-1]).reshape(1, 1, -1)
    case = cases.PoolCase(pooling, T=1, B=1, H=table.shape[1], activation=activation)
    c0 = np.ascontiguousarray(table[-1:])
    lengths = np.ones(1, np.int64)
    h, c_T = run_case(library, case, gates, c0, lengths)
    with np.errstate(invalid="ignore", over="ignore"):
        h_expected, c_expected = case.expected(gates, c0, lengths)
    # The values reach 30, and c + g (z - c) may cancel them.
    np.testing.assert_allclose(c_T, c_expected, rtol=2e-6, atol=1e-5)
    np.testing.assert_allclose(h, h_expected, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("x", [-1000.0, -104.0, -87.0, -80.0, -20.0, -1e-30, 0.0, 1e-8, 80.0, 1e30])
def test_saturated_gates_keep_relative_accuracy(library: Path, x: float) -> None:
    gates = np.array([1.0, x], np.float32).reshape(1, 1, 2)
    case = cases.PoolCase("f", T=1, B=1, H=1, activation="identity")
    _, c_T = run_case(library, case, gates, np.zeros((1, 1), np.float32), np.ones(1, np.int64))
    expected = oracle.sigmoid(-gates[..., 1].astype(np.float64))
    np.testing.assert_allclose(c_T, expected, rtol=1e-6, atol=1.2e-38)


@pytest.mark.parametrize("x", [1e-38, 1e-20, 3e-5, 0.01, 0.3, 0.6, 1.0, 5.0, 9.0, 9.1, 1e30])
def test_tanh_keeps_relative_accuracy(library: Path, x: float) -> None:
    gates = np.array([x, -np.inf], np.float32).reshape(1, 1, 2)
    case = cases.PoolCase("f", T=1, B=1, H=1)
    _, c_T = run_case(library, case, gates, np.zeros((1, 1), np.float32), np.ones(1, np.int64))
    np.testing.assert_allclose(c_T, np.tanh(gates[..., 0].astype(np.float64)), rtol=1e-6)


FULL = ((5, 2, 30), (2, 10), (2,))
BAD_INPUTS = {
    "rank of gates": (
        ((5, 60), *FULL[1:]),
        [5, 5],
        "gates [T, B, G*H] has 2 dimensions, expected 3",
    ),
    "rank of c0": ((FULL[0], (2, 10, 1), (2,)), [5, 5], "c0 [B, H] has 3 dimensions, expected 2"),
    "rank of lengths": ((*FULL[:2], (2, 1)), [5, 5], "lengths [B] has 2 dimensions, expected 1"),
    "columns": (
        ((5, 2, 31), *FULL[1:]),
        [5, 5],
        "gates has 31 columns, expected 3 times the hidden",
    ),
    "hidden size": ((FULL[0], (2, 9), (2,)), [5, 5], "expected 3 times the hidden size 9 of c0"),
    "batch of c0": ((FULL[0], (3, 10), (2,)), [5, 5], "gates has batch size 2, c0 3 and lengths 2"),
    "batch of lengths": ((*FULL[:2], (1,)), [5], "gates has batch size 2, c0 2 and lengths 1"),
    "too long": (FULL, [5, 6], "lengths[1] is 6, expected 0 to T = 5"),
    "negative": (FULL, [-1, 5], "lengths[0] is -1, expected 0 to T = 5"),
}


@pytest.mark.parametrize(("shapes", "lengths", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_input(
    library: Path, shapes: tuple[tuple[int, ...], ...], lengths: list[int], message: str
) -> None:
    session = make_session(library, make_model("fo", shapes=(None, None, None)))
    feeds = {
        "gates": np.zeros(shapes[0], np.float32),
        "c0": np.zeros(shapes[1], np.float32),
        "lengths": np.array(lengths, np.int64).reshape(shapes[2]),
    }
    with pytest.raises(Exception, match="QRNNPoolFO 'the_node'") as caught:
        session.run(None, feeds)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    good = session.run(
        None,
        {
            "gates": np.zeros(FULL[0], np.float32),
            "c0": np.ones(FULL[1], np.float32),
            "lengths": np.array([5, 5], np.int64),
        },
    )
    np.testing.assert_allclose(good[1], 0.5**5, rtol=1e-6)


BAD_ATTRIBUTES = {
    "direction": ("fo", {"direction": 2}, "direction is 2, expected 1 (forward) or -1 (reverse)"),
    "direction type": ("fo", {"direction": 1.0}, "direction is of another type, expected an int"),
    "activation": ("f", {"activation": "gelu"}, "'gelu', expected tanh, relu or identity"),
    "activation type": ("f", {"activation": 1}, "activation is of another type, expected a string"),
    "zoneout 0": ("fo", {"zoneout_scale": 0.0}, "is 0, expected a number above 0 and at most 1"),
    "zoneout 1.5": ("fo", {"zoneout_scale": 1.5}, "is 1.5, expected a number above 0 and at most"),
    "zoneout nan": ("f", {"zoneout_scale": float("nan")}, "is nan, expected a number above 0"),
    "zoneout type": ("f", {"zoneout_scale": 1}, "is of another type, expected a float"),
    "zoneout ifo": ("ifo", {"zoneout_scale": 0.5}, "is 0.5, expected 1: this pooling has an input"),
    "zoneout if": ("if", {"zoneout_scale": 0.5}, "is 0.5, expected 1: this pooling has an input"),
    "version": ("fo", {"plugin_version": "2"}, "plugin_version is '2', expected '1'"),
    "version type": ("fo", {"plugin_version": 1}, "plugin_version is of another type, expected a"),
}


@pytest.mark.parametrize(
    ("pooling", "attributes", "message"), BAD_ATTRIBUTES.values(), ids=BAD_ATTRIBUTES
)
def test_bad_attribute(
    library: Path, pooling: str, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Exception, match=f"{POOLINGS[pooling].op_type} 'the_node'") as caught:
        make_session(library, make_model(pooling, **attributes))
    assert message in str(caught.value)


@pytest.mark.parametrize("pooling", cases.POOLING_NAMES)
def test_attributes_have_defaults(library: Path, pooling: str) -> None:
    """A bare node equals one with every attribute written out."""
    case = cases.PoolCase(pooling)
    gates, c0, lengths = case.inputs()
    written = make_model(
        pooling,
        direction=1,
        activation="tanh",
        zoneout_scale=1.0,
        plugin_version=PLUGIN_VERSION,
        plugin_namespace="",
    )
    feeds = {"gates": gates, "c0": c0, "lengths": lengths}
    bare = make_session(library, make_model(pooling)).run(None, feeds)
    full = make_session(library, written).run(None, feeds)
    assert [x.tobytes() for x in bare] == [x.tobytes() for x in full]


def test_shapes_are_inferred(library: Path) -> None:
    def outputs(shapes: Any, dtype: str = "float32") -> list[Any]:
        model = make_model("ifo", dtype, shapes=shapes)
        return [output.shape for output in make_session(library, model).get_outputs()]

    assert outputs((["T", "B", 40], ["B", 10], ["B"])) == [["T", "B", 10], ["B", 10]]
    assert outputs(([7, "B", 40], ["B", None], ["B"]), "bfloat16") == [[7, "B", 10], ["B", 10]]
    unknown = outputs((None, ["B", 3], None))
    assert unknown[1] == ["B", 3]
    assert len(unknown[0]) == 3
    assert isinstance(unknown[0][0], str)
    assert unknown[0][1:] == ["B", 3]


def test_created_kernels_are_named(library: Path) -> None:
    kernels = needs.kernel_library()
    kernels.drain_created()
    make_session(library, make_model("fo", name="first"))
    make_session(library, make_model("if", "float16", name="second"))
    raw = ctypes.CDLL(str(library))
    raw.qrnn_deploy_drain_created.restype = ctypes.c_size_t
    raw.qrnn_deploy_drain_created.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    small = ctypes.create_string_buffer(b"untouched", 12)
    assert raw.qrnn_deploy_drain_created(small, 12) == len("cpu first\ncpu second") + 1
    assert small.value == b"untouched"
    assert kernels.drain_created() == {"first": "cpu", "second": "cpu"}
    assert kernels.drain_created() == {}


def test_library_describes_itself(library: Path) -> None:
    kernels = needs.kernel_library()
    assert kernels.schema_version == OPSET_VERSION
    assert kernels.isa in INSTRUCTION_SETS
    info = json.loads(json.dumps(kernels.build_info))
    assert kernels.isa in info["isas"]
    assert info["ort_api_version"] <= info["ort_header_version"]
    assert info["version"]
    assert info["compiler"]
    assert kernels.cuda is None or kernels.cuda.startswith("sm_")
    assert (info["cuda"] is None) == (kernels.cuda is None)


def test_only_the_contract_is_exported(library: Path) -> None:
    try:
        listed = subprocess.run(
            ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError:
        pytest.skip("nm (binutils) is missing")
    assert {line.split()[-1] for line in listed.splitlines()} == {
        "RegisterCustomOps",
        "qrnn_deploy_build_info",
        "qrnn_deploy_drain_created",
        "qrnn_deploy_isa",
        "qrnn_deploy_schema_version",
    }
