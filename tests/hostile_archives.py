"""Zip archives that lie: PyTorch files and .npz."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import replace
from typing import Any

from hostile_values import model, weight
from pickle_assembler import (
    FOUR,
    Entry,
    archive,
    entries,
    mapping,
    named,
    number,
    persistent,
    plain,
    text,
    whole,
)


def changed(where: str, **fields: Any) -> list[Entry]:
    """The entries of a sound file, one of them with other fields."""
    return [
        replace(entry, **fields) if entry.name.endswith(where.encode()) else entry
        for entry in entries(model())
    ]


def added(*more: Entry, first: bool = False) -> list[Entry]:
    return [*more, *entries(model())] if first else [*entries(model()), *more]


def _deflated(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(size >> 20)), packer.flush()])


def _zip64(*values: int) -> bytes:
    return struct.pack("<HH", 1, 8 * len(values)) + struct.pack(f"<{len(values)}Q", *values)


def _end(count: int, size: int, offset: int, comment: int = 0, disk: int = 0) -> bytes:
    return struct.pack("<4s4H2IH", b"PK\5\6", disk, disk, count, count, size, offset, comment)


def _end64(size: int, offset: int, count: int = 4) -> bytes:
    """The records of zip64 that say where the directory lies, as if at the end of the file."""
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    return (
        record + struct.pack("<4sIQI", b"PK\6\7", 0, 2**63, 1) + _end(0xFFFF, 2**32 - 1, 2**32 - 1)
    )


def _nested_quines() -> bytes:
    inner = archive(entries(model()))
    for _ in range(20):
        inner = archive([Entry(b"archive/data.pkl", inner)])
    return inner


def _same_bytes(count: int, size: int) -> bytes:
    """Entries that all lie over each other, as zip bombs without compression have them."""
    data = bytes(size)
    tensors = {f"layers.{n}.bias": _tensor_of(str(n), size // 4) for n in range(count)}
    first = [Entry(b"archive/data.pkl", whole(mapping(tensors))), Entry(b"archive/data/0", data)]
    at = len(archive(first[:1], end=b"")) - 46 - len(first[0].name)
    rest = [
        Entry(
            f"archive/data/{n}".encode(),
            b"",
            size=size,
            packed=size,
            crc=zlib.crc32(data),
            offset=at,
        )
        for n in range(1, count)
    ]
    return archive([*first, *rest])


def _tensor_of(key: str, numel: int) -> bytes:
    return weight(persistent(text(key), number(numel)), size=plain((numel,)), stride=plain((1,)))


def refused_archives() -> dict[str, bytes]:
    """All refused."""
    return {
        "deflated-pickle": archive(
            changed("data.pkl", method=8, data=_deflated(2**26), size=2**26, crc=0)
        ),
        "deflated-storage": archive(changed("data/0", method=8, data=_deflated(2**28), size=2**28)),
        "deflated-unused": archive(
            added(Entry(b"archive/x", _deflated(2**28), method=8, size=2**28))
        ),
        "bzip2": archive(changed("data/0", method=12)),
        "lzma": archive(changed("data/0", method=14)),
        "method-unknown": archive(changed("data/0", method=99)),
        "size-more": archive(changed("data/0", size=32)),
        "size-2-32": archive(changed("data/0", size=2**32 - 2, packed=2**32 - 2)),
        "size-2-62": archive(
            changed("data/0", size=2**32 - 1, packed=2**32 - 1, extra=_zip64(2**62, 2**62))
        ),
        "size-2-64": archive(
            changed("data/0", size=2**32 - 1, packed=2**32 - 1, extra=_zip64(2**64 - 1, 2**64 - 1))
        ),
        "pickle-2-62": archive(
            changed("data.pkl", size=2**32 - 1, packed=2**32 - 1, extra=_zip64(2**62, 2**62))
        ),
        "pickle-17-mib": archive(changed("data.pkl", data=bytes(17 << 20))),
        "byteorder-17-mib": archive(changed("byteorder", data=bytes(17 << 20))),
        "byteorder-big": archive(changed("byteorder", data=b"big")),
        "byteorder-empty": archive(changed("byteorder", data=b"")),
        "offset-beyond": archive(changed("data/0", offset=2**31)),
        "offset-2-32": archive(changed("data/0", offset=2**32 - 2)),
        "offset-2-63": archive(changed("data/0", offset=2**32 - 1, extra=_zip64(2**63))),
        "offset-2-64": archive(changed("data/0", offset=2**32 - 1, extra=_zip64(2**64 - 1))),
        "offset-into-data": archive(changed("data/0", offset=7)),
        "pickle-offset-2-64": archive(
            changed("data.pkl", offset=2**32 - 1, extra=_zip64(2**64 - 1))
        ),
        "zip64-short": archive(changed("data/0", size=2**32 - 1, extra=struct.pack("<HH", 1, 0))),
        "zip64-cut": archive(changed("data/0", size=2**32 - 1, extra=struct.pack("<HHI", 1, 8, 0))),
        "extra-too-long": archive(changed("data/0", extra=struct.pack("<HH", 9, 60000))),
        "crc": archive(changed("data/0", crc=1)),
        "crc-pickle": archive(changed("data.pkl", crc=1)),
        "encrypted": archive(changed("data/0", flags=0x801)),
        "encrypted-pickle": archive(changed("data.pkl", flags=0x801)),
        "strongly-encrypted": archive(changed("data/0", flags=0x2841)),
        "two-of-a-name": archive(added(Entry(b"archive/data/0", FOUR))),
        "two-pickles-of-a-name": archive(added(Entry(b"archive/data.pkl", whole(b"N")))),
        "two-pickles": archive(added(Entry(b"other/data.pkl", whole(b"N")))),
        "nested-pickles": archive(
            added(Entry(b"archive/archive/data.pkl", whole(b"N")), first=True)
        ),
        "pickle-in-parent": archive(
            [Entry(b"../../data.pkl", whole(model())), Entry(b"../../data/0", FOUR[:8])]
        ),
        "no-pickle": archive(entries(model())[1:]),
        "pickle-empty": archive(changed("data.pkl", data=b"")),
        "pickle-in-pickle": _nested_quines(),
        "torchscript": archive(added(Entry(b"archive/constants.pkl", whole(b")")))),
        "torchscript-code": archive(
            added(
                Entry(b"archive/code/__torch__.py", b"import os\nos.system('x')\n"),
                Entry(b"archive/constants.pkl", b""),
            )
        ),
        "same-bytes-many-names": _same_bytes(2000, 2**20),
        "storage-in-the-pickle": archive(
            changed("data/0", offset=0, size=64, packed=64, data=b"", crc=0)
        ),
        "name-not-utf8": archive(changed("data/0", name=b"archive/data/\xff")),
        "name-not-ascii": archive(changed("data/0", name=b"archive/data/\xff", flags=0)),
        "name-nul": archive(changed("data/0", name=b"archive/data/1\0/data/0")),
        "name-newline": archive(changed("data.pkl", name=b"arch\n\x1b[31mive/data.pkl", crc=1)),
        "local-header-missing": archive(changed("data/0", offset=1)),
        "end-in-the-comment": archive(entries(model()), comment=b"PK\5\6" + b"x" * 10),
        "end-only": _end(0, 0, 0),
        "end-count": archive(entries(model()), end=_end(65535, 100, 0)),
        "end-size-more": archive(entries(model()), end=_end(4, 2**31, 0)),
        "end-offset-more": archive(entries(model()), end=_end(4, 10, 2**31)),
        "end-disk": archive(entries(model()), end=_end(4, 0, 0, disk=7)),
        "end-comment-more": archive(entries(model()), end=_end(4, 0, 0, comment=65535)),
        "end64-2-64": archive(entries(model()), end=_end64(2**64 - 1, 2**64 - 1)),
        "end64-2-63": archive(entries(model()), end=_end64(2**63, 0)),
        "end64-size-0": archive(entries(model()), end=_end64(0, 0)),
        "end64-count": archive(entries(model()), end=_end64(200, 0, 2**62)),
        "directory-cut": archive(entries(model()))[:-60],
        "start-only": b"PK\3\4" + bytes(26),
        "two-letters": b"PK",
        "extract-version": archive(entries(model())).replace(
            b"PK\1\2\x14\0\x14\0", b"PK\1\2\x14\0\xff\0"
        ),
    }


def _directory(name: bytes, count: int) -> bytes:
    """An archive whose directory lists the same empty entry so many times."""
    once = archive([Entry(name, b"")])
    local, directory = once[: 30 + len(name)], once[30 + len(name) : -22]
    end = _end(65535, len(directory) * count, len(local))
    return local + directory * count + end


def large_directories() -> dict[str, bytes]:
    """Archives whose directory takes ten times as much memory as the file."""
    return {
        "two-million-entries": _directory(b"data.pkl", 2_000_000),
        "two-million-arrays": _directory(b"a.npy", 2_000_000),
        "300000-entries": _directory(b"data.pkl", 300_000),
    }


def sound_archives() -> dict[str, bytes]:
    """Strange, and sound."""
    return {
        "comment": archive(entries(model()), comment=b"x" * 65535),
        "prepended": archive(entries(model()), before=b"PK\3\4" + b"#!/bin/sh\nrm -rf /\n" * 999),
        "patched": archive(changed("data.pkl", flags=0x820)),
        "local-name-long": archive(
            changed("data/0", local={"name": b"archive/data/0" + b"x" * 60000})
        ),
        "spanned": b"PK\7\x08" + archive(entries(model())),
        "many-entries": archive([Entry(b"%d" % n, b"") for n in range(20_000)] + entries(model())),
        "symbolic-link": archive(changed("data/0", attributes=0o120777 << 16)),
        "folder-attributes": archive(changed("data/0", attributes=0o040777 << 16 | 0x10)),
        "names-of-other-places": archive(
            added(
                *(
                    Entry(name, b"x")
                    for name in (b"../../evil.py", b"/etc/cron.d/evil", b"C:\\evil.exe")
                ),
                *(
                    Entry(name, b"x")
                    for name in (b"archive/data/../../../evil", b"..\\evil", b"\\\\x\\y")
                ),
            )
        ),
        "source-files": archive(
            added(Entry(b"archive/code/__init__.py", b"import os; os.system('x')"))
        ),
        "no-folder": archive(
            [replace(e, name=e.name.removeprefix(b"archive/")) for e in entries(model())]
        ),
        "odd-folder": archive([replace(e, name=b"../../tmp/" + e.name) for e in entries(model())]),
        "local-name-differs": archive(changed("data/0", local={"name": b"archive/data.pkl"})),
        "local-sizes-differ": archive(
            changed("data/0", local={"size": 2**31, "packed": 2, "crc": 7})
        ),
        "local-method-differs": archive(changed("data/0", local={"method": 8})),
        "storage-longer": archive(changed("data/0", data=FOUR + bytes(999))),
        "trailing-bytes-in-pickle": archive(
            changed("data.pkl", data=whole(model()) + b"cos\nsystem\n")
        ),
    }


def _npz(name: str, data: bytes, zeros: int = 0, method: int = zipfile.ZIP_STORED) -> bytes:
    """A .npz file of one array; its data end with so many zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as packed, packed.open(name, "w") as member:
        member.write(data)
        for _ in range(zeros >> 20):
            member.write(bytes(2**20))
    return buffer.getvalue()


def _npy(header: str | dict[str, Any], data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    line = (header if isinstance(header, str) else repr(header)).encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(line)) + line + data


def _array(**fields: Any) -> dict[str, Any]:
    return {"descr": "<f4", "fortran_order": False, "shape": (4,)} | fields


def _header(text: str) -> bytes:
    return _npz("a.npy", _npy(text, FOUR))


def refused_arrays() -> dict[str, bytes]:
    """All refused."""
    many = [Entry(b"0.npy", _npy(_array(shape=(2**18,)), bytes(2**20)))]
    size = len(many[0].data)
    many += [Entry(b"%d.npy" % n, b"", offset=0, size=size, packed=size) for n in range(1, 300)]
    shape = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,)}"
    return {
        "zeros-2-28": _npz("a.npy", _npy(_array(shape=(2**26,))), 2**28, zipfile.ZIP_DEFLATED),
        "size-lies": archive([Entry(b"a.npy", _npy(_array(), FOUR), size=2**32 - 2)]),
        "shape-2-62": _header(shape % 2**62),
        "shape-negative": _header(shape % -4),
        "shape-rank-1000": _header(shape % ", ".join("1" * 1000)),
        "objects": _npz(
            "a.npy", _npy(_array(descr="|O", shape=(1,)), whole(named("os", "system")))
        ),
        "object-field": _npz("a.npy", _npy(_array(descr=[("x", "|O")], shape=(1,)), bytes(8))),
        "code-in-header": _header("__import__('os').system('x')"),
        "code-in-shape": _header(shape % "print(1)"),
        "power-in-header": _header(shape % "9**9**9"),
        "deep-header": _header("(" * 4000 + ")" * 4000),
        "long-header": _header(repr(_array()) + " " * 60000),
        "two-of-a-name": archive([Entry(b"a.npy", _npy(_array(), FOUR))] * 2),
        "other-file": archive([Entry(b"a.npy", _npy(_array(), FOUR)), Entry(b"x.py", b"import x")]),
        "name-newline": _npz("a\n\x1b[31m.npy", _npy(_array(), FOUR[:4])),
        "name-parent": _npz("../../a.npy", _npy(_array(), FOUR[:4])),
        "name-dots": _npz("a." * 20000 + "npy", _npy(_array(), FOUR)),
        "encrypted": archive([Entry(b"a.npy", _npy(_array(), FOUR), flags=1)]),
        "overlapping": archive(many),
    }
