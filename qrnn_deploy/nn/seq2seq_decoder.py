"""The decoder of an encoder-decoder: layers that know the source's end, the last one attends.

Source: Bradbury et al. 2016, arXiv:1611.01576, section 2.1, "Encoder-Decoder Models", equations 7
and 8::

    Z^l = tanh(W_z^l * X^l + V_z^l h~_T^l), likewise F^l and O^l (and I^l)
    alpha_st = softmax over s of c_t^L . h~_s^L
    k_t = sum over s of alpha_st h~_s^L
    h_t^L = o_t * (W_k k_t + W_c c_t)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..pooling.spec import POOLINGS
from . import config as check
from .encoder import uniform
from .layer import LayerState, QRNNLayer
from .seq2seq_encoder import EncoderMemory
from .window import form_windows

WITHOUT_OUTPUT_GATE = {"fo": "f", "ifo": "if"}
"""How the last layer pools, by how the others do."""


class AttendingLayer(QRNNLayer):
    """A QRNN layer that attends to a memory between its pooling and its output gate.

    It pools as its base class, with f- or if-pooling. ``output_gate_weight`` [H, k*input_size]
    holds the rows of the output gate, ``memory_weight`` and ``cell_weight`` [H, H] are W_k and W_c.

    Args:
        input_size: features of x.
        hidden_size: channels H.
        pooling: fo or ifo: the gates that it has in all.
        device: of the parameters.
        dtype: of the parameters.
        options: further arguments of :class:`QRNNLayer`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        pooling: str,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        without = WITHOUT_OUTPUT_GATE[pooling]
        super().__init__(
            input_size, hidden_size, pooling=without, device=device, dtype=dtype, **options
        )
        check.elements("cell_weight", self.hidden_size, self.hidden_size)
        columns = self.window * self.input_size

        def weight(width: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(self.hidden_size, width, device=device, dtype=dtype))

        self.output_gate_weight = weight(columns)
        self.memory_weight = weight(self.hidden_size)
        self.cell_weight = weight(self.hidden_size)
        self.reset_attention()

    def reset_attention(self) -> None:
        """Uniform weights of variance 1/width for what the base class lacks."""
        for weight in (self.output_gate_weight, self.memory_weight, self.cell_weight):
            uniform(weight)

    def attend(
        self, x: Tensor, state: LayerState | None, memory: EncoderMemory, context: Tensor
    ) -> tuple[Tensor, LayerState]:
        """Run over a sequence or the next chunk of one.

        Args:
            x: [T, B, input_size].
            state: the state, or None at the start.
            memory: of B sources.
            context: [B, (G+1)*H], the output gate's columns last.

        Returns:
            h [T, B, H] and the state after the last step.

        Raises:
            InputError: an argument does not fit.
        """
        pooled = self.spec.gate_count * self.hidden_size
        seen: list[Tensor] = []
        c, after = self(x, state, context=context[:, :pooled], windows=seen.append)
        o = F.linear(seen[0], self.output_gate_weight) + context[:, pooled:]
        k = _read(c, memory)
        mixed = F.linear(k, self.memory_weight) + F.linear(c, self.cell_weight)
        return torch.sigmoid(o) * mixed, after

    def walk(
        self,
        x: Tensor,
        state: LayerState | None,
        lengths: Tensor | None,
        *,
        context: Tensor | None = None,
        windows: Callable[[Tensor], None] | None = None,
    ) -> tuple[Tensor, LayerState]:
        """See :meth:`QRNNLayer.walk`; ``windows`` is told what each step sees [T, B, k*in]."""
        if windows is not None:
            before = None if state is None else state.x
            windows(form_windows(x, before, lengths, self.window, self.reverse)[0])
        return super().walk(x, state, lengths, context=context)


def _read(c: Tensor, memory: EncoderMemory) -> Tensor:
    """What each step [T, B, H] finds in the memory: k [T, B, H]; 0 for a source of length 0."""
    queries = c.transpose(0, 1)
    scores = queries @ memory.values.transpose(1, 2)
    steps = torch.arange(memory.values.shape[1], device=c.device)
    past = (steps >= memory.lengths[:, None])[:, None, :]
    # The least finite number, since a row of -inf alone would have NaN for its softmax.
    scores = scores.masked_fill(past, torch.finfo(scores.dtype).min)
    shares = torch.softmax(scores, dim=-1).masked_fill(past, 0.0)
    return (shares @ memory.values).transpose(0, 1)


class TargetDecoder(nn.Module):
    """Embedding, a stack of QRNN layers of which the last one attends, and logits.

    Args:
        vocab_size: number of target tokens.
        embedding_size: features of a token.
        hidden_sizes: channels of each level.
        windows: taps of each level.
        pooling: fo or ifo.
        dropout: on the embedding's output, between levels and before the logits.
        device: of the parameters.
        dtype: of the parameters.
        shared: further arguments of :class:`QRNNLayer`.

    Attributes:
        context_sizes: rows of gates of each layer, for :class:`SourceEncoder`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_sizes: Sequence[int],
        windows: Sequence[int],
        *,
        pooling: str,
        dropout: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **shared: Any,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.dropout = dropout
        check.elements("decoder.embedding.weight", vocab_size, embedding_size)
        self.embedding = nn.Embedding(vocab_size, embedding_size, device=device, dtype=dtype)
        options = {**shared, "pooling": pooling, "bias": False, "device": device, "dtype": dtype}
        widths = [embedding_size, *hidden_sizes]
        self.layers = nn.ModuleList()
        for level, (hidden, window) in enumerate(zip(hidden_sizes, windows, strict=True)):
            kind = AttendingLayer if level == len(windows) - 1 else QRNNLayer
            self.layers.append(kind(widths[level], hidden, window=window, **options))
        gates = POOLINGS[pooling].gate_count
        self.context_sizes = [gates * hidden for hidden in hidden_sizes]
        check.elements("decoder.output.weight", vocab_size, widths[-1])
        self.output = nn.Linear(widths[-1], vocab_size, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform embedding and output of variance 1/width; output's bias 0; layers as theirs."""
        uniform(self.embedding.weight)
        for layer in self._layers():
            layer.reset_parameters()
        self._last().reset_attention()
        uniform(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def initial_state(self, batch_size: int) -> list[LayerState]:
        """Zeros for every layer."""
        return [layer.initial_state(batch_size) for layer in self._layers()]

    def forward(
        self,
        tokens: Tensor,
        memory: EncoderMemory,
        state: Sequence[LayerState] | None = None,
    ) -> tuple[Tensor, list[LayerState]]:
        """Logits of the token that follows each token.

        Args:
            tokens: [B, T] int64, each in 0..V-1.
            memory: of B sources.
            state: from :meth:`initial_state` or an earlier call, or None.

        Returns:
            Logits [B, T, V] and the new state of every layer.

        Raises:
            InputError: an argument does not fit.
        """
        self._check(tokens, memory, state)
        y = F.dropout(self.embedding(tokens.transpose(0, 1)), self.dropout, self.training)
        after = []
        last = len(self.layers) - 1
        for level, layer in enumerate(self._layers()):
            if level:
                y = F.dropout(y, self.dropout, self.training)
            before = None if state is None else LayerState(*state[level])
            context = memory.contexts[level]
            if level < last:
                y, new = layer(y, before, context=context)
            else:
                y, new = self._last().attend(y, before, memory, context)
            after.append(new)
        logits: Tensor = self.output(F.dropout(y, self.dropout, self.training))
        return logits.transpose(0, 1), after

    def _layers(self) -> list[QRNNLayer]:
        return cast("list[QRNNLayer]", list(self.layers))

    def _last(self) -> AttendingLayer:
        return cast(AttendingLayer, self.layers[-1])

    def _check(
        self, tokens: Tensor, memory: EncoderMemory, state: Sequence[LayerState] | None
    ) -> None:
        if tokens.dim() != 2 or tokens.dtype != torch.int64:
            raise InputError(
                f"target is {tokens.dtype} {list(tokens.shape)}, expected torch.int64 [B, T]"
            )
        batch, width = tokens.shape[0], self._last().hidden_size
        values, lengths, contexts = memory
        fits = values.dim() == 3 and values.shape[0] == batch and values.shape[2] == width
        if not fits or values.dtype != self.output.weight.dtype:
            raise InputError(
                f"memory.values is {values.dtype} {list(values.shape)}, expected "
                f"{self.output.weight.dtype} [{batch}, S, {width}]: one source for each target"
            )
        if lengths.dtype != torch.int64 or lengths.dim() != 1 or lengths.shape[0] != batch:
            raise InputError(
                f"memory.lengths is {lengths.dtype} {list(lengths.shape)}, expected torch.int64 "
                f"[{batch}]"
            )
        if len(contexts) != len(self.layers):
            raise InputError(
                f"memory.contexts has {len(contexts)} entries, expected {len(self.layers)}, one "
                "per layer"
            )
        for level, (context, rows) in enumerate(zip(contexts, self.context_sizes, strict=True)):
            if context.dim() != 2 or context.shape[0] != batch or context.shape[1] != rows:
                raise InputError(
                    f"memory.contexts[{level}] has shape {list(context.shape)}, expected "
                    f"[{batch}, {rows}]"
                )
        if state is not None and len(state) != len(self.layers):
            raise InputError(
                f"state has {len(state)} entries, expected {len(self.layers)}, one per layer"
            )
