"""A recording: inputs and outputs of upstream code, in a .npz file that its user wrote.

docs/verify.md has the contract. Here the file is read, and each of its keys gets a meaning.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..._metadata_check import shown
from ...engines.model import file_sha256
from ...errors import InputError
from ...metadata import LENGTHS, Metadata
from ...runtime.contract import listed
from ..running import Arrays
from .arrays import BATCH_MAJOR, TIME_MAJOR, Array
from .npz import read_npz
from .slots import STACKED, Slot

LAYOUTS = (BATCH_MAJOR, TIME_MAJOR)
LAYOUT = "layout"
"""Key of the text that says it in the file."""

_CHUNKED = re.compile(r"(.+)\.(0|[1-9][0-9]{0,5})", re.DOTALL)
_LONGEST_REMARK = 120


@dataclass(frozen=True)
class RecordedFile:
    """What a file holds, before a model is there.

    Attributes:
        path: the file.
        sha256: its digest.
        arrays: all but the layout, by key.
        layout: of the arrays with time; None is batch-major, and nobody said so.
    """

    path: Path
    sha256: str
    arrays: Arrays
    layout: str | None


@dataclass(frozen=True)
class Placed:
    """An array of the file: its key, what that stands for, and the chunk it belongs to."""

    key: str
    slot: Slot
    chunk: int
    array: Array


@dataclass(frozen=True)
class Plan:
    """The arrays of a file in the order of its keys.

    Attributes:
        arrays: those that belong to the model.
        count: number of chunks.
        chunked: whether the keys number them.
        remarks: short texts of the user's, by key.
    """

    arrays: list[Placed]
    count: int
    chunked: bool
    remarks: dict[str, str]


def read_recording(path: Path, layout: str | None = None) -> RecordedFile:
    """Read a file.

    Args:
        path: the .npz file.
        layout: ``batch-major`` or ``time-major``; None leaves it to the file.

    Raises:
        InputError: see :func:`.npz.read_npz`; or a layout that is none, or contradicted.
    """
    arrays = read_npz(path)
    stated = _text_of(arrays.pop(LAYOUT)) if LAYOUT in arrays and _is_text(arrays[LAYOUT]) else None
    for said, where in ((layout, "the layout"), (stated, f"{path}: the text {LAYOUT!r}")):
        if said is not None and said not in LAYOUTS:
            raise InputError(f"{where} is {shown(said)}, expected {' or '.join(LAYOUTS)}")
    if layout is not None and stated not in (None, layout):
        raise InputError(
            f"{path} says that it is {stated}, and {layout} was asked for: leave "
            "--reference-layout out, or correct the file"
        )
    return RecordedFile(path, file_sha256(path), arrays, layout or stated)


def _text_of(array: Array) -> str:
    """The text in an array without axes; empty where it is none."""
    value = array.item() if _is_text(array) and array.ndim == 0 else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_text(array: Array) -> bool:
    return array.dtype.kind in "SU"


def plan(file: RecordedFile, metadata: Metadata, slots: Mapping[str, Slot]) -> Plan:
    """Give each key its meaning.

    Args:
        file: the recording.
        metadata: of the model.
        slots: the names that it knows.

    Raises:
        InputError: an unknown key, an input or all outputs missing, or chunks that do not add up.
    """
    named: list[tuple[str, str, int | None]] = []
    remarks: dict[str, str] = {}
    for key, array in file.arrays.items():
        name, number = _parsed(key, slots)
        if name in slots:
            named.append((key, name, number))
        elif not _is_text(array) or difflib.get_close_matches(key, [LAYOUT], cutoff=0.75):
            raise InputError(f"{file.path} holds {shown(key)}{_advice(name, metadata, slots)}")
        else:
            text = _text_of(array)
            if 0 < len(text) <= _LONGEST_REMARK and f"{key}{text}".isprintable():
                remarks[key] = text
    count, chunked = _chunks(file.path, named, slots)
    if count > 1 and metadata.state_mode == "none":
        raise InputError(
            f"{file.path} holds {count} chunks, and the model carries no state from one to the "
            "next: record a whole sequence, or export with --states separate"
        )
    placed = [
        Placed(
            key,
            slots[name],
            _chunk_of(file.path, key, slots[name], number, count if chunked else None),
            file.arrays[key],
        )
        for key, name, number in named
    ]
    _check_complete(file.path, metadata, placed, count, chunked)
    return Plan(placed, count, chunked, remarks)


def _parsed(key: str, slots: Mapping[str, Slot]) -> tuple[str, int | None]:
    """Name and number of the chunk. A name of the model may itself end in a number."""
    match = _CHUNKED.fullmatch(key)
    return (key, None) if key in slots or match is None else (match[1], int(match[2]))


def _chunks(
    path: Path, named: Sequence[tuple[str, str, int | None]], slots: Mapping[str, Slot]
) -> tuple[int, bool]:
    """How many chunks the inputs come in, and whether they are numbered."""
    inputs = [(key, number) for key, name, number in named if slots[name].role == "input"]
    bare = [key for key, number in inputs if number is None]
    if bare and len(bare) < len(inputs):
        raise InputError(
            f"{path} holds {shown(bare[0])} beside inputs in chunks (NAME.0, NAME.1, ...): "
            "expected all inputs in chunks, or none"
        )
    numbers = [number for _, number in inputs if number is not None]
    return max(numbers, default=0) + 1, bool(numbers)


def _chunk_of(path: Path, key: str, slot: Slot, number: int | None, count: int | None) -> int:
    """The chunk that an array belongs to; ``count`` is None where the inputs have no numbers."""
    if count is None:
        if number is not None:
            raise InputError(
                f"{path} holds {shown(key)}, and its inputs are not in chunks: name them NAME.0, "
                "NAME.1, ... too, or leave the number out"
            )
        return 0
    if number is None:
        if slot.role == "output":
            raise InputError(
                f"{path} holds {shown(key)}, and its inputs are in chunks: name it "
                f"{shown(key + '.0')}, ..., after the chunk that it answers"
            )
        return count - 1 if slot.role == "end" else 0
    if number >= count:
        raise InputError(
            f"{path} holds {shown(key)}, and the last input belongs to chunk {count - 1}: record "
            "the inputs of every chunk"
        )
    if slot.role == "start" and number:
        raise InputError(
            f"{path} holds {shown(key)}: expected a state before chunk 0 only, since each chunk "
            "goes on where the last one ended; a sequence that starts anew needs its own file"
        )
    return number


def _check_complete(
    path: Path, metadata: Metadata, placed: Sequence[Placed], count: int, chunked: bool
) -> None:
    """Every input of every chunk, lengths of all or none, and an output to compare."""
    there = {(item.slot.port.name, item.chunk) for item in placed}
    needed = [port.name for port in metadata.inputs]
    if any(name == LENGTHS for name, _ in there) and metadata.ragged:
        needed.append(LENGTHS)
    for number in range(count):
        for name in needed:
            if (name, number) not in there:
                key = f"{name}.{number}" if chunked else name
                raise InputError(
                    f"{path} holds no {shown(key)}: expected the inputs {listed(needed)}"
                    f"{' of every chunk' if chunked else ''}"
                )
    if not any(item.slot.role == "output" for item in placed):
        names = listed(port.name for port in metadata.outputs)
        raise InputError(f"{path} holds no output: expected at least one of {names}")


def _advice(name: str, metadata: Metadata, slots: Mapping[str, Slot]) -> str:
    """What to do about a name that is unknown."""
    if re.fullmatch(r"arr_\d+", name):
        return ", an array without a name: write numpy.savez(FILE, NAME=ARRAY, ...)"
    if name == LENGTHS:
        return ", and the model takes no lengths: leave it out, or export with --lengths"
    if name in STACKED and metadata.states:
        names = ", ".join(state.name + name[1:] for state in metadata.states if state.kind != "x")
        return f", and the states of this model's layers differ in size: record {names} instead"
    if not metadata.states and (name in STACKED or re.fullmatch(r"state_.*(in|out)", name)):
        return ", and the model carries no state: leave it out, or export with --states separate"
    known = {other.lower(): other for other in [*slots, LAYOUT]}
    near = difflib.get_close_matches(name.lower(), known, 1)
    meant = f", did you mean {shown(known[near[0]])}?" if near else ","
    return f"{meant} expected names of the model: {listed(slots)}"
