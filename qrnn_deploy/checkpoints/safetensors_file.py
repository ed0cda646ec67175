"""safetensors files, laid out without reading a weight."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from ..errors import CheckpointError
from .stored import MAX_RANK, Place, Storage, StoredTensor
from .untrusted_text import is_name, shown

MAX_HEADER = 2**22
"""Bytes. Names and sizes of the largest models take a hundredth of that."""

_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"},
}


def read_safetensors(file: Path, size: int) -> tuple[dict[str, str], dict[str, StoredTensor]]:
    """Metadata and tensors of a safetensors file.

    The library checks the header; the tensors are then known by their places.

    Args:
        file: the file.
        size: of it in bytes.

    Raises:
        CheckpointError: it is damaged.
    """
    with file.open("rb") as stream:
        start = stream.read(8)
    announced = 8 + struct.unpack("<Q", start)[0] if len(start) == 8 else 8
    if announced > size:
        raise CheckpointError(
            f"{file}: is a truncated or damaged safetensors file: its header needs "
            f"{announced} bytes, the file has {size}"
        )
    if announced > MAX_HEADER:
        raise CheckpointError(
            f"{file}: has a header of {announced} bytes, expected at most {MAX_HEADER}: is it a "
            "checkpoint?"
        )
    try:
        with safetensors.safe_open(file, framework="np") as archive:
            metadata = dict(archive.metadata() or {})
        with file.open("rb") as stream:
            header = json.loads(stream.read(announced)[8:])
        header.pop("__metadata__", None)
        tensors = {
            name: _safetensor(file, announced, name, entry) for name, entry in header.items()
        }
        # save_model() drops all but one name of a shared tensor, and keeps {dropped: kept} here.
        for name, kept in metadata.items():
            if kept in tensors and name not in tensors and is_name(name):
                tensors[name] = tensors[kept]
        return metadata, tensors
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: is a truncated or damaged safetensors file: {shown(str(error), 120)}"
        ) from None


def _safetensor(file: Path, begin: int, name: str, entry: Mapping[str, Any]) -> StoredTensor:
    """One tensor of a header that the library found sound."""
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"tensor {name[:60]} is of type {entry['dtype']}, which is not supported")
    shape, (first, last) = entry["shape"], entry["data_offsets"]
    if len(shape) > MAX_RANK:
        raise ValueError(f"tensor {shown(name, 60)} has {len(shape)} axes, at most {MAX_RANK}")
    storage = Storage(name, _DTYPES[entry["dtype"]], math.prod(shape))
    storage.place = Place(file, begin + first, last - first)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return StoredTensor.checked(storage, 0, shape, strides)
