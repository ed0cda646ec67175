"""The weights inside an ONNX file, without running it: their digest and the tables of rows.

Running a model on samples exercises every weight of a matrix product, but only those rows of an
embedding whose tokens happen to occur. So the stored values themselves are compared too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from .errors import ModelError

_LEAST_TABLE = 8
"""Smaller constants that are gathered from are shapes and indices."""


def file_digest(path: Path) -> str:
    """sha256 over name, type, shape and values of every initializer, by name.

    Raises:
        ModelError: a weight cannot be read.
    """
    digest = hashlib.sha256()
    for name, array in sorted(_weights(path, None), key=lambda item: item[0]):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def looked_up_tables(path: Path) -> dict[str, NDArray[Any]]:
    """The initializers that nodes gather rows from, such as embeddings, by name.

    Raises:
        ModelError: a weight cannot be read.
    """
    graph = onnx.load(str(path), format="protobuf", load_external_data=False).graph
    gathered = {n.input[0] for n in graph.node if n.op_type.startswith("Gather") and n.input}
    return {name: a for name, a in _weights(path, gathered) if a.size >= _LEAST_TABLE}


def _weights(path: Path, wanted: set[str] | None) -> Iterator[tuple[str, NDArray[Any]]]:
    model = onnx.load(str(path), format="protobuf", load_external_data=False)
    for tensor in model.graph.initializer:
        if wanted is None or tensor.name in wanted:
            try:
                yield tensor.name, numpy_helper.to_array(tensor, base_dir=str(path.parent))
            except (ValueError, OSError, KeyError, onnx.checker.ValidationError) as error:
                raise ModelError(
                    f"{path}: weight {tensor.name!r} cannot be read ({type(error).__name__}): "
                    "export the model again"
                ) from error
