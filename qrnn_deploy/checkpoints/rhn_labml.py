"""labml_nn.recurrent_highway_networks: ``RHN``, or one ``RHNCell``.

========== ==========================================================================
names      ``cells.L.input_lin.weight``, ``cells.L.hidden_lin.d.{weight,bias}``; without
           ``cells.L.`` for a cell alone
shapes     [2H, in] without bias; [2H, H] and [2H]
rows       the candidate (tanh), then the transform gate (sigmoid); the carry gate is 1 - t
input      enters at d = 0 alone
layout     time-major [T, B, in]; states [L, B, H]; each layer reads the one below at its step
source     ``labml_nn/recurrent_highway_networks/__init__.py``, labml-nn 0.5.1
========== ==========================================================================

Upstream's ``RHN.forward(x, state)`` raises TypeError where a state is given: it assigns to what
``torch.unbind`` returns, a tuple. Without one it starts at zeros, as a stream of ours does.
"""

from __future__ import annotations

from ._rhn import Level, check_chain, check_types, inferred, layer_tensors, maps_of, rows_of
from .given import Given
from .reading import Names, Reading, configuration
from .tables import WeightTable

_ANY = r"(cells\.(\d{1,4})\.)?(input_lin\.weight|hidden_lin\.(\d{1,4})\.(weight|bias))"


class LabmlRHN:
    """Stacks and cells of labml-nn."""

    name = "rhn-labml"
    description = "labml-nn RHN: cells.L.input_lin.weight, cells.L.hidden_lin.d.{weight,bias}"
    uses = frozenset({"batch_first"})

    def recognise(self, table: WeightTable) -> bool:
        """By its names, and little else."""
        ours = table.matching(_ANY)
        return bool(ours) and 2 * len(ours) > len(table.tensors)

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading."""
        names = Names(table, self.name)
        depths: dict[str, int] = {}
        for match in table.matching(_ANY).values():
            depth = 0 if match[4] is None else int(match[4]) + 1
            depths[match[2] or ""] = max(depth, depths.get(match[2] or "", 0))
        numbers = [int(number) for number in depths if number]
        cells = [str(number) for number in range(max(numbers) + 1)] if numbers else [""]
        levels = [
            _level(names, f"cells.{cell}." if cell else "", depths.get(cell, 0)) for cell in cells
        ]
        names.refuse_the_rest()
        check_types(table, sorted(names.taken))
        return [
            Reading(
                configuration(
                    "RHN",
                    input_size=levels[0].input_size,
                    hidden_size=[level.hidden_size for level in levels],
                    depth=check_chain(levels),
                    batch_first=bool(given.batch_first),
                ),
                layer_tensors(levels),
                inferred=inferred(levels),
                choice=f"--format {self.name}",
            )
        ]


def _level(names: Names, prefix: str, depth: int) -> Level:
    """The tensors of one cell.

    Raises:
        CheckpointError: one is missing or does not fit.
    """
    weight = names.take(f"{prefix}input_lin.weight")
    hidden, width = rows_of(names, weight)
    paths = [f"{prefix}hidden_lin.{d}" for d in range(max(depth, 1))]
    load = names.table.tensors[weight].load
    return Level(width, hidden, len(paths), {"input_weight": load, **maps_of(names, paths, hidden)})
