"""Streams in ONNX Runtime: states and chunks in bound memory, nothing copied twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from ..errors import InputError
from . import feeds
from .feeds import Array
from .session import run_error

if TYPE_CHECKING:
    from .session import Session


class OrtMemory:
    """The states of ``batch_size`` streams, in arrays that ONNX Runtime reads and writes."""

    def __init__(self, session: Session, batch_size: int) -> None:
        """Start all streams.

        Raises:
            InputError: memory does not hold the states.
        """
        self.session = session
        self._arrays: dict[str, tuple[Array, Array]] = {}
        self.bound: list[tuple[str, str, tuple[Any, Any]]] = []
        """Graph input, graph output and the OrtValues of both sides, of every state."""
        for name, shape, dtype in feeds.state_inputs(session.metadata, batch_size):
            try:
                pair = (np.zeros(shape, dtype), np.zeros(shape, dtype))
            except (MemoryError, ValueError) as error:
                raise InputError(
                    f"batch_size is {batch_size}: no memory for states {list(shape)}"
                ) from error
            base = name.removesuffix("_in")
            self._arrays[base] = pair
            self.bound.append((name, f"{base}_out", (_shared(pair[0]), _shared(pair[1]))))

    def keeps(self, value: object) -> bool:
        """Nothing but arrays."""
        return feeds.no_tensors(value)

    def plan(self, feed: Mapping[str, Array], sizes: Mapping[str, int]) -> OrtPlan:
        """A plan for chunks like ``feed``, whose symbolic sizes are ``sizes``.

        Raises:
            InputError: memory does not hold the outputs.
        """
        return OrtPlan(self, feed, sizes)

    def read(self, side: int, rows: Any) -> dict[str, Array]:
        """Copies of the states of some rows."""
        return {name: np.array(pair[side][rows]) for name, pair in self._arrays.items()}

    def write(self, side: int, rows: Any, states: Mapping[str, Array] | None) -> None:
        """Replace the states of some rows; None is the start of a sequence."""
        for name, pair in self._arrays.items():
            pair[side][rows] = 0 if states is None else states[name]


class OrtPlan:
    """Buffers and bindings for one set of chunk shapes.

    ``_bindings[p]`` reads the states of side p and writes those of side 1-p, so a step never
    copies a state. The arrays share their memory with the OrtValues bound beside them.
    """

    def __init__(
        self, memory: OrtMemory, feed: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> None:
        session = memory.session.onnxruntime_session
        ports = memory.session.metadata.outputs
        self._names = [port.name for port in ports]
        known = all(not isinstance(s, str) or s in sizes for port in ports for s in port.shape)
        try:
            outputs = {
                port.name: np.empty(
                    [sizes[s] if isinstance(s, str) else s for s in port.shape], port.dtype
                )
                for port in (ports if known else [])
            }
            self._inputs = {name: np.empty_like(array, order="C") for name, array in feed.items()}
        except (MemoryError, ValueError) as error:
            raise InputError(
                f"no memory for the outputs of chunks of size {dict(sizes)}"
            ) from error
        # A size that the metadata do not tell: the runtime allocates.
        self._outputs = outputs if known else None
        self._run = session.run_with_iobinding
        self._bindings = []
        for side in (0, 1):
            binding = session.io_binding()
            for name, array in self._inputs.items():
                binding.bind_ortvalue_input(name, _shared(array))
            for name in self._names:
                if self._outputs is None:
                    binding.bind_output(name, "cpu")
                else:
                    binding.bind_ortvalue_output(name, _shared(self._outputs[name]))
            for in_name, out_name, sides in memory.bound:
                binding.bind_ortvalue_input(in_name, sides[side])
                binding.bind_ortvalue_output(out_name, sides[1 - side])
            self._bindings.append(binding)

    def run(self, feed: Mapping[str, Array], side: int) -> dict[str, Array]:
        """One step from the states of ``side``.

        Raises:
            InputError: ONNX Runtime refuses it.
        """
        for name, array in self._inputs.items():
            np.copyto(array, feed[name])
        binding = self._bindings[side]
        try:
            self._run(binding)
        except Exception as error:
            raise run_error(error) from error
        if self._outputs is None:
            return dict(zip(self._names, binding.copy_outputs_to_cpu(), strict=False))
        return {name: array.copy() for name, array in self._outputs.items()}


def _shared(array: Array) -> onnxruntime.OrtValue:
    """An OrtValue over the array's own memory (ONNX Runtime copies only for other devices)."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
