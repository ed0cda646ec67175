"""The text of the character language model, and how it is split.

The text is the English documentation in ``pydoc_data.topics`` of the Python standard library, so
every machine with Python has it. It differs between Python versions; the training log records
which one was used and the sha256 of every part.

Topics share paragraphs (``specialnames`` repeats many others), so a split by topic alone would
leak. The rules, applied to the topics in sorted order, paragraphs being separated by blank lines:

1. The topics in ``HELD_OUT`` are the held-out text, whole, joined by a blank line. A topic that
   this Python version lacks is passed over.
2. The topics in ``VALIDATION`` are for tuning, all other topics for training.
3. A paragraph of 60 characters or more that has occurred before (in the held-out text, then in the
   validation text, then earlier in the training text) is left out.

    python examples/charlm/data.py --heldout heldout.txt
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from pydoc_data.topics import topics

HELD_OUT = ("calls", "import", "objects", "raise", "strings", "typesmapping")
VALIDATION = ("comparisons", "exceptions", "identifiers", "slicings")
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Vocabulary entry for every character that the vocabulary does not hold."""

MIN_PARAGRAPH = 60
MIN_COUNT = 5


def parts() -> dict[str, str]:
    """The texts ``train``, ``validation`` and ``heldout``."""
    names = sorted(topics)
    seen: set[str] = set()
    heldout = _join((n for n in names if n in HELD_OUT), seen, drop_repeated=False)
    validation = _join((n for n in names if n in VALIDATION), seen)
    rest = (n for n in names if n not in HELD_OUT and n not in VALIDATION)
    return {"train": _join(rest, seen), "validation": validation, "heldout": heldout}


def heldout_text() -> str:
    """The held-out text alone."""
    return parts()["heldout"]


def vocabulary(text: str) -> list[str]:
    """Characters that occur at least five times in ``text``, sorted, and ``UNKNOWN``.

    The rarer ones are trained as ``UNKNOWN``, so that its embedding means something.
    """
    counts = Counter(text)
    return [*sorted(c for c, n in counts.items() if n >= MIN_COUNT), UNKNOWN]


def encode(text: str, symbols: list[str]) -> list[int]:
    """Position of every character in ``symbols``; ``UNKNOWN``'s for those it lacks."""
    index = {symbol: n for n, symbol in enumerate(symbols)}
    return [index.get(character, index[UNKNOWN]) for character in text]


def sha256(text: str) -> str:
    """Hash of the text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def _join(names: Iterable[str], seen: set[str], drop_repeated: bool = True) -> str:
    kept = []
    for name in names:
        paragraphs = topics[name].split("\n\n")
        long = {p.strip() for p in paragraphs if len(p.strip()) >= MIN_PARAGRAPH}
        if drop_repeated:
            paragraphs = [p for p in paragraphs if p.strip() not in seen]
        seen |= long
        text = "\n\n".join(paragraphs).strip()
        if text:
            kept.append(text + "\n")
    return "\n\n".join(kept)


def main() -> None:
    """Write the held-out text to a file."""
    parser = argparse.ArgumentParser(description="Write the held-out text of the language model.")
    parser.add_argument("--heldout", metavar="FILE", type=Path, required=True)
    path = parser.parse_args().heldout
    text = heldout_text()
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {len(text)} characters, sha256 {sha256(text)}")


if __name__ == "__main__":
    main()
