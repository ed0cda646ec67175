"""The text of the word language model: cut into words, and its vocabulary.

The text and its split are those of ../charlm/data.py: the English documentation that comes with
Python. A word is a run of letters, with an apostrophe and letters after it perhaps; so is a run of
digits, and every other character that is no space. All are lower-case. A paragraph ends with
``<eos>``; words that the vocabulary lacks are ``<unk>``.

    python examples/wordlm/data.py --heldout heldout.npy
    python examples/wordlm/data.py --baselines
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UNKNOWN = "<unk>"
END = "<eos>"
MIN_COUNT = 2
HERE = Path(__file__).parent

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+|\S")


def parts() -> dict[str, list[str]]:
    """The words of ``train``, ``validation`` and ``heldout``."""
    path = HERE.parent / "charlm" / "data.py"  # a module of the same name as this one
    spec = importlib.util.spec_from_file_location("charlm_data", path)
    assert spec is not None and spec.loader is not None
    charlm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(charlm)
    return {name: words(text) for name, text in charlm.parts().items()}


def words(text: str) -> list[str]:
    """The words of a text, ``END`` after every paragraph."""
    found: list[str] = []
    for paragraph in text.split("\n\n"):
        inside = _WORD.findall(paragraph.lower())
        found += [*inside, END] if inside else []
    return found


def vocabulary(train: list[str]) -> list[str]:
    """``UNKNOWN``, ``END``, and every word that occurs at least twice, the most frequent first.

    The words that occur once are trained as ``UNKNOWN``, so that its embedding means something.
    """
    counts = Counter(train)
    del counts[END]
    frequent = sorted((-n, word) for word, n in counts.items() if n >= MIN_COUNT)
    return [UNKNOWN, END, *(word for _, word in frequent)]


def encode(text: list[str], known: list[str]) -> NDArray[np.int64]:
    """Position of every word in ``known``; ``UNKNOWN``'s for those it lacks."""
    index = {word: n for n, word in enumerate(known)}
    return np.array([index.get(word, index[UNKNOWN]) for word in text], np.int64)


def sha256(text: list[str]) -> str:
    """Hash of the words, one a line, in UTF-8."""
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def saved_vocabulary(path: Path = HERE / "vocabulary.txt") -> list[str]:
    """The vocabulary that the model in this folder was trained with, one word a line."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def baselines(train: list[int], text: list[int], size: int) -> dict[str, float]:
    """Perplexity of a text by the frequency of each of ``size`` words, and by pairs of words.

    Pairs: interpolated Kneser-Ney with a discount of 0.75 (Chen and Goodman 1999, section 3).
    """
    words, pairs = Counter(train), Counter(pairwise(train))
    before, after = Counter(b for _, b in pairs), Counter(a for a, _ in pairs)
    spread = 0.75 * len(before) / size / len(pairs)

    def by_pair(a: int, b: int) -> float:
        alone = max(before[b] - 0.75, 0) / len(pairs) + spread
        if not after[a]:
            return alone
        first = words[a] - (a == train[-1])  # the last word is the first of no pair
        return max(pairs[a, b] - 0.75, 0) / first + 0.75 * after[a] / first * alone

    single = [(words[b] + 1) / (len(train) + size) for b in text[1:]]
    double = [by_pair(a, b) for a, b in pairwise(text)]
    return {
        "frequency": float(np.exp(-np.mean(np.log(single)))),
        "pairs": float(np.exp(-np.mean(np.log(double)))),
    }


def main() -> None:
    """Write the held-out text as the model's numbers, or score it without a model."""
    parser = argparse.ArgumentParser(description="The held-out text of the word model.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--heldout", metavar="FILE", type=Path, help="write its numbers")
    what.add_argument("--baselines", action="store_true", help="score it by counting")
    arguments = parser.parse_args()
    texts, known = parts(), saved_vocabulary()
    numbers = encode(texts["heldout"], known)
    if arguments.baselines:
        counted = encode(texts["train"], known).tolist()
        print(baselines(counted, numbers.tolist(), len(known)))
    else:
        np.save(arguments.heldout, numbers)
        print(f"{arguments.heldout}: {len(numbers)} words, {int((numbers == 0).sum())} unknown")


if __name__ == "__main__":
    main()
