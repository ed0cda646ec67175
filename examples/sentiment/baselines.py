"""What the classifier is compared with: VADER's rules, and a bag of words and word pairs."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import data
import torch
import torch.nn.functional as F
from torch import Tensor

MIN_FEATURE_COUNT = 2
PENALTIES = (0.03, 0.1, 0.3, 1.0)


def vader() -> Callable[[str], float]:
    """VADER's compound score of a text, -1 to 1, from the archive that the sentences come with."""
    archive, folder = data.archive(), data.CACHE / data.PACKAGE
    folder.mkdir(exist_ok=True)
    for name in ("vaderSentiment.py", "vader_lexicon.txt", "emoji_utf8_lexicon.txt"):
        content = data.member(archive, f"{data.PACKAGE}/vaderSentiment/{name}")
        (folder / name).write_bytes(content)
    spec = importlib.util.spec_from_file_location("vaderSentiment", folder / "vaderSentiment.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    analyser = module.SentimentIntensityAnalyzer()
    return lambda text: float(analyser.polarity_scores(text)["compound"])


class BagOfWords:
    """Logistic regression on which words and pairs of neighbours a text holds.

    A text's features have the same value, together of length 1. The penalty on the squared weights
    is the one of :data:`PENALTIES` with the best answers on the validation part.

    Args:
        train: what it learns from.
        validation: what its penalty is chosen by.

    Attributes:
        penalty: the one that was chosen.
    """

    def __init__(self, train: Sequence[data.Sentence], validation: Sequence[data.Sentence]) -> None:
        counts = Counter(f for s in train for f in features(s.text))
        frequent = (f for f, n in counts.items() if n >= MIN_FEATURE_COUNT)
        self._index = {feature: n for n, feature in enumerate(frequent)}
        fits = {penalty: self._fit(train, penalty) for penalty in PENALTIES}

        def right(penalty: float) -> int:
            answers = self._scores(self._bags([s.text for s in validation]), *fits[penalty]) > 0
            return sum(int(a) == s.label for a, s in zip(answers, validation, strict=True))

        self.penalty = max(PENALTIES, key=right)
        self._weight, self._bias = fits[self.penalty]

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """The class of each text."""
        scores = self._scores(self._bags(texts), self._weight, self._bias)
        return [int(score > 0) for score in scores]

    def _bags(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Features of all texts in a row, where each text begins, and the value of its features."""
        bags = [[self._index[f] for f in features(t) if f in self._index] for t in texts]
        sizes = torch.tensor([len(bag) for bag in bags])
        flat = torch.tensor([number for bag in bags for number in bag], dtype=torch.int64)
        return flat, sizes.cumsum(0) - sizes, sizes.clamp(min=1).double().rsqrt()

    @staticmethod
    def _scores(bags: tuple[Tensor, Tensor, Tensor], weight: Tensor, bias: Tensor) -> Tensor:
        flat, starts, value = bags
        return F.embedding_bag(flat, weight, starts, mode="sum")[:, 0] * value + bias

    def _fit(self, train: Sequence[data.Sentence], penalty: float) -> tuple[Tensor, Tensor]:
        bags = self._bags([s.text for s in train])
        labels = torch.tensor([s.label for s in train], dtype=torch.float64)
        weight = torch.zeros(len(self._index), 1, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=200, tolerance_grad=1e-4, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            scores = self._scores(bags, weight, bias)
            value = F.binary_cross_entropy_with_logits(scores, labels, reduction="sum")
            value = value + penalty / 2 * weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        return weight.detach(), bias.detach()


def features(text: str) -> list[str | tuple[str, str]]:
    """The words and the pairs of neighbours that a text holds, each once."""
    words = data.words(text)
    return list(dict.fromkeys([*words, *pairwise(words)]))
