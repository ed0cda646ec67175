"""Real files with random damage: flipped, cut, moved and foreign bytes, the same for a seed.

The bytes of a zip archive are covered by check sums, which would refuse almost every damage before
anything is read. So most of the time its pickle alone is damaged, and the archive is written anew
around it.
"""

from __future__ import annotations

import io
import pickletools
import random
import zipfile

from pickle_assembler import Entry, archive

_OPCODES = "".join(opcode.code for opcode in pickletools.opcodes).encode("latin1")
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF)


def _damage(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    spoiled = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(spoiled)) if spoiled else 0
        kind = rng.randrange(8)
        length = rng.choice((1, 2, 4, 8, 64, 1024))
        if kind == 0 and spoiled:
            spoiled[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and spoiled:
            spoiled[at] = rng.randrange(256)
        elif kind == 2 and spoiled:
            spoiled[at] = rng.choice(_OPCODES)
        elif kind == 3 and spoiled:
            spoiled[at : at + 4] = bytes([rng.choice(_NUMBERS)]) * len(spoiled[at : at + 4])
        elif kind == 4:
            del spoiled[at : at + length]
        elif kind == 5:
            source = rng.choice(others)
            start = rng.randrange(len(source))
            spoiled[at:at] = source[start : start + length]
        elif kind == 6:
            start = rng.randrange(len(spoiled)) if spoiled else 0
            spoiled[at : at + length] = spoiled[start : start + length]
        else:
            spoiled[at:at] = bytes([rng.choice(_OPCODES)])
    return bytes(spoiled)


def mutated(originals: list[bytes], seed: int) -> bytes:
    """One of the files, damaged."""
    rng = random.Random(seed)
    data = rng.choice(originals)
    if not data.startswith(b"PK") or rng.random() < 0.2:
        return _damage(data, rng, originals)
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        parts = {info.filename: packed.read(info) for info in packed.infolist()}
    pickles = [content for name, content in parts.items() if name.endswith("data.pkl")]
    return archive(
        [
            Entry(n.encode(), _damage(part, rng, pickles) if n.endswith("data.pkl") else part)
            for n, part in parts.items()
        ]
    )
