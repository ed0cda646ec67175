"""TuKo/dRNN: ``SingleLayerLSTMNet`` and ``MultiLayerLSTMNet`` of its ``nets.py``.

========= =============================================================================
names     ``lstm.{weight,bias}_{ih,hh}_lN[_reverse]`` of an ``nn.LSTM``; ``linear.{weight,bias}``;
          ``embedding.weight`` where x holds tokens
dropout   on weights (``CustomizedLSTM``): ``lstm.lstm.*``, and ``weight_hh_lN_drop`` beside
          ``weight_hh_lN``. The former is the parameter; before every step it goes, dropped out,
          into an attribute of the latter's name, which PyTorch 1.1 then computes with
rows      i, f, g, o, as ``nn.LSTM`` has them
layout    batch first; the network returns T + d outputs, and the code around it drops d
beside    ``model_weights.pt``: {model, delay, model_layers, bidi}, and more in some experiments.
          ``checkpoint_epoch_N.tar``, which is no tar: {model_state_dict, delay, model_layers,
          bidi, optimizer_state_dict, loss, ...}, whose ``loss`` is a pickled module
padding   by experiment, recorded nowhere: zeros behind numbers (reversal, sine); behind tokens
          the text goes on (masked language model)
source    ``nets.py``, ``experiments.py``, ``datasets.py``, 150acff
========= =============================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..errors import CheckpointError, ConfigError
from ..nn import config as check
from ..nn.delayed import MAX_DELAY
from .given import FUTURE, Given
from .reading import Names, Reading, configuration
from .tables import Lazy, WeightTable, same_numbers

_PART = r"lstm\.(lstm\.)?(weight|bias)_(ih|hh)_l(\d{1,4})(_reverse)?(_drop)?"
UNDELAYED = "delay 0 (--delay D): the file does not record it; y is what upstream's network returns"
_ANY = rf"{_PART}|linear\.(weight|bias)|embedding\.weight"


class DelayedLSTM:
    """Networks of the delayed RNN's authors."""

    name = "drnn"
    description = "TuKo/dRNN: lstm.weight_hh_l0 or lstm.lstm.weight_hh_l0_drop, linear.weight"
    uses = frozenset({"delay", "padding", "batch_first"})

    def recognise(self, table: WeightTable) -> bool:
        """By the recorded delay beside an LSTM, or, without one, by all of the names."""
        if not table.matching(_PART):
            return False
        if "delay" in table.beside:
            return True
        return "linear.weight" in table.tensors and len(table.matching(_ANY)) == len(table.tensors)

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading."""
        names = Names(table, self.name)
        tensors: dict[str, Lazy] = {}

        def put(ours: str, theirs: str) -> str:
            tensors[f"module.{ours}"] = table.tensors[theirs]
            return theirs

        parts = table.matching(_PART).values()
        layers = max(int(part[4]) for part in parts) + 1
        ways = ("", "_reverse") if any(part[5] for part in parts) else ("",)
        inner = "lstm.lstm." if any(part[1] for part in parts) else "lstm."
        has_bias = any(part[2] == "bias" for part in parts)
        first = names.take(f"{inner}weight_ih_l0")
        rows, width = names.shape(first, 2)
        hidden = rows // 4
        if rows % 4:
            raise CheckpointError(
                f"tensor {first} has {rows} rows, expected a multiple of 4: the gates of an LSTM"
            )
        copies = []
        for layer in range(layers):
            columns = width if layer == 0 else hidden * len(ways)
            for end in (f"_l{layer}{way}" for way in ways):
                weight = names.take(f"{inner}weight_hh{end}_drop", f"{inner}weight_hh{end}")
                names.expect(put(f"rnn.weight_hh{end}", weight), (rows, hidden))
                copy = f"{inner}weight_hh{end}"
                if copy != weight and names.has(copy):
                    names.expect(copy, (rows, hidden))
                    copies.append((copy, weight))
                weight = names.take(f"{inner}weight_ih{end}")
                names.expect(put(f"rnn.weight_ih{end}", weight), (rows, columns))
                for kind in ("bias_ih", "bias_hh") if has_bias else ():
                    names.expect(
                        put(f"rnn.{kind}{end}", names.take(f"{inner}{kind}{end}")), (rows,)
                    )
        features = hidden * len(ways)
        out = names.shape(names.take("linear.weight"), 2)[0]
        names.expect(put("linear.weight", "linear.weight"), (out, features))
        names.expect(put("linear.bias", names.take("linear.bias")), (out,))
        vocab = None
        if names.has("embedding.weight"):
            vocab = names.shape(put("embedding.weight", "embedding.weight"), 2)[0]
            names.expect("embedding.weight", (vocab, width))
        names.refuse_the_rest()
        _check_beside(table, layers, len(ways) == 2)
        delay, told, assumed = _delay(table, given, layers == 1 and len(ways) == 1)
        padding, guess = _padding(given, delay, vocab)
        return [
            Reading(
                configuration(
                    "DelayedRNN",
                    input_size=width,
                    hidden_size=hidden,
                    output_size=out,
                    num_layers=layers,
                    delay=delay,
                    padding=padding,
                    vocab_size=vocab,
                    bidirectional=len(ways) == 2,
                    bias=has_bias,
                    batch_first=given.batch_first is not False,
                ),
                tensors,
                inferred=(
                    f"{layers} layer{'s' if layers > 1 else ''} of LSTM"
                    f"{', in both directions' if len(ways) == 2 else ''}, "
                    f"{f'{vocab} tokens, ' if vocab else ''}input size {width}, "
                    f"hidden size {hidden}, output size {out}",
                    *told,
                ),
                assumed=(*assumed, *guess),
                notes=(
                    f"Token {out} is the mask if it comes from the masked language model; its "
                    "alphabet is not read.",
                )
                if vocab == out + 1
                else (),
                checks=(partial(_stale_note, table, copies),),
                choice=f"--format {self.name}",
            )
        ]


def _check_beside(table: WeightTable, layers: int, both: bool) -> None:
    """Check that what the file records is what its tensors are."""
    for name, found in (("model_layers", layers), ("bidi", both)):
        value = table.beside.get(name, found)
        if type(value) is not type(found) or value != found:
            raise CheckpointError(
                f"records {name} {check.shorten(value)}, expected {found} as its tensors are"
            )


def _delay(
    table: WeightTable, given: Given, alone: bool
) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """The delay, what told it, and what was assumed; ``alone``: one layer in one direction."""
    if "delay" in table.beside:
        try:
            delay = check.size("delay", table.beside["delay"], MAX_DELAY, 0)
        except ConfigError as error:
            raise CheckpointError(f"records a wrong delay: {error}") from None
        if given.delay not in (None, delay):
            raise CheckpointError(
                f"records delay {delay}, and {given.delay} was given: leave the option out"
            )
        return delay, (f"delay {delay}, as the file records",), ()
    if given.delay is not None:
        return given.delay, (), ()
    if not alone:
        return 0, ("delay 0: upstream delays a single layer in one direction alone",), ()
    return 0, (), (UNDELAYED,)


def _padding(
    given: Given, delay: int, vocab: int | None
) -> tuple[float | int | None, tuple[str, ...]]:
    """The padding of a module, and what was assumed."""
    if given.padding is not None:
        padding: Any = None if given.padding == FUTURE else given.padding
        return padding, ()
    if delay == 0:
        return 0, ()
    if vocab is None:
        return 0, (
            f"padding 0 (--padding X): {delay} steps of zeros follow a sequence, as in upstream's "
            "experiments on numbers",
        )
    return None, (
        f"padding future (--padding TOKEN): the {delay} tokens that follow come from the caller, "
        "as in upstream's masked language model",
    )


def _stale_note(table: WeightTable, copies: Sequence[tuple[str, str]]) -> str | None:
    """A note where a copy is not the trained weight; reads both."""
    for copy, weight in copies:
        if not same_numbers(table.tensors[weight], table.tensors[copy]):
            return (
                f"{copy} differs from {weight}, which was used: with PyTorch 1.1, which upstream "
                "asks for, that one is trained"
            )
    return None
