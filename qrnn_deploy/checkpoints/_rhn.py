"""What the formats of recurrent highway networks share: one level's tensors, and whole stacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import CheckpointError
from .reading import Names
from .tables import WeightTable

Load = Callable[[], Tensor]


@dataclass(frozen=True)
class Level:
    """One recurrent highway layer of a file.

    Attributes:
        input_size: features that it reads.
        hidden_size: channels H.
        depth: highway layers D.
        tensors: by name in our :class:`~qrnn_deploy.nn.RHNLayer`, read when they are called.
    """

    input_size: int
    hidden_size: int
    depth: int
    tensors: Mapping[str, Load]


def rows_of(names: Names, input_weight: str) -> tuple[int, int]:
    """H and the input size from the map of the input [2H, in].

    Raises:
        CheckpointError: it has another rank, or its rows are no pair of blocks.
    """
    rows, width = names.shape(input_weight, 2)
    if rows % 2:
        raise CheckpointError(
            f"tensor {input_weight[:80]} has {rows} rows, expected an even number: H for the "
            "candidate and H for the transform gate"
        )
    return rows // 2, width


def maps_of(names: Names, paths: Sequence[str], hidden: int) -> dict[str, Load]:
    """``weight`` [D, 2H, H] and ``bias`` [D, 2H] of a layer from the linear maps at ``paths``.

    Raises:
        CheckpointError: a map is missing or has other sizes.
    """
    found: dict[str, list[str]] = {"weight": [], "bias": []}
    for path in paths:
        for kind, shape in (("weight", (2 * hidden, hidden)), ("bias", (2 * hidden,))):
            found[kind].append(names.take(f"{path}.{kind}"))
            names.expect(found[kind][-1], shape)
    return {kind: stacked(names.table, parts) for kind, parts in found.items()}


def stacked(table: WeightTable, names: Sequence[str]) -> Load:
    """Tensors of one shape along a new first axis, read when it is called."""
    return lambda: torch.stack([table.tensors[name].load() for name in names])


def check_types(table: WeightTable, names: Sequence[str]) -> None:
    """Check that tensors, which become parts of one, have one type.

    Raises:
        CheckpointError: they have not.
    """
    first = table.tensors[names[0]].dtype
    for name in names:
        if table.tensors[name].dtype != first:
            raise CheckpointError(
                f"tensor {name[:80]} is {table.tensors[name].dtype} and {names[0][:80]} is "
                f"{first}, expected one type for all"
            )


def check_chain(levels: Sequence[Level]) -> int:
    """Check that each level reads the one below and is as deep; the depth of all.

    Raises:
        CheckpointError: they do not fit together.
    """
    for number, (below, level) in enumerate(pairwise(levels), start=1):
        if level.input_size != below.hidden_size:
            raise CheckpointError(
                f"layer {number} reads {level.input_size} features, expected "
                f"{below.hidden_size}, those of the layer below"
            )
        if level.depth != below.depth:
            raise CheckpointError(
                f"layer {number} has depth {level.depth} and layer {number - 1} has "
                f"{below.depth}, expected one depth for all"
            )
    return levels[0].depth


def layer_tensors(levels: Sequence[Level], prefix: str = "") -> dict[str, Load]:
    """The state dict of our stack's ``layers``; ``prefix`` stands before them, with its dot."""
    return {
        f"{prefix}layers.{number}.{name}": load
        for number, level in enumerate(levels)
        for name, load in level.tensors.items()
    }


def inferred(levels: Sequence[Level]) -> tuple[str, ...]:
    """What the shapes told, in words."""
    hidden = "/".join(str(size) for size in sorted({level.hidden_size for level in levels}))
    return (
        f"{len(levels)} layer{'s' if len(levels) > 1 else ''}, input size "
        f"{levels[0].input_size}, hidden size {hidden}",
        f"depth {levels[0].depth}",
    )
