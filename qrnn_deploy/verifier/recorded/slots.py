"""The names that the recording of a model may hold: its ports, and short ways to say its states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...metadata import LENGTHS, PACKED_INPUT, PACKED_OUTPUT, Metadata, PortInfo, StateEntry
from ...runtime.feeds import numpy_dtype
from ..running import Arrays

Array = NDArray[Any]

STACKED = STACKED_INPUT, STACKED_OUTPUT = "c_in", "c_out"
"""The pooling states of all layers in one array [L, B, H], as PyTorch code mostly keeps them."""

Role = Literal["input", "output", "start", "end"]


@dataclass(frozen=True)
class Slot:
    """What one name stands for.

    Attributes:
        role: ``input``, ``output``, or a state: before the first chunk (``start``) or after one
            (``end``).
        port: shape and type of the array, batch first.
        parts: the array by names of outputs and of states, each state [B, *shape].
    """

    role: Role
    port: PortInfo
    parts: Callable[[Array], Arrays]

    def unwrapped(self, array: Array) -> Array:
        """A state without the axis of size 1 that PyTorch keeps for layers, [1, B, H] -> [B, H]."""
        extra = array.ndim - len(self.port.shape)
        if self.role in ("start", "end") and extra == 1 and array.shape[0] == 1:
            array = array[0]
        elif extra == -1 and self.port.batch_axis == 1 and self.port.shape[0] == 1:
            array = array[None]  # c_in of a single layer
        return array


def slots_of(metadata: Metadata) -> dict[str, Slot]:
    """All names that a recording may hold, with what each stands for.

    States have the names of a ``separate`` export whatever the file's own way is, so that one
    recording serves every export of a model.
    """
    slots: dict[str, Slot] = {}
    for port in metadata.inputs:
        slots[port.name] = _alone("input", port)
    if metadata.ragged:
        slots[LENGTHS] = _alone("input", PortInfo(LENGTHS, "int64", ["batch"], 0, None))
    for port in metadata.outputs:
        slots[port.name] = _alone("output", port)
    states = _states(metadata, "start", STACKED_INPUT, PACKED_INPUT)
    states |= _states(metadata, "end", STACKED_OUTPUT, PACKED_OUTPUT)
    return slots | states | slots  # a port of the user's own comes first


def _alone(role: Role, port: PortInfo) -> Slot:
    return Slot(role, port, lambda array: {port.name: array})


def _states(
    metadata: Metadata, role: Literal["start", "end"], stacked: str, whole: str
) -> dict[str, Slot]:
    def name(state: StateEntry) -> str:
        return state.input if role == "start" else state.output

    def port(state: StateEntry) -> PortInfo:
        # The steps of a window state are steps of the sequence, so it has the sequence's layout.
        time_axis = 1 if state.kind == "x" else None
        return PortInfo(name(state), state.dtype, ["batch", *state.shape], 0, time_axis)

    def unstacked(array: Array) -> Arrays:
        return dict(zip(map(name, pooled), array, strict=True))

    def unpacked(array: Array) -> Arrays:
        return {
            name(state): array[:, state.offset :][:, : state.size].reshape(-1, *state.shape)
            for state in metadata.states
        }

    slots: dict[str, Slot] = {}
    pooled = [state for state in metadata.states if state.kind != "x"]
    if pooled and all(state.shape == pooled[0].shape for state in pooled):
        shape: list[int | str] = [len(pooled), "batch", *pooled[0].shape]
        slots[stacked] = Slot(role, PortInfo(stacked, pooled[0].dtype, shape, 1, None), unstacked)
    if metadata.state_mode == "packed":
        columns = PortInfo(whole, "float32", ["batch", metadata.packed_size], 0, None)
        slots[whole] = Slot(role, columns, unpacked)
    return slots | {name(state): _alone(role, port(state)) for state in metadata.states}


def graph_states(metadata: Metadata, given: Arrays, batch: int) -> Arrays:
    """State inputs of the graph [B, ...] from those of them that are given; the others are zero."""
    each = {
        state.input: given.get(
            state.input, np.zeros((batch, *state.shape), numpy_dtype(state.dtype))
        )
        for state in metadata.states
    }
    if metadata.state_mode != "packed":
        return each
    columns = [each[state.input].reshape(batch, state.size) for state in metadata.states]
    return {PACKED_INPUT: np.concatenate(columns, axis=1).astype(np.float32)}
