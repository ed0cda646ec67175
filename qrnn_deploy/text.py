"""Text through a character language model, as it streams: scoring and generation.

Works on anything with the ``step`` of :class:`~qrnn_deploy.runtime.StreamingSession`: int64
tokens [1, T] in, logits [1, T, V] out, the state carried inside. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, ModelError


class Stepper(Protocol):
    """The part of a streaming session that is used here."""

    def step(self, x: NDArray[Any], /) -> Any:
        """Tokens [1, T] int64 -> logits [1, T, V]; the state stays inside."""


REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""A token of this character (U+FFFD) stands for every character that has no token of its own."""


class Vocabulary:
    """Characters and their token numbers.

    Args:
        tokens: the string of every token, in index order. A token of several characters (such as
            an end mark) is never produced by :meth:`encode`; :data:`REPLACEMENT` is, for every
            character that is not among the tokens.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self._index = {token: number for number, token in enumerate(self.tokens)}
        self._other = self._index.get(REPLACEMENT)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, offset: int = 0) -> NDArray[np.int64]:
        """Token numbers [T] of a text.

        Args:
            text: characters of the vocabulary.
            offset: position of the text in its source, for the error message.

        Raises:
            InputError: a character that the model does not know, and it has no replacement.
        """
        if self._other is not None:
            numbers = (self._index.get(c, self._other) for c in text)
            return np.fromiter(numbers, np.int64, len(text))
        try:
            return np.fromiter((self._index[c] for c in text), np.int64, len(text))
        except KeyError as error:
            unknown = error.args[0]
            position = offset + text.index(unknown)
            raise InputError(
                f"character {unknown!r} (U+{ord(unknown):04X}) at position {position} is not one "
                f"of the {len(self)} tokens of the model's vocabulary: "
                "remove it or replace it (`--unknown skip` leaves such characters out)"
            ) from None

    def known(self, text: str) -> str:
        """The text without the characters that the vocabulary lacks."""
        return "".join(c for c in text if c in self._index)


@dataclass(frozen=True)
class Score:
    """How well a model predicted a text.

    Attributes:
        characters: number of characters that were predicted, each from all before it: one fewer
            than the text has, since nothing predicts the first.
        bits: sum over them of -log2 of the probability that the model gave.
    """

    characters: int
    bits: float

    @property
    def bits_per_character(self) -> float:
        """Mean bits; NaN for a text of fewer than two characters."""
        return self.bits / self.characters if self.characters else math.nan


def log_probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Natural log-softmax over the last axis, in float64."""
    x = np.asarray(logits, np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return result


def score(
    stream: Stepper, vocabulary: Vocabulary, pieces: Iterable[str], *, chunk: int = 256
) -> Score:
    """Bits that the model needs for a text, read once from front to back.

    Args:
        stream: a stream at its start, batch size 1.
        vocabulary: the model's.
        pieces: the text, in pieces of any size.
        chunk: steps per call of the model; it changes the speed, not the answer.

    Raises:
        InputError: a character that the model does not know, or ``chunk`` below 1.
    """
    if chunk < 1:
        raise InputError(f"chunk is {chunk}, expected at least 1 step per call")
    characters, nats, offset = 0, 0.0, 0
    expectation: NDArray[np.float64] | None = None  # of the next character, [V]
    for piece in pieces:
        tokens = vocabulary.encode(piece, offset)
        offset += len(piece)
        for start in range(0, len(tokens), chunk):
            part = tokens[start : start + chunk]
            after = log_probabilities(stream.step(part[None]))[0]
            before = after[:-1] if expectation is None else np.vstack([expectation, after[:-1]])
            targets = part[len(part) - len(before) :]
            nats -= float(before[np.arange(len(targets)), targets].sum())
            characters += len(targets)
            expectation = after[-1]
    return Score(characters, nats / math.log(2))


def generate(
    stream: Stepper,
    vocabulary: Vocabulary,
    count: int,
    *,
    prompt: str = "",
    temperature: float = 1.0,
    seed: int | None = None,
) -> Iterator[str]:
    """Sample characters one by one; each is yielded as soon as it is drawn.

    Args:
        stream: a stream at its start, batch size 1.
        vocabulary: the model's.
        count: number of characters.
        prompt: text to continue; it is not yielded. Without one the model starts after a line
            feed, or after its first token where it knows no line feed.
        temperature: logits are divided by it; 0 always takes the likeliest character.
        seed: makes the draw repeatable; None draws anew each time.

    Raises:
        InputError: a character of the prompt that the model does not know, a negative ``count``
            or ``seed``, or a ``temperature`` that is negative or not finite.
        ModelError: while drawing, the model answers with NaN or infinity.
    """
    if count < 0:
        raise InputError(f"count is {count}, expected the number of characters, 0 or more")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise InputError(f"temperature is {temperature}, expected a finite number, 0 or more")
    if seed is not None and seed < 0:
        raise InputError(f"seed is {seed}, expected a whole number, 0 or more, or None")
    if prompt or vocabulary.known("\n"):
        tokens = vocabulary.encode(prompt or "\n")
    else:
        tokens = np.zeros(1, np.int64)
    return _draw(stream, vocabulary, tokens, count, temperature, np.random.default_rng(seed))


def _draw(
    stream: Stepper,
    vocabulary: Vocabulary,
    tokens: NDArray[np.int64],
    count: int,
    temperature: float,
    random: np.random.Generator,
) -> Iterator[str]:
    """The loop of :func:`generate`, apart so that its arguments are checked when it is called."""
    for number in range(count):
        logits = np.asarray(stream.step(tokens[None]), np.float64)[0, -1]
        if not np.isfinite(logits.max()):
            raise ModelError(
                f"the model answers with {logits.max()} after {number} characters, so nothing can "
                "be drawn: check its weights for NaN and infinity"
            )
        if temperature == 0:
            choice = int(logits.argmax())
        else:
            # The likeliest is at 0 before the division; what overflows to -inf is never drawn.
            with np.errstate(over="ignore"):
                scaled = (logits - logits.max()) / temperature
            probabilities = np.exp(log_probabilities(scaled))
            choice = int(random.choice(len(probabilities), p=probabilities / probabilities.sum()))
        yield vocabulary.tokens[choice]
        tokens = np.array([choice], np.int64)
