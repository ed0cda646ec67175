"""What an exported file holds, as data; ``qrnn-deploy inspect`` prints it."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import MissingDependencyError, ModelError
from .metadata import PACKED_INPUT, PACKED_OUTPUT, Metadata

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
        golden: whether test vectors lie beside the file.
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
        ModelError: no readable ONNX file, or not one of ours.
        KernelLibraryError: ``kernel="require"`` and there is none.
    """
    file = Path(path)
    model = _load(file)
    metadata = Metadata.from_properties(
        {entry.key: entry.value for entry in model.metadata_props}, str(file)
    )
    implementation, obstacle = _try_session(file, kernel)
    return Inspection(
        path=str(file),
        metadata=metadata,
        file_bytes=file.stat().st_size,
        external_bytes=_external_files(model, file.parent),
        parameters=_weight_elements(model),
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        ir_version=model.ir_version,
        functions=sorted({function.name for function in model.functions}),
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        golden=file.with_suffix(".golden").is_dir(),
        implementation=implementation,
        obstacle=obstacle,
    )


def _load(file: Path) -> Any:
    """The model without its external data."""
    import onnx
    from google.protobuf.message import DecodeError

    if not file.is_file():
        raise ModelError(f"{file}: no such file; expected an ONNX file written by the exporter")
    try:
        model = onnx.load(str(file), load_external_data=False)
    except DecodeError as error:
        raise ModelError(
            f"{file} is not a readable ONNX file ({error}): export the model again"
        ) from None
    if not model.graph.node:
        raise ModelError(f"{file} holds no ONNX graph: export the model again")
    return model


def _weight_elements(model: Any) -> int:
    """Elements of the floating tensors; the scalars and shapes of the graph's own are none."""
    import onnx

    floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type in floating and tensor.dims
    )


def _external_files(model: Any, folder: Path) -> dict[str, int]:
    names = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    sizes = {}
    for name in sorted(names):
        part = folder / name
        if not part.is_file():
            raise ModelError(f"{part}: the model's weights are missing; copy the file beside it")
        sizes[name] = part.stat().st_size
    return sizes


def _try_session(file: Path, kernel: KernelChoice) -> tuple[dict[str, str] | None, str | None]:
    try:
        from .runtime import Session

        return dict(Session(file, kernel=kernel).implementation), None
    except MissingDependencyError as error:
        return None, str(error)
