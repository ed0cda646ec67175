"""From text to token numbers and back, for vocabularies of characters and of words.

A vocabulary of characters: every token is one character, special ones such as ``<eos>`` aside.
The text is read character by character.

Any other: words, or pieces of words. They stand in the text with white space between them, cut as
they were cut in training; docs/text.md tells what that means for whose models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""A token of this character (U+FFFD) stands for every character that has no token of its own."""

UNKNOWN = ("xxunk", "<unk>", "<UNK>", "[UNK]", "UNK", "_unk_", REPLACEMENT)
"""The first of them that is a token stands for every word that has no token of its own."""

LINE_END = ("<eos>", "\n")
"""The first of them that is a token stands for a line feed in a text of words."""

START = ("xxbos", "<s>", "<bos>")
"""Tokens that a text may start after, where no line end is known."""

MAX_TOKEN = 2**16
"""Longest word that is held together across pieces of a text."""

_SPECIAL = re.compile(
    r"<[^<>]+>|\[[A-Z_]+\]|_[a-z]+_|xx(unk|pad|bos|eos|fld|rep|wrep|up|maj|fake)"
    r"|UNK|PAD|BOS|EOS|SOS|MASK|"
)
"""Tokens that stand for no text of their own, the empty one among them."""


class Vocabulary:
    """Tokens and their numbers.

    Args:
        tokens: the string of every token, in index order. Of equal ones the first counts. In a
            vocabulary of characters a token of several (such as an end mark) is never produced by
            :meth:`encode`; :data:`REPLACEMENT` is, for every character that is not among the
            tokens. In one of words the first of :data:`UNKNOWN` is, for every such word, and the
            first of :data:`LINE_END` for a line feed, which without one is white space like any.

    Attributes:
        tokens: as given.
        characters: whether this is a vocabulary of characters.
        unit: ``character`` or ``token``, for messages.
        separator: what stands between two tokens in a text.
        start: number of the token that a text without a beginning starts after: a line end, the
            first of :data:`START`, or 0.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self._index: dict[str, int] = {}
        for number, token in enumerate(self.tokens):
            self._index.setdefault(token, number)
        ordinary = (token for token in self.tokens if not _SPECIAL.fullmatch(token))
        self.characters = all(len(token) == 1 for token in ordinary)
        self.unit = "character" if self.characters else "token"
        self.separator = "" if self.characters else " "
        self._other = self._first((REPLACEMENT,) if self.characters else UNKNOWN)
        line_end = self._first(("\n",) if self.characters else LINE_END)
        if line_end is not None:
            self._index["\n"] = line_end
        self.start = next(
            (n for n in (line_end, self._first(START)) if n is not None),
            0,
        )
        whole_words = r"\S+" if line_end is None else r"\S+|\n"
        self._unit = re.compile(r"(?s)." if self.characters else whole_words)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, offset: int = 0, place: str = "") -> NDArray[np.int64]:
        """Token numbers [T] of a text.

        Args:
            text: of words a text with white space between them.
            offset: position of the text in its source, for the error message.
            place: what else there is to say of where it stands.

        Raises:
            InputError: a character or word that the model does not know, and it has no token for
                unknown ones.
        """
        units = text if self.characters else self._unit.findall(text)
        if self._other is not None:
            numbers = (self._index.get(unit, self._other) for unit in units)
            return np.fromiter(numbers, np.int64, len(units))
        try:
            return np.fromiter((self._index[unit] for unit in units), np.int64, len(units))
        except KeyError as error:
            unknown = error.args[0]
        found = (m.start() for m in self._unit.finditer(text) if m[0] == unknown)
        code = f" (U+{ord(unknown):04X})" if self.characters else ""
        raise InputError(
            f"{self.unit} {_shortened(unknown)!r}{code} at position {offset + next(found)}{place} "
            f"is not one of the {len(self)} tokens of the model's vocabulary: remove it or replace "
            f"it (`--unknown skip` leaves such {self.unit}s out)"
        )

    def known(self, text: str) -> str:
        """The text without the characters or words that the vocabulary lacks."""
        if self.characters:
            return "".join(c for c in text if c in self._index)
        # A word goes with one blank after it, so that single blanks stay single.
        return re.sub(r"(\S+)[^\S\n]?", lambda m: m[0] if m[1] in self._index else "", text)

    def count(self, text: str) -> int:
        """Number of tokens in a text, known and unknown ones."""
        return len(text) if self.characters else len(self._unit.findall(text))

    def whole(self, pieces: Iterable[str]) -> Iterator[str]:
        """The same text in pieces that cut no token.

        Raises:
            InputError: a word longer than :data:`MAX_TOKEN`.
        """
        if self.characters:
            yield from pieces
            return
        held, position = "", 0
        for piece in pieces:
            text = held + piece
            cut = bool(text) and not text[-1].isspace()
            held = text.rsplit(None, 1)[-1] if cut else ""
            position += len(text) - len(held)
            if len(held) > MAX_TOKEN:
                raise InputError(
                    f"a word of more than {MAX_TOKEN} characters begins at position {position}: "
                    "expected words with white space between them, as the model was trained on"
                )
            yield text[: len(text) - len(held)]
        yield held

    def _first(self, candidates: Sequence[str]) -> int | None:
        return next((self._index[token] for token in candidates if token in self._index), None)


def _shortened(token: str, limit: int = 60) -> str:
    return token if len(token) <= limit else token[: limit - 3] + "..."
