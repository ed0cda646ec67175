"""Text through models of text: scoring, generation, and answers to single lines.

A language model is anything with the ``step`` of
:class:`~qrnn_deploy.runtime.StreamingSession`: int64 tokens [1, T] in, logits [1, T, V] out, the
state carried inside. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, ModelError
from .vocabulary import Vocabulary as Vocabulary


class Stepper(Protocol):
    """The part of a streaming session that is used here."""

    def step(self, x: NDArray[Any], /) -> Any:
        """Tokens [1, T] int64 -> logits [1, T, V]; the state stays inside."""


@dataclass(frozen=True)
class Score:
    """How well a model predicted a text.

    Attributes:
        tokens: number of tokens that were predicted, each from all before it: one fewer than the
            text has, since nothing predicts the first. A character model's are characters.
        bits: sum over them of -log2 of the probability that the model gave.
    """

    tokens: int
    bits: float

    @property
    def bits_per_token(self) -> float:
        """Mean bits; NaN for a text of fewer than two tokens."""
        return self.bits / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """2 to the mean bits; NaN for a text of fewer than two tokens."""
        try:
            return math.pow(2, self.bits_per_token)
        except OverflowError:
            return math.inf


@dataclass(frozen=True)
class Prediction:
    """What a language model says of a text.

    Attributes:
        score: of the text.
        token: number of the likeliest token after it.
        probability: of that token.
    """

    score: Score
    token: int
    probability: float


def log_probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Natural log-softmax over the last axis, in float64."""
    x = np.asarray(logits, np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity; whoever asks will see NaN
        x = x - x.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return result


class Reader:
    """Reads tokens with a language model and adds up what they cost.

    Args:
        stream: a stream at its start, batch size 1.
        chunk: steps per call of the model; it changes the speed, not the answer.

    Attributes:
        tokens: predicted so far.
        nats: sum over them of -log of the probability that the model gave.
        expectation: log-probabilities of the next token [V]; None before the first token.

    Raises:
        InputError: ``chunk`` below 1.
    """

    def __init__(self, stream: Stepper, chunk: int) -> None:
        if chunk < 1:
            raise InputError(f"chunk is {chunk}, expected at least 1 step per call")
        self.stream, self.chunk = stream, chunk
        self.tokens, self.nats = 0, 0.0
        self.expectation: NDArray[np.float64] | None = None

    def read(self, tokens: NDArray[np.int64]) -> None:
        """Read on: tokens [T]."""
        for start in range(0, len(tokens), self.chunk):
            part = tokens[start : start + self.chunk]
            after = log_probabilities(self.stream.step(part[None]))[0]
            before = after[:-1]
            if self.expectation is not None:
                before = np.vstack([self.expectation, before])
            targets = part[len(part) - len(before) :]
            self.nats -= float(before[np.arange(len(targets)), targets].sum())
            self.tokens += len(targets)
            self.expectation = after[-1]

    def score(self) -> Score:
        """Of all that was read."""
        return Score(self.tokens, self.nats / math.log(2))


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
        InputError: a character or word that the model does not know, or ``chunk`` below 1.
    """
    reader, offset = Reader(stream, chunk), 0
    for piece in vocabulary.whole(pieces):
        reader.read(vocabulary.encode(piece, offset))
        offset += len(piece)
    return reader.score()


def predict(stream: Stepper, tokens: NDArray[np.int64], *, chunk: int = 256) -> Prediction:
    """What a language model says of one text.

    Args:
        stream: a stream at its start, batch size 1.
        tokens: the text, [T] with T >= 1.
        chunk: steps per call of the model.

    Raises:
        InputError: ``chunk`` below 1, or no token.
        ModelError: the model answers with NaN or infinity.
    """
    reader = Reader(stream, chunk)
    reader.read(tokens)
    if reader.expectation is None:
        raise InputError("the text has no tokens, expected at least 1")
    best = int(reader.expectation.argmax())
    probability = float(np.exp(reader.expectation[best]))
    _check_answer(probability)
    return Prediction(reader.score(), best, probability)


def probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of the classes from a classifier's logits [..., C].

    Raises:
        ModelError: the model answers with NaN or infinity.
    """
    result: NDArray[np.float64] = np.exp(log_probabilities(logits))
    _check_answer(float(result.sum()))
    return result


def generate(
    stream: Stepper,
    vocabulary: Vocabulary,
    count: int,
    *,
    prompt: str = "",
    temperature: float = 1.0,
    seed: int | None = None,
) -> Iterator[str]:
    """Sample tokens one by one; each is yielded as soon as it is drawn.

    Args:
        stream: a stream at its start, batch size 1.
        vocabulary: the model's; its ``separator`` belongs between the tokens.
        count: number of tokens: of characters, where the vocabulary has those.
        prompt: text to continue; it is not yielded. Without a token in it the model starts after
            the vocabulary's ``start``.
        temperature: logits are divided by it; 0 always takes the likeliest token.
        seed: makes the draw repeatable; None draws anew each time.

    Raises:
        InputError: a character or word of the prompt that the model does not know, a negative
            ``count`` or ``seed``, or a ``temperature`` that is negative or not finite.
        ModelError: while drawing, the model answers with NaN or infinity.
    """
    if count < 0:
        raise InputError(f"count is {count}, expected the number of {vocabulary.unit}s, 0 or more")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise InputError(f"temperature is {temperature}, expected a finite number, 0 or more")
    if seed is not None and seed < 0:
        raise InputError(f"seed is {seed}, expected a whole number, 0 or more, or None")
    tokens = vocabulary.encode(prompt)
    if not len(tokens):
        tokens = np.array([vocabulary.start], np.int64)
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
                f"the model answers with {logits.max()} after {number} {vocabulary.unit}s, so "
                "nothing can be drawn: check its weights for NaN and infinity"
            )
        if temperature == 0:
            choice = int(logits.argmax())
        else:
            # The likeliest is at 0 before the division; what overflows to -inf is never drawn.
            with np.errstate(over="ignore"):
                scaled = (logits - logits.max()) / temperature
            shares = np.exp(log_probabilities(scaled))
            choice = int(random.choice(len(shares), p=shares / shares.sum()))
        yield vocabulary.tokens[choice]
        tokens = np.array([choice], np.int64)


def _check_answer(value: float) -> None:
    if not math.isfinite(value):
        raise ModelError(
            f"the model answers with {value}, so it tells nothing: check its weights for NaN and "
            "infinity"
        )
