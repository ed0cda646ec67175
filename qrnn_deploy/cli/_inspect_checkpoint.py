"""What ``qrnn-deploy inspect`` shows of a checkpoint."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._checkpoint_options import given_from
from ._shared import byte_size, console, print_json, spinner, table

if TYPE_CHECKING:
    from ..checkpoints import Recognised


def inspect_checkpoint(path: Path, said: dict[str, Any], as_json: bool) -> None:
    """Recognise a checkpoint and print how it is understood.

    Args:
        path: the file.
        said: what the user says about it.
        as_json: for a program.

    Raises:
        CheckpointError: it is no checkpoint that can be read, or the file leaves several ways.
    """
    with spinner(f"reading {path.name}"):
        from ..checkpoints import recognise_checkpoint  # imports torch, a second or two
        from ..checkpoints.finite import non_finite

        found = recognise_checkpoint(path, given_from(said))
        spoiled = non_finite(found)
    if as_json:
        print_json(_facts(found, said) | {"non_finite": spoiled})
    else:
        _print(found, said, _numbers(spoiled))


def _facts(found: Recognised, said: dict[str, Any]) -> dict[str, Any]:
    reading, where = found.reading, found.table.where if found.table else ""
    config = dict(reading.config)
    vocabulary = config.pop("vocabulary", None)
    return {
        "path": str(found.candidate.path),
        "sha256": found.candidate.sha256,
        "container": found.candidate.container,
        "format": reading.format,
        "where": where,
        "config": config,
        "vocabulary": len(vocabulary) if vocabulary else None,
        "given": said,
        "inferred": list(reading.inferred),
        "assumed": list(reading.assumed),
        "notes": list(reading.notes),
        "tensors": {name: shape for name, shape, _ in _tensors(found)},
        "dtypes": sorted({dtype for *_, dtype in _tensors(found)}),
    }


def _numbers(spoiled: list[str] | None) -> list[str]:
    """What to say of NaN and infinity; nothing where there is none."""
    if spoiled is None:
        return ["the numbers of a file of this size were not looked at; export does"]
    if not spoiled:
        return []
    some = ", ".join(spoiled[:4]) + (f" and {len(spoiled) - 4} more" if spoiled[4:] else "")
    return [f"NaN or infinity in {some}: export refuses it (--allow-non-finite)"]


def _tensors(found: Recognised) -> list[tuple[str, list[int], str]]:
    """Name, shape and type of each tensor in the part of the file that is the model."""
    tensors = dict(found.reading.tensors) if found.table is None else dict(found.table.tensors)
    return [
        (name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in sorted(tensors.items())
        if not callable(tensor)
    ]


def _print(found: Recognised, said: dict[str, Any], remarks: list[str]) -> None:
    from ..checkpoints import formats

    out = console()
    reading, path = found.reading, found.candidate.path
    tensors = _tensors(found)
    numbers = sum(math.prod(shape) for _, shape, _ in tensors)
    where = f" in {found.table.where!r}" if found.table is not None and found.table.where else ""
    out.print(
        f"{path}: {byte_size(path.stat().st_size)}, {len(tensors)} tensors{where} of "
        f"{'/'.join(sorted({dtype for *_, dtype in tensors}))}, {numbers:,} numbers"
    )
    out.print(f"Format: {reading.format} ({formats()[reading.format]})")
    out.print(f"Becomes: {reading.config.get('architecture')}")
    shown = table(["tensor", "shape", "type"], [(n, str(s), d) for n, s, d in tensors])
    out.print(shown)
    for heading, lines in (
        ("Inferred", reading.inferred),
        ("Given", [f"{name} {value}" for name, value in said.items()]),
        ("Assumed", reading.assumed),
        ("Note", [*reading.notes, *remarks]),
    ):
        for line in lines:
            out.print(f"{heading}: {line}")
    if not said:
        command = ["qrnn-deploy", "export", str(path), "-o", f"{path.stem}.onnx"]
        click.echo(f"Next: {shlex.join(command)}")
