"""Phrases in German and English, and how they are split: what Django, Wagtail and Oscar say.

Programs carry their translations along as gettext catalogues, binary ``.mo`` files. Those of three
Python packages hold German for what their forms, menus and messages say in English. pip fetches the
wheels into a cache that git ignores; their hashes are fixed.

The rules, for the messages of the wheels in the order below, each wheel's catalogues sorted:

1. A message with a plural is two pairs. Its context is left out.
2. A pair is left out if either side holds a placeholder or markup (one of ``% { } < > &``) or a
   line end, has no letter, or is longer than 100 characters; or if both sides are the same but
   for case.
3. Quotation marks become ``"`` and ``'``, runs of white space one blank.
4. A pair is left out if its German or its English has occurred before, but for case and
   punctuation.
5. A hash of the English, but for case and punctuation, decides on which side a pair is.

    python examples/translation/data.py --test DIR
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("QRNN_DEPLOY_CACHE", HERE.parents[1] / ".cache")) / "translation"
WHEELS = {
    "Django==5.2": "91ceed4e3a6db5aedced65e3c8f963118ea9ba753fc620831c77074e620e7d83",
    "wagtail==7.0": "6a254ef84a740689dd844aabc5254828ecb62840257721e639929cb0e1a2b3c1",
    "django-oscar==4.0": "71e5f6bcd28ca2cc58765003dc2fe8a74839c9cf58e8a4933c8dd905ea167a9e",
}
"""What is fetched, and the sha256 of each wheel."""

SHARES = {"test": 0.15, "validation": 0.1}
"""Of the pairs; the rest is trained on."""

SPECIAL = ("<pad>", "<bos>", "<eos>", "\N{REPLACEMENT CHARACTER}")
PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, UNKNOWN = range(4)
MIN_COUNT = 5
MAX_LENGTH = 100
MAX_CATALOGUE = 2**20
MAX_CATALOGUES = 100

_CATALOGUE = re.compile(r"[\w/]+/locale/de/LC_MESSAGES/\w+\.mo")
_LEFT_OUT = re.compile(r"[%{}<>&\n]")
_MARKS = str.maketrans({**dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'), "\u2019": "'"})


class Pair(NamedTuple):
    """A phrase in both languages."""

    german: str
    english: str


def wheel(requirement: str, sha256: str) -> bytes:
    """One wheel, fetched unless the cache has it.

    Raises:
        SystemExit: pip could not fetch it, or it is another file than expected.
    """
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(CACHE.glob(pattern)):
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            wanted = Path(folder) / "wanted.txt"
            wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            options = ["--only-binary", ":all:", "--dest", str(CACHE), "--requirement", str(wanted)]
            if subprocess.run([*command, *options]).returncode != 0:
                raise SystemExit(f"pip could not fetch {requirement}: see above")
    path = next(CACHE.glob(pattern))
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SystemExit(f"{path} has sha256 {found}, expected {sha256}: delete it to fetch anew")
    return content


def catalogues(content: bytes) -> Iterator[bytes]:
    """The German catalogues of a wheel, sorted by name.

    Raises:
        ValueError: more, or larger ones, than :data:`MAX_CATALOGUES` and :data:`MAX_CATALOGUE`.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = sorted(n for n in archive.namelist() if _CATALOGUE.fullmatch(n))
        if len(names) > MAX_CATALOGUES:
            raise ValueError(f"{len(names)} catalogues, expected at most {MAX_CATALOGUES}")
        for name in names:
            with archive.open(name) as file:
                catalogue = file.read(MAX_CATALOGUE + 1)
            if len(catalogue) > MAX_CATALOGUE:
                raise ValueError(f"{name} has more than {MAX_CATALOGUE} bytes")
            yield catalogue


def messages(catalogue: bytes) -> Iterator[tuple[str, str]]:
    """English and German of a ``.mo`` file (GNU gettext manual, section 10.3), in its order.

    Python's own reader would also run the rule for plurals, an expression, which nothing needs.

    Raises:
        ValueError: it is no such file, little-endian and in UTF-8.
    """

    def numbers(count: int, offset: int) -> tuple[int, ...]:
        if offset + 4 * count > len(catalogue):
            raise ValueError("a table of the catalogue ends beyond the file")
        return struct.unpack_from(f"<{count}I", catalogue, offset)

    magic, _, count, originals, translations = numbers(5, 0)
    if magic != 0x950412DE:
        raise ValueError(f"the catalogue begins with {magic:#x}, expected 0x950412de")
    tables = [numbers(2 * count, offset) for offset in (originals, translations)]
    for n in range(count):
        english, german = (
            catalogue[start : start + size].decode()
            for size, start in (table[2 * n : 2 * n + 2] for table in tables)
        )
        yield from zip(english.rpartition("\x04")[2].split("\0"), german.split("\0"), strict=False)


def clean(text: str) -> str:
    """Plain quotation marks, single blanks."""
    return " ".join(text.translate(_MARKS).split())


def key(text: str) -> str:
    """What is left of a text without case and punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def usable(pair: Pair) -> bool:
    """Whether rule 2 lets a pair pass."""
    return pair.german.casefold() != pair.english.casefold() and all(
        len(text) <= MAX_LENGTH
        and not _LEFT_OUT.search(text)
        and any(character.isalpha() for character in text)
        for text in pair
    )


def side(english: str) -> str:
    """Which part a pair belongs to: ``test``, ``validation`` or ``train``."""
    digest = hashlib.sha256(key(english).encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for name, share in SHARES.items():
        if place < share:
            return name
        place -= share
    return "train"


def split(found: Iterable[tuple[str, str]]) -> dict[str, list[Pair]]:
    """Messages, English and German, cleaned; no side of a pair occurs twice."""
    sides: dict[str, list[Pair]] = {name: [] for name in (*SHARES, "train")}
    seen: tuple[set[str], set[str]] = (set(), set())
    for english, german in found:
        if not usable(Pair(german, english)):
            continue
        pair = Pair(clean(german), clean(english))
        keys = [key(text) for text in pair]
        if not any(k in known for k, known in zip(keys, seen, strict=True)):
            sides[side(pair.english)].append(pair)
            for k, known in zip(keys, seen, strict=True):
                known.add(k)
    return sides


def parts() -> dict[str, list[Pair]]:
    """The real pairs, split into ``test``, ``validation`` and ``train``."""
    wheels = (wheel(requirement, digest) for requirement, digest in WHEELS.items())
    return split(m for content in wheels for c in catalogues(content) for m in messages(c))


def vocabulary(texts: Iterable[str]) -> list[str]:
    """``SPECIAL``, and the characters that occur at least five times, sorted.

    The rarer ones are trained as U+FFFD, so that its embedding means something.
    """
    counts = Counter(character for text in texts for character in text)
    return [*SPECIAL, *sorted(c for c, n in counts.items() if n >= MIN_COUNT)]


def encode(text: str, symbols: Sequence[str]) -> list[int]:
    """Position of every character in ``symbols``; ``UNKNOWN`` for those it lacks."""
    index = {symbol: n for n, symbol in enumerate(symbols)}
    return [index.get(character, UNKNOWN) for character in text]


def padded(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of tokens as a batch [B, S], ``PAD_TOKEN`` after their ends, and their lengths [B]."""
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.full((len(rows), max(1, *lengths)), PAD_TOKEN, np.int64)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return tokens, lengths


def sha256(part: Iterable[Pair]) -> str:
    """Hash of the pairs, a line each, in UTF-8."""
    return hashlib.sha256("".join(f"{p.german}\t{p.english}\n" for p in part).encode()).hexdigest()


def main() -> None:
    """Write the test part: the English as ``qrnn-deploy run --text`` reads it, and the German."""
    parser = argparse.ArgumentParser(description="Phrases in German and English.")
    parser.add_argument("--test", metavar="DIR", type=Path, required=True, help="folder to fill")
    folder = parser.parse_args().test
    test = parts()["test"]
    folder.mkdir(parents=True, exist_ok=True)
    for language in Pair._fields:
        lines = "".join(f"{getattr(pair, language)}\n" for pair in test)
        (folder / f"{language}.txt").write_text(lines, encoding="utf-8")
    print(f"{folder}: german.txt and english.txt, {len(test)} lines each")


if __name__ == "__main__":
    main()
