"""SpeechBrain's ``QuasiRNN`` (``speechbrain.nnet.RNN``).

========== ==========================================================================
names      ``qrnn.N.w.weight``, ``qrnn.N.w.bias``
shapes     [g*H, in] and [g*H]; g = 3, or 2 without output gate; no window
gate order z, f, o; f weights the candidate: c = f z + (1 - f) c_prev
zoneout p  in eval mode f is scaled by 1 - p, as in torchqrnn
two ways   each layer walks both ways WITH THE SAME WEIGHTS and joins [forward, reverse]
layout     batch first; an input [B, T, C1, C2] is flattened to [B, T, C1*C2]
source     ``speechbrain/nnet/RNN.py``, 1.1.2
========== ==========================================================================

The state that upstream returns is not the last step's: it takes the last batch item of [B, T, H].
Ours is c after the last step of every row.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ._stacks import ZONEOUT, Facts, inferred, layer_paths, one_of, recorded, stack_config
from .gates import paper_bias, paper_weight
from .given import Given
from .layer_shapes import Stack, possibilities, refuse
from .reading import Names, Reading
from .tables import WeightTable


class SpeechBrain:
    """Stacks of SpeechBrain."""

    name = "speechbrain"
    description = "SpeechBrain QuasiRNN: qrnn.N.w.weight"
    uses = frozenset({"output_gate", "input_size", "zoneout", "bidirectional", "batch_first"})

    def recognise(self, table: WeightTable) -> bool:
        """By ``qrnn.N.w.weight`` and little else."""
        ours = table.matching(r"qrnn\.\d+\.w\.(weight|bias)")
        return 2 * len(ours) > len(table.tensors) and bool(ours)

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """One reading for each number of directions and gates that the shapes allow."""
        names = Names(table, self.name)
        paths = layer_paths(table, "qrnn", "w")
        weights, biases = [], []
        for path in paths:
            weights.append(names.take(f"{path}.w.weight"))
            biases.append(names.take(f"{path}.w.bias"))
            names.expect(biases[-1], names.shape(weights[-1], 2)[:1])
        names.floating(*weights, *biases)
        names.refuse_the_rest()
        shapes = [table.shape(name) for name in weights]
        facts = Facts.of(table, paths, given, self.uses)
        ways = one_of(recorded(table, paths, "bidirectional"), "bidirectional")
        ways = given.bidirectional if given.bidirectional is not None else ways
        found = [
            (stack, directions)
            for directions in (1, 2)
            for stack in possibilities(
                shapes,
                directions=directions,
                input_size=facts.input_size,
                gates=facts.gates,
                max_window=1,
            )
            if ways in (None, directions == 2)
        ]
        if not found:
            raise refuse(shapes, self.name, facts.said)
        return [
            Reading(
                stack_config(
                    stack,
                    bidirectional=directions == 2,
                    zoneout=facts.zoneout or 0.0,
                    zoneout_eval="expectation" if facts.zoneout else "identity",
                    batch_first=given.batch_first is not False,
                ),
                _tensors(table, weights, biases, stack, directions),
                inferred=(
                    *inferred(stack)[::2],
                    "both directions, with shared weights" if directions == 2 else "one direction",
                    *facts.told,
                ),
                assumed=(ZONEOUT,) if facts.zoneout is None else (),
                choice=(
                    f"--format {self.name} "
                    f"{'--bidirectional' if directions == 2 else '--one-directional'} "
                    f"{'--output-gate' if stack.gates == 3 else '--no-output-gate'} (hidden size "
                    f"{stack.hidden[0]})"
                ),
            )
            for stack, directions in found
        ]


def _tensors(
    table: WeightTable, weights: list[str], biases: list[str], stack: Stack, directions: int
) -> dict[str, Callable[[], Tensor]]:
    """One weight for both directions of a level, read once."""
    result: dict[str, Callable[[], Tensor]] = {}
    for level, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        for kind, load in (
            ("weight", _once(table, weight, lambda w: paper_weight(w, stack.gates, 1))),
            ("bias", _once(table, bias, lambda b: paper_bias(b, stack.gates))),
        ):
            for way in range(directions):
                result[f"layers.{level * directions + way}.{kind}"] = load
    return result


def _once(
    table: WeightTable, name: str, change: Callable[[Tensor], Tensor]
) -> Callable[[], Tensor]:
    kept: list[Tensor] = []

    def load() -> Tensor:
        if not kept:
            kept.append(change(table.tensors[name].load()))
        return kept[0]

    return load
