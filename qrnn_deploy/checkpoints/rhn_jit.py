"""vermaMachineLearning/Pytorch-JIT-Recurrent-Highway-Network: ``RHN``.

========== ==========================================================================
names      ``rhncell.input_fc.*``, ``rhncell.first_fc_layer.*``, ``rhncell.fc_layers.N.*``
           (d = N + 1), ``output_fc.*``, each ``weight`` and ``bias``
shapes     [2H, in]; [2H, H]; [H, H] for ``output_fc``, a linear map of every state
rows       the candidate (tanh), then the transform gate (sigmoid); the carry gate is 1 - t
biases     two add at d = 0: of ``input_fc`` and of ``first_fc_layer``
layout     batch first [B, T, in]; the caller must give the initial state [B, H], and gets no
           final one
dropout    on t in training alone
source     ``jit_recurrent_highway_network.py``, fc2278e
========== ==========================================================================
"""

from __future__ import annotations

from ._rhn import Level, check_types, inferred, layer_tensors, maps_of, rows_of
from .given import Given
from .reading import Names, Reading, configuration
from .tables import WeightTable

_ANY = r"rhncell\.(input_fc|first_fc_layer|fc_layers\.(\d{1,4}))\.(weight|bias)"

ZERO_STATE = (
    "a sequence starts at a state of zeros: upstream's forward() takes the state from its caller"
)


class JitRHN:
    """Models of the JIT port."""

    name = "rhn-jit"
    description = (
        "Pytorch-JIT-Recurrent-Highway-Network: rhncell.{input_fc,first_fc_layer}, output_fc"
    )
    uses = frozenset({"batch_first"})

    def recognise(self, table: WeightTable) -> bool:
        """By the names of its cell, and little else."""
        ours = table.matching(_ANY)
        return bool(ours) and 2 * len(ours) > len(table.tensors)

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading."""
        names = Names(table, self.name)
        weight, bias = (names.take(f"rhncell.input_fc.{kind}") for kind in ("weight", "bias"))
        hidden, width = rows_of(names, weight)
        names.expect(bias, (2 * hidden,))
        further = [int(m[2]) for m in table.matching(_ANY).values() if m[2] is not None]
        paths = [f"rhncell.fc_layers.{n}" for n in range(max(further, default=-1) + 1)]
        paths.insert(0, "rhncell.first_fc_layer")
        level = Level(
            width,
            hidden,
            len(paths),
            {
                "input_weight": table.tensors[weight].load,
                "input_bias": table.tensors[bias].load,
                **maps_of(names, paths, hidden),
            },
        )
        projection = {}
        for kind, shape in (("weight", (hidden, hidden)), ("bias", (hidden,))):
            name = names.take(f"output_fc.{kind}")
            names.expect(name, shape)
            projection[f"projection.{kind}"] = table.tensors[name].load
        names.refuse_the_rest()
        check_types(table, sorted(names.taken))
        return [
            Reading(
                configuration(
                    "RHN",
                    input_size=width,
                    hidden_size=[hidden],
                    depth=level.depth,
                    input_bias=True,
                    projection_size=hidden,
                    batch_first=given.batch_first is not False,
                ),
                {**layer_tensors([level]), **projection},
                inferred=(*inferred([level]), f"projection to {hidden}"),
                assumed=(ZERO_STATE,),
                choice=f"--format {self.name}",
            )
        ]
