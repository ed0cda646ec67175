"""An encoder-decoder in ONNX Runtime: the source read once, the target written token by token."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arguments import as_path
from .._metadata_check import shown
from ..errors import InputError
from ..pair import DECODER, ENCODER, SOURCE, SOURCE_LENGTHS, TOKENS, check_pair, pair_of
from ..vocabulary import Vocabulary
from .feeds import Array, as_array, sizes_of
from .loading import KernelChoice
from .ort_buffers import ALL
from .plans import OrtPlan
from .search import Translation, beam_search, log_probabilities
from .session import Session

MAX_BEAM = 1024

Integers = NDArray[np.int64]


class Seq2Seq:
    """An exported encoder-decoder.

    Attributes:
        encoder: the :class:`Session` of the encoder.
        decoder: that of the decoder.
        facts: sizes and special tokens.
        source_vocabulary: from text to tokens, or None where the model has no vocabulary.
        target_vocabulary: from tokens to text, likewise.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kernel: KernelChoice = "auto",
        threads: int | None = None,
        device: str | None = None,
        providers: Sequence[Any] | None = None,
    ) -> None:
        """Open both files.

        Args:
            path: either of them, or the name that they were exported under.
            kernel: as for :class:`Session`.
            threads: likewise.
            device: likewise.
            providers: likewise.

        Raises:
            ModelError: a file is missing, damaged, or belongs to another.
            InputError, KernelLibraryError, MissingDependencyError, DeviceError: as for
                :class:`Session`.
        """
        files = pair_of(as_path(path, "path"))
        self.encoder, self.decoder = (
            Session(files[part], kernel=kernel, threads=threads, device=device, providers=providers)
            for part in (ENCODER, DECODER)
        )
        self.facts = check_pair(self.encoder.metadata, self.decoder.metadata, files)
        self.source_vocabulary, self.target_vocabulary = (
            None if tokens is None else Vocabulary(tokens)
            for tokens in (self.facts.source_vocabulary, self.facts.target_vocabulary)
        )

    @property
    def implementation(self) -> dict[str, str]:
        """What runs each pooling node, by ``encoder/NODE`` or ``decoder/NODE``."""
        return {
            f"{part}/{node}": how
            for part, session in ((ENCODER, self.encoder), (DECODER, self.decoder))
            for node, how in session.implementation.items()
        }

    def encode(self, sources: Sequence[ArrayLike]) -> dict[str, Array]:
        """Read some sources.

        Args:
            sources: the tokens of each, [S] whole numbers below ``facts.source_vocab_size``;
                lengths may differ and be 0.

        Returns:
            What the decoder needs of them, by the names of its inputs.

        Raises:
            InputError: a source is none.
        """
        rows = [self._source(number, source) for number, source in enumerate(sources)]
        lengths = np.array([len(row) for row in rows], np.int64)
        # One step at least: ONNX Runtime's Scan takes no fewer.
        tokens = np.full((len(rows), max([1, *lengths])), self.facts.pad, np.int64)
        for place, row in zip(tokens, rows, strict=True):
            place[: len(row)] = row
        made = self.encoder.run({SOURCE: tokens, SOURCE_LENGTHS: lengths})
        return {**made, SOURCE_LENGTHS: lengths}

    def decoding(self, memory: Mapping[str, Array], beam: int = 1) -> OrtDecoding:
        """A decoder at its start, with ``beam`` rows for each source, one after the other.

        Args:
            memory: what :meth:`encode` gave.
            beam: rows for each source.

        Raises:
            InputError: ``memory`` does not fit, or there is not enough memory.
        """
        return OrtDecoding(self.decoder, memory, beam)

    def translate(
        self,
        sources: Sequence[ArrayLike],
        *,
        beam: int = 1,
        length_penalty: float = 0.6,
        max_steps: int | None = None,
    ) -> list[Translation]:
        """Translate a batch of sources; each is answered as it would be alone.

        Args:
            sources: as for :meth:`encode`.
            beam: hypotheses that are followed; 1 takes the likeliest token at each step.
            length_penalty: a in log P / n^a (:mod:`.search`), 0 or more.
            max_steps: most tokens of an answer, its end counted; None is twice the source's, and
                16 more.

        Returns:
            The best translation of each source.

        Raises:
            InputError: an argument does not fit.
            ModelError: the model answers with NaN or infinity.
        """
        beam = _whole("beam", beam, 1, MAX_BEAM)
        is_number = isinstance(length_penalty, (int, float, np.integer, np.floating))
        if not is_number or not math.isfinite(length_penalty) or length_penalty < 0:
            raise InputError(
                f"length_penalty is {shown(length_penalty)}, expected a finite number, 0 or more"
            )
        memory = self.encode(sources)
        lengths = memory[SOURCE_LENGTHS]
        if not len(lengths):
            return []
        limits = [self._limit(int(length), max_steps) for length in lengths]
        decoding = self.decoding(memory, beam)
        return beam_search(decoding, self.facts, limits, beam, float(length_penalty))

    def stream(self, source: ArrayLike, *, max_steps: int | None = None) -> Iterator[int]:
        """Translate one source, the likeliest token at each step, each yielded when it is found.

        Args:
            source: its tokens [S].
            max_steps: as for :meth:`translate`.

        Yields:
            Tokens, without the end.

        Raises:
            InputError: an argument does not fit; raised by this call, not by the iterator.
            ModelError: in the iterator: the model answers with NaN or infinity.
        """
        memory = self.encode([source])
        limit = self._limit(int(memory[SOURCE_LENGTHS][0]), max_steps)
        return self._drawn(self.decoding(memory), limit)

    def _drawn(self, decoding: OrtDecoding, limit: int) -> Iterator[int]:
        token = self.facts.bos
        for _ in range(limit):
            found = log_probabilities(decoding.step(np.array([token], np.int64)), self.facts)
            token = int(found[0].argmax())
            if token == self.facts.eos:
                return
            yield token

    def _source(self, number: int, source: ArrayLike) -> Integers:
        row = as_array(f"sources[{number}]", source)
        if row.size == 0 and row.ndim == 1:
            return np.zeros(0, np.int64)
        if row.ndim != 1 or row.dtype.kind not in "iu":
            raise InputError(
                f"sources[{number}] is {row.dtype} {list(row.shape)}, expected whole numbers [S]"
            )
        top = self.facts.source_vocab_size - 1
        if row.min() < 0 or row.max() > top:
            raise InputError(
                f"sources[{number}] spans {row.min()}..{row.max()}, expected tokens in 0..{top}"
            )
        return np.asarray(row.astype(np.int64))

    def _limit(self, length: int, max_steps: int | None) -> int:
        if max_steps is None:
            return 2 * length + 16
        return _whole("max_steps", max_steps, 1, 2**31)


class OrtDecoding:
    """Rows of a decoder in bound memory: what was read of the sources is copied there once.

    Attributes:
        rows: R.
    """

    def __init__(self, session: Session, memory: Mapping[str, Array], beam: int) -> None:
        """Bind everything.

        Args:
            session: the decoder.
            memory: what the encoder made of B sources.
            beam: rows for each of them.

        Raises:
            InputError: ``memory`` does not fit, or there is not enough memory.
        """
        feed = {name: np.repeat(value, beam, axis=0) for name, value in memory.items()}
        self.rows = len(feed[SOURCE_LENGTHS])
        feed[TOKENS] = np.zeros((self.rows, 1), np.int64)
        sizes = sizes_of(session.metadata, feed)
        self._states = session.stream_memory(self.rows)
        self._plan = OrtPlan(self._states, session.onnxruntime_session, feed, sizes)
        self._feed: Mapping[str, Array] = feed
        self._name = session.metadata.outputs[0].name
        self._side = 0

    def step(self, tokens: Integers) -> Array:
        """Logits [R, V] of what follows the tokens [R].

        Raises:
            InputError: not one token for each row.
        """
        if tokens.shape != (self.rows,):
            raise InputError(
                f"tokens is {tokens.dtype} {list(tokens.shape)}, expected int64 [{self.rows}], one "
                "for each row"
            )
        feed = {**self._feed, TOKENS: tokens[:, None]}
        logits: Array = self._plan.run(feed, self._side)[self._name][:, -1]
        self._feed = {}
        self._side = 1 - self._side
        return logits

    def reorder(self, rows: Integers) -> None:
        """Let row r go on from the state of row ``rows[r]``."""
        self._states.write(self._side, ALL, self._states.read(self._side, rows))


def _whole(name: str, value: object, low: int, high: int) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not low <= int(value) <= high:  # type: ignore[call-overload]
        raise InputError(f"{name} is {shown(value)}, expected a whole number in {low}..{high}")
    return int(value)  # type: ignore[call-overload,no-any-return]
