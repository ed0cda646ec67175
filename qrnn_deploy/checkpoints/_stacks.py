"""What formats with layers of torchqrnn's kind share: paths, recorded facts, configurations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..errors import CheckpointError
from ..nn.config import shorten
from .given import Given
from .layer_shapes import Stack
from .reading import configuration
from .tables import WeightTable

ZONEOUT = (
    "zoneout 0 (--zoneout P): the file does not record it, and the upstream code scales the "
    "forget gate by 1 - P also in eval mode"
)


class Facts:
    """What pickled modules record, and what the user said; the user may not contradict them.

    Attributes:
        windows, gates, input_size, zoneout: None where nobody says.
        told: what only the file says and no shape shows, one sentence each.
        said: in words, for messages.
    """

    def __init__(self) -> None:
        self.windows: tuple[int, ...] | None = None
        self.gates: int | None = None
        self.input_size: int | None = None
        self.zoneout: float | None = None
        self.told: tuple[str, ...] = ()
        self.said = ""

    @classmethod
    def of(
        cls, table: WeightTable, paths: Sequence[str], given: Given, uses: Collection[str]
    ) -> Facts:
        """Gather them for the layers at ``paths``, of a format with these ``uses``.

        Raises:
            CheckpointError: the layers, or file and user, contradict each other.
        """
        facts = cls()
        windows = _typed(recorded(table, paths, "window"), "window", int)
        facts.windows = tuple(windows) if windows else None
        facts.windows = _agree("window", facts.windows, given.windows(len(paths)))
        gate = one_of(
            _typed(recorded(table, paths, "output_gate"), "output_gate", bool), "output_gate"
        )
        gate = _agree("output_gate", gate, given.output_gate)
        facts.gates = None if gate is None else 3 if gate else 2
        zoneout = one_of(_typed(recorded(table, paths, "zoneout"), "zoneout", float), "zoneout")
        facts.zoneout = _agree("zoneout", zoneout, given.zoneout)
        if zoneout is not None and given.zoneout is None:
            facts.told = (f"zoneout {zoneout:g}, as the file records",)
        (size,) = _typed([table.attribute(paths[0], "input_size")], "input_size", int) or [None]
        facts.input_size = _agree("input_size", size, given.input_size)
        facts.said = ", ".join(f"{k} {v}" for k, v in given.said().items() if k in uses)
        return facts


def _typed(values: Sequence[Any], name: str, kind: type) -> list[Any]:
    """Recorded values, without those that are None, which must all be of ``kind``."""
    for value in values:
        number = isinstance(value, (int, float) if kind is float else kind)
        if value is not None and (not number or isinstance(value, bool) != (kind is bool)):
            raise CheckpointError(f"records {name} {shorten(value)}, which is no {kind.__name__}")
    return [value for value in values if value is not None]


def _agree(name: str, recorded_value: Any, said: Any) -> Any:
    if recorded_value is not None and said is not None and recorded_value != said:
        raise CheckpointError(
            f"records {name} {recorded_value}, and {said} was given: leave the option out"
        )
    return recorded_value if said is None else said


def layer_paths(table: WeightTable, container: str, part: str = "linear") -> list[str]:
    """Paths of the layers in order: ``layers.0``, ...; one empty path for a single layer.

    Args:
        table: the weights.
        container: name of the list of layers.
        part: name of what each layer has in it.

    Returns:
        Every number up to the largest; who takes the tensors misses those that are not there.
    """
    numbers = {
        int(match.group(1))
        for match in table.matching(rf"{container}\.(\d{{1,4}})\.{part}\..*").values()
    }
    return [f"{container}.{number}" for number in range(max(numbers) + 1)] if numbers else [""]


def stack_config(
    stack: Stack, *, single: bool = False, architecture: str = "QRNN", **arguments: Any
) -> dict[str, Any]:
    """The configuration of our ``QRNN`` or a kind of it, or of a ``QRNNLayer`` for one layer."""
    if single:
        return configuration(
            "QRNNLayer",
            input_size=stack.input_size,
            hidden_size=stack.hidden[0],
            window=stack.windows[0],
            pooling=stack.pooling,
            **arguments,
        )
    return configuration(
        architecture,
        input_size=stack.input_size,
        hidden_size=list(stack.hidden),
        window=list(stack.windows),
        pooling=stack.pooling,
        **arguments,
    )


def inferred(stack: Stack) -> tuple[str, ...]:
    """What the shapes told, in words."""
    hidden = sorted(set(stack.hidden))
    windows = sorted(set(stack.windows))
    return (
        f"{len(stack.hidden)} layer{'s' if len(stack.hidden) > 1 else ''}, input size "
        f"{stack.input_size}, hidden size {'/'.join(map(str, hidden))}",
        f"window {'/'.join(map(str, windows if len(windows) == 1 else stack.windows))}",
        "output gate (fo-pooling)" if stack.gates == 3 else "no output gate (f-pooling)",
    )


def choice(format_name: str, stack: Stack) -> str:
    """The options that select a possibility, and what it means."""
    return (
        f"--format {format_name} {stack.options()} (input size {stack.input_size}, hidden size "
        f"{stack.hidden[0]})"
    )


def recorded(table: WeightTable, paths: Sequence[str], name: str) -> list[Any]:
    """A plain attribute of several pickled layers; empty where the file holds no modules.

    Raises:
        CheckpointError: some have it and some have not.
    """
    values = [table.attribute(path, name) for path in paths]
    if all(value is None for value in values):
        return []
    if any(value is None for value in values):
        raise CheckpointError(f"some of its layers lack the attribute {name}")
    return values


def one_of(values: Sequence[Any], name: str) -> Any:
    """The one value that all layers have, or None where nothing is recorded.

    Raises:
        CheckpointError: they differ.
    """
    if len({repr(value) for value in values}) > 1:
        raise CheckpointError(
            f"its layers differ in {name} ({', '.join(map(str, values))}), expected one for all"
        )
    return values[0] if values else None


def refuse_any_linear(table: WeightTable, given: Given) -> None:
    """Check that somebody says that a lone linear map is a QRNN layer.

    Raises:
        CheckpointError: neither a pickled class nor the user does.
    """
    if not table.attributes and given.format is None and not given.said():
        raise CheckpointError(
            "holds the weight and bias of any linear map: if they are a QRNN layer, say so with "
            "--format torchqrnn or --format fastai-qrnn"
        )
