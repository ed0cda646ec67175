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
from ..nn.layer import LayerState, QRNNLayer
from .memory import Meter
from .observed import first_line, named_output_leaves
from .ports import turn


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
        """Where set, each run leaves every layer's ``input``, ``lengths``, ``h``, ``c`` and ``x``
        in it (time-major), and the state it starts from, if any, as ``c0`` and ``x0``, by (layer
        index, name)."""

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
        with bound(lift):
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
            layer = self.module.get_submodule(meta.layers[entry.layer].name)
            assert isinstance(layer, QRNNLayer)
            states.append(part.to(layer.weight.dtype) if entry.kind == "x" else part)
        return states

    def _packed(self, states: dict[str, Tensor]) -> list[Tensor]:
        meta = self.metadata
        ordered = [states[entry.name] for entry in meta.states]
        if meta.state_mode != "packed" or not ordered:
            return ordered
        pooled = next(s for s, entry in zip(ordered, meta.states, strict=True) if entry.kind == "c")
        return [torch.cat([s.flatten(1).to(pooled.dtype) for s in ordered], dim=1)]


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
            identity(module.get_submodule(info.name)): info.index for info in metadata.layers
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
        self, layer: QRNNLayer, x: Tensor, state: LayerState | None, lengths: Tensor | None
    ) -> tuple[Tensor, LayerState | None, Tensor | None]:
        """See :meth:`Binding.enter`."""
        index = self.index[identity(layer)]
        if (index, "c") in self.given:
            window = self.given.get((index, "x"))
            state = LayerState(self.given[index, "c"], window)
        if lengths is None:
            lengths = self.lengths
        self._record(index, input=x, lengths=lengths)
        if state is not None:
            self._record(index, c0=state.c, x0=state.x)
        return self._tag(x, index, "input"), state, lengths

    def gates(self, layer: QRNNLayer, gates: Tensor) -> Tensor:
        """See :meth:`Binding.gates`."""
        return self._tag(gates, self.index[identity(layer)], "gates")

    def leave(self, layer: QRNNLayer, y: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """See :meth:`Binding.leave`."""
        index = self.index[identity(layer)]
        for kind, value in (("c", state.c), ("x", state.x)):
            if (index, kind) in self.names and value is not None:
                self.new_states[self.names[index, kind]] = value
        self._record(index, h=y, c=state.c, x=state.x)
        if self.meter is not None:
            self.meter.use(layer.weight.nbytes)
        return y, state

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
