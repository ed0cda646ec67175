"""The corpus of hostile checkpoints: every file by name, with what it attacks.

The pieces: :mod:`hostile_code` (what would run), :mod:`hostile_values` (tensors, storages, opcodes
and names), :mod:`hostile_bombs` (what would grow), :mod:`hostile_archives` and
:mod:`hostile_formats` (containers that lie). Nothing is kept in the repository: the files are
written when a test runs.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import hostile_archives
import hostile_bombs
import hostile_code
import hostile_formats
import hostile_values
from hostile_values import model, weight
from pickle_assembler import (
    FOUR,
    Entry,
    archive,
    call,
    legacy,
    mapping,
    named,
    stacked,
    text,
    whole,
    zipped,
)

STORAGES = {"0": FOUR, "1": FOUR}


@dataclass(frozen=True)
class Hostile:
    """One file.

    Attributes:
        name: of the file; no two have the same.
        attacks: in words.
        data: its bytes.
        sound: it looks strange, and its weights come out.
        says: part of the message that it is refused with.
        vocabulary: it is a file of tokens, beside a model that is sound.
    """

    name: str
    attacks: str
    data: bytes
    sound: bool = False
    says: str = ""
    vocabulary: bool = False


class _Trap:
    """Pickled in the ordinary way, by every protocol."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def code(canary: Path) -> Iterator[Hostile]:
    """Everything that runs code where Python unpickles it; it would leave the canary."""
    for name, payload in hostile_code.ARMED.items():
        bad = payload(canary)
        attacks = f"runs code: {name}"
        yield Hostile(f"zip-{name}.pt", attacks, zipped(bad), says="which could run code: refused")
        yield Hostile(f"legacy-{name}.pt", attacks, legacy(bad), says="could run code: refused")
        yield Hostile(f"bare-{name}.pt", attacks, whole(bad, 4), says="a Python pickle")
    for name in hostile_code.NAMES:
        module, _, function = name.rpartition(".")
        bad = call((stacked if " " in name else named)(module, function), text("x"))
        says = f"asks for {name}, which could run code: refused"
        yield Hostile(f"name-{name}.pt", f"calls {name}", zipped(bad), says=says)
    bad = hostile_code.os_system(canary)
    for name, hide in hostile_code.HIDDEN.items():
        attacks = f"os.system hidden {name}"
        yield Hostile(f"hidden-{name}.pt", attacks, zipped(hide(bad)), says="asks for os.system")
        yield Hostile(f"hidden-{name}-legacy.pt", attacks, legacy(hide(bad)), says="for os.system")


def protocols(canary: Path) -> Iterator[Hostile]:
    """An ordinary object with a ``__reduce__`` in each protocol, in each container."""
    for protocol in range(6):
        pickled = pickle.dumps({"a": _Trap(f"touch {canary}")}, protocol)
        entries = [Entry(b"archive/data.pkl", pickled)]
        attacks = f"os.system in protocol {protocol}"
        says = "asks for posix.system, which could run code: refused"
        yield Hostile(f"protocol-{protocol}.pt", attacks, archive(entries), says=says)
        moved = legacy(b"N").replace(whole(b"N"), pickled)
        yield Hostile(f"protocol-{protocol}-legacy.pt", attacks, moved, says=says)
        for place in ("protocol", "system", "keys"):
            parts: dict[str, Any] = {"system": {"system": pickled}, "keys": {"keys": pickled}}
            trap = {"protocol": _Trap(f"touch {canary}")}
            data = legacy(model(), **parts.get(place, trap))
            name = f"protocol-{protocol}-as-{place}.pt"
            yield Hostile(name, attacks, data, says="asks for posix.system")
        yield Hostile(f"protocol-{protocol}.pkl", attacks, pickled)
        yield Hostile(f"protocol-{protocol}.safetensors", attacks, pickled)


def values() -> Iterator[Hostile]:
    """Tensors, storages, calls and opcodes that are none."""
    for what, pieces, build in (
        ("tensor", hostile_values.TENSORS, model),
        ("storage", hostile_values.STORAGES, lambda piece: model(weight(piece))),
        ("call", hostile_values.CALLS, model),
        ("opcode", hostile_values.OPCODES, lambda piece: piece + b"0" + model()),
        ("config", hostile_values.CONFIGS, lambda piece: model(hidden_size=piece)),
    ):
        for name, piece in pieces.items():
            attacks = f"{what} {name}"
            yield Hostile(f"{what}-{name}.pt", attacks, zipped(build(piece), STORAGES))
            if what in ("storage", "opcode"):
                yield Hostile(f"{what}-{name}-legacy.pt", attacks, legacy(build(piece), STORAGES))
    for name, content in hostile_values.SOUND.items():
        yield Hostile(f"sound-{name}.pt", f"looks strange: {name}", zipped(content), sound=True)


def names() -> Iterator[Hostile]:
    """Names that must not reach a terminal as they are, or make a message long."""
    for name, content in hostile_values.NAMES.items():
        yield Hostile(f"name-{name}.pt", f"a name that is none: {name}", zipped(content))


def bombs() -> Iterator[Hostile]:
    """What would grow in memory or time, or nest without end."""
    for name, value in (hostile_bombs.DEEP | hostile_bombs.SHARED).items():
        yield Hostile(f"bomb-{name}.pt", f"grows: {name}", zipped(value))
    for name, value in hostile_bombs.SHARED.items():
        attacks = f"grows in a message: {name}"
        yield Hostile(f"bomb-{name}-config.pt", attacks, zipped(model(hidden_size=value)))
        yield Hostile(f"bomb-{name}-unknown.pt", attacks, zipped(model(unknown=value)))
        yield Hostile(f"bomb-{name}-key.pt", attacks, zipped(mapping({"a": value, "b": model()})))
    shared = hostile_bombs.shared_layers()
    yield Hostile("bomb-shared-layers.pt", "8 MiB become 512 MiB of weights", shared)
    for name, content in hostile_bombs.CONTENTS.items():
        yield Hostile(f"bomb-{name}.pt", f"grows: {name}", zipped(content))


def containers() -> Iterator[Hostile]:
    """Containers that lie."""
    for kind, suffix, files, sound in (
        ("zip", ".pt", hostile_archives.refused_archives(), False),
        ("zip", ".pt", hostile_archives.sound_archives(), True),
        ("directory", ".pt", hostile_archives.large_directories(), False),
        ("legacy", ".pt", hostile_formats.refused_legacy(), False),
        ("legacy", ".pt", hostile_formats.sound_legacy(), True),
        ("safetensors", ".safetensors", hostile_formats.refused_safetensors(), False),
        ("large", ".safetensors", hostile_formats.large_safetensors(), False),
        ("npz", ".npz", hostile_archives.refused_arrays(), False),
    ):
        for name, data in files.items():
            attacks = f"{kind} container: {name}"
            yield Hostile(f"{kind}-{name}{suffix}", attacks, data, sound)


def vocabularies() -> Iterator[Hostile]:
    """Files of tokens that are none."""
    for name, data in hostile_formats.refused_vocabularies().items():
        yield Hostile(f"tokens-{name}.pkl", f"vocabulary: {name}", data, vocabulary=True)


GROUPS: Mapping[str, Callable[[Path], Iterator[Hostile]]] = {
    "code": lambda canary: chain(code(canary), protocols(canary)),
    "values": lambda canary: chain(values(), names(), vocabularies()),
    "bombs": lambda canary: bombs(),
    "containers": lambda canary: containers(),
}
"""All of the corpus, in as many processes."""
