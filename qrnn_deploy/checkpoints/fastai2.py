"""fastai 2.0 to 2.3: ``AWD_QRNN`` as language model, encoder and classifier.

Names and equations: :mod:`._fastai_text`. What tells this generation from the one before:

- there is no ``linear.module.weight``, only ``linear.weight_raw`` and ``linear.module.bias``;
- a bidirectional model has ``rnns.N.layers_bwd.0.linear.*``, which no WeightDropout wraps;
- the head of a classifier is a sequence of sequences, ``1.layers.0.0``, whose linear maps have no
  bias; padding comes first in whole chunks, which are skipped, and the rest last
  (``SentenceEncoder``).

Files: ``{"model": ..., "opt": ...}`` or a state dict. The class is gone from 2.4 on. Source:
``fastai/text/models/{awdlstm,core}.py``, 2.3.1.
"""

from __future__ import annotations

from ._fastai_text import USES, prefix_of, read_text_model
from .fastai1 import Fastai1
from .given import Given
from .reading import Reading
from .tables import WeightTable

_LAYERS = r"(0\.(module\.)?)?rnns\.\d+\.layers(_bwd)?\.0\.linear\..*"


class Fastai2:
    """Models of text by fastai 2."""

    name = "fastai2"
    description = "fastai 2.0-2.3 AWD_QRNN: 0.rnns.N.layers.0.linear, without module.weight"
    uses = USES

    def recognise(self, table: WeightTable) -> bool:
        """By ``rnns.N.layers.0.linear`` without what only fastai 1 has."""
        if prefix_of(table) is None or not table.matching(_LAYERS):
            return False
        return not Fastai1().recognise(table)

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading."""
        return read_text_model(table, given, self.name, "layers.0.", 2)
