"""Sentences from reviews with the sentiment that people gave them, and how they are split.

They come with the source archive of vaderSentiment 3.3.2 on PyPI: data of Hutto and Gilbert 2014
(ICWSM), of which two sets are used, 10,605 snippets from reviews of films (after Pang and Lee) and
3,708 sentences from reviews of products (after Hu and Liu), each rated by people between -4 and 4.
The archive is fetched by pip into a cache that git ignores; its hash is fixed.

The rules:

1. The label is the sign of the mean rating; a sentence with mean 0 is left out.
2. A hash of its document decides on which side a sentence is. A review of a product is a document;
   the snippets from films are not told apart by review, so each is one of its own.
3. A sentence of the same words as an earlier one (of the test part, then of the validation part,
   then of the training part) is left out.

    python examples/sentiment/data.py --test DIR
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html
import io
import math
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("QRNN_DEPLOY_CACHE", HERE.parents[1] / ".cache")) / "sentiment"
PACKAGE = "vaderSentiment-3.3.2"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = f"{PACKAGE}/additional_resources/hutto_ICWSM_2014.tar.gz"
SOURCES = {
    "film": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "product": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
}
CLASSES = ("negative", "positive")
SHARES = {"test": 0.2, "validation": 0.1}
"""Of the documents; the rest is trained on."""

UNKNOWN, PAD = "<unk>", "<pad>"
PAD_TOKEN = 1
MIN_COUNT = 3
MAX_UNPACKED = 2**25

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+(?:[.,]\d+)*|\.\.+|[^\w\s]|_")


@dataclass(frozen=True)
class Sentence:
    """One sentence of a review.

    Attributes:
        source: a key of :data:`SOURCES`.
        document: the review that it is from, a number.
        valence: mean rating, -4 to 4, not 0.
        text: as it was written.
    """

    source: str
    document: str
    valence: float
    text: str

    @property
    def label(self) -> int:
        """Index into :data:`CLASSES`."""
        return int(self.valence > 0)


def archive() -> bytes:
    """The source archive, fetched unless the cache has it.

    Raises:
        SystemExit: pip could not fetch it, or it is another file than expected.
    """
    path = CACHE / f"{PACKAGE}.tar.gz"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            # With a hash, pip looks before it runs anything of the archive.
            wanted = Path(folder) / "wanted.txt"
            wanted.write_text(f"{PACKAGE.replace('-', '==')} --hash=sha256:{SHA256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            options = ["--no-binary", ":all:", "--dest", str(CACHE), "--requirement", str(wanted)]
            if subprocess.run([*command, *options]).returncode != 0:
                raise SystemExit(f"pip could not fetch {PACKAGE}: see above, or put it at {path}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{path} has sha256 {found}, expected {SHA256}: delete it to fetch anew")
    return content


def member(packed: bytes, name: str) -> bytes:
    """One file out of a .tar.gz; nothing is written, whatever the archive says.

    Raises:
        ValueError: the archive unpacks to more than :data:`MAX_UNPACKED` bytes, or does not hold
            ``name`` as a plain file.
    """
    with gzip.open(io.BytesIO(packed)) as stream:
        raw = stream.read(MAX_UNPACKED + 1)
    if len(raw) > MAX_UNPACKED:
        raise ValueError(f"the archive unpacks to more than {MAX_UNPACKED} bytes")
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
        for entry in tar:
            if entry.name == name and entry.type == tarfile.REGTYPE and entry.size <= len(raw):
                file = tar.extractfile(entry)
                assert file is not None
                return file.read()
    raise ValueError(f"the archive holds no plain file {name}")


def parse(content: bytes, source: str) -> list[Sentence]:
    """The sentences of a table: a line each, of ``document_number``, mean rating and text.

    Raises:
        ValueError: a line is none of these.
    """
    sentences = []
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), 1):
        fields = line.split("\t")
        if len(fields) != 3 or not math.isfinite(valence := float(fields[1])):
            raise ValueError(f"line {number} of {source} is no number, rating and text: {line!r}")
        if valence != 0:
            document = fields[0].partition("_")[0]
            sentences.append(Sentence(source, document, valence, fields[2]))
    return sentences


def side(source: str, document: str) -> str:
    """Which part a document belongs to: ``test``, ``validation`` or ``train``."""
    digest = hashlib.sha256(f"{source}/{document}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for name, share in SHARES.items():
        if place < share:
            return name
        place -= share
    return "train"


def split(sentences: Iterable[Sentence]) -> dict[str, list[Sentence]]:
    """The parts ``test``, ``validation`` and ``train``; no words occur in two of them."""
    sides: dict[str, list[Sentence]] = {name: [] for name in (*SHARES, "train")}
    for sentence in sentences:
        sides[side(sentence.source, sentence.document)].append(sentence)
    seen: set[tuple[str, ...]] = set()
    for name, part in sides.items():
        kept = []
        for sentence in part:
            key = tuple(words(sentence.text))
            if key and key not in seen:
                kept.append(sentence)
                seen.add(key)
        sides[name] = kept
    return sides


def parts() -> dict[str, list[Sentence]]:
    """The real sentences, split."""
    inner = member(archive(), INNER)
    return split(s for source, name in SOURCES.items() for s in parse(member(inner, name), source))


def words(text: str) -> list[str]:
    """Lower-case words, ``0`` for each number, and every other mark by itself."""
    plain = html.unescape(text).lower().replace("\u2019", "'").replace("''", '"')
    return ["0" if word[0].isdigit() else word for word in _WORD.findall(plain)]


def vocabulary(texts: Iterable[Sequence[str]]) -> list[str]:
    """``UNKNOWN``, ``PAD``, and the words that occur at least thrice, the most frequent first.

    The rarer ones are trained as ``UNKNOWN``, so that its embedding means something.
    """
    counts = Counter(word for text in texts for word in text)
    frequent = sorted((-n, word) for word, n in counts.items() if n >= MIN_COUNT)
    return [UNKNOWN, PAD, *(word for _, word in frequent)]


def encode(texts: Iterable[str], known: Sequence[str]) -> list[NDArray[np.int64]]:
    """Each text as the numbers of its words; ``UNKNOWN``'s for those that are not known."""
    index = {word: n for n, word in enumerate(known)}
    return [np.array([index.get(w, 0) for w in words(text)], np.int64) for text in texts]


def padded(texts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Texts side by side, [B, T], ``PAD`` after the shorter ones."""
    block = np.full((len(texts), max(map(len, texts))), PAD_TOKEN, np.int64)
    for row, text in zip(block, texts, strict=True):
        row[: len(text)] = text
    return block


def sha256(part: Iterable[Sentence]) -> str:
    """Hash of labels and words, a line each, in UTF-8."""
    lines = (f"{s.source} {s.label} {' '.join(words(s.text))}\n" for s in part)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def main() -> None:
    """Write the test part as ``qrnn-deploy run --text`` reads it, and the classes beside it."""
    parser = argparse.ArgumentParser(description="Sentences from reviews, as words.")
    parser.add_argument("--test", metavar="DIR", type=Path, required=True, help="folder to fill")
    folder = parser.parse_args().test
    test = parts()["test"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (
        ("test.txt", (" ".join(words(s.text)) for s in test)),
        ("classes.txt", (CLASSES[s.label] for s in test)),
    ):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{folder}: test.txt and classes.txt, {len(test)} lines each")


if __name__ == "__main__":
    main()
