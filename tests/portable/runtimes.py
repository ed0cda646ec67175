"""The runtimes: each opens a file and returns a function from a feed to all outputs by name."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import needs
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from qrnn_deploy.runtime import Session

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]
Form = Literal["kernel", "function", "inlined"]

HERE = Path(__file__).parent
NODE_FOLDER = HERE.parents[1] / "build" / "portable"


@dataclass(frozen=True)
class Opened:
    """A file loaded in a runtime: which version it is, and how to run it."""

    version: str
    run: Run


@dataclass(frozen=True)
class Runtime:
    """A runtime and the form of the file it is given.

    Attributes:
        name: of the runtime.
        form: ``kernel`` and ``function`` take the file as exported, ``inlined`` its inlined twin.
        open: loads a file; skips or fails where the runtime is absent.
    """

    name: str
    form: Form
    open: Callable[[Path], Opened]

    def __str__(self) -> str:
        return f"{self.name}-{self.form}"


def _kernel(path: Path) -> Opened:
    needs.kernel_library()
    session = Session(path, kernel="require")
    assert set(session.implementation.values()) == {"kernel"}, session.implementation
    return Opened(onnxruntime.__version__, lambda feed: session.run(feed))


def _function(path: Path) -> Opened:
    """ONNX Runtime alone: nothing of the project is involved."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return Opened(
        onnxruntime.__version__,
        lambda feed: dict(zip(names, session.run(names, feed), strict=True)),
    )


def _reference(path: Path) -> Opened:
    evaluator = onnx.reference.ReferenceEvaluator(str(path))
    names = evaluator.output_names
    return Opened(
        onnx.__version__,
        lambda feed: dict(zip(names, evaluator.run(names, feed), strict=True)),
    )


def _web(path: Path) -> Opened:
    package = NODE_FOLDER / "node_modules" / "onnxruntime-web" / "package.json"
    node = shutil.which("node")
    if node is None or not package.is_file():
        what = "node is not on PATH" if node is None else "onnxruntime-web is not installed"
        needs.absent("onnxruntime-web", f"{what} (`make test-portable` installs the package)")

    def run(feed: Arrays) -> Arrays:
        result = subprocess.run(
            [node, str(HERE / "web.mjs"), str(NODE_FOLDER), str(path)],
            input=json.dumps({name: _encoded(value) for name, value in feed.items()}),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        response = json.loads(result.stdout)
        assert response["version"] == version, "another copy of onnxruntime-web was loaded"
        return {name: _decoded(tensor) for name, tensor in response["outputs"].items()}

    version = json.loads(package.read_text())["version"]
    return Opened(version, run)


def _encoded(value: NDArray[Any]) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    return {"type": value.dtype.name, "dims": list(value.shape), "data": data}


def _decoded(tensor: Mapping[str, Any]) -> NDArray[Any]:
    data = base64.b64decode(tensor["data"])
    return np.frombuffer(data, tensor["type"]).reshape(tensor["dims"])


def _openvino(path: Path) -> Opened:
    try:
        import openvino
    except ImportError as error:
        needs.absent("openvino", f"{error} (`make test-portable` installs it)")
    # Where the machine computes in bfloat16, OpenVINO's CPU device does so unasked.
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in compiled.outputs]
    wanted = [value.name for value in onnx.load(path).graph.output]

    def run(feed: Arrays) -> Arrays:
        result = compiled(feed)
        by_name = {
            name: np.array(result[output]) for output in compiled.outputs for name in output.names
        }
        return {name: by_name[name] for name in wanted}

    assert len(names) == len(wanted)
    return Opened(openvino.__version__.split("-")[0], run)


RUNTIMES = (
    Runtime("onnxruntime", "kernel", _kernel),
    Runtime("onnxruntime", "function", _function),
    Runtime("onnx.reference", "function", _reference),
    Runtime("onnxruntime-web", "function", _web),
    Runtime("openvino", "inlined", _openvino),
)
