"""Whether execution providers run anything at all here, asked before a model's own faults count."""

from __future__ import annotations

import numpy as np
import onnxruntime

from ..errors import DeviceError
from .providers import Placement, check_available, check_used, first_line, use

_SIZE = 4


def check_starts(placement: Placement) -> None:
    """Run one addition on the providers.

    Raises:
        MissingDependencyError: as for :func:`~.providers.check_available`.
        DeviceError: there is no driver, or it or a library does not fit, or the GPU is not one
            that the provider was built for.
    """
    check_available(placement)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the error that is raised says it
    x = np.arange(_SIZE, dtype=np.float32)
    try:
        session = onnxruntime.InferenceSession(
            _addition(), options, providers=use(placement, options), enable_fallback=0
        )
        check_used(placement, session)
        (answer,) = session.run(None, {"x": x})
    except DeviceError:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        raise DeviceError(
            f"{placement.providers[0][0]} does not run an addition here ({first_line(error)}): "
            f"expected a driver and libraries that fit onnxruntime {onnxruntime.__version__}"
        ) from error
    if not np.array_equal(answer, x + x):
        raise DeviceError(
            f"{placement.providers[0][0]} adds {x.tolist()} to itself as {answer.tolist()}: "
            "expected a GPU and a driver that work"
        )


def _addition() -> bytes:
    """A model that adds its input to itself."""
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [_SIZE]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])], "addition", ports[:1], ports[1:]
    )
    imports = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    return bytes(model.SerializeToString())
