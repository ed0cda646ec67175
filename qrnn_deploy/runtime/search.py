"""Beam search over a model that answers one token at a time. Plain NumPy; a beam of 1 is greedy.

A hypothesis of n tokens, its end counted, ranks by log P / n^a: a = 0 is plain search, a = 1 ranks
by the mean of a token (Bradbury et al. 2016, arXiv:1611.01576, section 3.3, search with a = 0.6).
Equal ones rank as their beams do, then by the lower token, so a search has one answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..pair import PairFacts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Decoding(Protocol):
    """A decoder at the start of some rows."""

    def step(self, tokens: Integers) -> NDArray[Any]:
        """Logits [R, V] of what follows the tokens [R]."""

    def reorder(self, rows: Integers) -> None:
        """Let row r go on from the state of row ``rows[r]``."""


@dataclass(frozen=True)
class Translation:
    """What a source became.

    Attributes:
        tokens: without the end.
        log_probability: of the tokens, and of the end where it was reached.
        score: by which it was chosen: ``log_probability`` / n^a.
        finished: whether it ends; else the limit of steps cut it off.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    finished: bool


@dataclass
class _Source:
    """The search for one source: what is alive, the best first, and what has ended."""

    limit: int
    alive: list[tuple[tuple[int, ...], float]] = field(default_factory=lambda: [((), 0.0)])
    ended: list[Translation] = field(default_factory=list)
    done: bool = False


def log_probabilities(logits: NDArray[Any], facts: PairFacts) -> Floats:
    """Of what may follow, [R, V]: normalised over all tokens; pad and bos never follow.

    Raises:
        ModelError: the model answers with NaN or infinity.
    """
    values: Floats = np.array(logits, np.float64)
    top = values.max(axis=-1, keepdims=True)
    with np.errstate(all="ignore"):
        values -= top
        values -= np.log(np.exp(values).sum(axis=-1, keepdims=True))
    values[..., [facts.pad, facts.bos]] = -np.inf
    best = values.max(axis=-1)
    if not np.isfinite(best).all():
        raise ModelError(
            f"the decoder answers with {float(top.min())}, so nothing can be chosen: check its "
            "weights for NaN and infinity"
        )
    return values


def beam_search(
    decoding: Decoding,
    facts: PairFacts,
    limits: Sequence[int],
    beam: int,
    length_penalty: float,
) -> list[Translation]:
    """The best translation of each source.

    At each step, of the 2 * ``beam`` likeliest continuations of a source those that end it are put
    aside where they are among the first ``beam``, and the first ``beam`` of the others go on. A
    source is done when ``beam`` hypotheses have ended, or at its limit; only if none has ended by
    then is one taken that has not.

    Args:
        decoding: at its start, ``beam`` rows for each source.
        facts: of the model.
        limits: for each source, the most tokens, its end counted; 1 or more.
        beam: hypotheses that are followed.
        length_penalty: a.

    Raises:
        ModelError: the model answers with NaN or infinity.
    """
    sources = [_Source(limit) for limit in limits]
    tokens = np.full(len(sources) * beam, facts.bos, np.int64)
    while not all(source.done for source in sources):
        logits = decoding.step(tokens)
        live = np.repeat([not source.done for source in sources], beam)
        found = np.zeros(logits.shape)
        found[live] = log_probabilities(logits[live], facts)  # what follows an end means nothing
        tokens = np.full(len(tokens), facts.pad, np.int64)
        rows = np.arange(len(tokens))
        for number, source in enumerate(sources):
            if source.done:
                continue
            first = number * beam
            for place, (row, token) in enumerate(
                _advance(source, found[first : first + beam], facts.eos, beam, length_penalty)
            ):
                rows[first + place], tokens[first + place] = first + row, token
        if beam > 1:
            decoding.reorder(rows)
    return [_best(source, length_penalty) for source in sources]


def _advance(
    source: _Source, found: Floats, eos: int, beam: int, length_penalty: float
) -> list[tuple[int, int]]:
    """One step of a source; for each hypothesis alive after it the row and the token it came by."""
    before = np.array([score for _, score in source.alive])
    vocabulary = found.shape[1]
    totals = (before[:, None] + found[: len(before)]).ravel()
    alive, moves = [], []
    for rank, place in enumerate(_best_places(totals, 2 * beam)):
        row, token = divmod(int(place), vocabulary)
        earlier, total = source.alive[row][0], float(totals[place])
        if token != eos:
            alive.append(((*earlier, token), total))
            moves.append((row, token))
        elif rank < beam:
            score = _score(total, len(earlier) + 1, length_penalty)
            source.ended.append(Translation(earlier, total, score, True))
        if len(alive) == beam:
            break
    source.alive = alive
    steps = len(alive[0][0]) if alive else source.limit
    source.done = len(source.ended) >= beam or steps >= source.limit
    return moves


def _best_places(totals: Floats, count: int) -> Integers:
    """Where the ``count`` greatest are, the greatest first, of equal ones the first; no -inf."""
    if count < len(totals):
        least = np.partition(totals, -count)[-count]
        places = np.flatnonzero((totals >= least) & (totals > -np.inf))
    else:
        places = np.flatnonzero(totals > -np.inf)
    return places[np.argsort(-totals[places], kind="stable")][:count]


def _score(total: float, length: int, length_penalty: float) -> float:
    return total / math.pow(length, length_penalty)


def _best(source: _Source, length_penalty: float) -> Translation:
    candidates = source.ended or [
        Translation(tokens, total, _score(total, len(tokens), length_penalty), False)
        for tokens, total in source.alive
    ]
    return max(candidates, key=lambda one: one.score)  # of equal ones the first
