"""Weights out of a TensorFlow checkpoint (``model.ckpt-N.index`` and its data), without TensorFlow.

What ``tf.train.Saver`` has written since TensorFlow 0.12, format "V2"; sources:
``tensorflow/core/util/tensor_bundle/tensor_bundle.h``, ``tensorflow/core/lib/io/table_format.txt``,
``tensorflow/core/protobuf/tensor_bundle.proto``.

NAME.index
    A sorted table of LevelDB's kind. Its last 48 bytes say where the block of blocks lies. A block
    is a run of entries, each with the part of its key that differs from the key before, then a
    list of restarts, then one byte of compression (TensorFlow uses none) and a check sum. The
    entry of key "" describes the bundle, every other one a variable: type, shape, data file,
    offset and size.
NAME.data-0000K-of-0000N
    The elements, little-endian, row after row.

The older format "V1", one file without a suffix, is recognised and refused.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .._files import reason
from ..errors import CheckpointError
from ..nn.config import shorten

MAGIC = bytes.fromhex("57fb808b247547db")
"""The last bytes of every such table."""

MAX_INDEX = 2**24
MAX_VARIABLES = 10_000
MAX_KEY = 1_000
MAX_SHARDS = 1_000
MAX_RANK = 8

DTYPES = {
    **{1: torch.float32, 2: torch.float64, 3: torch.int32, 4: torch.uint8, 5: torch.int16},
    **{6: torch.int8, 9: torch.int64, 10: torch.bool, 14: torch.bfloat16, 19: torch.float16},
}
"""TensorFlow's number of a type -> ours. Variables of other types (strings) are left out."""

_SCRIPT = "docs/checkpoints-quasi-rnn.md has ten lines that write a .npz where TensorFlow is"


@dataclass(frozen=True)
class _Entry:
    """Where a variable lies; ``dtype`` is TensorFlow's number."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def is_tensorflow(path: Path) -> bool:
    """Whether the last bytes of a file are those of TensorFlow's tables, of either format."""
    try:
        with path.open("rb") as stream:
            stream.seek(-len(MAGIC), os.SEEK_END)
            return stream.read() == MAGIC
    except OSError:
        return False


def read_tensorflow(path: Path) -> dict[str, Tensor]:
    """All variables of a checkpoint by name.

    Args:
        path: of ``NAME.index``; the files ``NAME.data-...`` lie beside it.

    Returns:
        Tensors on the CPU in memory of their own, of a type in :data:`DTYPES`, in the order of
        their names. Their check sums are not compared.

    Raises:
        CheckpointError: a file is absent, damaged, of the older format, or shorter than it says.
    """
    try:
        with path.open("rb") as stream:
            index = stream.read(MAX_INDEX + 1)
        if index[-len(MAGIC) :] != MAGIC or path.suffix != ".index":
            what = "of the old format V1" if is_tensorflow(path) else "none, or not whole"
            raise CheckpointError(
                f"{path}: expected NAME.index of a TensorFlow checkpoint; it is {what}: {_SCRIPT}"
            )
        shards, entries = _entries(index)
        return _load(path, shards, entries)
    except OSError as error:
        where = error.filename or path
        raise CheckpointError(f"{where}: cannot be read: {reason(error)}") from None
    except CheckpointError:
        raise
    except (ValueError, IndexError, struct.error) as error:
        raise CheckpointError(
            f"{path}: is a damaged or unusual TensorFlow checkpoint: {error}"
        ) from None


def _entries(index: bytes) -> tuple[int, dict[str, _Entry]]:
    """Number of data files, and the variables."""
    shards, entries = 0, dict[str, _Entry]()
    _, _, position = _handle(index[-48:], 0)
    offset, size, _ = _handle(index[-48:], position)
    remaining = len(index) - size
    for _, handle in _block(index, offset, size):
        offset, size, _ = _handle(handle, 0)
        remaining -= size
        if remaining < 0:
            raise ValueError("its blocks lie upon each other")
        for key, value in _block(index, offset, size):
            fields = _fields(value)
            if not key:
                shards = _number(fields, 1)
                if _number(fields, 2):
                    raise ValueError("it is big-endian, expected little-endian")
                continue
            if 7 in fields:
                raise ValueError(f"{shorten(key)} is stored in slices, expected it whole")
            place = (_number(fields, number) for number in (3, 4, 5))
            entries[key.decode()] = _Entry(_number(fields, 1), _shape(fields), *place)
            if len(entries) > MAX_VARIABLES:
                raise ValueError(f"it has more than {MAX_VARIABLES} variables")
    if not 1 <= shards <= MAX_SHARDS:
        raise ValueError(f"it speaks of {shards} data files")
    return shards, entries


def _load(path: Path, shards: int, entries: dict[str, _Entry]) -> dict[str, Tensor]:
    """The variables out of the data files, which together are at least as large as they."""
    files = [path.with_suffix(f".data-{n:05d}-of-{shards:05d}") for n in range(shards)]
    sizes = [file.stat().st_size for file in files]
    if sum(entry.size for entry in entries.values()) > sum(sizes):
        raise ValueError(f"{files[0].name} is shorter than the index says: fetch it again")
    tensors = {}
    for name, entry in entries.items():
        dtype = DTYPES.get(entry.dtype)
        if dtype is None:
            continue
        if math.prod(entry.shape) * dtype.itemsize != entry.size or entry.shard >= shards:
            raise ValueError(f"{shorten(name)} has another size than its shape")
        if entry.offset + entry.size > sizes[entry.shard]:
            raise ValueError(f"{shorten(name)} lies outside of {files[entry.shard].name}")
        tensor = torch.empty(entry.shape, dtype=dtype)
        view = tensor.reshape(-1).view(torch.uint8).numpy().data
        with files[entry.shard].open("rb") as stream:
            stream.seek(entry.offset)
            if stream.readinto(view) != entry.size:
                raise ValueError(f"{files[entry.shard].name} ends inside of {shorten(name)}")
        tensors[name] = tensor
    return tensors


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block."""
    if offset + size >= len(table):
        raise ValueError("a block lies outside of the file")
    if table[offset + size]:
        raise ValueError(f"it is compressed, as TensorFlow leaves none; {_SCRIPT}")
    block = table[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end, position, key = size - 4 - 4 * restarts, 0, b""
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or shared + fresh > MAX_KEY or position + fresh + length > end:
            raise ValueError("an entry of a block does not fit into it")
        key = key[:shared] + block[position : position + fresh]
        position += fresh + length
        yield key, block[position - length : position]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven in each byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number has more than 64 bits")


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Offset and size of a block, and the position after them."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return offset, size, position


def _fields(message: bytes) -> dict[int, list[int | bytes]]:
    """The values of each field of a protocol buffer."""
    fields: dict[int, list[int | bytes]] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        value: int | bytes
        kind = tag & 7
        if kind == 0:
            value, position = _varint(message, position)
        else:
            length = {1: 8, 5: 4}.get(kind, 0)
            if kind == 2:
                length, position = _varint(message, position)
            if kind not in (1, 2, 5) or position + length > len(message):
                raise ValueError("an entry is no protocol buffer")
            value = message[position : position + length]
            position += length
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields: dict[int, list[int | bytes]], field: int) -> int:
    """A field that holds a number, 0 where it is left out."""
    value = fields.get(field, [0])[-1]
    if not isinstance(value, int):
        raise ValueError("a field of an entry is of another type")
    return value


def _shape(fields: dict[int, list[int | bytes]]) -> tuple[int, ...]:
    """The sizes in the TensorShapeProto of an entry."""
    shape = fields.get(2, [b""])[-1]
    sizes = _fields(shape if isinstance(shape, bytes) else b"").get(2, [])
    found = tuple(_number(_fields(n), 1) if isinstance(n, bytes) else -1 for n in sizes)
    if len(found) > MAX_RANK or not all(0 <= size <= 2**40 for size in found):
        raise ValueError("a variable has an impossible shape")
    return found
