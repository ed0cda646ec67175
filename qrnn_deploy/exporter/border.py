"""A model with everything at its border: inputs, lengths and states in; outputs and states out.

The exporter traces a :class:`Border`, the streaming check and ``verify`` run one, so all three
mean the same by "the model". A user's module inside needs to know nothing of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..metadata import Metadata
from ..nn.binding import Binding, bound
from ..nn.delayed import Delayed
from ..nn.recurrent import RecurrentLayer
from ..nn.standard import StandardLayer, lifted
from .layers import layer_at
from .memory import Meter
from .observed import first_line, named_output_leaves
from .ports import turn

EXTRA = "extra "
"""How the records of what a layer is given by keyword begin."""


class Border(nn.Module):
    """``forward(*inputs, [lengths], *states) -> (*outputs, *new_states)``, all batch first.

    Shapes and dtypes are those of ``metadata``; a packed state is one float32 [B, S]. In a
    double-precision copy (:func:`.double.in_double`) everything float is float64.
    """

    def __init__(
        self,
        module: nn.Module,
        metadata: Metadata,
        *,
        tagged: bool = False,
        meter: Meter | None = None,
    ) -> None:
        """Wrap ``module``.

        Args:
            module: the model.
            metadata: what to put at the border.
            tagged: mark the tensors that the graph pass is to name.
            meter: is told of each layer's weight when the layer is done.
        """
        super().__init__()
        self.module = module
        self.metadata = metadata
        self.tagged = tagged
        self.meter = meter
        self.records: dict[tuple[int, str], Tensor] | None = None
        """Where set, each run leaves every layer's ``input``, ``lengths`` and output ``y`` in it
        (time-major), its new state by kind, the state it starts from, if any, as ``c0`` and so on,
        and what it is given by keyword (:data:`EXTRA`), by (layer index, name)."""

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        """Run the module with its state lifted out; see the class."""
        meta = self.metadata
        count = len(meta.inputs)
        inputs = [
            turn(x, port.time_axis, meta.time_major)
            for port, x in zip(meta.inputs, flat, strict=False)
        ]
        lengths = flat[count] if meta.ragged else None
        lift = StateLift(self.module, meta, self._unpacked(flat[count + meta.ragged :]), lengths)
        lift.tagged = self.tagged
        lift.meter = self.meter
        lift.records = self.records
        with bound(lift), lifted(self.module):
            leaves = named_output_leaves(self._run(inputs))
        if len(leaves) != len(meta.outputs):
            raise ExportError(
                f"the model returned {len(leaves)} outputs: expected {len(meta.outputs)}, as on "
                "the example inputs"
            )
        outputs = [
            turn(y, port.time_axis, meta.time_major)
            for port, (_, y) in zip(meta.outputs, leaves, strict=True)
        ]
        return (*outputs, *self._packed(lift.new_states))

    def _run(self, inputs: Sequence[Tensor]) -> Any:
        try:
            return self.module(*inputs)
        except OSError as error:  # else it would read as one of our own files
            raise ExportError(f"the model fails to run ({first_line(error)})") from error

    def _unpacked(self, flat: Sequence[Tensor]) -> list[Tensor]:
        """The states in metadata order, each in the type its layer wants."""
        meta = self.metadata
        if meta.state_mode != "packed":
            return list(flat)
        (packed,) = flat
        states = []
        for entry in meta.states:
            part = packed[:, entry.offset : entry.offset + entry.size]
            part = part.reshape(-1, *entry.shape)
            layer = layer_at(self.module, meta.layers[entry.layer].name)
            kinds = {part.kind: part for part in layer.state_parts()}
            states.append(part.to(kinds[entry.kind].dtype(layer.storage)))
        return states

    def _packed(self, states: dict[str, Tensor]) -> list[Tensor]:
        meta = self.metadata
        ordered = [states[entry.name] for entry in meta.states]
        if meta.state_mode != "packed" or not ordered:
            return ordered
        widest = torch.float64 if ordered[0].dtype == torch.float64 else torch.float32
        return [torch.cat([s.flatten(1).to(widest) for s in ordered], dim=1)]


def identity(module: nn.Module) -> int:
    """A number that stands for ``module`` while it lives.

    Not its own id: for a module that can be reached by two names, torch.export passes stand-ins
    around, which share the module's parts.
    """
    return id(module._parameters)


class StateLift(Binding):
    """Gives each layer the state from the border and keeps the one that results."""

    tagged = False
    meter: Meter | None = None
    records: dict[tuple[int, str], Tensor] | None = None

    def __init__(
        self,
        module: nn.Module,
        metadata: Metadata,
        states: Sequence[Tensor],
        lengths: Tensor | None,
    ) -> None:
        """Take the states in the order of ``metadata.states``."""
        self.index = {
            identity(layer_at(module, info.name).owner): info.index for info in metadata.layers
        }
        self.given = {
            (entry.layer, entry.kind): state
            for entry, state in zip(metadata.states, states, strict=True)
        }
        self.names: dict[tuple[int, str], str] = {
            (entry.layer, entry.kind): entry.name for entry in metadata.states
        }
        self.lengths = lengths
        self.new_states: dict[str, Tensor] = {}

    def enter(
        self, layer: RecurrentLayer, x: Tensor, state: Any, lengths: Tensor | None
    ) -> tuple[Tensor, Any, Tensor | None]:
        """See :meth:`Binding.enter`."""
        index = self.index.get(identity(layer.owner))
        if index is None:  # an nn.LSTM that is called twice
            return x, state, lengths
        given: dict[str, Tensor] = {
            kind: part for (i, kind), part in self.given.items() if i == index
        }
        if given:
            state = layer.state_of(given)
        if lengths is None:
            lengths = self.lengths
        self._record(index, input=x, lengths=lengths)
        if state is not None:
            self._record(index, **{f"{kind}0": part for kind, part in state._asdict().items()})
        return self._tag(x, index, "input"), state, lengths

    def delayed(self, module: Delayed) -> bool:
        """See :meth:`Binding.delayed`."""
        return bool(self.given)

    def extra(self, layer: RecurrentLayer, extra: dict[str, Any]) -> None:
        """See :meth:`Binding.extra`."""
        index = self.index.get(identity(layer.owner))
        if index is not None:
            tensors = {f"{EXTRA}{k}": v for k, v in extra.items() if isinstance(v, Tensor)}
            self._record(index, **tensors)

    def gates(self, layer: RecurrentLayer, gates: Tensor) -> Tensor:
        """See :meth:`Binding.gates`."""
        return self._tag(gates, self.index[identity(layer.owner)], "gates")

    def leave(self, layer: RecurrentLayer, y: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See :meth:`Binding.leave`."""
        index = self.index.get(identity(layer.owner))
        if index is None:
            return y, state
        after = state._asdict()
        for kind, value in after.items():
            if (index, kind) in self.names and value is not None:
                self.new_states[self.names[index, kind]] = value
        self._record(index, y=y, **after)
        if self.meter is not None:
            self.meter.use(sum(p.nbytes for p in layer.owner.parameters(recurse=False)))
        standard = isinstance(layer, StandardLayer)
        return (self._tag(y, index, "h") if standard else y), state

    def _record(self, index: int, **tensors: Tensor | None) -> None:
        if self.records is not None:
            for name, tensor in tensors.items():
                if tensor is not None:
                    self.records[index, name] = tensor

    def _tag(self, x: Tensor, index: int, what: str) -> Tensor:
        if not self.tagged:
            return x
        from .translate import tag

        named: Tensor = tag(x, f"layer_{index:02d}_{what}")
        return named
