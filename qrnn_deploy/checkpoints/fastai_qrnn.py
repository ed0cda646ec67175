"""fastai 1.0 and 2.0-2.3: ``QRNNLayer`` and ``QRNN`` on their own (``fastai.text.models.qrnn``).

========== ==========================================================================
names      ``linear.*`` (``QRNNLayer``); ``layers.N.linear.*`` and, in a bidirectional
           ``QRNN``, ``layers_bwd.N.linear.*``
shapes     [g*H, w*in] and [g*H]; g = 3, or 2 without output gate; w = 1 or 2
gate order z, f, o; f weights the candidate, as in torchqrnn
window 2   columns [x_t, x_{t-1}]; a backward layer pairs x_t with x_{t+1}; ``QRNN`` gives
           its first layer window 2 and the others 1, unless told otherwise
two ways   two stacks that know nothing of each other, joined behind the last layer;
           states in the order forward 0, backward 0, forward 1, ...
zoneout    without effect in eval mode
layout     batch first, unless told otherwise
source     ``fastai/text/models/qrnn.py``
========== ==========================================================================

The names are those of torchqrnn, and so are the numbers; only the first layer's window and what
zoneout means may differ.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..errors import CheckpointError
from ._linear import Linear, layer_tensors, stale_note
from ._stacks import (
    Facts,
    choice,
    inferred,
    layer_paths,
    one_of,
    recorded,
    refuse_any_linear,
    stack_config,
)
from .given import Given
from .layer_shapes import Stack, possibilities, refuse
from .reading import Names, Reading
from .tables import WeightTable

_WEIGHT = r"(layers\.(\d+)\.)?linear\.(module\.)?weight(_raw)?"
_ANY = r"(layers(_bwd)?\.\d+\.)?linear\.(module\.)?(weight|weight_raw|bias)"


class FastaiQRNN:
    """Layers and stacks of fastai."""

    name = "fastai-qrnn"
    description = "fastai 1.0, 2.0-2.3: QRNNLayer (linear.*) or QRNN (layers.N, layers_bwd.N)"
    uses = frozenset({"window", "output_gate", "input_size", "direction", "batch_first"})

    def recognise(self, table: WeightTable) -> bool:
        """By the names of its layers and little else."""
        ours = table.matching(_ANY)
        return (
            bool(table.matching(_WEIGHT))
            and 2 * len(ours) > len(table.tensors)
            and not table.has_class("torchqrnn.")
        )

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """One reading for each input size that the shapes allow."""
        names = Names(table, self.name)
        forward = layer_paths(table, "layers")
        single = forward == [""]
        two_ways = bool(table.matching(r"layers_bwd\..*"))
        backward = layer_paths(table, "layers_bwd") if two_ways else []
        paths = [path for pair in zip(forward, backward, strict=False) for path in pair] or forward
        if two_ways and len(forward) != len(backward):
            raise CheckpointError(
                f"has {len(forward)} layers and {len(backward)} layers_bwd, expected as many"
            )
        linears = [Linear.find(names, f"{path}." if path else "") for path in paths]
        names.refuse_the_rest()
        shapes = [linear.shape for linear in linears]
        if two_ways and shapes[::2] != shapes[1::2]:
            raise CheckpointError("its layers and layers_bwd differ in shape, expected the same")
        shapes = shapes[::2] if two_ways else shapes
        facts = Facts.of(table, forward, given, self.uses)
        stacks = [
            stack
            for stack in possibilities(
                shapes, input_size=facts.input_size, gates=facts.gates, windows=facts.windows
            )
            if facts.windows or _is_usual(stack)
        ]
        if not stacks:
            usual = [stack for stack in possibilities(shapes) if _is_usual(stack)]
            raise refuse(shapes, self.name, facts.said, usual)
        if single and len(stacks) == 1:
            refuse_any_linear(table, given)
        reverse = self._reverse(table, forward, given, two_ways)
        arguments: dict[str, Any] = {"batch_first": _batch_first(table, forward, given)}
        if not single:
            arguments |= {"bidirectional": two_ways, "join": "end" if two_ways else "level"}
        assumed = () if two_ways or reverse is not None else (FORWARD,)
        return [
            Reading(
                stack_config(stack, single=single, reverse=bool(reverse), **arguments),
                layer_tensors(linears, stack, single=single),
                inferred=inferred(stack) + (("both directions",) if two_ways else ()),
                assumed=assumed,
                checks=(partial(stale_note, linears),),
                choice=choice(self.name, stack),
            )
            for stack in stacks
        ]

    def _reverse(
        self, table: WeightTable, paths: list[str], given: Given, two_ways: bool
    ) -> bool | None:
        """Whether the layers walk backwards; None where nobody says."""
        if two_ways:
            if given.direction is not None:
                raise CheckpointError(
                    "has layers of both directions: leave out --direction, which is for "
                    "one-directional ones"
                )
            return None
        backward = one_of(recorded(table, paths, "backward"), "backward")
        if given.direction is None:
            return None if backward is None else bool(backward)
        if backward is not None and bool(backward) != given.reverse:
            raise CheckpointError("records another direction: leave out --direction")
        return given.reverse


FORWARD = (
    "direction forward (--direction reverse): the file does not record it. Layers of torchqrnn, "
    "which have the same names, know no other (--format torchqrnn, if they are)"
)


def _is_usual(stack: Stack) -> bool:
    """Windows as the constructor gives them: one for all, or 2 and then 1."""
    return len(set(stack.windows)) == 1 or (stack.windows[0] == 2 and set(stack.windows[1:]) == {1})


def _batch_first(table: WeightTable, paths: list[str], given: Given) -> bool:
    said = one_of(recorded(table, paths, "batch_first"), "batch_first")
    if given.batch_first is not None:
        return given.batch_first
    return True if said is None else bool(said)
