"""PyTorch's two containers, zip and legacy, laid out without reading a single weight.

zip (torch >= 1.6)
    ``NAME/data.pkl``, a pickle in which a persistent id ``('storage', class, key, device, numel)``
    stands for the bytes of ``NAME/data/KEY``. Entries are stored as they are, never compressed.
legacy
    Pickles one after the other: a magic number, a protocol version, facts of the machine, the
    content, the keys of the storages; then each storage in that order, 8 bytes of element count
    before it. Source: ``torch/serialization.py``.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .pickle_data import MAX_BYTES, read_pickle
from .pickle_names import Name, PickleDamage
from .stored import STORAGE_DTYPES, Place, Storage, dtype_of
from .untrusted_text import shown

_MAGIC = 0x1950A86A20F9469CFC6C

LEGACY_START = tuple(pickle.dumps(_MAGIC, protocol) for protocol in range(2, 6))
"""How a legacy file may begin: the pickled magic number."""

_LEGACY_PROTOCOL = 1001

_FEW = 2**12
"""Bytes of a pickle of a handful of numbers."""


def read_zip(path: Path, listed: Sequence[zipfile.ZipInfo]) -> Any:
    """The content of a zip file; its tensors are :class:`.stored.StoredTensor`.

    Args:
        path: the file.
        listed: its entries, known to be stored as they are.

    Raises:
        PickleDamage: it is not laid out as PyTorch does it, or its pickle is not usable.
    """
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in listed:
        if entries.setdefault(entry.filename, entry) is not entry:
            raise PickleDamage("it has two entries of one name")
    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise PickleDamage("it has not exactly one data.pkl")
    prefix = pickles[0].removesuffix("data.pkl")
    storages: dict[str, Storage] = {}
    size = path.stat().st_size
    with path.open("rb") as stream:
        order = entries.get(f"{prefix}byteorder")
        if order is not None and _stored_bytes(stream, order, size) != b"little":
            raise PickleDamage("its numbers are not in little-endian order: save it on such a CPU")

        def load(identity: Any) -> Storage:
            storage = _storage(identity, storages)
            if storage.place is None:
                entry = entries.get(f"{prefix}data/{storage.key}")
                if entry is None:
                    raise PickleDamage(f"storage {shown(storage.key)} is missing")
                place = _place(stream, entry, path, size)
                if storage.nbytes > place.nbytes:
                    raise PickleDamage(
                        f"storage {shown(storage.key)} announces {storage.nbytes} bytes and has "
                        f"{place.nbytes}"
                    )
                storage.place = place
            return storage

        pickled = _stored_bytes(stream, entries[pickles[0]], size)
        content = read_pickle(io.BytesIO(pickled), load)
    _check_apart(storage.place for storage in storages.values() if storage.place is not None)
    return content


def read_legacy(path: Path) -> Any:
    """The content of a legacy file; its tensors are :class:`.stored.StoredTensor`.

    Raises:
        PickleDamage: it is not laid out as PyTorch does it, or its pickle is not usable.
    """
    storages: dict[str, Storage] = {}
    size = path.stat().st_size
    with path.open("rb") as stream:
        _magic, protocol, system = (read_pickle(stream, most=_FEW) for _ in range(3))
        if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict):
            raise PickleDamage("its protocol version is not that of PyTorch")
        if system.get("little_endian") is not True:
            raise PickleDamage("its numbers are not in little-endian order: save it on such a CPU")
        content = read_pickle(stream, lambda identity: _legacy_value(identity, storages))
        keys = read_pickle(stream)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise PickleDamage("its list of storages is none")
        for key in keys:
            count = struct.unpack("<q", _exactly(stream, 8))[0]
            storage = storages.get(key)
            if storage is None:
                raise PickleDamage(f"storage {shown(key)} belongs to no tensor")
            if storage.place is not None:
                raise PickleDamage(f"storage {shown(key)} is there twice")
            nbytes = count * dtype_of(storage.dtype).itemsize
            if count != storage.numel or stream.tell() + nbytes > size:
                raise PickleDamage(f"storage {shown(key)} is not whole")
            storage.place = Place(path, stream.tell(), nbytes)
            stream.seek(nbytes, io.SEEK_CUR)
    return content


def _storage(identity: Any, storages: dict[str, Storage]) -> Storage:
    """The storage that a persistent id stands for; one object for each key."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise PickleDamage("a persistent id is none of PyTorch's")
    kind, key, _device, numel = identity[1:5]
    if not isinstance(kind, Name) or kind.text not in STORAGE_DTYPES:
        raise PickleDamage("a storage has no known type")
    if isinstance(numel, bool) or not isinstance(numel, int) or not 0 <= numel < 2**60:
        raise PickleDamage("a storage has no size")
    if not isinstance(key, (str, int)):
        raise PickleDamage("a storage has no key")
    dtype = STORAGE_DTYPES[kind.text]
    storage = storages.setdefault(str(key), Storage(str(key), dtype, numel))
    if (storage.dtype, storage.numel) != (dtype, numel):
        raise PickleDamage(f"storage {shown(str(key))} has two types or sizes")
    return storage


def _legacy_value(identity: Any, storages: dict[str, Storage]) -> Any:
    """Storages, and classes with their source text, which legacy files of modules hold."""
    if isinstance(identity, tuple) and len(identity) == 4 and identity[0] == "module":
        return identity[1]
    if isinstance(identity, tuple) and len(identity) == 6 and identity[5] is not None:
        raise PickleDamage("it holds views of storages, as PyTorch 0.3 and older wrote them")
    return _storage(identity, storages)


def _place(stream: BinaryIO, entry: zipfile.ZipInfo, path: Path, size: int) -> Place:
    """Where the bytes of an entry lie, from its local header."""
    if not 0 <= entry.header_offset < size:  # a number of 64 bits, which no seek takes
        raise PickleDamage("an entry of the archive lies outside of the file")
    stream.seek(entry.header_offset)
    header = _exactly(stream, 30)
    if header[:4] != b"PK\x03\x04":
        raise PickleDamage("an entry of the archive has no header")
    name_size, extra_size = struct.unpack("<HH", header[26:30])
    start = entry.header_offset + 30 + name_size + extra_size
    if entry.flag_bits & 1:
        raise PickleDamage("an entry of the archive is encrypted")
    if entry.file_size != entry.compress_size or start + entry.file_size > size:
        raise PickleDamage("an entry of the archive is not whole")
    return Place(path, start, entry.file_size, entry.CRC)


def _check_apart(places: Iterable[Place]) -> None:
    """A file could hold the same bytes under many names, and grow in memory as often."""
    end = 0
    for place in sorted(places, key=lambda place: place.offset):
        if place.nbytes and place.offset < end:
            raise PickleDamage("two storages lie over each other")
        end = max(end, place.offset + place.nbytes)


def _stored_bytes(stream: BinaryIO, entry: zipfile.ZipInfo, size: int) -> bytes:
    place = _place(stream, entry, Path(), size)
    if place.nbytes > MAX_BYTES:
        raise PickleDamage(f"{shown(entry.filename)} has {place.nbytes} bytes, at most {MAX_BYTES}")
    stream.seek(place.offset)
    data = _exactly(stream, place.nbytes)
    if zlib.crc32(data) != place.crc:
        raise PickleDamage(
            f"the check sum of {shown(entry.filename, 30)} is wrong (saved with "
            "compute_crc32 = False? Save it again with True)"
        )
    return data


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise PickleDamage("the file is cut off")
    return data
