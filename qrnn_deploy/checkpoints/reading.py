"""One way in which a file can be understood, and how to choose when there are several."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from ..nn.factory import ARCHITECTURES
from .tables import Lazy, WeightTable


@dataclass(frozen=True)
class Reading:
    """What a format makes of a file: enough to build the module, nothing read yet.

    Attributes:
        config: for :func:`qrnn_deploy.nn.from_config`; it need not be trustworthy.
        tensors: name in the module's state dict -> what gives the tensor, by a call or its
            ``load``.
        inferred: what followed from names and shapes, one sentence each.
        assumed: what the file does not record and nobody said, one sentence each.
        notes: what else a user should know, one sentence each.
        checks: what must be read to be known; each gives a note or None.
        choice: the options that select this reading among others, and what it means.
        format: name of the format; filled by the registry.
    """

    config: dict[str, Any]
    tensors: Mapping[str, Callable[[], Tensor] | Lazy]
    inferred: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[Callable[[], str | None], ...] = ()
    choice: str = ""
    format: str = ""

    def meaning(self) -> str:
        """Equal for two readings that compute the same numbers."""
        config = {key: value for key, value in self.config.items() if key not in _NO_MEANING}
        if config.get("zoneout_eval") == "identity":
            config.pop("zoneout", None)
        return json.dumps(config, sort_keys=True, default=str)


_NO_MEANING = ("batch_first", "dropout", "forget_bias", "vocabulary", "classes")
"""Arguments that change neither the numbers in eval mode nor their shapes."""


def configuration(architecture: str, **arguments: Any) -> dict[str, Any]:
    """A whole configuration: ``arguments``, and the class's defaults for the rest."""
    parameters = inspect.signature(ARCHITECTURES[architecture]).parameters
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in ("device", "dtype")
    }
    config = {"architecture": architecture} | defaults | arguments
    if config.get("num_layers", 0) is None:
        config["num_layers"] = len(config["hidden_size"])
    return config


MAX_COMPARED = 1000
MAX_NAME = 200
"""Names, and characters of a name, that are looked through for the nearest: it takes a while."""


@dataclass
class Names:
    """The tensors of a table, and which of them the model has taken.

    Args:
        table: the weights.
        what: the format, for messages.
    """

    table: WeightTable
    what: str
    taken: set[str] = field(default_factory=set)

    def take(self, *alternatives: str) -> str:
        """The first of the names that is there.

        Raises:
            CheckpointError: none is; it names the nearest match.
        """
        for name in alternatives:
            if name in self.table.tensors:
                self.taken.add(name)
                return name
        wanted = alternatives[0]
        raise CheckpointError(
            f"lacks tensor {wanted} of the format {self.what}{self._nearest(wanted)}"
        )

    def has(self, name: str) -> bool:
        """Whether a tensor is there; it is taken if so."""
        if name in self.table.tensors:
            self.taken.add(name)
            return True
        return False

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """The sizes of a tensor that must have ``rank`` axes, none of them empty.

        Raises:
            CheckpointError: it has others.
        """
        shape = self.table.shape(name)
        if len(shape) != rank or 0 in shape:
            raise CheckpointError(
                f"tensor {name[:80]} has shape {list(shape)}, expected {rank} sizes above 0"
            )
        return shape

    def expect(self, name: str, shape: Sequence[int]) -> None:
        """Check the sizes of a tensor.

        Raises:
            CheckpointError: they are others.
        """
        if self.table.shape(name) != tuple(shape):
            raise CheckpointError(
                f"tensor {name[:80]} has shape {list(self.table.shape(name))}, expected "
                f"{list(shape)} beside the others"
            )

    def floating(self, *names: str) -> None:
        """Check that tensors hold numbers that can be negated.

        Raises:
            CheckpointError: one does not.
        """
        for name in names:
            dtype = self.table.tensors[name].dtype
            if not dtype.is_floating_point:
                raise CheckpointError(
                    f"tensor {name[:80]} is {dtype}, expected float32, float16, bfloat16 or float64"
                )

    def refuse_the_rest(self) -> None:
        """Check that nothing is left.

        Raises:
            CheckpointError: a tensor belongs to nothing; it names the nearest that does.
        """
        extra = sorted(set(self.table.tensors) - self.taken)
        if extra:
            taken = sorted(self.taken)[:MAX_COMPARED]
            near = difflib.get_close_matches(extra[0][:MAX_NAME], taken, 1, 0.6)
            more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
            raise CheckpointError(
                f"has tensor {extra[0][:80]}{more} that the format {self.what} does not have"
                + (f" (the nearest that it has is {near[0][:80]})" if near else "")
                + ": leave it out of the file, or, if it belongs to a network of your own around "
                "such layers, export qrnn_deploy.convert(model)"
            )

    def _nearest(self, wanted: str) -> str:
        free = sorted(set(self.table.tensors) - self.taken)[:MAX_COMPARED]
        free = [name for name in free if len(name) < MAX_NAME]
        beside = [name for name in free if name.startswith(wanted.rpartition(".")[0])]
        near = difflib.get_close_matches(wanted, beside, 1, 0.6) or difflib.get_close_matches(
            wanted, free, 1, 0.6
        )
        return f"; the nearest name in it is {near[0][:80]}" if near else ""


def choose(readings: Sequence[Reading]) -> Reading:
    """The one reading, or the first of several that mean the same.

    Raises:
        CheckpointError: they differ; it lists them with what selects each.
    """
    distinct: dict[str, Reading] = {}
    for reading in readings:
        distinct.setdefault(reading.meaning(), reading)
    if len(distinct) == 1:
        assumed = dict.fromkeys(text for reading in readings for text in reading.assumed)
        return replace(readings[0], assumed=tuple(assumed))
    shown = "; ".join(f"{r.choice}" for r in list(distinct.values())[:6])
    more = f"; and {len(distinct) - 6} more" if len(distinct) > 6 else ""
    raise CheckpointError(
        f"can be read in {len(distinct)} ways, and the file does not say which: {shown}{more}: "
        "give the options of the right one"
    )
