"""A pickle read as data: nothing that it names is imported, called or built.

``pickletools.genops`` of the standard library splits the bytes into opcodes; a small machine
(:mod:`.pickle_machine`) keeps their stack and memo; the tables in :mod:`.pickle_names` decide what
stands for a class or a function. Memory and time are bounded by the bytes of the pickle and the
number of its opcodes, and so is whatever a caller does with the result: see :mod:`.nesting`.

Why not ``torch.load(weights_only=True)``: it builds the tensors, so sizes and strides of a
stranger's choice allocate; it cannot keep a class as a name; and one way for every file is easier
to be sure of than two. What this machine accepts beyond it are names of classes, as inert boxes.
"""

from __future__ import annotations

import pickletools
from typing import Any, BinaryIO

from .nesting import check_nesting
from .pickle_machine import PersistentLoad, run
from .pickle_names import PickleDamage
from .untrusted_text import shown

MAX_BYTES = 2**24
"""Of one pickle. Names and sizes of the largest models take a twentieth of that."""

MAX_LINE = 2**16
"""Bytes of a line, of which protocol 0 makes numbers and texts."""


class _Bounded:
    """The part of a file that one pickle may take, as ``genops`` reads it."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream, self._left = stream, limit

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes."""
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        """The rest of a line."""
        data = self._stream.readline(min(MAX_LINE, self._left))
        self._left -= len(data)
        return data


def read_pickle(
    stream: BinaryIO, persistent_load: PersistentLoad | None = None, most: int = MAX_BYTES
) -> Any:
    """Read one pickle from where ``stream`` stands to its end.

    Args:
        stream: a binary file, opened by us; it is left behind the pickle.
        persistent_load: makes a value of a persistent id; without it such ids are refused.
        most: bytes that it may have.

    Returns:
        Numbers, texts, bytes, tuples, lists (sets too), dictionaries, and the values of
        :mod:`.pickle_names`. Shells may contain each other, nothing else does.

    Raises:
        PickleRefusal: it names what is in no table.
        PickleDamage: it is no pickle, cut off, or larger than any checkpoint's.
    """
    opcodes = pickletools.genops(_Bounded(stream, most))  # type: ignore[arg-type]
    try:
        content = run(((opcode.name, argument) for opcode, argument, _ in opcodes), persistent_load)
    except PickleDamage:
        raise
    except (
        *(ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError),
        Warning,  # of an odd escape in a text, where warnings are errors
    ) as error:
        raise PickleDamage(shown(str(error)) or type(error).__name__) from None
    check_nesting(content)
    return content
