"""MultiFiT (n-waves/multifit, fastai 1.0.47): language model, encoder and classifier.

As fastai 1 (:mod:`.fastai1`), but each of ``rnns`` is a layer itself, so the names lack
``layers.0.``: ``0.rnns.N.linear.weight_raw``, ``0.rnns.N.linear.module.{weight,bias}``. Files that
later fastai wrote have it and are read as ``fastai1``. Models of the two directions are files of
the same form: the backward one was trained on reversed text.

Usual sizes: embedding 400, hidden 1550 or 1552, 4 layers. Files ``lm_best.pth``, ``enc_best.pth``,
``cls_best.pth``, with ``itos.pkl`` (``--vocabulary``) beside them.
"""

from __future__ import annotations

from ._fastai_text import USES, prefix_of, read_text_model
from .given import Given
from .reading import Reading
from .tables import WeightTable

_LAYERS = r"(0\.(module\.)?)?rnns\.\d+\.linear\..*"


class MultiFiT:
    """Models of text by MultiFiT."""

    name = "multifit"
    description = "MultiFiT (fastai 1.0.47): 0.rnns.N.linear.weight_raw, without layers.0"
    uses = USES

    def recognise(self, table: WeightTable) -> bool:
        """By ``rnns.N.linear.weight_raw`` below ``0.``, or in an encoder file without decoder."""
        prefix = prefix_of(table)
        if prefix is None or not table.matching(_LAYERS):
            return False
        if prefix:
            return True
        return not table.matching(r"decoder\..*") and not table.matching(
            r"rnns\.\d+\.linear\.module\.weight_raw"
        )

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading."""
        return read_text_model(table, given, self.name, "", 1)
