"""santi-pdp/pase (PASE+): the QRNN of a frontend and the projection behind it.

========== ==========================================================================
names      ``rnn.layers.N.linear.{weight,bias}``; ``W.weight`` [emb, H, 1], ``W.bias``
layers     torchqrnn's: rows z, f, o; f weights the candidate; no zoneout
window     2 in EVERY layer: columns [x_t, x_{t-1}]
two ways   never; the flag ``rnn_bidirectional`` only doubles the hidden size
files      ``FE_eN.ckpt`` is the frontend's state dict; others {step, state_dict, optimizer},
           or a whole model with ``frontend.`` before the names
source     ``pase/models/frontend.py`` (WaveFe), ``pase/models/modules.py``
========== ==========================================================================

Read here: the recurrence, time-major features [T, B, in] of the last convolution block in, and
its 1x1 convolution ``W``. The convolutions before it, the dense skip connections and the output
norm look across time without a state; they stay in the user's own code.
"""

from __future__ import annotations

from functools import partial

from ..errors import CheckpointError
from ._linear import Linear, layer_tensors, stale_note
from ._stacks import Facts, inferred, layer_paths, stack_config
from .given import Given
from .layer_shapes import possibilities, refuse
from .reading import Names, Reading
from .tables import WeightTable

WINDOW = 2


class Pase:
    """The QRNN and projection of PASE frontends."""

    name = "pase"
    description = "santi-pdp/pase frontend: rnn.layers.N.linear with W.weight, blocks.N beside it"
    uses = frozenset({"output_gate", "input_size", "batch_first"})

    def recognise(self, table: WeightTable) -> bool:
        """By ``rnn.layers.N.linear`` with ``W.weight``, or with convolution blocks."""
        return bool(table.matching(r"(frontend\.)?rnn\.layers\.\d+\.linear\..*")) and bool(
            table.matching(r"(frontend\.)?(W\.weight|blocks\.\d+\.conv\..*)")
        )

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading."""
        if table.matching(r"frontend\.rnn\..*"):
            table = table.below("frontend.")
        names = Names(table, self.name)
        paths = layer_paths(table, r"rnn.layers")
        linears = [Linear.find(names, f"{path}.") for path in paths]
        shapes = [linear.shape for linear in linears]
        facts = Facts.of(table, paths, given, self.uses)
        stacks = possibilities(
            shapes,
            input_size=facts.input_size,
            gates=facts.gates or 3,
            windows=facts.windows or (WINDOW,) * len(linears),
        )
        if not stacks:
            raise refuse(shapes, self.name, facts.said or "window 2 in every layer")
        stack = stacks[0]
        weight, bias = names.take("W.weight"), "W.bias"
        size, width, taps = names.shape(weight, 3)
        if width != stack.hidden[-1] or taps != 1:
            raise CheckpointError(
                f"tensor {weight} has shape {[size, width, taps]}, expected "
                f"[embedding, {stack.hidden[-1]}, 1]"
            )
        load = table.tensors[weight].load
        tensors = layer_tensors(linears, stack)
        tensors["projection.weight"] = lambda: load().squeeze(2)
        has_bias = names.has(bias)
        if has_bias:
            names.expect(bias, (size,))
            tensors["projection.bias"] = table.tensors[bias].load
        rest = sorted({name.split(".")[0] for name in set(table.tensors) - names.taken})
        return [
            Reading(
                stack_config(
                    stack,
                    projection_size=size,
                    projection_bias=has_bias,
                    zoneout=facts.zoneout or 0.0,
                    zoneout_eval="expectation" if facts.zoneout else "identity",
                    batch_first=bool(given.batch_first),
                    architecture="ProjectedQRNN",
                ),
                tensors,
                inferred=(*inferred(stack), *facts.told, f"projection to {size}"),
                notes=(
                    f"Only the QRNN and its projection W were read; left out: {', '.join(rest)}.",
                )
                if rest
                else (),
                checks=(partial(stale_note, linears),),
                choice=f"--format {self.name}",
            )
        ]
