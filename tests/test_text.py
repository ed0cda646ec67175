"""Scoring and generation, against a model small enough to compute by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from qrnn_deploy.errors import InputError, ModelError
from qrnn_deploy.text import Score, generate, log_probabilities, predict, probabilities, score
from qrnn_deploy.vocabulary import MAX_TOKEN, Vocabulary

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
    assert result.tokens == len(text) - 1
    assert result.bits == pytest.approx(bits_by_hand(table, text), rel=1e-12)
    assert result.bits_per_token == pytest.approx(result.bits / 7)
    assert result.perplexity == pytest.approx(2 ** (result.bits / 7))


@pytest.mark.parametrize("text", ["", "a"])
def test_score_of_nothing(table, text):
    result = score(Bigram(table), Vocabulary(TOKENS), [text])
    assert result.tokens == 0 and result.bits == 0
    assert math.isnan(result.bits_per_token) and math.isnan(result.perplexity)


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


WORDS = ["<unk>", "<eos>", "the", "cat", "sat", "on", "the", "mat"]


@pytest.mark.parametrize(
    ("tokens", "characters"),
    [
        ([*"ab\n"], True),
        ([*"ab", "\N{REPLACEMENT CHARACTER}"], True),
        (["<unk>", "<eos>", "", "[PAD]", "UNK", "xxpad", *"ab"], True),
        ([*"ab", "the"], False),
        (["xxunk", "xxpad", "xxbos", "a", "is"], False),
        (["<unk>", "\u2581", "\u2581a", "s"], False),
    ],
)
def test_kinds_of_vocabulary(tokens, characters):
    vocabulary = Vocabulary(tokens)
    assert vocabulary.characters == characters
    assert (vocabulary.unit, vocabulary.separator) == (
        ("character", "") if characters else ("token", " ")
    )


def test_words():
    vocabulary = Vocabulary(WORDS)
    text = " the cat\tsat\n\non the\u00a0mat dog <eos>"
    assert vocabulary.encode(text).tolist() == [2, 3, 4, 1, 1, 5, 2, 7, 0, 1]
    assert vocabulary.count(text) == 10
    assert vocabulary.known("a cat sat dog\nx on mat") == "cat sat \non mat"
    assert vocabulary.encode("").tolist() == vocabulary.encode("  ").tolist() == []


@pytest.mark.parametrize(
    ("special", "line_end", "start"),
    [
        (["<eos>", "\n"], [0], 0),
        (["\n", "xxbos"], [0], 0),
        (["xxunk", "xxpad", "xxbos"], [], 2),
        (["<unk>", "</s>", "<s>"], [], 2),
        (["xxunk"], [], 0),
    ],
)
def test_line_ends_and_starts(special, line_end, start):
    vocabulary = Vocabulary([*special, "the", "cat"])
    the = len(special)
    assert vocabulary.encode("the\ncat").tolist() == [the, *line_end, the + 1]
    assert vocabulary.start == start


@pytest.mark.parametrize("unknown", ["xxunk", "<unk>", "<UNK>", "[UNK]", "UNK", "_unk_"])
def test_unknown_words_have_a_token(unknown):
    assert Vocabulary(["the", "cat", unknown]).encode("the dog").tolist() == [0, 2]


def test_unknown_word_is_named_with_its_place():
    vocabulary = Vocabulary(["the", "cat"])
    with pytest.raises(InputError, match=r"^token 'dog' at position 14 of line 3 is not one of"):
        vocabulary.encode("cat the dog dogs", 6, " of line 3")
    with pytest.raises(InputError) as caught:
        vocabulary.encode("x" * 10_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_words_are_whole_whatever_the_cut(size):
    vocabulary = Vocabulary(WORDS)
    text = "the  cat sat\non the mat\n" * 3 + "dog"
    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    whole = list(vocabulary.whole(pieces))
    assert "".join(whole) == text
    tokens = [number for piece in whole for number in vocabulary.encode(piece).tolist()]
    assert tokens == vocabulary.encode(text).tolist()

    table = np.random.default_rng(5).normal(size=(8, 8))
    result = score(Bigram(table), vocabulary, pieces, chunk=4)
    once = score(Bigram(table), vocabulary, [text])
    assert result.tokens == once.tokens == len(tokens) - 1
    assert result.bits == pytest.approx(once.bits, rel=1e-12)


def test_what_has_no_white_space_is_no_text_of_words():
    pieces = ["the ", *["x" * 65536] * 3]
    with pytest.raises(InputError, match=rf"more than {MAX_TOKEN} characters .* position 4: "):
        list(Vocabulary(WORDS).whole(pieces))


def test_the_first_of_equal_tokens_counts():
    assert Vocabulary([*"abab", "xxfake", "xxfake"]).encode("ba").tolist() == [1, 0]


def test_generation_of_words():
    table = np.full((8, 8), -50.0)
    for before, after in ((1, 2), (2, 3), (3, 4), (4, 1)):
        table[before, after] = 50
    vocabulary = Vocabulary(WORDS)
    assert list(generate(Bigram(table), vocabulary, 5, prompt="the cat")) == [
        *("sat", "<eos>", "the", "cat", "sat")
    ]
    for prompt in ("", "  "):
        assert list(generate(Bigram(table), vocabulary, 1, prompt=prompt)) == ["the"]
    with pytest.raises(InputError, match="count is -1, expected the number of tokens"):
        generate(Bigram(table), vocabulary, -1)


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_prediction_for_one_text(table, chunk):
    vocabulary = Vocabulary(TOKENS)
    found = predict(Bigram(table), vocabulary.encode("abca"), chunk=chunk)
    assert found.score.bits == pytest.approx(bits_by_hand(table, "abca"), rel=1e-12)
    row = np.exp(table[1].astype(np.float64))
    assert found.token == row.argmax()
    assert found.probability == pytest.approx(row.max() / row.sum())
    alone = predict(Bigram(table), vocabulary.encode("a"))
    assert alone.score.tokens == 0 and alone.token == found.token
    with pytest.raises(InputError, match="no tokens"):
        predict(Bigram(table), vocabulary.encode(""))


def test_probabilities_of_classes():
    shares = probabilities(np.array([[0.0, math.log(3)], [1000.0, 0.0]], np.float32))
    assert shares == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]), abs=1e-7)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_answers_that_are_no_numbers(value):
    with pytest.raises(ModelError, match="answers with nan, so it tells nothing"):
        probabilities(np.array([0.0, value]))
    with pytest.raises(ModelError, match="answers with nan, so it tells nothing"):
        predict(Bigram(np.full((4, 4), value)), np.array([1]))


def test_perplexity_without_bound():
    assert Score(1, 1e6).perplexity == math.inf


def test_log_probabilities_of_large_logits():
    result = log_probabilities(np.array([[1000.0, 1000.0, -1000.0]], np.float32))
    assert result == pytest.approx(np.array([[-math.log(2), -math.log(2), -2000 - math.log(2)]]))
