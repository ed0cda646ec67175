"""What an exported file holds, as data; ``qrnn-deploy inspect`` prints it."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ._files import golden_folder
from .errors import MissingDependencyError, ModelError
from .metadata import PACKED_INPUT, PACKED_OUTPUT, Metadata
from .model_file import external_sizes, metadata_of, read_model

KernelChoice = Literal["auto", "require", "off"]


@dataclass(frozen=True)
class Inspection:
    """The facts about one file.

    Attributes:
        path: the file.
        metadata: what the exporter recorded.
        file_bytes: size of the file itself.
        external_bytes: sizes of its external-data files, by name.
        parameters: number of weight elements.
        opsets: ONNX domain -> version.
        ir_version: of the ONNX file.
        functions: names of the model-local functions.
        operators: operator type -> number of nodes in the main graph.
        golden: whether test vectors lie beside the file, in a folder with a ``golden.json``.
        implementation: node name -> ``kernel`` or ``function``, as counted in a session here;
            None where no session could be opened.
        obstacle: why there is no session, in words.
    """

    path: str
    metadata: Metadata
    file_bytes: int
    external_bytes: dict[str, int]
    parameters: int
    opsets: dict[str, int]
    ir_version: int
    functions: list[str]
    operators: dict[str, int]
    golden: bool
    implementation: dict[str, str] | None
    obstacle: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, the names of the state tensors included."""
        result = asdict(self)
        meta = result.pop("metadata")
        for name in ("inputs", "outputs", "layers"):
            result[name] = meta.pop(name)
        meta.pop("states")
        result["states"] = self.states()
        result["metadata"] = meta
        return result

    def states(self) -> list[dict[str, Any]]:
        """The carried tensors: names at the border, shape with its batch axis, dtype."""
        meta = self.metadata
        rows = []
        for state in meta.states:
            row: dict[str, Any] = {
                "name": state.name,
                "layer": state.layer,
                "kind": state.kind,
                "shape": ["B", *state.shape],
                "dtype": state.dtype,
            }
            if meta.state_mode == "separate":
                row |= {"input": state.input, "output": state.output}
            elif meta.state_mode == "packed":
                row |= {"input": PACKED_INPUT, "output": PACKED_OUTPUT, "offset": state.offset}
            rows.append(row)
        return rows


def inspect_model(path: str | os.PathLike[str], *, kernel: KernelChoice = "auto") -> Inspection:
    """Read an exported file and try it in a session.

    Args:
        path: an ONNX file written by the exporter.
        kernel: ``auto``, ``require`` or ``off``, as for :class:`~qrnn_deploy.runtime.Session`.

    Raises:
        ModelError: no readable ONNX file, not one of ours, or without its weights.
        KernelLibraryError: ``kernel="require"`` and there is none.
    """
    file = Path(path)
    model = read_model(file)
    metadata = metadata_of(model, file)
    external_bytes = external_sizes(model, file)
    implementation, obstacle = _try_session(file, metadata, kernel)
    return Inspection(
        path=str(file),
        metadata=metadata,
        file_bytes=file.stat().st_size,
        external_bytes=external_bytes,
        parameters=_weight_elements(model),
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        ir_version=model.ir_version,
        functions=sorted({function.name for function in model.functions}),
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        golden=(golden_folder(file) / "golden.json").is_file(),
        implementation=implementation,
        obstacle=obstacle,
    )


def _weight_elements(model: Any) -> int:
    """Elements of the floating tensors; the scalars and shapes of the graph's own are none."""
    import onnx

    floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type in floating and tensor.dims
    )


def _try_session(
    file: Path, metadata: Metadata, kernel: KernelChoice
) -> tuple[dict[str, str] | None, str | None]:
    """What runs the pooling nodes here, or why there is no session."""
    try:
        from .runtime import Session

        return dict(Session(file, kernel=kernel).implementation), None
    except MissingDependencyError as error:
        return None, str(error)
    except ModelError as error:
        if metadata.dtype != "bfloat16":  # such a file is good, only not for every runtime
            raise
        return None, str(error)
