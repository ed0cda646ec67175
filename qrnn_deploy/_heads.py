"""How files begin that are no raw frames, though raw frames they would be taken for."""

from __future__ import annotations

from dataclasses import dataclass


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
"""What is refused: as float32 it would be frames of garbage."""
