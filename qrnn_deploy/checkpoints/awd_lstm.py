"""salesforce/awd-lstm-lm with ``--model QRNN``: a language model.

========== ==========================================================================
names      ``encoder.weight`` [V, E]; ``rnns.N.linear.module.weight_raw`` (or, without
           WeightDrop, ``rnns.N.linear.weight``), ``rnns.N.linear.module.bias``;
           ``decoder.weight`` [V, H], ``decoder.bias`` [V]
layers     as torchqrnn's: rows z, f, o; f weights the candidate; zoneout 0
windows    2 in layer 0, 1 in the others
sizes      every layer H, the last one E if the decoder is tied to the embedding
files      ``torch.save([model, criterion, optimizer])``, a bare model, a state dict
source     ``model.py``, ``weight_drop.py``, ``main.py``
========== ==========================================================================

Beside ``weight_raw`` a file may hold ``weight``, the copy of the last forward pass with dropout.
"""

from __future__ import annotations

from dataclasses import replace

from ._text_models import TEXT_USES, Trunk, language_model, levels
from .given import Given
from .reading import Names, Reading
from .tables import WeightTable

MOST_WORDS = 75_000
"""Above, ``main.py`` splits the softmax."""

SPLIT = (
    "Upstream's loss splits the softmax of large vocabularies (SplitCrossEntropyLoss): the logits "
    "here are those of the decoder, whose plain softmax gives other probabilities"
)


class AwdLstm:
    """Language models of awd-lstm-lm."""

    name = "awd-lstm-lm"
    description = "salesforce/awd-lstm-lm --model QRNN: encoder, rnns.N.linear.module, decoder"
    uses = TEXT_USES

    def recognise(self, table: WeightTable) -> bool:
        """By ``rnns.N.linear`` beside ``decoder`` without a number before it."""
        layers = table.matching(r"rnns\.\d+\.linear\.(module\.)?(weight|weight_raw|bias)")
        inside = table.matching(r"rnns\.\d+\.linear\.module\.weight_raw")
        decoder = table.matching(r"decoder\.(weight|bias)")
        return bool(layers) and bool(inside or decoder)

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading."""
        names = Names(table, self.name)
        trunk = Trunk.find(names, ["encoder.weight"], levels(table, "", ""), scales=True)
        reading = language_model(trunk, "decoder.", given)
        if trunk.vocab_size > MOST_WORDS:
            reading = replace(reading, notes=(*reading.notes, SPLIT))
        return [reading]
