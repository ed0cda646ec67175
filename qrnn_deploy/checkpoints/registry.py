"""The formats that can be read, and the way in for all of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..nn.factory import QRNNModule
from . import native
from .awd_lstm import SPLIT, AwdLstm
from .building import build_module, outline
from .candidate import WAYS, Candidate, open_candidate
from .drnn import DelayedLSTM
from .fastai1 import Fastai1
from .fastai2 import Fastai2
from .fastai_qrnn import FastaiQRNN
from .format import Format
from .given import FLAGS, Given
from .lookalikes import looks_like
from .multifit import MultiFiT
from .pase import Pase
from .quasi_rnn import QuasiRNN
from .reading import Reading, choose
from .rhn_jit import JitRHN
from .rhn_labml import LabmlRHN
from .rhn_tensorflow import TensorFlowRHN
from .speechbrain import SpeechBrain
from .sru import SRUFormat
from .srupp import SRUppFormat
from .stored import StorageDamage, mapping
from .tables import MAX_TENSORS, WeightTable
from .torchqrnn import TorchQRNN

FORMATS: tuple[Format, ...] = (
    TorchQRNN(),
    FastaiQRNN(),
    AwdLstm(),
    Fastai1(),
    Fastai2(),
    MultiFiT(),
    Pase(),
    SpeechBrain(),
    QuasiRNN(),
    LabmlRHN(),
    JitRHN(),
    TensorFlowRHN(),
    SRUFormat(),
    SRUppFormat(),
    DelayedLSTM(),
)
"""Upstream formats; where several recognise a file, each says how it would read it."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A trained model, ready to run.

    Attributes:
        module: in eval mode, on the CPU, in the type its weights were saved in.
        config: ``module.config()``.
        sha256: of the file.
        format: name of the format that read it.
        inferred: what followed from names and shapes, one sentence each.
        assumptions: what the file does not record and nobody said, one sentence each.
        notes: what else a user should know, one sentence each.
        path: the file.
        given: what the user said.
    """

    module: QRNNModule
    config: dict[str, Any]
    sha256: str
    format: str
    inferred: tuple[str, ...]
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]
    path: Path
    given: Given


@dataclass(frozen=True)
class Recognised:
    """A file that was understood, its weights still unread.

    Attributes:
        candidate: the file.
        reading: how it is understood.
        table: the weights in it; None for our own format.
    """

    candidate: Candidate
    reading: Reading
    table: WeightTable | None


def formats() -> dict[str, str]:
    """The names of all formats, and what each is."""
    return {native.NAME: native.DESCRIPTION} | {known.name: known.description for known in FORMATS}


def recognise_checkpoint(path: str | os.PathLike[str], given: Given | None = None) -> Recognised:
    """Find out what a file is. Nothing in it is executed.

    Args:
        path: the file.
        given: what its user says about it.

    Raises:
        CheckpointError: one line that says what is wrong with the file, or in which ways it can
            be understood if there are several.
    """
    given = given or Given()
    candidate = open_candidate(path)
    if given.format is not None and given.format not in formats():
        raise candidate.error(
            f"--format {given.format[:40]} is no format, expected one of {', '.join(formats())}"
        )
    try:
        if native.holds_native(candidate) and given.format in (None, native.NAME):
            if given.said():
                raise CheckpointError(
                    f"records everything itself: leave out {FLAGS[next(iter(given.said()))]}"
                )
            found = Recognised(candidate, native.read_native(candidate), None)
        else:
            found = _recognise(candidate, given)
        outline(candidate, found.reading)
        return found
    except StorageDamage as error:
        raise candidate.error(f"is a truncated or damaged file: {error}") from None
    except CheckpointError as error:
        if str(error).startswith(f"{candidate.path}: "):
            raise
        raise candidate.error(str(error)) from None


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    given: Given | None = None,
    allow_non_finite: bool = False,
    mapped: bool = False,
) -> LoadedCheckpoint:
    """Read a checkpoint of any known format. Nothing in it is executed.

    Args:
        path: the file.
        given: what its user says about it.
        allow_non_finite: accept weights that hold NaN or infinity.
        mapped: let large weights be pages of the file, which then must not be written to while
            the module is in use (:func:`.stored.mapping`).

    Raises:
        CheckpointError: one line that says what is wrong with the file.
    """
    found = recognise_checkpoint(path, given)
    candidate, reading = found.candidate, found.reading
    try:
        with mapping() if mapped else nullcontext():
            module, notes = build_module(candidate, reading, allow_non_finite)
        for check in reading.checks:
            note = check()
            notes += (note,) if note else ()
    except StorageDamage as error:
        raise candidate.error(f"is a truncated or damaged file: {error}") from None
    return LoadedCheckpoint(
        module,
        module.config(),
        candidate.sha256,
        reading.format,
        reading.inferred,
        reading.assumed,
        notes,
        candidate.path,
        given or Given(),
    )


def _recognise(candidate: Candidate, given: Given) -> Recognised:
    """The one reading of the one part of the file that is a model.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    tables = [table for table in candidate.tables if given.key in (None, table.where)]
    if given.key is not None and not tables:
        parts = ", ".join(sorted({table.where for table in candidate.tables} - {""})[:8])
        cure = f"expected one of: {parts}" if parts else "and no other: leave out --key"
        raise CheckpointError(f"has no weights under the key {given.key[:40]}, {cure}")
    for table in tables:
        if len(table.tensors) > MAX_TENSORS:
            raise CheckpointError(
                f"has {len(table.tensors)} tensors, expected at most {MAX_TENSORS}"
            )
    known: list[tuple[WeightTable, list[Format]]] = []
    for table in tables:
        for level in _levels(table):
            recognising = [f for f in FORMATS if f.recognise(level)]
            if recognising:
                known.append((level, recognising))
                break
    if len(known) > 1:
        places = ", ".join(t.where or "the whole" for t, _ in known[:8])
        raise CheckpointError(
            f"holds a model in {len(known)} places, {places}: give the right one with --key"
        )
    if not known:
        raise _unknown(candidate)
    ((table, recognising),) = known
    if given.format is not None:
        named = [f for f in recognising if f.name == given.format]
        if not named:
            raise CheckpointError(
                f"is no {given.format} checkpoint; it is recognised as "
                f"{', '.join(f.name for f in recognising)}"
            )
        recognising = named
    reading = choose(_readings(table, given, recognising))
    others = [other for other in candidate.tables if other.where != table.where]
    return Recognised(candidate, replace(reading, notes=(*reading.notes, *_beside(others))), table)


def _beside(others: Sequence[WeightTable]) -> list[str]:
    """What a user should know of the other tensors in the file; those of optimizers are none."""
    notes = []
    if any("tail_vectors" in table.tensors for table in others):
        notes.append(SPLIT)
    left = [
        f"{table.where} ({len(table.tensors)} tensors)"
        for table in others
        if "opt" not in table.where.lower()
        and "tail_vectors" not in table.tensors
        and any(tensor.dtype.is_floating_point for tensor in table.tensors.values())
    ]
    if left:
        more = ", ..." if len(left) > 4 else ""
        notes.append(f"Also in the file, and not read: {', '.join(left[:4])}{more}.")
    return notes


def _readings(table: WeightTable, given: Given, recognising: Sequence[Format]) -> list[Reading]:
    """All readings of all formats that can do something with what was said."""
    useless = {f.name: [n for n in given.said() if n not in f.uses] for f in recognising}
    willing = [f for f in recognising if not useless[f.name]]
    if not willing:
        name, options = next(iter(useless.items()))
        raise CheckpointError(
            f"is a {name} checkpoint, to which {FLAGS[options[0]]} does not apply: leave it out"
        )
    readings: list[Reading] = []
    errors: list[CheckpointError] = []
    for known in willing:
        try:
            readings += [replace(r, format=known.name) for r in known.read(table, given)]
        except CheckpointError as error:
            errors.append(error)
    if not readings:
        raise errors[0]
    return readings


def _levels(table: WeightTable) -> list[WeightTable]:
    """The weights, and the same without what stands before all their names (``module.``)."""
    levels = [table]
    while True:
        first = {name.partition(".")[0] for name in table.tensors if "." in name}
        if len(first) != 1 or any("." not in name for name in table.tensors):
            return levels
        table = table.below(f"{first.pop()}.")
        levels.append(table)


def _unknown(candidate: Candidate) -> CheckpointError:
    described = f"is {candidate.describe()}, which no known format recognises"
    guesses = filter(None, (looks_like(table) for table in candidate.tables))
    guess = next(guesses, None)
    if guess is not None:
        return CheckpointError(f"{described}: it looks like {guess}")
    if candidate.tables:
        return CheckpointError(
            f"{described}, weights without a configuration: build the model yourself, load them "
            f"with load_state_dict(), then call {WAYS}"
        )
    return CheckpointError(f"{described}, expected one of: {', '.join(formats())}")
