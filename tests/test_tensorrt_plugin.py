"""The TensorRT plugin library, as a file and inside of TensorRT for RTX.

The contract itself is tested in C++ (tests/cpp/trt_*). Here is what only a real TensorRT can say:
that its registry takes the library, and which fields its ONNX parser makes of a node.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import needs
import onnx
import pytest
from onnx import TensorProto, helper

from qrnn_deploy.engines.plugin import find_plugin
from qrnn_deploy.errors import EngineError
from qrnn_deploy.pooling.spec import BY_OP_TYPE, DOMAIN, OPERATORS

HELPER = Path(__file__).with_name("tensorrt_registry.py")
EXPORTED = Path(__file__).with_name("data") / "v1"
OURS = {op for op, spec in BY_OP_TYPE.items() if spec.has_kernel}


@pytest.fixture(scope="module")
def library() -> Path:
    try:
        return find_plugin()
    except EngineError as error:
        needs.absent("tensorrt-plugin", str(error))


@pytest.fixture(scope="module")
def registering(library: Path) -> list[Path]:
    """The libraries that register themselves, one for each major of TensorRT."""
    found = sorted(library.parent.glob("libqrnn_deploy_tensorrt_register_*.so"))
    assert found
    return found


def binutils(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip(f"{command[0]} (binutils) is missing")


def exported(library: Path) -> set[str]:
    listed = binutils("nm", "-D", "--defined-only", str(library))
    return {line.split()[-1] for line in listed.splitlines()}


def test_exports(library: Path, registering: list[Path]) -> None:
    assert exported(library) == {"getCreators", "setLoggerFinder"}
    for path in registering:
        assert exported(path) == set()


def test_links_neither_tensorrt_nor_cuda(library: Path, registering: list[Path]) -> None:
    for path in (library, *registering):
        needed = [
            line.split("[")[1].rstrip("]")
            for line in binutils("readelf", "-d", str(path)).splitlines()
            if "(NEEDED)" in line
        ]
        assert needed
        for name in needed:
            assert name.startswith(("libc.", "libm.", "libgcc_s.", "libstdc++.", "ld-linux")) or (
                name.startswith(("libdl.", "librt.", "libpthread."))
            ), f"{path.name} needs {name}"
        undefined = binutils("nm", "-D", "--undefined-only", str(path))
        assert "getPluginRegistry" not in undefined
        assert "nvinfer" not in undefined


def test_registering_library_without_tensorrt(registering: list[Path]) -> None:
    """It loads in a process without TensorRT, says so in one line, and registers nothing."""
    for path in registering:
        major = path.stem.rsplit("_", 1)[1]
        code = f"import ctypes; ctypes.CDLL({str(path)!r}); print('alive')"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (run.returncode, run.stdout) == (0, "alive\n")
        lines = run.stderr.splitlines()
        if lines:  # otherwise this machine has that TensorRT
            assert lines == [
                "qrnn-deploy: no plugin is registered: this process has no TensorRT, expected "
                f"libnvinfer.so.{major} loaded or in the library path"
            ]


class Rtx:
    """One run of tensorrt_registry.py."""

    def __init__(self, library: Path, *arguments: str) -> None:
        run = subprocess.run(
            [sys.executable, str(HELPER), str(library), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.code = run.returncode
        self.stderr = run.stderr
        values = [json.loads(line) for line in run.stdout.splitlines() if line[:1] in "[{"]
        self.log = [tuple(value) for value in values if isinstance(value, list)]
        self.answers: dict[str, Any] = {}
        for value in values:
            if isinstance(value, dict):
                self.answers.update(value)
        assert self.answers.get("loaded"), run.stdout + run.stderr

    def ours(self, severity: str) -> list[str]:
        return [
            message.removeprefix("qrnn-deploy: ")
            for level, message in self.log
            if level == severity and message.startswith("qrnn-deploy: ")
        ]


def test_registry_lists_the_creators(library: Path) -> None:
    needs.tensorrt_rtx()
    run = Rtx(library, "creators")
    assert run.code == 0, run.stderr
    assert set(run.answers["creators"]) == OURS
    assert len(OURS) == 7
    for version, fields, kind in run.answers["creators"].values():
        assert version == "1"
        assert kind == "PLUGIN CREATOR_V3ONE"
        assert fields == {
            "direction": "INT32",
            "activation": "CHAR",
            "zoneout_scale": "FLOAT32",
            "plugin_version": "CHAR",
            "plugin_namespace": "CHAR",
        }


@pytest.mark.parametrize("op", sorted(OURS))
def test_registry_creates_each_plugin(library: Path, op: str) -> None:
    needs.tensorrt_rtx()
    fields = {"direction": ["INT32", [-1]], "activation": ["CHAR", "relu"]}
    run = Rtx(library, "create", op, json.dumps(fields))
    assert run.code == 0, run.stderr
    assert run.answers["plugin"] == [op, "1", DOMAIN]
    assert run.answers["outputs"] == 2
    zoneout = " zoneout_scale=1" if "zoneout_scale" in BY_OP_TYPE[op].attributes else ""
    description = f"{op} direction=-1 activation=relu{zoneout}"
    assert run.answers["metadata"] == description
    assert run.answers["kinds"] == [
        "PLUGIN_V3ONE_CORE",
        "PLUGIN_V3ONE_BUILD",
        "PLUGIN_V3ONE_RUNTIME",
    ]
    # Through TensorRT's own logger, whose form differs between TensorRT 10 and 11.
    assert run.ours("VERBOSE") == [f"{op} 'the_layer': created, {description}"]


@pytest.mark.parametrize(
    ("op", "fields", "message"),
    [
        ("QRNNPoolFO", {"direction": ["INT32", [2]]}, "direction is 2, expected 1 (forward) or"),
        ("QRNNPoolFO", {"direction": ["INT64", [1]]}, "direction is 1 of int64, expected 1 of int"),
        ("QRNNPoolF", {"zoneout_scale": ["FLOAT32", [float("nan")]]}, "zoneout_scale is nan, exp"),
        ("QRNNPoolIFO", {"zoneout_scale": ["FLOAT32", [0.5]]}, "zoneout_scale is 0.5, expected 1:"),
        ("QRNNPoolF", {"activation": ["CHAR", "gelu"]}, "activation is 'gelu', expected tanh,"),
        ("QRNNPoolIF", {"units": ["INT32", [1]]}, "'units' is unknown, expected direction,"),
    ],
)
def test_registry_gets_no_plugin_for_bad_fields(
    library: Path, op: str, fields: dict[str, Any], message: str
) -> None:
    needs.tensorrt_rtx()
    run = Rtx(library, "create", op, json.dumps(fields))
    assert run.code == 0, run.stderr
    assert run.answers["plugin"] is None
    (error,) = run.ours("ERROR")
    assert error.startswith(f"{op} 'the_layer': field {message}")


def first_node(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.domain == DOMAIN)


def description(node: onnx.NodeProto) -> str:
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    sru = node.op_type.startswith("SRU")
    activation = given.get("activation", b"identity" if sru else b"tanh").decode()
    zoneout = "" if sru else f" zoneout_scale={given.get('zoneout_scale', 1.0):g}"
    direction = given.get("direction", 1)
    return f"{node.op_type} direction={direction} activation={activation}{zoneout}"


def assert_created(run: Rtx, node: onnx.NodeProto) -> None:
    created = run.ours("VERBOSE")
    assert created, (run.log, run.stderr)
    assert created[0] == f"{node.op_type} '{node.name}': created, {description(node)}"
    # TensorRT for RTX cannot add a plugin to a network: its parser ends the process.
    assert run.code == -signal.SIGABRT
    assert "parsed" not in run.answers


@pytest.mark.parametrize("mode", ["override", "plain"])
@pytest.mark.parametrize("path", sorted(EXPORTED.glob("*.onnx")), ids=lambda path: path.stem)
def test_parser_creates_the_plugin_of_an_exported_file(
    library: Path, path: Path, mode: str
) -> None:
    """The namespace in the node is enough: the function in the file comes second."""
    needs.tensorrt_rtx()
    assert_created(Rtx(library, "parse", str(path), mode), first_node(onnx.load(path)))


def one_node(path: Path, pooling: str, **attributes: Any) -> onnx.NodeProto:
    spec = OPERATORS[pooling]
    node = helper.make_node(spec.op_type, spec.inputs, ["h", "c_T"], name="the_node", domain=DOMAIN)
    attributes = {"plugin_version": "1", "plugin_namespace": DOMAIN, **attributes}
    node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    inputs = {
        "gates": (TensorProto.FLOAT, ["T", "B", 8 * spec.gate_count]),
        "c0": (TensorProto.FLOAT, ["B", 8]),
        "lengths": (TensorProto.INT64, ["B"]),
        "weight_c": (TensorProto.FLOAT, [2, 8]),
        "bias": (TensorProto.FLOAT, [2, 8]),
        "skip": (TensorProto.FLOAT, ["T", "B", 8]),
    }
    graph = helper.make_graph(
        [node],
        "pooling",
        [helper.make_tensor_value_info(name, *inputs[name]) for name in spec.inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("h", "c_T")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return node


@pytest.mark.parametrize(
    ("pooling", "attributes"),
    [
        ("f", {"direction": -1, "activation": "relu", "zoneout_scale": 0.75}),
        ("fo", {"direction": -1, "activation": "identity", "zoneout_scale": 0.5}),
        ("ifo", {"direction": -1, "activation": "relu", "zoneout_scale": 1.0}),
        ("if", {"direction": 1, "activation": "identity"}),
        ("fo", {}),
        ("sru", {"direction": -1, "activation": "tanh"}),
        ("sru_input", {"direction": -1, "activation": "relu"}),
        ("sru_noskip", {}),
    ],
)
def test_parser_hands_every_attribute_over(
    library: Path, tmp_path: Path, pooling: str, attributes: dict[str, Any]
) -> None:
    needs.tensorrt_rtx()
    node = one_node(tmp_path / "model.onnx", pooling, **attributes)
    assert_created(Rtx(library, "parse", str(tmp_path / "model.onnx"), "plain"), node)


def test_parser_reports_a_bad_attribute(library: Path, tmp_path: Path) -> None:
    needs.tensorrt_rtx()
    one_node(tmp_path / "model.onnx", "fo", direction=2)
    run = Rtx(library, "parse", str(tmp_path / "model.onnx"), "plain")
    assert run.ours("ERROR") == [
        "QRNNPoolFO 'the_node': field direction is 2, expected 1 (forward) or -1 (reverse)"
    ]
    assert run.answers.get("parsed") is False
    assert run.code == 0, run.stderr
