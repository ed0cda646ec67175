"""The weights inside an ONNX file, without running it: their digest and the tables of rows.

Running a model on samples exercises every weight of a matrix product, but only those rows of an
embedding whose tokens happen to occur. So the stored values themselves are compared too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from .errors import ModelError

_LEAST_TABLE = 8
"""Smaller constants that are gathered from are shapes and indices."""

_BLOCK = 2**22
"""Bytes that are read at once: a weight may be as large as the memory."""


def file_digest(path: Path) -> str:
    """sha256 over name, type, shape and values of every initializer, by name.

    Raises:
        ModelError: a weight cannot be read.
    """
    digest = hashlib.sha256()
    graph = onnx.load(str(path), format="protobuf", load_external_data=False).graph
    for tensor in sorted(graph.initializer, key=lambda item: item.name):
        with _reading(path, tensor):
            for block in _described(tensor, path.parent):
                digest.update(block)
    return digest.hexdigest()


def looked_up_tables(path: Path) -> dict[str, NDArray[Any]]:
    """The initializers that nodes gather rows from, such as embeddings, by name.

    Raises:
        ModelError: a weight cannot be read.
    """
    graph = onnx.load(str(path), format="protobuf", load_external_data=False).graph
    gathered = {n.input[0] for n in graph.node if n.op_type.startswith("Gather") and n.input}
    return {name: a for name, a in _weights(path, gathered) if a.size >= _LEAST_TABLE}


def _weights(path: Path, wanted: set[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    model = onnx.load(str(path), format="protobuf", load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.name in wanted:
            with _reading(path, tensor):
                array = numpy_helper.to_array(tensor, base_dir=str(path.parent))
            yield tensor.name, array


@contextmanager
def _reading(path: Path, tensor: TensorProto) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, KeyError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path}: weight {tensor.name!r} cannot be read ({type(error).__name__}): "
            "export the model again"
        ) from error


def _described(tensor: TensorProto, folder: Path) -> Iterator[bytes]:
    """Name, type, shape and values of a weight, some at a time."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    start, length = place.get("offset", "0"), place.get("length", "")
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    plain = not kind.hasobject and length == str(kind.itemsize * math.prod(tensor.dims))
    if "location" in place and plain and start.isdecimal():
        yield f"{tensor.name} {kind} {tuple(tensor.dims)}".encode()
        yield from _blocks(place["location"], int(start), int(length), folder)
    else:  # in the model itself, or packed, which ONNX can read
        array = numpy_helper.to_array(tensor, base_dir=str(folder))
        yield f"{tensor.name} {array.dtype} {array.shape}".encode()
        yield array.tobytes()


def _blocks(location: str, start: int, length: int, folder: Path) -> Iterator[bytes]:
    """Bytes of a file of weights. ONNX, which knows what not to open, reads each as a tensor."""
    for done in range(0, length, _BLOCK):
        size = min(_BLOCK, length - done)
        block = TensorProto(data_type=TensorProto.UINT8, dims=[size])
        block.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", start + done), ("length", size)):
            block.external_data.add(key=key, value=str(value))
        yield numpy_helper.to_array(block, base_dir=str(folder)).tobytes()
