"""julian121266/RecurrentHighwayNetworks (now jzilly/...), the authors' code in TensorFlow 1.

========== ==========================================================================
names      ``model/embedding`` [V, E]; ``model/RHNl/{h,t}_i/Linear/Matrix`` and ``Bias`` [H];
           ``model/softmax_w`` [H, V], absent where the decoder is tied; ``model/softmax_b`` [V]
shapes     Matrix [in + H, H] at i = 0, the rows of x before those of s; else [H, H]
equations  h = tanh, t = sigmoid of [x, s] Matrix + Bias; s <- (h - s) t + s
sizes      E is H, or V where that is less than H and the decoder is not tied
others     ``model/Variable``: the learning rate
dropout    masks for a whole sequence, fed from outside: in training, and in the evaluation that
           averages over them
source     ``rhn.py``, ``rhn_train.py``, 264cfe7 and b15e505
========== ==========================================================================

The scope ``model`` is that of ``rhn_train.py``; another one, or none, is read alike.
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import CheckpointError
from ._rhn import Level, Load, check_chain, check_types, inferred, layer_tensors
from ._text_models import FORWARD, TEXT_USES
from .given import Given
from .reading import Names, Reading, configuration
from .tables import WeightTable
from .vocabulary import read_vocabulary

_CELL = re.compile(r"((?:.{1,200}/)?)RHN(\d{1,4})/[ht]_(\d{1,4})/Linear/(Matrix|Bias)")

NO_VOCABULARY = "the vocabulary is not in the file (--vocabulary): tokens are numbers"
LEARNING_RATE = "Variable"


class TensorFlowRHN:
    """Language models of the authors' TensorFlow code."""

    name = "rhn-tensorflow"
    description = "julian121266/RecurrentHighwayNetworks: model/RHNl/{h,t}_i/Linear/Matrix"
    uses = TEXT_USES

    def recognise(self, table: WeightTable) -> bool:
        """By the names of its cells' variables."""
        return any(_CELL.fullmatch(name.removesuffix(":0")) for name in table.tensors)

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading."""
        plain = {name.removesuffix(":0"): tensor for name, tensor in table.tensors.items()}
        if len(plain) != len(table.tensors):
            raise CheckpointError("holds a variable with and without :0, expected one of them")
        names = Names(replace(table, tensors=plain), self.name)
        cells = [match for match in map(_CELL.fullmatch, plain) if match]
        scope = cells[0][1]
        depths: dict[int, int] = {}
        for cell in (cell for cell in cells if cell[1] == scope):
            depths[int(cell[2])] = max(depths.get(int(cell[2]), 0), int(cell[3]) + 1)
        embedding = names.take(f"{scope}embedding")
        vocab, width = names.shape(embedding, 2)
        levels: list[Level] = []
        for number in range(max(depths) + 1):
            read = levels[-1].hidden_size if levels else width
            levels.append(_level(names, f"{scope}RHN{number}/", depths.get(number, 1), read))
        tensors = {
            "embedding.weight": names.table.tensors[embedding].load,
            **layer_tensors(levels, "stack."),
            **_decoder(names, scope, vocab, levels[-1].hidden_size, width),
        }
        tied = "decoder_weight" not in tensors
        check_types(names.table, sorted(names.taken))
        names.has(f"{scope}{LEARNING_RATE}")
        names.refuse_the_rest()
        vocabulary = None
        if given.vocabulary is not None:
            vocabulary = read_vocabulary(given.vocabulary, vocab)
        return [
            Reading(
                configuration(
                    "RHNLanguageModel",
                    vocab_size=vocab,
                    embedding_size=width,
                    hidden_size=[level.hidden_size for level in levels],
                    depth=check_chain(levels),
                    tied=tied,
                    reverse=given.reverse,
                    vocabulary=vocabulary,
                    batch_first=given.batch_first is not False,
                ),
                tensors,
                inferred=(
                    f"{vocab} tokens",
                    *inferred(levels),
                    "decoder tied to the embedding" if tied else "decoder with a weight of its own",
                ),
                assumed=(
                    *((NO_VOCABULARY,) if vocabulary is None else ()),
                    *((FORWARD,) if given.direction is None else ()),
                ),
                choice=f"--format {self.name}",
            )
        ]


def _level(names: Names, scope: str, depth: int, width: int) -> Level:
    """The variables of one cell, which reads ``width`` features.

    Raises:
        CheckpointError: one is missing or does not fit.
    """
    tensors = names.table.tensors

    def path(gate: str, d: int, kind: str) -> str:
        return f"{scope}{gate}_{d}/Linear/{kind}"

    hidden = names.shape(names.take(path("h", 0, "Matrix")), 2)[1]
    for d in range(depth):
        for gate in "ht":
            matrix, bias = (names.take(path(gate, d, kind)) for kind in ("Matrix", "Bias"))
            names.expect(matrix, (hidden if d else width + hidden, hidden))
            names.expect(bias, (hidden,))

    def rows(d: int, first: int, last: int) -> Tensor:
        """Rows first..last of both matrices at d as rows [2H, last - first] of ours."""
        parts = [tensors[path(gate, d, "Matrix")].load()[first:last].t() for gate in "ht"]
        return torch.cat(parts)

    def state_rows() -> Tensor:
        first = [0 if d else width for d in range(depth)]
        return torch.stack([rows(d, begin, begin + hidden) for d, begin in enumerate(first)])

    def biases() -> Tensor:
        by_depth = ([tensors[path(gate, d, "Bias")].load() for gate in "ht"] for d in range(depth))
        return torch.stack([torch.cat(pair) for pair in by_depth])

    loads: dict[str, Load] = {
        "input_weight": lambda: rows(0, 0, width),
        "weight": state_rows,
        "bias": biases,
    }
    return Level(width, hidden, depth, loads)


def _decoder(names: Names, scope: str, vocab: int, hidden: int, width: int) -> dict[str, Load]:
    """The decoder's tensors: no weight where it is tied.

    Raises:
        CheckpointError: one is missing or does not fit.
    """
    tensors = names.table.tensors
    weight, bias = f"{scope}softmax_w", names.take(f"{scope}softmax_b")
    names.expect(bias, (vocab,))
    result: dict[str, Load] = {"decoder_bias": tensors[bias].load}
    if names.has(weight):
        names.expect(weight, (hidden, vocab))
        result["decoder_weight"] = lambda: tensors[weight].load().t().contiguous()
    elif width != hidden:
        names.take(weight)  # says what is missing
    return result
