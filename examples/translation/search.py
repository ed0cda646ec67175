"""Translating with PyTorch and with ONNX Runtime, by one search over both."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import data
import numpy as np
import torch
from models import LSTMEncoderDecoder, LSTMMemory
from numpy.typing import NDArray

import qrnn_deploy
from qrnn_deploy.nn import EncoderMemory, QRNNEncoderDecoder
from qrnn_deploy.nn.layer import LayerState
from qrnn_deploy.pair import PairFacts
from qrnn_deploy.runtime import Seq2Seq
from qrnn_deploy.runtime.search import Translation, beam_search

BATCH = 64
LENGTH_PENALTY = 0.6
"""That of the paper, and what ``qrnn-deploy run`` takes unless told otherwise."""

Model = QRNNEncoderDecoder | LSTMEncoderDecoder
Sources = Sequence[Sequence[int]]


class QRNNDecoding:
    """Rows of the QRNN's decoder in PyTorch, with their states."""

    def __init__(self, model: QRNNEncoderDecoder, memory: EncoderMemory, beam: int) -> None:
        self.model = model
        values, lengths, contexts = memory
        self.memory = EncoderMemory(
            values.repeat_interleave(beam, 0),
            lengths.repeat_interleave(beam, 0),
            tuple(context.repeat_interleave(beam, 0) for context in contexts),
        )
        self.state = model.initial_state(len(self.memory.lengths))

    def step(self, tokens: NDArray[np.int64]) -> NDArray[Any]:
        """See :class:`qrnn_deploy.runtime.search.Decoding`."""
        given = torch.from_numpy(tokens)[:, None]
        logits, self.state = self.model.decode(given, self.memory, self.state)
        return logits[:, -1].numpy()

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """See :class:`qrnn_deploy.runtime.search.Decoding`."""
        index = torch.from_numpy(rows)
        self.state = [LayerState(c[index], None if x is None else x[index]) for c, x in self.state]


class LSTMDecoding:
    """The same of the LSTM's."""

    def __init__(self, model: LSTMEncoderDecoder, memory: LSTMMemory, beam: int) -> None:
        self.model = model
        h, c = memory.state
        self.state = h.repeat_interleave(beam, 1), c.repeat_interleave(beam, 1)
        self.memory = LSTMMemory(
            memory.values.repeat_interleave(beam, 0),
            memory.lengths.repeat_interleave(beam, 0),
            self.state,
        )

    def step(self, tokens: NDArray[np.int64]) -> NDArray[Any]:
        """See :class:`qrnn_deploy.runtime.search.Decoding`."""
        given = torch.from_numpy(tokens)[:, None]
        logits, self.state = self.model.decode(given, self.memory, self.state)
        return logits[:, -1].numpy()

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """See :class:`qrnn_deploy.runtime.search.Decoding`."""
        index = torch.from_numpy(rows)
        h, c = self.state
        self.state = h[:, index], c[:, index]


def in_batches(
    translate: Callable[[Sources], list[Translation]], sources: Sources
) -> list[Translation]:
    """Translations in the order of the sources, those of one batch about equally long."""
    order = sorted(range(len(sources)), key=lambda n: len(sources[n]))
    found: dict[int, Translation] = {}
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        found.update(zip(rows, translate([sources[n] for n in rows]), strict=True))
    return [found[n] for n in range(len(sources))]


@torch.no_grad()
def by_torch(model: Model, sources: Sources, beam: int) -> list[Translation]:
    """Translate with PyTorch, in eval mode."""
    model.eval()
    if isinstance(model, QRNNEncoderDecoder):
        sizes = (model.source_vocab_size, model.target_vocab_size)
    else:
        sizes = (model.source_embedding.num_embeddings, model.target_embedding.num_embeddings)
    special = (data.PAD_TOKEN, data.BOS_TOKEN, data.EOS_TOKEN)
    facts = PairFacts(*sizes, *special, None, None)

    def translate(batch: Sources) -> list[Translation]:
        tokens, lengths = data.padded(batch)
        given = torch.from_numpy(tokens), torch.from_numpy(lengths)
        if isinstance(model, QRNNEncoderDecoder):
            decoding: Any = QRNNDecoding(model, model.encode(*given), beam)
        else:
            decoding = LSTMDecoding(model, model.encode(*given), beam)
        limits = [2 * len(source) + 16 for source in batch]  # as Seq2Seq has it
        return beam_search(decoding, facts, limits, beam, LENGTH_PENALTY)

    return in_batches(translate, sources)


def by_onnxruntime(
    model: QRNNEncoderDecoder, sources: Sources, beams: Sequence[int]
) -> dict[tuple[str, int], list[Translation]]:
    """Export, and translate with our ``kernel`` and with the ``function`` in the files.

    Returns:
        The translations, by implementation and beam.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "translation.onnx"
        qrnn_deploy.export(model, path)
        for name, kernel in (("kernel", "require"), ("function", "off")):
            pair = Seq2Seq(path, kernel=kernel, threads=1)
            for beam in beams:
                found[name, beam] = in_batches(
                    lambda batch, pair=pair, beam=beam: pair.translate(
                        batch, beam=beam, length_penalty=LENGTH_PENALTY
                    ),
                    sources,
                )
    return found


def texts(translations: Sequence[Translation], symbols: Sequence[str]) -> list[str]:
    """What translations say."""
    return ["".join(symbols[token] for token in one.tokens) for one in translations]
