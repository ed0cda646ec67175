"""What a file is by how it begins: for messages about one that is not what it should be."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNKNOWN = "no known format"
ONNX = "an ONNX model"
PICKLE = "a Python pickle, which could run code and is never opened"

_LOOKS = (
    (b"\x89HDF\r\n", "an HDF5 file (Keras?)"),
    (b"\x93NUMPY", "a NumPy .npy array"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"GGUF", "a GGUF model"),
    (b"\x7fELF", "a program or shared library"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
)


def look(head: bytes) -> str:
    """What a file looks like that begins so; zip archives and checkpoints are for the caller."""
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    for magic, name in _LOOKS:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:1] == b"\x08" and b"\x12" in head[:16]:
        return ONNX
    if head.lstrip()[:1] in (b"{", b"["):
        return "a JSON document"
    if re.match(rb"\s*<", head):
        return "an HTML or XML document (a failed download?)"
    try:
        head[:400].decode("ascii")
    except UnicodeDecodeError:
        return UNKNOWN
    return "a text file"


@dataclass(frozen=True)
class Head:
    """How a kind of file begins: with certain bytes at certain offsets.

    They are so many that frames of numbers never begin so.
    """

    what: str
    advice: str
    parts: tuple[tuple[int, bytes], ...]

    def fits(self, data: bytes) -> bool:
        """Whether ``data`` begins so."""
        whole = all(data[at : at + len(part)] == part for at, part in self.parts)
        return whole and self.may_become(data)

    def may_become(self, data: bytes) -> bool:
        """Whether ``data`` begins so as far as it goes. No file begins as silence does."""
        begun = all(part.startswith(data[at : at + len(part)]) for at, part in self.parts)
        return begun and any(data[:4])


_RAW = "give the float32 frames alone"
HEADS = (
    Head("a .npy file", "add --format npy", ((0, b"\x93NUMPY"),)),
    Head(
        "a zip archive (.npz, .pt)",
        "write its array with numpy.save and add --format npy",
        ((0, b"PK\x03\x04"),),
    ),
    # Eight bytes of length, here below 16 MiB, then JSON.
    Head("a safetensors file", _RAW, ((3, bytes(5)), (8, b'{"'))),
    Head("an ONNX file", _RAW, ((0, b"\x08"), (2, b"\x12\x0bqrnn-deploy"))),
    Head("an ONNX file", _RAW, ((0, b"\x08"), (2, b"\x12\x07pytorch"))),
    Head("a program or a library (ELF)", _RAW, ((0, b"\x7fELF"), (6, b"\x01"))),
    Head("a sound file (.wav)", _RAW, ((0, b"RIFF"), (8, b"WAVE"))),
)
"""What is refused as raw frames: as float32 it would be frames of garbage."""
