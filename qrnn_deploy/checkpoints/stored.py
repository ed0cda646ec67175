"""Tensors that still lie in their file: type, sizes and place, checked before a byte is read."""

from __future__ import annotations

import math
import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .untrusted_text import is_name, shown

STORAGE_DTYPES: dict[str, str] = {
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.ShortStorage": "int16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.BoolStorage": "bool",
    "torch.storage.UntypedStorage": "uint8",
    "torch.UntypedStorage": "uint8",
    **{
        f"torch.cuda.{kind}Storage": dtype
        for kind, dtype in (
            *(("Float", "float32"), ("Double", "float64"), ("Half", "float16")),
            *(("BFloat16", "bfloat16"), ("Byte", "uint8"), ("Long", "int64"), ("Int", "int32")),
        )
    },
}
"""Name of a storage class in a pickle -> element type."""

MAX_RANK = 64
MAX_ELEMENTS = 2**40
BLOCK = 2**24
"""Bytes per read."""

MAPPED = 2**22
"""Runs of at least so many bytes are mapped rather than read, inside :func:`mapping`."""


_mapping: ContextVar[bool] = ContextVar("qrnn_deploy_mapping", default=False)


@contextmanager
def mapping() -> Iterator[None]:
    """Let large tensors that are read in the block be pages of their file.

    The file must not become shorter while one of them is in use: the process would be ended.
    """
    token = _mapping.set(True)
    try:
        yield
    finally:
        _mapping.reset(token)


def dtype_of(name: str) -> torch.dtype:
    """PyTorch's type of that name."""
    kind: torch.dtype = getattr(torch, name)
    return kind


class StorageDamage(ValueError):
    """A tensor that its file does not hold; the text says how."""


@dataclass(eq=False)
class Storage:
    """A run of elements in a file.

    Attributes:
        key: its name in the file.
        dtype: of the elements.
        numel: elements that the pickle announces.
        place: where it lies; filled once the file has been laid out.
        origin: the storage of the same bytes under the type that the pickle gave them.
        sound: whether the check sum has been compared already.
    """

    key: str
    dtype: str
    numel: int
    place: Place | None = None
    origin: Storage | None = None
    sound: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes that the pickle announces."""
        return self.numel * dtype_of(self.dtype).itemsize

    def viewed_as(self, dtype: str) -> Storage:
        """The same bytes as elements of another type."""
        size = self.nbytes // dtype_of(dtype).itemsize
        return Storage(self.key, dtype, size, origin=self)

    def load(self, first: int, count: int) -> Tensor:
        """Some elements one after the other, read anew each time into memory of their own.

        The check sum is of all bytes, so the first call reads them all, without keeping them.

        Raises:
            StorageDamage: the bytes are not all there, or not those that were written.
        """
        whole = self if self.origin is None else self.origin
        if whole.place is None:
            raise StorageDamage(f"storage {shown(self.key)} is not in the file")
        if whole.nbytes > whole.place.nbytes:
            raise StorageDamage(
                f"a tensor needs {whole.nbytes} bytes where the file has {whole.place.nbytes}"
            )
        if not whole.sound:
            whole.place.check()
            whole.sound = True
        return whole.place.read(dtype_of(self.dtype), first, count)


@dataclass(frozen=True)
class Place:
    """Bytes of a file, with the CRC-32 that the file gives for them, if it gives one."""

    path: Path
    offset: int
    nbytes: int
    crc: int | None = None

    def check(self) -> None:
        """Read all bytes and compare their check sum, where there is one.

        Raises:
            StorageDamage: it is another, or the file has become shorter.
        """
        if self.crc is None:
            return
        crc, left = 0, self.nbytes
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            while left:
                block = stream.read(min(BLOCK, left))
                if not block:
                    raise StorageDamage("the file ends inside a tensor")
                crc = zlib.crc32(block, crc)
                left -= len(block)
        if crc != self.crc:
            raise StorageDamage(
                "the check sum of a tensor is wrong (CRC-32; torch.save writes none with "
                "torch.serialization.config.save.compute_crc32 = False: save it again with True)"
            )

    def read(self, dtype: torch.dtype, first: int, count: int) -> Tensor:
        """Elements from ``first`` on, in memory of their own.

        Inside :func:`mapping` large runs are mapped privately, as :func:`torch.load` does with
        ``mmap=True``: what is written to them never reaches the file, and what is not can be
        dropped and read again (:mod:`qrnn_deploy.exporter.memory`).

        Raises:
            StorageDamage: the file has become shorter.
        """
        if _mapping.get() and count * dtype.itemsize >= MAPPED:
            return self._map(dtype, first, count)
        result = torch.empty(count, dtype=dtype)
        view = result.view(torch.uint8).numpy().data if count else memoryview(b"")
        done = 0
        with self.path.open("rb") as stream:
            stream.seek(self.offset + first * dtype.itemsize)
            while done < len(view):
                size = stream.readinto(view[done : done + BLOCK])
                if not size:
                    raise StorageDamage("the file ends inside a tensor")
                done += size
        return result

    def _map(self, dtype: torch.dtype, first: int, count: int) -> Tensor:
        begin = self.offset + first * dtype.itemsize
        page = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = begin - page + count * dtype.itemsize
        try:
            with self.path.open("rb") as stream:
                pages = mmap.mmap(stream.fileno(), length, access=mmap.ACCESS_COPY, offset=page)
        except ValueError:
            raise StorageDamage("the file ends inside a tensor") from None
        # A tensor may begin anywhere in a file, an element only where its type can be read.
        raw = torch.frombuffer(pages, dtype=torch.uint8, offset=begin - page)
        return raw.view(dtype) if begin % dtype.itemsize == 0 else raw.clone().view(dtype)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor by sizes and strides in elements; its numbers stay in the file until asked for."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the elements."""
        return dtype_of(self.storage.dtype)

    @classmethod
    def checked(cls, storage: Storage, offset: Any, size: Any, stride: Any) -> StoredTensor:
        """A tensor out of a pickle.

        Raises:
            ValueError: sizes or strides are no sizes, or reach outside of the storage.
        """
        if not is_name(storage.key):
            raise ValueError(f"{shown(storage.key)} is no name of a tensor")
        shape, strides = _sizes(size), _sizes(stride)
        if len(shape) != len(strides):
            raise ValueError(f"{len(shape)} sizes and {len(strides)} strides")
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise ValueError("the offset is no offset")
        if math.prod(shape) > MAX_ELEMENTS:
            raise ValueError("more elements than any checkpoint has")
        tensor = cls(storage, offset, shape, strides)
        if math.prod(shape) and offset + tensor.span > storage.numel:
            raise ValueError(f"element {offset + tensor.span} of a storage of {storage.numel}")
        return tensor

    @property
    def span(self) -> int:
        """Elements of the storage from the tensor's first to its last; it has some."""
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    def holds_its_elements(self) -> bool:
        """Whether the storage has as many elements; with a stride of 0 it needs but one."""
        return math.prod(self.shape) <= self.storage.numel

    def is_same(self, other: object) -> bool:
        """Whether another tensor is made of the very same elements of the file."""
        return (
            isinstance(other, StoredTensor)
            and self.storage is other.storage
            and (self.offset, self.shape, self.stride) == (other.offset, other.shape, other.stride)
        )

    def load(self) -> Tensor:
        """The tensor, dense, in memory that nothing else has.

        Raises:
            StorageDamage: its elements are not in the file.
        """
        if not self.holds_its_elements():
            raise StorageDamage(f"a tensor of shape {list(self.shape)} does not hold its elements")
        if not math.prod(self.shape):
            return torch.empty(self.shape, dtype=self.dtype)
        flat = self.storage.load(self.offset, self.span)
        tensor = flat.as_strided(self.shape, self.stride)
        return (
            tensor.contiguous()
            if flat.numel() == tensor.numel()
            else tensor.clone(memory_format=torch.contiguous_format)
        )


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_RANK:
        raise ValueError(f"sizes that are no list of at most {MAX_RANK} numbers")
    for size in value:
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_ELEMENTS:
            raise ValueError("a size or stride that is no size")
    return tuple(value)
