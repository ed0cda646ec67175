"""asappresearch/sru, branch 3.0.0-dev: ``sru.SRUpp``.

========== ==========================================================================
names      ``rnn_lst.N.{weight_c,bias,scale_x}``, optional ``layer_norm.*`` of a cell;
           ``rnn_lst.N.transform_module.*`` makes its gates:
           with attention ``linear1`` [P, in], ``linear2`` [2P, P] (keys, values),
           ``linear3`` [D*k, P], ``alpha`` [1] (later commits have none, and mean 1);
           without ``linear1`` [P, in] and ``linear2`` [D*k, P];
           optional ``transform_module.layer_norm.*`` [P] behind either
shapes     D = H * directions; k = 3, or 4 where a cell's input and output differ
rows       direction, channel, gate (fastest): z, f, r, [x]
attention  queries are scaled by 1/sqrt(P / heads); a mask that is added to the scores
           comes with each call, and with it whether the attention is causal
layout     time-major; states [levels, B, D]; a third result holds the cells' inputs
source     ``sru/modules.py`` of branch 3.0.0-dev
========== ==========================================================================

A cell always has a highway. The number of heads is recorded by a pickled module only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from ..errors import CheckpointError
from ._sru_cells import Level, Loads, Place, check_map, rows
from ._sru_facts import Flags, directions, number, shown_ways
from .given import Given
from .reading import Names, Reading, configuration
from .tables import WeightTable

_PART = "transform_module"
HEADS = "one head of attention (--heads N), upstream's default: the file does not record it"


@dataclass(frozen=True)
class _Transform:
    """The module that makes the gates of a cell.

    Attributes:
        path: with its dot.
        attention: whether it has attention.
        gates: name of the matrix [D*k, P] that gives the gates.
        inner: P.
        norm: whether it has a layer norm.
    """

    path: str
    attention: bool
    gates: str
    inner: int
    norm: bool

    @classmethod
    def find(cls, names: Names, cell: str, width: int) -> _Transform:
        """Take its tensors.

        Raises:
            CheckpointError: they are missing or do not fit together.
        """
        path = f"{cell}{_PART}."
        inner, columns = names.shape(names.take(f"{path}linear1.weight"), 2)
        if columns != width:
            names.expect(f"{path}linear1.weight", (inner, width))
        attention = f"{path}linear3.weight" in names.table.tensors
        if attention:
            names.expect(names.take(f"{path}linear2.weight"), (2 * inner, inner))
            if names.has(f"{path}alpha"):
                names.expect(f"{path}alpha", (1,))
        gates = names.take(f"{path}linear{3 if attention else 2}.weight")
        names.expect(gates, (names.shape(gates, 2)[0], inner))
        norm = names.has(f"{path}layer_norm.weight")
        if norm:
            names.expect(f"{path}layer_norm.weight", (inner,))
            names.expect(names.take(f"{path}layer_norm.bias"), (inner,))
        return cls(path, attention, gates, inner, norm)

    def tensors(self, table: WeightTable, entry: str) -> Loads:
        """Those of our ``SRUAttention`` under the name ``entry``, with its dot."""
        first = table.tensors[f"{self.path}linear1.weight"]
        loads: Loads = {f"{entry}query.weight": first.load}
        if self.attention:
            alpha = table.tensors.get(f"{self.path}alpha")
            loads[f"{entry}key_value.weight"] = table.tensors[f"{self.path}linear2.weight"].load
            loads[f"{entry}alpha"] = (
                partial(torch.ones, 1, dtype=first.dtype) if alpha is None else alpha.load
            )
        for kind in ("weight", "bias") if self.norm else ():
            loads[f"{entry}norm.{kind}"] = table.tensors[f"{self.path}layer_norm.{kind}"].load
        return loads


class SRUppFormat:
    """Stacks of SRU++."""

    name = "srupp"
    description = "asappresearch/sru 3.0.0-dev SRUpp: rnn_lst.N.transform_module.linear1"
    uses = frozenset(
        {
            *("input_size", "bidirectional", "batch_first", "rescale", "layer_norm"),
            *("causal", "heads"),
        }
    )

    def recognise(self, table: WeightTable) -> bool:
        """By the module that makes the gates."""
        return bool(table.matching(rf"(.+\.)?rnn_lst\.\d+\.{_PART}\.linear1\.weight"))

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """One reading for each number of directions, and with or without a causal mask."""
        place = Place.find(table)
        names = Names(place.table, self.name)
        maps = names.has("input_to_hidden.weight")
        first = f"{place.paths[0]}{_PART}.linear1.weight"
        width = names.shape(names.take(first), 2)[1]
        input_size = names.shape("input_to_hidden.weight", 2)[1] if maps else width
        if given.input_size not in (None, input_size):
            raise CheckpointError(
                f"its input size is {input_size}, and {given.input_size} was given: leave out "
                "--input-size"
            )
        levels, parts, gates = [], [], []
        for path in place.paths:
            parts.append(_Transform.find(names, path, width))
            levels.append(Level.find(names, path, width))
            gates.append(levels[-1].gates(place.table.shape(parts[-1].gates)[0]))
            width = levels[-1].output
        output = levels[0].output
        alike = {(part.inner, part.norm) for part in parts}
        if len(alike) > 1 or any(level.output != output for level in levels):
            raise CheckpointError(
                "its cells differ in size, or in whether they have transform_module.layer_norm, "
                "expected all alike"
            )
        if maps:
            check_map(names, levels[0], input_size)
        Names(
            WeightTable({n: t for n, t in place.table.tensors.items() if n.startswith("rnn_lst.")}),
            self.name,
            names.taken,
        ).refuse_the_rest()
        flags = Flags()
        flags.decide_rescale(place, levels, gates, given.rescale)
        flags.decide_norm(place, levels, given.layer_norm)
        attention = [part.attention for part in parts]
        heads = _heads(place, attention, given, flags)
        masks = [given.causal] if given.causal is not None or not any(attention) else [True, False]
        return [
            Reading(
                configuration(
                    "SRUpp",
                    input_size=input_size,
                    hidden_size=output // ways,
                    projection_size=parts[0].inner,
                    num_layers=len(levels),
                    attention=attention,
                    num_heads=heads,
                    causal=bool(causal),
                    bidirectional=ways == 2,
                    attention_norm=parts[0].norm,
                    layer_norm=flags.layer_norm,
                    rescale=flags.rescale,
                    input_to_hidden=maps,
                    highway_bias=number(place, "highway_bias", -2.0),
                    dropout=number(place, "dropout", 0.0),
                    batch_first=bool(given.batch_first),
                ),
                _tensors(place, levels, parts, gates, flags, ways, maps),
                inferred=(
                    f"{len(levels)} level{'s' if len(levels) > 1 else ''}, {sum(attention)} with "
                    f"attention, input size {input_size}, hidden size {output // ways}, inner size "
                    f"{parts[0].inner}",
                    "both directions" if ways == 2 else "one direction",
                    *((f"layer norm {flags.layer_norm}",) if flags.layer_norm != "none" else ()),
                ),
                assumed=tuple(flags.assumed),
                notes=() if place.note is None else (place.note,),
                choice=(
                    f"--format {self.name} {'--causal' if causal else '--no-causal'} "
                    f"{shown_ways(ways, output)}"
                ),
            )
            for ways in directions(place, output, given)
            for causal in masks
        ]


def _heads(place: Place, attention: list[bool], given: Given, flags: Flags) -> int:
    """The number of heads, of the first level that has attention."""
    if not any(attention):
        return 1
    path = f"{place.modules[attention.index(True)]}.{_PART}"
    recorded = place.table.attribute(path, "num_heads")
    if isinstance(recorded, int) and not isinstance(recorded, bool):
        if given.heads not in (None, recorded):
            raise CheckpointError(
                f"records num_heads {recorded}, and {given.heads} was given: leave the option out"
            )
        return recorded
    if given.heads is None:
        flags.assumed.append(HEADS)
    return given.heads or 1


def _tensors(
    place: Place,
    levels: list[Level],
    parts: list[_Transform],
    gates: list[int],
    flags: Flags,
    ways: int,
    maps: bool,
) -> Loads:
    """The state dict of our stack."""
    table = place.table
    loads: Loads = {}
    if maps:
        loads["input_map.weight"] = table.tensors["input_to_hidden.weight"].load
    for index, (level, part) in enumerate(zip(levels, parts, strict=True)):
        layers = [f"layers.{index * ways + way}." for way in range(ways)]
        weight = table.tensors[part.gates]
        loads |= level.vectors(layers)
        if flags.layer_norm == "after":
            loads |= level.normed(f"norms.{index}.")
        for way, layer in enumerate(layers):
            loads[f"{layer}weight"] = rows(weight, ways, way, gates[index], transposed=True)
            loads |= part.tensors(table, f"{layer}entry.")
            if flags.layer_norm == "before":
                loads |= level.normed(f"{layer}entry.outer_norm.")
            if flags.rescale and level.width == level.output:
                loads[f"{layer}skip_scale"] = level.skip_scale(weight.dtype)
    return loads
