"""Scoring and generation, against a model small enough to compute by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from qrnn_deploy.errors import InputError
from qrnn_deploy.text import Vocabulary, generate, log_probabilities, score

TOKENS = ["\n", "a", "b", "c"]


class Bigram:
    """A model whose logits depend on the token alone; it notes the sizes of its calls."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table
        self.calls: list[int] = []

    def step(self, x: np.ndarray) -> np.ndarray:
        assert x.dtype == np.int64 and x.ndim == 2 and x.shape[0] == 1
        self.calls.append(x.shape[1])
        return self.table[x]


class Counter:
    """A model with a state: it says token 1 + (steps so far) mod 3 comes next."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, x: np.ndarray) -> np.ndarray:
        rows = []
        for _ in range(x.shape[1]):
            rows.append(np.eye(4)[1 + self.steps % 3] * 50)
            self.steps += 1
        return np.array([rows])


@pytest.fixture
def table() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32)


def bits_by_hand(table: np.ndarray, text: str) -> float:
    total = 0.0
    for before, after in itertools.pairwise(text):
        logits = [float(v) for v in table[TOKENS.index(before)]]
        share = math.exp(logits[TOKENS.index(after)]) / sum(math.exp(v) for v in logits)
        total -= math.log2(share)
    return total


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
@pytest.mark.parametrize("pieces", [["abcab\nca"], ["a", "", "bcab", "\nca"]])
def test_score_is_the_same_for_every_cut(table, chunk, pieces):
    result = score(Bigram(table), Vocabulary(TOKENS), pieces, chunk=chunk)
    text = "".join(pieces)
    assert result.characters == len(text) - 1
    assert result.bits == pytest.approx(bits_by_hand(table, text), rel=1e-12)
    assert result.bits_per_character == pytest.approx(result.bits / 7)


@pytest.mark.parametrize("text", ["", "a"])
def test_score_of_nothing(table, text):
    result = score(Bigram(table), Vocabulary(TOKENS), [text])
    assert result.characters == 0 and result.bits == 0 and math.isnan(result.bits_per_character)


def test_unknown_character_is_named_with_its_place():
    with pytest.raises(InputError, match=r"'é' \(U\+00E9\) at position 5 .* 4 tokens"):
        score(Bigram(np.zeros((4, 4))), Vocabulary(TOKENS), ["abc", "abé"])
    assert Vocabulary(TOKENS).known("aéb") == "ab"


def test_token_of_several_characters_is_never_encoded():
    vocabulary = Vocabulary(["<unk>", "a"])
    assert vocabulary.encode("aa").tolist() == [1, 1]
    with pytest.raises(InputError, match="'<'"):
        vocabulary.encode("<unk>")


def test_replacement_token_takes_every_unknown_character():
    vocabulary = Vocabulary(["a", "\N{REPLACEMENT CHARACTER}", "b"])
    assert vocabulary.encode("aéb\n").tolist() == [0, 1, 2, 1]


def test_generation_feeds_prompt_then_each_character_once(table):
    model = Bigram(table)
    text = "".join(generate(model, Vocabulary(TOKENS), 5, prompt="abc", seed=1))
    assert len(text) == 5
    assert model.calls == [3, 1, 1, 1, 1]


def test_generation_carries_the_state():
    assert "".join(generate(Counter(), Vocabulary(TOKENS), 6, prompt="ab")) == "bcabca"


def test_generation_is_repeatable_and_seeds_differ(table):
    def draw(seed):
        return "".join(generate(Bigram(table), Vocabulary(TOKENS), 60, seed=seed))

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


@pytest.mark.parametrize("temperature", [0.0, 1e-300])
def test_cold_generation_takes_the_likeliest(table, temperature):
    text = "".join(generate(Bigram(table), Vocabulary(TOKENS), 4, temperature=temperature))
    token, expected = 0, ""
    for _ in range(4):
        token = int(table[token].argmax())
        expected += TOKENS[token]
    assert text == expected


def test_draws_follow_the_tempered_distribution():
    """10,000 draws against softmax(logits / 2): each frequency within five standard errors."""
    logits = np.array([0.0, 1.0, 2.0, -1.0])
    text = "".join(
        generate(Bigram(np.tile(logits, (4, 1))), Vocabulary(TOKENS), 10_000, temperature=2, seed=0)
    )
    weights = [math.exp(v / 2) for v in logits]
    for token, weight in zip(TOKENS, weights, strict=True):
        p = weight / sum(weights)
        assert abs(text.count(token) / 10_000 - p) < 5 * math.sqrt(p * (1 - p) / 10_000)


def test_generation_refuses_bad_numbers_before_it_starts(table):
    model = Bigram(table)
    for options, message in (
        ({"count": -1}, "count is -1"),
        ({"count": 1, "temperature": -0.5}, "temperature is -0.5"),
        ({"count": 1, "temperature": math.nan}, "temperature is nan"),
        ({"count": 1, "prompt": "x"}, "character 'x'"),
    ):
        with pytest.raises(InputError, match=message):
            generate(model, Vocabulary(TOKENS), **options)
    assert model.calls == []


def test_start_without_prompt_or_line_feed(table):
    assert len("".join(generate(Bigram(table), Vocabulary(["x", "a", "b", "c"]), 3))) == 3


def test_log_probabilities_of_large_logits():
    result = log_probabilities(np.array([[1000.0, 1000.0, -1000.0]], np.float32))
    assert result == pytest.approx(np.array([[-math.log(2), -math.log(2), -2000 - math.log(2)]]))
