"""asappresearch/sru 2.x: ``sru.SRU``, or one ``sru.SRUCell``.

========== ==========================================================================
names      ``rnn_lst.N.{weight,weight_c,bias,scale_x}``; optional ``weight_proj``,
           ``layer_norm.{weight,bias}``, ``input_to_hidden.weight`` beside the list;
           a lone cell has the same names without ``rnn_lst.N``
shapes     weight [in, D*k] or, behind weight_proj [in, P], [P, D*k]; D = H * directions;
           weight_c, bias [2*D]; k = 3, or 4 where in and D differ and there is a highway
columns    direction, channel, gate (fastest): z, f, r, [x]; vectors: f and r, direction, channel
polarity   the paper's: f weights the previous state; h = r act(c) + (1 - r) x
norm       before the gates (the highway reads the plain x), or behind the output
layout     time-major; states [levels, B, D]
v1         weight_c is zero, and stored
source     ``sru/modules.py`` of 2.6.0
========== ==========================================================================

What the names and shapes leave open stands in :mod:`._sru_facts`. A whole pickled module records it
all.
"""

from __future__ import annotations

import torch

from ..errors import CheckpointError
from ._sru_cells import Level, Loads, Place, check_map, refuse_custom, rows, turned
from ._sru_facts import Flags, directions, number, shown_ways
from .given import Given
from .reading import Names, Reading, configuration
from .tables import WeightTable


class SRUFormat:
    """Stacks and cells of SRU."""

    name = "sru"
    description = "asappresearch/sru 2.x: rnn_lst.N.{weight,weight_c}, or those of one SRUCell"
    uses = frozenset(
        {
            *("input_size", "bidirectional", "batch_first", "activation", "highway", "rescale"),
            "layer_norm",
        }
    )

    def recognise(self, table: WeightTable) -> bool:
        """By the ``weight_c`` of numbered cells, or of one cell and little else."""
        if table.matching(r"(.+\.)?rnn_lst\.\d+\.weight_c"):
            return not table.matching(r"(.+\.)?rnn_lst\.\d+\.transform_module\..*")
        return {"weight", "weight_c", "bias"} <= table.tensors.keys() and len(table.tensors) <= 7

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """One reading for each number of directions that is possible."""
        refuse_custom(table)
        place = Place.find(table)
        names = Names(place.table, self.name)
        maps = names.has("input_to_hidden.weight")
        input_size, width = _entrance(names, place.paths[0], maps)
        if given.input_size not in (None, input_size):
            raise CheckpointError(
                f"its input size is {input_size}, and {given.input_size} was given: leave out "
                "--input-size"
            )
        levels: list[Level] = []
        gates, projections = [], []
        for path in place.paths:
            weight = names.take(f"{path}weight")
            inner, columns = names.shape(weight, 2)
            projection = 0
            if names.has(f"{path}weight_proj"):
                projection = inner
                names.expect(f"{path}weight_proj", (width, inner))
            elif inner != width:
                names.expect(weight, (width, columns))
            level = Level.find(names, path, width)
            if levels and level.output != levels[0].output:
                raise CheckpointError(
                    f"its cells give {levels[0].output} and {level.output} features, expected one "
                    "number"
                )
            levels.append(level)
            gates.append(level.gates(columns))
            projections.append(projection)
            width = level.output
        output = levels[0].output
        if maps:
            check_map(names, levels[0], input_size)
        _refuse_beside(names)
        flags = Flags()
        flags.decide_highway(place, levels, gates, given.highway)
        flags.decide_rescale(place, levels, gates, given.rescale)
        flags.decide_norm(place, levels, given.layer_norm)
        flags.decide_activation(place, given.activation)
        projection_size = _projection_size(levels, projections)
        return [
            Reading(
                configuration(
                    "SRU",
                    input_size=input_size,
                    hidden_size=output // ways,
                    num_layers=len(levels),
                    bidirectional=ways == 2,
                    highway=flags.highway,
                    rescale=flags.rescale,
                    activation=flags.activation,
                    projection_size=projection_size,
                    layer_norm=flags.layer_norm,
                    input_to_hidden=maps,
                    highway_bias=number(place, "highway_bias", 0.0),
                    v1=_is_v1(place, levels),
                    dropout=number(place, "dropout", 0.0),
                    input_dropout=number(place, "rnn_dropout", 0.0),
                    batch_first=bool(given.batch_first),
                ),
                _tensors(place, levels, gates, projections, flags, ways, maps),
                inferred=(
                    f"{len(levels)} level{'s' if len(levels) > 1 else ''}, input size "
                    f"{input_size}, hidden size {output // ways}",
                    "both directions" if ways == 2 else "one direction",
                    *((f"weights through {projection_size}",) if projection_size else ()),
                    *((f"layer norm {flags.layer_norm}",) if flags.layer_norm != "none" else ()),
                ),
                assumed=tuple(flags.assumed),
                notes=() if place.note is None else (place.note,),
                choice=f"--format {self.name} {shown_ways(ways, output)}",
            )
            for ways in directions(place, output, given)
        ]


def _entrance(names: Names, path: str, maps: bool) -> tuple[int, int]:
    """Features of the model's input, and of what the first cell reads."""
    projected = f"{path}weight_proj" in names.table.tensors
    first = f"{path}weight_proj" if projected else f"{path}weight"
    width = names.shape(names.take(first), 2)[0]
    return (names.shape("input_to_hidden.weight", 2)[1] if maps else width), width


def _refuse_beside(names: Names) -> None:
    """Other tensors inside of cells; those of a module around the stack are only noted."""
    inside = {
        name: tensor
        for name, tensor in names.table.tensors.items()
        if name.startswith("rnn_lst.") or "rnn_lst.0.weight_c" not in names.table.tensors
    }
    Names(WeightTable(inside), names.what, names.taken).refuse_the_rest()


def _projection_size(levels: list[Level], projections: list[int]) -> int:
    """The one inner size, which our stack has where upstream's has it.

    Raises:
        CheckpointError: the cells disagree.
    """
    size = max(projections)
    expected = [size if size < min(level.width, level.output) else 0 for level in levels]
    if projections != expected:
        raise CheckpointError(
            f"its cells have weight_proj of {', '.join(map(str, projections))} columns (0 for "
            "none), expected one number, in every cell with a larger input and output"
        )
    return size


def _is_v1(place: Place, levels: list[Level]) -> bool:
    """Whether the gates never see the state."""
    said = place.said("v1", bool, None)
    if said is not None:
        return bool(said)
    vectors = (place.table.tensors[f"{level.path}weight_c"].load() for level in levels)
    return not any(bool(torch.count_nonzero(vector)) for vector in vectors)


def _tensors(
    place: Place,
    levels: list[Level],
    gates: list[int],
    projections: list[int],
    flags: Flags,
    ways: int,
    maps: bool,
) -> Loads:
    """The state dict of our stack."""
    tensors = place.table.tensors
    loads: Loads = {}
    if maps:
        loads["input_map.weight"] = tensors["input_to_hidden.weight"].load
    for index, level in enumerate(levels):
        layers = [f"layers.{index * ways + way}." for way in range(ways)]
        weight = tensors[f"{level.path}weight"]
        loads |= level.vectors(layers)
        if flags.layer_norm == "after":
            loads |= level.normed(f"norms.{index}.")
        for way, layer in enumerate(layers):
            loads[f"{layer}weight"] = rows(weight, ways, way, gates[index], transposed=False)
            if flags.layer_norm == "before":
                loads |= level.normed(f"{layer}entry.norm.")
            if projections[index]:
                loads[f"{layer}entry.projection.weight"] = turned(
                    tensors[f"{level.path}weight_proj"]
                )
            if flags.rescale and flags.highway and level.width == level.output:
                loads[f"{layer}skip_scale"] = level.skip_scale(weight.dtype)
    return loads
