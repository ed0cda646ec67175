"""The encoder-decoder that translates, and the LSTM of the same size that it is compared with."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any, NamedTuple

import data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qrnn_deploy.nn import QRNNEncoderDecoder
from qrnn_deploy.nn.encoder import uniform

QRNN_SETTINGS: dict[str, Any] = {
    "embedding_size": 32,
    "hidden_size": [96, 96],
    "encoder_window": [4, 2],
    "decoder_window": [2, 2],
    "reverse": True,
}
"""As Bradbury et al. 2016, section 3.3, with two levels of 96 channels instead of four of 320."""

LSTM_SETTINGS: dict[str, Any] = {"embedding_size": 32, "num_layers": 2}

State = tuple[Tensor, Tensor]


class LSTMMemory(NamedTuple):
    """What the baseline's decoder knows of its sources.

    Attributes:
        values: [B, S, H] outputs of the last encoder layer, 0 past the lengths.
        lengths: [B] int64.
        state: the decoder's first state: the encoder's last, two of [L, B, H].
    """

    values: Tensor
    lengths: Tensor
    state: State


class LSTMEncoderDecoder(nn.Module):
    """The baseline: ``nn.LSTM`` on both sides, the sources reversed, dot products for attention.

    As in the QRNN, dropout lies on the embeddings, between levels and before the logits, and the
    attention's answer k and the query h are mixed by W_k k + W_h h; here tanh follows, after Luong
    et al. 2015 (arXiv:1508.04025, section 3), whose output gate is inside the LSTM.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.source_embedding = nn.Embedding(source_vocab_size, embedding_size)
        self.target_embedding = nn.Embedding(target_vocab_size, embedding_size)
        self.encoder, self.decoder = (
            nn.LSTM(embedding_size, hidden_size, num_layers, batch_first=True, dropout=dropout)
            for _ in range(2)
        )
        self.mix = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, target_vocab_size)
        for embedding in (self.source_embedding, self.target_embedding):
            uniform(embedding.weight)

    def encode(self, source: Tensor, lengths: Tensor) -> LSTMMemory:
        """Read sources [B, S], each from its last token to its first."""
        places = (lengths[:, None] - 1 - torch.arange(source.shape[1])).clamp(min=0)
        x = self._dropped(self.source_embedding(source.gather(1, places)))
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        outputs, state = self.encoder(packed)
        values, _ = nn.utils.rnn.pad_packed_sequence(
            outputs, batch_first=True, total_length=source.shape[1]
        )
        return LSTMMemory(values, lengths, state)

    def decode(
        self, tokens: Tensor, memory: LSTMMemory, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Logits [B, T, V] of the token that follows each, and the state after the last."""
        x = self._dropped(self.target_embedding(tokens))
        h, after = self.decoder(x, memory.state if state is None else state)
        past = torch.arange(memory.values.shape[1]) >= memory.lengths[:, None]
        scores = h @ memory.values.transpose(1, 2)
        shares = scores.masked_fill(past[:, None], -torch.inf).softmax(-1)
        mixed = torch.tanh(self.mix(torch.cat([shares @ memory.values, h], dim=-1)))
        return self.output(self._dropped(mixed)), after

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
        """Logits under teacher forcing, as of :class:`QRNNEncoderDecoder`."""
        return self.decode(target, self.encode(source, lengths))[0]

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def qrnn(source: Sequence[str], target: Sequence[str], dropout: float) -> QRNNEncoderDecoder:
    """The model, with fresh weights."""
    return QRNNEncoderDecoder(
        len(source),
        len(target),
        pad_token=data.PAD_TOKEN,
        bos_token=data.BOS_TOKEN,
        eos_token=data.EOS_TOKEN,
        source_vocabulary=source,
        target_vocabulary=target,
        dropout=dropout,
        **QRNN_SETTINGS,
    )


def lstm(
    source: Sequence[str], target: Sequence[str], dropout: float, hidden_size: int
) -> LSTMEncoderDecoder:
    """The baseline, with fresh weights."""
    return LSTMEncoderDecoder(
        len(source), len(target), hidden_size=hidden_size, dropout=dropout, **LSTM_SETTINGS
    )


def lstm_size(source: Sequence[str], target: Sequence[str]) -> int:
    """Channels of the LSTM whose parameter count is closest to the model's."""
    with torch.device("meta"):
        wanted = parameters(qrnn(source, target, 0.0))

        def size(hidden: int) -> int:
            return parameters(lstm(source, target, 0.0, hidden))

        above = bisect.bisect_left(range(2048), wanted, lo=16, key=size)
        return min((above - 1, above), key=lambda hidden: abs(size(hidden) - wanted))
