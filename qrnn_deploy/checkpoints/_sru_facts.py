"""What the shapes of an SRU checkpoint leave open, and who answers: the file, the user, or nobody.

A ``state_dict`` of asappresearch/sru records neither the number of directions (two of H channels
have the shapes of one of 2H) nor these flags of the constructor:

rescale          ``scale_x`` is always stored. A cell made with rescale stores another value than 1,
                 one made without stores 1, but a file may have been loaded into either.
has_skip_term    follows from shapes where a level's input and output differ; else it is open
normalize_after  follows from shapes where they differ
use_tanh         never follows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CheckpointError
from ._sru_cells import Level, Place
from .given import Given

IDENTITY = (
    "no activation of the state on its way out (--activation tanh): the file does not record it"
)
HIGHWAY = (
    "a highway, the level's input mixed into its output (--no-highway): the file does not record it"
)
RESCALED = (
    "scale_x applies (--no-rescale), since it is not 1: only a cell made with rescale stores such "
    "a value"
)
BEFORE = (
    "layer norm before the gates (--layer-norm after), upstream's default: the file does not "
    "record it"
)


@dataclass
class Flags:
    """What was decided for all levels of a stack.

    Attributes:
        highway, rescale, activation, layer_norm: as in :class:`qrnn_deploy.nn.SRU`.
        assumed: what nobody said, one sentence each.
    """

    highway: bool = True
    rescale: bool = False
    activation: str = "identity"
    layer_norm: str = "none"
    assumed: list[str] = field(default_factory=list)

    def decide_highway(
        self, place: Place, levels: Sequence[Level], gates: Sequence[int], given: bool | None
    ) -> None:
        """Whether there is one, in cells that may lack it.

        Args:
            place: the stack.
            levels: its cells.
            gates: blocks of each cell's weight.
            given: what the user said.

        Raises:
            CheckpointError: cells, or file and user, contradict each other.
        """
        said = place.said("has_skip_term", bool, given)
        shown = {
            count == 4
            for count, level in zip(gates, levels, strict=True)
            if level.width != level.output
        }
        scaled = any(level.scale not in (None, 1.0) for level in levels)
        if len(shown) > 1 or (shown and said not in (None, *shown)):
            raise CheckpointError(
                f"its cells have {', '.join(map(str, gates))} blocks of gates: expected 4 where "
                "input and output differ and there is a highway (has_skip_term, --highway), else 3"
            )
        if shown or said is not None:
            self.highway = said if said is not None else shown.pop()
        elif not scaled:  # a cell without the highway stores 1
            self.assumed.append(HIGHWAY)

    def decide_rescale(
        self, place: Place, levels: Sequence[Level], gates: Sequence[int], given: bool | None
    ) -> None:
        """Whether ``scale_x`` counts, once it is known whether there is a highway.

        Raises:
            CheckpointError: cells, or file and user, contradict each other.
        """
        said = place.said("rescale", bool, given)
        scaled = any(level.scale not in (None, 1.0) for level in levels)
        self.rescale = scaled if said is None else said
        used = self.highway and 3 in gates
        if said is None and scaled and used:
            self.assumed.append(RESCALED)

    def decide_norm(self, place: Place, levels: Sequence[Level], given: str | None) -> None:
        """Where the layer norms are, if there are any.

        Raises:
            CheckpointError: cells, or file and user, contradict each other.
        """
        norms = {level.norm is not None for level in levels}
        if len(norms) > 1:
            raise CheckpointError("some of its cells have a layer_norm, expected all or none")
        if norms == {False}:
            if given is not None:
                raise CheckpointError("has no layer_norm: leave out --layer-norm")
            return
        said = place.said("normalize_after", bool, None if given is None else given == "after")
        shown = {level.norm == level.output for level in levels if level.width != level.output}
        if len(shown) > 1 or (shown and said not in (None, *shown)):
            raise CheckpointError(
                "its layer norms have other sizes than those of one place, before the gates or "
                "behind the output (--layer-norm before, --layer-norm after)"
            )
        after = said if said is not None else shown.pop() if shown else None
        if after is None:
            self.assumed.append(BEFORE)
        self.layer_norm = "after" if after else "before"

    def decide_activation(self, place: Place, given: str | None) -> None:
        """Of cells that may have one: upstream's ``activation_type`` 0, 1 and 2.

        Raises:
            CheckpointError: it is another, or file and user contradict each other.
        """
        kinds = ("identity", "tanh", "relu")
        number = place.said("activation_type", int, None if given is None else kinds.index(given))
        if number is None:
            self.assumed.append(IDENTITY)
        elif not 0 <= number < len(kinds):
            raise CheckpointError(
                f"records activation_type {number}, expected 0 (none), 1 (tanh) or 2 (relu)"
            )
        else:
            self.activation = kinds[number]


def directions(place: Place, output: int, given: Given) -> list[int]:
    """The numbers of directions that are possible for D = ``output``.

    Raises:
        CheckpointError: two were said, and D is odd; or it contradicts what is recorded.
    """
    said = place.said("bidirectional", bool, given.bidirectional)
    if said and output % 2:
        raise CheckpointError(
            f"its cells give {output} features, an odd number, and two directions an even one: "
            "leave out --bidirectional"
        )
    hidden = place.said("hidden_size", int, None)
    if said is not None and hidden not in (None, output // (2 if said else 1)):
        raise CheckpointError(f"records hidden_size {hidden}, and its cells give {output} features")
    if said is not None:
        return [2 if said else 1]
    return [1] if output % 2 else [1, 2]


def shown_ways(ways: int, output: int) -> str:
    """The option that selects a number of directions, and what it means."""
    if ways == 2:
        return f"--bidirectional (hidden size {output // 2} in each direction)"
    return f"--one-directional (hidden size {output})"


def number(place: Place, name: str, fallback: float) -> float:
    """A recorded number of the first cell (later ones may differ in it), or ``fallback``."""
    value: Any = place.table.attribute(place.modules[0], name)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain else fallback
