"""A whole model with a delay: an embedding or none, recurrent layers, a linear map of every step.

    y_t = W h_{t+d} + b,   h = the layers' output over x_0 ... x_{T-1} and d steps of padding

Source: Turek et al. 2020, arXiv:1909.00021, section 3; TuKo/dRNN, ``nets.py``, whose networks have
LSTM layers and leave the delay to the code around them. The other cells are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from . import config as check
from .delayed import Delayed
from .rhn_stack import RHN
from .sru_stack import SRU
from .stack import QRNN
from .standard import StandardState

MAX_PADDING = 65504.0
"""Largest absolute value of the padding: that of float16."""


def _standard(cell: str, rows: int) -> Callable[..., nn.Module]:
    """A maker of ``nn.LSTM`` or ``nn.GRU``, whose gates have ``rows`` blocks of rows."""

    def make(
        input_size: int, hidden_size: int, num_layers: int, bidirectional: bool, **options: Any
    ) -> nn.Module:
        ways = 2 if bidirectional else 1
        widest = max(input_size, hidden_size * ways if num_layers > 1 else 0, hidden_size)
        check.elements("a weight of the cell", rows * hidden_size, widest)
        kind: type[nn.LSTM | nn.GRU] = getattr(nn, cell)
        return kind(input_size, hidden_size, num_layers, bidirectional=bidirectional, **options)

    return make


_CELLS: Mapping[str, tuple[Callable[..., nn.Module], frozenset[str]]] = {
    "LSTM": (_standard("LSTM", 4), frozenset({"bidirectional", "bias"})),
    "GRU": (_standard("GRU", 3), frozenset({"bidirectional", "bias"})),
    "QRNN": (QRNN, frozenset({"bidirectional", "bias", "window"})),
    "SRU": (SRU, frozenset({"bidirectional"})),
    "RHN": (RHN, frozenset({"depth"})),
}
"""Cell -> what makes its layers, and which options beside the sizes it has."""

_PLAIN: Mapping[str, Any] = {"bidirectional": False, "bias": True, "window": 1, "depth": 1}
"""The value of each option that every cell takes."""


class RecurrentNet(nn.Module):
    """What runs without a delay: embedding, layers, linear map.

    Args:
        embedding: of tokens, or None.
        rnn: the layers.
        linear: of their output.
    """

    def __init__(self, embedding: nn.Embedding | None, rnn: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.embedding, self.rnn, self.linear = embedding, rnn, linear

    def forward(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Run over sequences, see :meth:`DelayedRNN.forward`."""
        if self.embedding is not None:
            x = self.embedding(x)
        if not isinstance(self.rnn, nn.RNNBase):
            y, after = self.rnn(x, state, lengths)
            return self.linear(y), after
        _check(self.rnn, x, state, lengths)
        y, after = self.rnn(x, _turned(state))
        h, c = after if isinstance(after, tuple) else (after, None)
        turned = StandardState(h.transpose(0, 1), None if c is None else c.transpose(0, 1))
        return self.linear(y), turned


def _check(rnn: nn.RNNBase, x: Tensor, state: Any, lengths: Tensor | None) -> None:
    """What our own stacks check themselves."""
    if x.dim() != 3 or x.shape[2] != rnn.input_size:
        layout = "[B, T, {}]" if rnn.batch_first else "[T, B, {}]"
        raise InputError(
            f"DelayedRNN: x has shape {list(x.shape)}, expected {layout.format(rnn.input_size)}"
        )
    if state is not None and type(state) is not StandardState:
        raise InputError(
            f"DelayedRNN: state is a {type(state).__name__}, expected a StandardState, as it "
            "was returned"
        )
    if lengths is not None:
        raise InputError(
            f"DelayedRNN: lengths are given to an nn.{type(rnn).__name__}, which takes none: "
            "expected full rows, or cell QRNN, SRU or RHN"
        )


def _turned(state: StandardState | None) -> Any:
    """What ``nn.LSTM`` and ``nn.GRU`` take for a state, layers before rows."""
    if state is None:
        return None
    h, *c = (part.transpose(0, 1).contiguous() for part in state if part is not None)
    return (h, c[0]) if c else h


class DelayedRNN(Delayed):
    """An embedding or none, recurrent layers, and a linear map of every step, all d steps late.

    ``forward(x, state=None, *, lengths=None)`` is that of :class:`Delayed`: x is
    [B, T, input_size], or tokens [B, T] int64 (time first without ``batch_first``), and y is
    [B, T, output_size]. The state is a :class:`~qrnn_deploy.nn.standard.StandardState` of an LSTM
    or GRU, else what the cell's stack takes and returns. LSTM and GRU take no lengths.

    Args:
        input_size: features that the first layer reads: of x, or of a token's embedding.
        hidden_size: channels H of every layer, in each direction.
        output_size: features of y.
        num_layers: layers.
        cell: LSTM, GRU, QRNN, SRU or RHN.
        delay: d, 0 or more; see :class:`Delayed`.
        padding: as in :class:`Delayed`; a token if x holds tokens.
        vocab_size: number of tokens if x holds tokens, else None.
        bidirectional: every layer walks both ways; not of an RHN.
        bias: whether the layers have a bias; False only of an LSTM, GRU or QRNN.
        window: taps of a QRNN.
        depth: highway layers of an RHN in one step of time.
        batch_first: x and y are [B, T, *] (the default here) instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        output_size: features of y.

    Raises:
        ConfigError: an argument is out of range, or the cell does not have it.
    """

    module: RecurrentNet

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        *,
        cell: str = "LSTM",
        delay: int = 0,
        padding: float | int | None = 0,
        vocab_size: int | None = None,
        bidirectional: bool = False,
        bias: bool = True,
        window: int = 1,
        depth: int = 1,
        batch_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        make, has = _CELLS[check.choice("cell", cell, tuple(_CELLS))]
        options = {
            "bidirectional": check.flag("bidirectional", bidirectional),
            "bias": check.flag("bias", bias),
            "window": check.size("window", window, check.MAX_WINDOW),
            "depth": check.size("depth", depth),
        }
        for name in sorted(options.keys() - has):
            if options[name] != _PLAIN[name]:
                raise check.ConfigError(
                    f"{name} is {options[name]} with cell {cell}, expected {_PLAIN[name]}: "
                    "the cell has no such option"
                )
        width = check.size("input_size", input_size)
        hidden = check.size("hidden_size", hidden_size)
        layers = check.size("num_layers", num_layers, check.MAX_LAYERS)
        out = check.size("output_size", output_size)
        features = hidden * (2 if bidirectional else 1)
        check.elements("linear.weight", out, features)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        tokens = None if vocab_size is None else check.size("vocab_size", vocab_size)
        embedding = None
        if tokens is not None:
            check.elements("embedding.weight", tokens, width)
            embedding = nn.Embedding(tokens, width, **where)
        first = check.flag("batch_first", batch_first)
        given = {name: options[name] for name in has}
        rnn = make(width, hidden, layers, batch_first=first, **given, **where)
        super().__init__(
            RecurrentNet(embedding, rnn, nn.Linear(features, out, **where)),
            delay,
            padding=_checked_padding(padding, tokens),
            batch_first=first,
        )
        self.cell, self.num_layers, self.options = cell, layers, options
        self.input_size, self.hidden_size, self.output_size = width, hidden, out
        self.vocab_size = tokens

    @property
    def streams(self) -> bool:
        """Whether chunks of a sequence, with the state carried, give what the whole gives."""
        return not self.options["bidirectional"]

    def reset_parameters(self) -> None:
        """Fresh weights for every part."""
        for part in self.module.children():
            reset: Any = part.reset_parameters
            reset()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {
            "architecture": "DelayedRNN",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "output_size": self.output_size,
            "num_layers": self.num_layers,
            "cell": self.cell,
            "delay": self.delay,
            "padding": self.padding,
            "vocab_size": self.vocab_size,
            **self.options,
            "batch_first": self.batch_first,
        }


def _checked_padding(padding: Any, tokens: int | None) -> float | int | None:
    if padding is None:
        return None
    if tokens is not None:
        return check.size("padding", padding, tokens - 1, 0)
    number = check.number("padding", padding)
    if abs(number) > MAX_PADDING:
        raise check.ConfigError(
            f"padding is {number}, expected a number in -{MAX_PADDING:g}..{MAX_PADDING:g}"
        )
    return number
