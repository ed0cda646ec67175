"""salesforce/pytorch-qrnn (torchqrnn): a layer or a stack of layers.

========== ==========================================================================
names      ``linear.weight``, ``linear.bias`` (``QRNNLayer``);
           ``layers.N.linear.weight``, ``layers.N.linear.bias`` (``QRNN``)
shapes     [g*H, w*in] and [g*H]; g = 3, or 2 without output gate; w = 1 or 2
gate order z, f, o as blocks of rows
polarity   f weights the candidate: c = f z + (1 - f) c_prev; h = sigmoid(o) c
window 2   columns [x_t, x_{t-1}]
zoneout p  in eval mode f is scaled by 1 - p
layout     time-major; one direction; c is returned before the output gate
source     ``torchqrnn/qrnn.py`` and ``torchqrnn/forget_mult.py``
========== ==========================================================================

A state dict records neither window nor output gate nor zoneout; a whole pickled module does.
``QRNN`` gives all its layers one window.
"""

from __future__ import annotations

from functools import partial

from ._linear import Linear, layer_tensors, stale_note
from ._stacks import (
    ZONEOUT,
    Facts,
    choice,
    inferred,
    layer_paths,
    refuse_any_linear,
    stack_config,
)
from .given import Given
from .layer_shapes import possibilities, refuse
from .reading import Names, Reading
from .tables import WeightTable

_WEIGHT = r"(layers\.(\d+)\.)?linear\.(module\.)?weight(_raw)?"
_ANY = r"(layers\.\d+\.)?linear\.(module\.)?(weight|weight_raw|bias)"


class TorchQRNN:
    """Layers and stacks of torchqrnn."""

    name = "torchqrnn"
    description = "salesforce/pytorch-qrnn: linear.* of a layer, layers.N.linear.* of a stack"
    uses = frozenset({"window", "output_gate", "input_size", "zoneout", "batch_first"})

    def recognise(self, table: WeightTable) -> bool:
        """By ``linear.weight`` or ``layers.N.linear.weight`` and little else."""
        ours = table.matching(_ANY)
        return (
            bool(table.matching(_WEIGHT))
            and 2 * len(ours) > len(table.tensors)
            and not table.has_class("fastai.")
            and not table.matching(r"layers_bwd\..*")
        )

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """One reading for each input size that the shapes allow."""
        names = Names(table, self.name)
        paths = layer_paths(table, "layers")
        linears = [Linear.find(names, f"{path}." if path else "") for path in paths]
        names.refuse_the_rest()
        facts = Facts.of(table, paths, given, self.uses)
        stacks = possibilities(
            [linear.shape for linear in linears],
            input_size=facts.input_size,
            gates=facts.gates,
            windows=facts.windows,
        )
        assumed = [ZONEOUT] if facts.zoneout is None else []
        if facts.windows is None:  # its constructor gives all layers one window
            alike = [s for s in stacks if len(set(s.windows)) == 1] or stacks
            if len(alike) < len(stacks):
                assumed.append(ONE_WINDOW)
            stacks = alike
        if not stacks:
            shapes = [linear.shape for linear in linears]
            others = sorted(possibilities(shapes), key=lambda stack: len(set(stack.windows)))
            raise refuse(shapes, self.name, facts.said, others)
        single = paths == [""]
        if single and len(stacks) == 1:
            refuse_any_linear(table, given)
        zoneout = facts.zoneout
        return [
            Reading(
                stack_config(
                    stack,
                    single=single,
                    zoneout=zoneout or 0.0,
                    zoneout_eval="expectation" if zoneout else "identity",
                    batch_first=bool(given.batch_first),
                ),
                layer_tensors(linears, stack, single=single),
                inferred=inferred(stack) + facts.told,
                assumed=tuple(assumed),
                checks=(partial(stale_note, linears),),
                choice=choice(self.name, stack),
            )
            for stack in stacks
        ]


ONE_WINDOW = (
    "one window for all layers (--window K,K,...), as QRNN's constructor gives; layers that were "
    "made before and handed to it may differ"
)
