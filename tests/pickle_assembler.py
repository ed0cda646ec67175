"""Pickles opcode by opcode, and the containers around them, so that tests can write what no pickler
and no ``torch.save`` would.

A piece of a pickle is ``bytes`` that push one value on the stack; pieces are put together with
``+``. The memo belongs to who writes the pickle: :func:`put` and :func:`get`.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

LITTLE_ENDIAN = pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)


def plain(value: Any) -> bytes:
    """Any ordinary value, without entries in the memo except where it contains one twice."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def raw(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> bytes:
    """LONG1, or LONG4, which has no bounds."""
    data = pickle.encode_long(value)
    if len(data) < 256:
        return b"\x8a" + bytes([len(data)]) + data
    return b"\x8b" + struct.pack("<I", len(data)) + data


def many(items: Iterable[bytes]) -> bytes:
    return b"(" + b"".join(items) + b"t"


def named(module: str, qualname: str) -> bytes:
    """GLOBAL."""
    return f"c{module}\n{qualname}\n".encode()


def stacked(module: str, qualname: str) -> bytes:
    """STACK_GLOBAL, which takes any text."""
    return text(module) + text(qualname) + b"\x93"


def call(function: bytes, *args: bytes) -> bytes:
    """REDUCE."""
    return function + many(args) + b"R"


def mapping(items: Mapping[str, bytes] | Sequence[tuple[bytes, bytes]]) -> bytes:
    pairs = [(text(k), v) for k, v in items.items()] if isinstance(items, Mapping) else items
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def listed(items: Iterable[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def shell(cls: str, state: bytes = b"}") -> bytes:
    """An object as pickle protocol 2 has it: NEWOBJ, then BUILD."""
    module, _, name = cls.rpartition(".")
    return named(module, name) + b")\x81" + state + b"b"


def module(cls: str, children: bytes = b"}", **state: bytes) -> bytes:
    """A pickled ``nn.Module``; ``children`` is a mapping."""
    parts = {"_parameters": b"}", "_buffers": b"}", "_modules": children, **state}
    return shell(cls, mapping(parts))


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def persistent(
    key: bytes = text("0"),
    numel: bytes = number(4),
    kind: str = "torch.FloatStorage",
    more: bytes = b"",
) -> bytes:
    """The persistent id of a storage; legacy files have None in it as ``more``."""
    place, _, name = kind.rpartition(".")
    return many([text("storage"), named(place, name), key, text("cpu"), numel, more]) + b"Q"


def called_class(function: bytes, *args: bytes) -> bytes:
    """OBJ: the function lies under its arguments."""
    return b"(" + function + b"".join(args) + b"o"


def instance(module: str, qualname: str, *args: bytes) -> bytes:
    """INST."""
    return b"(" + b"".join(args) + f"i{module}\n{qualname}\n".encode()


def tensor(
    storage: bytes | None = None,
    offset: bytes = number(0),
    size: bytes = plain((2, 2)),
    stride: bytes = plain((2, 1)),
) -> bytes:
    """``_rebuild_tensor_v2``."""
    return call(
        named("torch._utils", "_rebuild_tensor_v2"),
        persistent() if storage is None else storage,
        *(offset, size, stride, plain(False)),
        call(named("collections", "OrderedDict")),
    )


def whole(content: bytes, protocol: int = 2) -> bytes:
    """PROTO and STOP around a value."""
    return b"\x80" + bytes([protocol]) + content + b"."


@dataclass
class Entry:
    """One file of a zip archive, with every field that can lie.

    Attributes:
        name, data: as stored.
        local: what differs in the header before the data.
        method, flags, attributes: as in the directory.
        crc, size, packed, offset: as in the directory; what is true by default.
        extra: the extra field in the directory.
    """

    name: bytes
    data: bytes
    local: dict[str, Any] = field(default_factory=dict)
    method: int = 0
    flags: int = 0x800
    attributes: int = 0
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    offset: int | None = None
    extra: bytes = b""


def archive(
    entries: Sequence[Entry], *, before: bytes = b"", comment: bytes = b"", end: bytes | None = None
) -> bytes:
    """A zip archive of these entries, written here since no library writes broken ones.

    Args:
        entries: in order.
        before: bytes before the first entry.
        comment: at the end.
        end: instead of the record that ends the directory.
    """
    out, directory = bytearray(before), bytearray()
    for entry in entries:
        at = len(out)
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        size = len(entry.data) if entry.size is None else entry.size
        packed = len(entry.data) if entry.packed is None else entry.packed
        fields = {"name": entry.name, "crc": crc, "size": size, "packed": packed} | entry.local
        out += struct.pack(
            "<4s5H3I2H",
            *(b"PK\x03\x04", 20, entry.flags, fields.get("method", entry.method), 0, 33),
            *(fields["crc"], fields["packed"], fields["size"], len(fields["name"]), 0),
        )
        out += fields["name"] + entry.data
        directory += struct.pack(
            "<4s6H3I5H2I",
            *(b"PK\x01\x02", 20, 20, entry.flags, entry.method, 0, 33, crc, packed, size),
            *(len(entry.name), len(entry.extra), 0, 0, 0, entry.attributes),
            at if entry.offset is None else entry.offset,
        )
        directory += entry.name + entry.extra
    if end is None:
        end = struct.pack(
            "<4s4H2IH",
            *(b"PK\x05\x06", 0, 0, min(len(entries), 65535), min(len(entries), 65535)),
            *(len(directory), len(out), len(comment)),
        )
    return bytes(out + directory) + end + comment


FOUR = struct.pack("<4f", 1, 2, 3, 4)
"""The bytes of storage 0, where a file has but one."""


def entries(content: bytes, storages: Mapping[str, bytes] | None = None) -> list[Entry]:
    """What ``torch.save`` puts into an archive, for a value of these opcodes."""
    storages = {"0": FOUR} if storages is None else storages
    return [
        Entry(b"archive/data.pkl", whole(content)),
        Entry(b"archive/byteorder", b"little"),
        *(Entry(f"archive/data/{key}".encode(), data) for key, data in storages.items()),
        Entry(b"archive/version", b"3\n"),
    ]


def zipped(content: bytes, storages: Mapping[str, bytes] | None = None) -> bytes:
    """A PyTorch file of today."""
    return archive(entries(content, storages))


def legacy(
    content: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    system: bytes = LITTLE_ENDIAN,
    protocol: Any = 1001,
    keys: bytes | None = None,
    counts: Sequence[int] | None = None,
    itemsize: int = 4,
) -> bytes:
    """A PyTorch file as it was before 1.6."""
    storages = {"0": FOUR} if storages is None else storages
    if counts is None:
        counts = [len(data) // itemsize for data in storages.values()]
    return b"".join(
        [
            pickle.dumps(torch.serialization.MAGIC_NUMBER, 2),
            pickle.dumps(protocol, 2),
            system,
            whole(content),
            pickle.dumps(list(storages), 2) if keys is None else keys,
            *(struct.pack("<q", n) + d for n, d in zip(counts, storages.values(), strict=True)),
        ]
    )
