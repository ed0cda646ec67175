"""Streams in ONNX Runtime: states and chunks in bound memory, nothing copied twice."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import onnxruntime

from ..errors import QrnnDeployError
from . import feeds
from .feeds import Array
from .ort_buffers import ALL, Buffer, allocated, buffers_on
from .session import run_error

if TYPE_CHECKING:
    from .session import Session


class OrtMemory:
    """The states of ``batch_size`` streams, on the host or on a GPU, that a session reads."""

    def __init__(self, session: Session, batch_size: int) -> None:
        """Start all streams.

        Raises:
            InputError: memory does not hold the states.
        """
        self.session = session
        self.make_buffer = buffers_on(session.placement.memory)
        self._batch_size = batch_size
        self.states: dict[str, tuple[Buffer, Buffer]] = {}
        """Both sides of every state, by its name without ``_in`` or ``_out``."""
        for name, shape, dtype in feeds.state_inputs(session.metadata, batch_size):
            what = f"batch_size is {batch_size}: no memory for states"
            self.states[name.removesuffix("_in")] = (
                allocated(self.make_buffer, shape, dtype, what),
                allocated(self.make_buffer, shape, dtype, what),
            )
        self.write(0, ALL, None)

    def keeps(self, value: object) -> bool:
        """Nothing but arrays."""
        return feeds.no_tensors(value)

    def plan(self, feed: Mapping[str, Array], sizes: Mapping[str, int]) -> OrtPlan | CapturedPlan:
        """A plan for chunks like ``feed``, whose symbolic sizes are ``sizes``.

        Raises:
            InputError: memory does not hold the outputs.
            ModelError: CUDA graphs are required, and ONNX Runtime does not take the model for them.
        """
        plan = OrtPlan(self, self.session.onnxruntime_session, feed, sizes)
        if self.session.cuda_graph == "off" or not feeds.one_step(self.session.metadata, sizes):
            return plan
        try:
            captured = self.session.capturing({"batch": self._batch_size, **sizes})
        except QrnnDeployError as error:
            self.no_graph(error)
            return plan
        return CapturedPlan(self, OrtPlan(self, captured, feed, sizes, graphs=True), plan)

    def no_graph(self, error: QrnnDeployError) -> None:
        """Go on without a CUDA graph, or not where it is required."""
        if self.session.cuda_graph == "require":
            raise error
        from .engine_plans import CudaGraphWarning

        warnings.warn(
            f"{self.session.path}: no CUDA graph for one step ({error})",
            CudaGraphWarning,
            stacklevel=5,
        )

    def read(self, side: int, rows: Any) -> dict[str, Array]:
        """Copies of the states of some rows."""
        return {name: pair[side].read(rows) for name, pair in self.states.items()}

    def write(self, side: int, rows: Any, states: Mapping[str, Array] | None) -> None:
        """Replace the states of some rows; None is the start of a sequence."""
        for name, pair in self.states.items():
            pair[side].write_rows(rows, 0 if states is None else states[name])


class OrtPlan:
    """Buffers and bindings for one set of chunk shapes.

    ``_bindings[p]`` reads the states of side p and writes those of side 1-p, so a step never
    copies a state, and may be run again as long as nobody turned the sides.
    """

    def __init__(
        self,
        memory: OrtMemory,
        session: onnxruntime.InferenceSession,
        feed: Mapping[str, Array],
        sizes: Mapping[str, int],
        *,
        graphs: bool = False,
    ) -> None:
        """Allocate and bind.

        Args:
            memory: the states.
            session: what runs a step; its graph is that of the memory's session.
            feed: a chunk.
            sizes: its symbolic sizes.
            graphs: a step is recorded when it first runs, and replayed afterwards. Addresses
                become part of the record, so each side has a graph of its own.
        """
        ports = memory.session.metadata.outputs
        self._names = [port.name for port in ports]
        known = all(not isinstance(s, str) or s in sizes for port in ports for s in port.shape)
        what = f"chunks of size {dict(sizes)}: no memory for"
        self._inputs = {
            name: allocated(memory.make_buffer, array.shape, array.dtype.name, what)
            for name, array in feed.items()
        }
        outputs = {}
        for port in ports if known else []:
            shape = tuple(sizes[s] if isinstance(s, str) else s for s in port.shape)
            outputs[port.name] = allocated(memory.make_buffer, shape, port.dtype, what)
        # A size that the metadata do not tell: the runtime allocates.
        self._outputs = outputs if known else None
        self._run = session.run_with_iobinding
        self._turns: list[tuple[Any, Any]] = []
        for side in (0, 1):
            binding = session.io_binding()
            for name, buffer in self._inputs.items():
                binding.bind_ortvalue_input(name, buffer.value)
            for name in self._names:
                if self._outputs is None:
                    binding.bind_output(name, "cpu")
                else:
                    binding.bind_ortvalue_output(name, self._outputs[name].value)
            for name, pair in memory.states.items():
                binding.bind_ortvalue_input(f"{name}_in", pair[side].value)
                binding.bind_ortvalue_output(f"{name}_out", pair[1 - side].value)
            self._turns.append((binding, _graph_options(1 + side) if graphs else None))

    def run(self, feed: Mapping[str, Array], side: int) -> dict[str, Array]:
        """One step from the states of ``side``; an input that is not fed stays as it was.

        Raises:
            InputError: ONNX Runtime refuses it.
        """
        for name, array in feed.items():
            self._inputs[name].write(array)
        binding, options = self._turns[side]
        try:
            self._run(binding, options)
        except Exception as error:
            raise run_error(error) from error
        if self._outputs is None:
            return dict(zip(self._names, binding.copy_outputs_to_cpu(), strict=False))
        return {name: buffer.read() for name, buffer in self._outputs.items()}


class CapturedPlan:
    """A plan whose steps are CUDA graphs, and the ordinary one for where that fails."""

    def __init__(self, memory: OrtMemory, captured: OrtPlan, ordinary: OrtPlan) -> None:
        self._memory = memory
        self._captured: OrtPlan | None = captured
        self._ordinary = ordinary

    def run(self, feed: Mapping[str, Array], side: int) -> dict[str, Array]:
        """One step from the states of ``side``.

        Raises:
            InputError: ONNX Runtime refuses it, and CUDA graphs are required.
        """
        if self._captured is not None:
            try:
                return self._captured.run(feed, side)
            except QrnnDeployError as error:
                self._memory.no_graph(error)
                self._captured = None
        return self._ordinary.run(feed, side)


def _graph_options(number: int) -> onnxruntime.RunOptions:
    """Options of the runs that record and replay the graph of that number (0 is the runtime's)."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options
