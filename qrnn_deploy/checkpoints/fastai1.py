"""fastai 1.0.x: ``AWD_LSTM(qrnn=True)`` as language model, encoder and classifier.

Names and equations: :mod:`._fastai_text`. What tells this generation from the next:

- ``WeightDropout`` keeps the trained weight as ``linear.weight_raw``, and a copy with dropout
  applied stays behind as ``linear.module.weight``. Loading such a file with fastai itself into a
  fresh model gives the copy; the trained weight is ``weight_raw``, and that is read here.
- The head of a classifier is one flat sequence ``1.layers.0``, ``1.layers.2``, ...; padding comes
  first and goes through the layers (``MultiBatchEncoder``).

Files: a state dict, or ``{"model": ..., "opt": ...}`` (``Learner.save``). Source:
``fastai/text/models/awd_lstm.py``, ``fastai/text/learner.py``, 1.0.61.
"""

from __future__ import annotations

from ._fastai_text import USES, prefix_of, read_text_model
from .given import Given
from .reading import Reading
from .tables import WeightTable

_COPY = r"(0\.(module\.)?)?rnns\.\d+\.layers\.0\.linear\.module\.weight"
_LAYERS = r"(0\.(module\.)?)?rnns\.\d+\.layers(_bwd)?\.0\.linear\..*"
_FLAT_HEAD = r"1\.layers\.\d+\.weight"


class Fastai1:
    """Models of text by fastai 1."""

    name = "fastai1"
    description = "fastai 1.0 AWD_LSTM(qrnn=True): 0.rnns.N.layers.0.linear, with module.weight"
    uses = USES

    def recognise(self, table: WeightTable) -> bool:
        """By ``rnns.N.layers.0.linear`` and a ``module.weight`` beside ``weight_raw``."""
        if prefix_of(table) is None or not table.matching(_LAYERS):
            return False
        return bool(table.matching(_COPY) or table.matching(_FLAT_HEAD))

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading."""
        return read_text_model(table, given, self.name, "layers.0.", 1)
