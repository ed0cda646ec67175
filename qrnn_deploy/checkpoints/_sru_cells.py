"""What the formats of asappresearch/sru share: cells by number, their columns, what is recorded.

Upstream keeps both directions of a level in one cell. Its vectors are [2, ways, H], its matrices
have columns (or rows, in SRU++) in the order way, channel, gate: the gate varies fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..nn.config import shorten
from ._stacks import one_of, recorded
from .reading import Names
from .tables import Lazy, WeightTable

CELL = r"rnn_lst\.(\d{1,4})\."

Loads = dict[str, Callable[[], Tensor]]


@dataclass(frozen=True)
class Place:
    """An SRU stack in a table, and what lies around it.

    Attributes:
        table: its weights, by the names of ``sru.SRU``.
        paths: of its cells in order, with their dots; one empty path for a lone cell.
        note: what else the file holds, or None.
    """

    table: WeightTable
    paths: list[str]
    note: str | None

    @property
    def modules(self) -> list[str]:
        """Paths of the cells without their dots, as attributes are kept."""
        return [path.removesuffix(".") for path in self.paths]

    @classmethod
    def find(cls, table: WeightTable) -> Place:
        """The one stack of a table, whatever module it is a part of.

        Raises:
            CheckpointError: there are several.
        """
        matches = table.matching(rf"((?:.+\.)?){CELL}.*").values()
        prefixes = sorted({match.group(1) for match in matches})
        if not prefixes:
            return cls(table, [""], None)
        if len(prefixes) > 1:
            places = ", ".join(prefix.removesuffix(".") or "the whole" for prefix in prefixes[:4])
            raise CheckpointError(
                f"holds SRU stacks in {len(prefixes)} places, {places}: build the model with its "
                "own code, load the weights, and export qrnn_deploy.convert(model)"
            )
        (prefix,) = prefixes
        inside = table.below(prefix)
        numbers = {int(match.group(1)) for match in inside.matching(rf"{CELL}.*").values()}
        others = sorted(
            {name.split(".")[0] for name in table.tensors if not _is_inside(name, prefix)}
        )
        note = None
        if others:
            note = (
                f"Only the SRU at {prefix.removesuffix('.')} was read; left out: "
                f"{', '.join(others[:4])}{', ...' if len(others) > 4 else ''}. "
                "For the whole network use qrnn_deploy.convert(model)."
            )
        return cls(inside, [f"rnn_lst.{number}." for number in range(max(numbers) + 1)], note)

    def said(self, name: str, kind: type, given: Any, below: str = "") -> Any:
        """What the file records of its cells, or the user said, or None.

        Args:
            name: the attribute.
            kind: its type.
            given: what the user said, or None.
            below: path of a part of each cell that has the attribute, with a dot before.

        Raises:
            CheckpointError: cells, or file and user, contradict each other.
        """
        paths = [f"{path}{below}".removeprefix(".") for path in self.modules]
        value = one_of(recorded(self.table, paths, name), name)
        number = isinstance(value, (int, float) if kind is float else kind)
        if value is not None and (not number or isinstance(value, bool) != (kind is bool)):
            raise CheckpointError(f"records {name} {shorten(value)}, which is no {kind.__name__}")
        if value is not None and given is not None and value != given:
            raise CheckpointError(
                f"records {name} {value}, and {given} was given: leave the option out"
            )
        return given if value is None else value


def _is_inside(name: str, prefix: str) -> bool:
    return name.startswith((f"{prefix}rnn_lst.", f"{prefix}input_to_hidden."))


def refuse_custom(table: WeightTable) -> None:
    """Check that the cells compute their gates themselves.

    Raises:
        CheckpointError: a module of the user's does.
    """
    custom = table.matching(r"(.+\.)?custom_m\..*")
    if custom:
        raise CheckpointError(
            f"has tensor {next(iter(custom))[:80]}: the gates of its SRU come from a module of its "
            "own (custom_m), which no format describes"
        )


@dataclass(frozen=True)
class Level:
    """One cell, without its weight.

    Attributes:
        names: of the table.
        path: of the cell, with its dot.
        width: features that it reads.
        output: D, features that it gives: H times the directions.
        norm: features of its layer norm, or None.
        scale: ``scale_x``, or None where the file has none.
    """

    names: Names
    path: str
    width: int
    output: int
    norm: int | None
    scale: float | None

    @classmethod
    def find(cls, names: Names, path: str, width: int) -> Level:
        """Take ``weight_c``, ``bias``, ``scale_x`` and ``layer_norm`` of a cell.

        Raises:
            CheckpointError: they are missing or do not fit together.
        """
        vector = names.take(f"{path}weight_c")
        (count,) = names.shape(vector, 1)
        if count % 2:
            raise CheckpointError(f"tensor {vector[:80]} has {count} elements, expected 2 times D")
        names.expect(names.take(f"{path}bias"), (count,))
        scale = norm = None
        if names.has(f"{path}scale_x"):
            names.expect(f"{path}scale_x", (1,))
            scale = float(names.table.tensors[f"{path}scale_x"].load())
        if names.has(f"{path}layer_norm.weight"):
            (norm,) = names.shape(f"{path}layer_norm.weight", 1)
            names.expect(names.take(f"{path}layer_norm.bias"), (norm,))
            if norm not in (width, count // 2):
                raise CheckpointError(
                    f"tensor {path[:60]}layer_norm.weight has {norm} elements, expected {width} or "
                    f"{count // 2}, the cell's input or output"
                )
        return cls(names, path, width, count // 2, norm, scale)

    def gates(self, columns: int) -> int:
        """How many blocks of D a matrix has in ``columns``: 3, or 4 with a block for the highway.

        Raises:
            CheckpointError: neither.
        """
        allowed = (3,) if self.width == self.output else (3, 4)
        if columns % self.output or columns // self.output not in allowed:
            counts = " or ".join(map(str, allowed))
            raise CheckpointError(
                f"the gates at {self.path or 'the cell'} have {columns} columns, expected {counts} "
                f"times {self.output}, half of its weight_c, with an input of {self.width}"
            )
        return columns // self.output

    def vectors(self, layers: Sequence[str]) -> Loads:
        """``weight_c`` and ``bias`` [2, H] of each direction; ``layers`` name them, with a dot."""
        loads: Loads = {}
        for kind in ("weight_c", "bias"):
            tensor = self.names.table.tensors[f"{self.path}{kind}"]
            for way, layer in enumerate(layers):
                loads[f"{layer}{kind}"] = _vector(tensor, len(layers), way)
        return loads

    def normed(self, place: str) -> Loads:
        """The layer norm under the name ``place``, with its dot; nothing where there is none."""
        if self.norm is None:
            return {}
        tensors = self.names.table.tensors
        return {
            f"{place}{kind}": tensors[f"{self.path}layer_norm.{kind}"].load
            for kind in ("weight", "bias")
        }

    def skip_scale(self, dtype: torch.dtype) -> Callable[[], Tensor]:
        """``scale_x`` [1], or 1 where the file has none."""
        scale = 1.0 if self.scale is None else self.scale
        return lambda: torch.tensor([scale], dtype=dtype)


def check_map(names: Names, first: Level, input_size: int) -> None:
    """The map before the first cell, which brings the input to the cells' width.

    Raises:
        CheckpointError: it does not fit the cell.
    """
    names.expect("input_to_hidden.weight", (first.output, input_size))
    if first.width != first.output:
        raise CheckpointError(
            f"its input_to_hidden gives {first.output} features, and the first cell reads "
            f"{first.width}, expected one number"
        )


def _vector(tensor: Lazy, ways: int, way: int) -> Callable[[], Tensor]:
    return lambda: tensor.load().reshape(2, ways, -1)[:, way].contiguous()


def rows(
    tensor: Lazy, ways: int, way: int, gates: int, *, transposed: bool
) -> Callable[[], Tensor]:
    """The weight of one direction [G*H, E], gate by gate.

    Args:
        tensor: [E, D*G] with columns way, channel, gate; or ``transposed``, [D*G, E].
        ways: directions in it.
        way: 0 or 1.
        gates: G.
        transposed: whether the gates are rows, as in nn.Linear.
    """

    def load() -> Tensor:
        matrix = tensor.load()
        matrix = matrix if transposed else matrix.t()
        inner = matrix.shape[1]
        blocks = matrix.reshape(ways, -1, gates, inner)[way]  # [H, G, E]
        return blocks.transpose(0, 1).reshape(-1, inner).contiguous()

    return load


def turned(tensor: Lazy) -> Callable[[], Tensor]:
    """A matrix transposed."""
    return lambda: tensor.load().t().contiguous()
