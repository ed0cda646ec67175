"""The one linear map of an upstream QRNN layer: its tensors by any of their names.

Plain (``linear.weight``), or wrapped for weight dropout: awd-lstm-lm's WeightDrop keeps the
trained weight as ``linear.module.weight_raw``, fastai's WeightDropout as ``linear.weight_raw``.
Beside a ``weight_raw``, ``linear.module.weight`` is a copy that may have dropout applied, so it is
never used; where it differs, :func:`stale_note` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from .gates import paper_bias, paper_weight
from .layer_shapes import Stack
from .reading import Names
from .tables import WeightTable, same_numbers

_WEIGHTS = ("weight_raw", "module.weight_raw", "module.weight", "weight")
_BIASES = ("module.bias", "bias")


@dataclass(frozen=True)
class Linear:
    """Where the weight and the bias of one layer are.

    Attributes:
        table: the weights.
        weight: name of the trained weight [g*H, w*in].
        bias: name of the bias [g*H].
        copy: name of a copy of the weight that may be out of date, or None.
    """

    table: WeightTable
    weight: str
    bias: str
    copy: str | None = None

    @classmethod
    def find(cls, names: Names, prefix: str) -> Linear:
        """Take the tensors of ``PREFIX.linear``.

        Args:
            names: those of the table; what is found is marked as taken.
            prefix: path of the layer with its dot, or empty.

        Raises:
            CheckpointError: weight or bias is missing, or of another rank or size.
        """
        inner = f"{prefix}linear."
        weight = names.take(*_present(names, inner, _WEIGHTS))
        bias = names.take(*_present(names, inner, _BIASES))
        rows = names.shape(weight, 2)[0]
        names.expect(bias, (rows,))
        names.floating(weight, bias)
        copy = None
        for name in (f"{inner}module.weight", f"{inner}weight"):
            if name != weight and names.has(name):
                names.expect(name, names.table.shape(weight))
                copy = name
        return cls(names.table, weight, bias, copy)

    @property
    def shape(self) -> tuple[int, ...]:
        """[g*H, w*in]."""
        return self.table.shape(self.weight)

    def is_stale(self) -> bool:
        """Whether there is a copy and it is not the trained weight; reads both."""
        tensors = self.table.tensors
        return self.copy is not None and not same_numbers(tensors[self.weight], tensors[self.copy])

    def tensors(self, gates: int, window: int) -> dict[str, Callable[[], Tensor]]:
        """``weight`` and ``bias`` of our layer, read when they are called."""
        weight, bias = self.table.tensors[self.weight], self.table.tensors[self.bias]
        return {
            "weight": lambda: paper_weight(weight.load(), gates, window),
            "bias": lambda: paper_bias(bias.load(), gates),
        }


def _present(names: Names, inner: str, kinds: Sequence[str]) -> list[str]:
    """Those that are there, best first; else, for the message, the name that other layers use."""
    tensors = names.table.tensors
    found = [inner + kind for kind in kinds if inner + kind in tensors]
    used = (kind for kind in kinds if any(name.endswith(f"linear.{kind}") for name in tensors))
    return found or [inner + next(used, kinds[-1])]


def stale_note(linears: Sequence[Linear]) -> str | None:
    """One note on all copies that are not the trained weight."""
    stale = [linear for linear in linears if linear.is_stale()]
    if not stale:
        return None
    more = f" (and {len(stale) - 1} more)" if len(stale) > 1 else ""
    return (
        f"{stale[0].copy} differs from {stale[0].weight}{more}: an old copy with dropout applied, "
        "which was not used"
    )


def layer_tensors(
    linears: Sequence[Linear], stack: Stack, prefix: str = "", *, single: bool = False
) -> dict[str, Callable[[], Tensor]]:
    """The state dict of our stack's ``layers``, in the order of ``linears``.

    Args:
        linears: level by level, forward before reverse.
        stack: gates and windows, the windows by level.
        prefix: before ``layers``, with its dot.
        single: give the names of a single layer's state dict.
    """
    ways = len(linears) // len(stack.windows)
    result: dict[str, Callable[[], Tensor]] = {}
    for index, linear in enumerate(linears):
        parts = linear.tensors(stack.gates, stack.windows[index // ways])
        path = prefix if single else f"{prefix}layers.{index}."
        result |= {f"{path}{name}": load for name, load in parts.items()}
    return result
