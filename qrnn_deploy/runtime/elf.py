"""Whether an ELF file is whole, asked before the loader maps it.

``dlopen`` maps the extents that the headers name without a look at the file's size. Where the file
was cut off, the first touch of a page beyond its end is a bus error: the process dies without a
word. The headers are few bytes, so they are compared with the size first (layout: System V ABI,
"Object Files").
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO

HAS_ELF = sys.platform not in ("darwin", "win32", "cygwin")
"""Elsewhere libraries have other formats, which nothing here checks."""

_MAGIC = b"\x7fELF"
_BITS = {1: "32-bit", 2: "64-bit"}
_ORDER = {1: "little-endian", 2: "big-endian"}
_BYTE_ORDER = {1: "<", 2: ">"}
_MACHINES = {3: "x86", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}
_UNUSED = 0
"""Type of a row, of either table, that stands for nothing."""
_NOBITS = 8
"""Type of a section that takes no room in the file."""


def defect(path: Path) -> str | None:
    """What keeps ``path`` from being loaded into this process, or None where nothing is seen.

    Args:
        path: a shared library.

    Returns:
        What was got and what was expected, as words for the middle of a sentence.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(64)
        if head[:4] != _MAGIC:
            return f"it starts with {head[:4]!r}, expected {_MAGIC!r} of an ELF library"
        if len(head) < 64:  # no library is as short, whatever its class
            return f"it ends after {size} bytes, within its header: it was cut off"
        kind, wanted = _kind(head), _kind(_own_head())
        if kind is None:
            return "its ELF class or byte order has no meaning: its header is damaged"
        if wanted is not None and kind != wanted:
            return f"it is built for {_words(kind)}, expected {_words(wanted)}"
        try:
            end = _end(file, head, size)
        except struct.error:
            return "a row of its tables is too short: its header is damaged"
    if end > size:
        return f"it ends after {size} bytes, expected {end}: it was cut off"
    return None


def _own_head() -> bytes:
    """The header of the running program; where it cannot be read the loader has to compare."""
    try:
        with Path("/proc/self/exe").open("rb") as file:
            return file.read(64)
    except OSError:
        return b""


def _kind(head: bytes) -> tuple[int, int, int] | None:
    """Class, byte order and machine."""
    if len(head) < 64 or head[:4] != _MAGIC:
        return None
    bits, order = struct.unpack_from("2B", head, 4)
    if bits not in _BITS or order not in _ORDER:
        return None
    (machine,) = struct.unpack_from(_BYTE_ORDER[order] + "H", head, 18)
    return bits, order, machine


def _words(kind: tuple[int, int, int]) -> str:
    bits, order, machine = kind
    name = _MACHINES.get(machine, f"machine {machine}")
    return f"{name}, {_BITS[bits]}, {_ORDER[order]}"


def _end(file: BinaryIO, head: bytes, size: int) -> int:
    """First byte after the last extent that the headers name.

    Raises:
        struct.error: the rows of a table are shorter than their fields.
    """
    wide = head[4] == 2
    order = _BYTE_ORDER[head[5]]
    # e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum
    fields = struct.unpack_from(order + ("2QI5H" if wide else "2II5H"), head, 32 if wide else 28)
    segments, sections, _, _, segment_size, segment_count, section_size, section_count = fields
    ends: list[int] = [
        64 if wide else 52,
        segments + segment_size * segment_count,
        sections + section_size * section_count,
    ]
    if max(ends) > size:  # the tables themselves are not all there
        return max(ends)
    for row in _rows(file, segments, segment_size, segment_count):
        # p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz; with 32 bits p_flags come later
        words = struct.unpack_from(order + ("2I4Q" if wide else "5I"), row)
        if words[0] != _UNUSED:
            ends.append(words[2] + words[5] if wide else words[1] + words[4])
    for row in _rows(file, sections, section_size, section_count):
        # sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size
        words = struct.unpack_from(order + ("2I4Q" if wide else "6I"), row)
        if words[1] not in (_UNUSED, _NOBITS):
            ends.append(words[4] + words[5])
    return max(ends)


def _rows(file: BinaryIO, start: int, size: int, count: int) -> list[bytes]:
    if not size * count:
        return []
    file.seek(start)
    table = file.read(size * count)
    return [table[first : first + size] for first in range(0, size * count, size)]
