"""Streams in an engine: states in two device buffers that take turns, a CUDA graph for one step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import EngineError, InputError
from . import feeds
from .engine_context import Execution
from .engine_device import Buffer, Device, first_line
from .feeds import Array

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine import EngineSession

GraphChoice = Literal["auto", "require", "off"]


class CudaGraphWarning(UserWarning):
    """A step of one time step runs without a CUDA graph, and so slower than it could."""


class EngineMemory:
    """The states of ``batch_size`` streams on the GPU."""

    def __init__(self, session: EngineSession, batch_size: int) -> None:
        """Start all streams.

        Raises:
            InputError: memory does not hold the states.
        """
        self.session = session
        self.device = session.device.another()
        self._states: dict[str, tuple[Buffer, Buffer]] = {}
        for name, shape, dtype in feeds.state_inputs(session.metadata, batch_size):
            pair = self.device.buffer(shape, dtype), self.device.buffer(shape, dtype)
            self._states[name.removesuffix("_in")] = pair
        self._shared: dict[int, Execution] = {}

    def keeps(self, value: object) -> bool:
        """Tensors on the GPU."""
        return self.device.keeps(value)

    def plan(self, feed: Mapping[str, Any], sizes: Mapping[str, int]) -> EnginePlan:
        """A plan for chunks like ``feed``.

        A plan for one time step has a context of its own, since its CUDA graphs live as long as
        the context is left alone; the others share one for each profile.

        Raises:
            InputError: the shapes are outside the engine's profiles, or memory is short.
        """
        shapes = {name: tuple(value.shape) for name, value in feed.items()}
        for base, pair in self._states.items():
            shapes[f"{base}_in"] = tuple(pair[0].tensor.shape)
        profile = self.session.manifest.profile_for(shapes)
        one_step = self.session.cuda_graph != "off" and feeds.one_step(self.session.metadata, sizes)
        with cuda_errors(self.session.path), self.device.working() as stream:
            execution = None if one_step else self._shared.get(profile)
            if execution is None:
                execution = self.session.opened.execution(profile, stream, captured=one_step)
                if not one_step:
                    self._shared[profile] = execution
        return EnginePlan(
            self.session, self.device, execution, shapes, list(feed), self._states, one_step
        )

    def read(self, side: int, rows: Any) -> dict[str, Array]:
        """Copies of the states of some rows."""
        with cuda_errors(self.session.path), self.device.working():
            for pair in self._states.values():
                pair[side].download()
            self.device.wait()
        return {name: pair[side].array()[rows] for name, pair in self._states.items()}

    def write(self, side: int, rows: Any, states: Mapping[str, Array] | None) -> None:
        """Replace the states of some rows; None is the start of a sequence."""
        with cuda_errors(self.session.path), self.device.working():
            for name, pair in self._states.items():
                pair[side].write_rows(rows, None if states is None else states[name])
            self.device.wait()


class EnginePlan:
    """Buffers for chunks of one set of shapes, and how to run them.

    A step binds the states of one side as inputs and those of the other as outputs. With a graph,
    the first step of each side runs as it is and is then recorded; later ones replay it. After a
    recording that failed no plan of the session tries another.
    """

    def __init__(
        self,
        session: EngineSession,
        device: Device,
        execution: Execution,
        shapes: Mapping[str, tuple[int, ...]],
        feed_names: list[str],
        states: Mapping[str, tuple[Buffer, Buffer]],
        graph: bool,
    ) -> None:
        self._session = session
        self._device = device
        self._execution = execution
        self._shapes = shapes
        self._states = states
        execution.set_shapes(shapes)
        dtypes = {port.name: port.dtype for port in session.manifest.inputs}
        self._inputs = {name: device.buffer(shapes[name], dtypes[name]) for name in feed_names}
        self._outputs = {
            port.name: device.buffer(execution.shape(port.name), port.dtype)
            for port in session.manifest.outputs
            if port.name.removesuffix("_out") not in states
        }
        self.graphs: list[Callable[[], None] | None] = [None, None]
        self._wants_graph = graph

    def run(self, feed: Mapping[str, Any], side: int) -> dict[str, Any]:
        """One step from the states of ``side``.

        Returns:
            Arrays, or tensors where an input is one.

        Raises:
            EngineError: TensorRT or CUDA fail.
        """
        arrays = [isinstance(value, np.ndarray) for value in feed.values()]
        tensors = not all(arrays)
        result: dict[str, Any] = {}
        with cuda_errors(self._session.path), self._device.working() as stream:
            for name, buffer in self._inputs.items():
                buffer.upload(feed[name])
            self._advance(side, stream)
            for name, buffer in self._outputs.items():
                if tensors:
                    result[name] = self._device.returned(buffer)
                else:
                    buffer.download()
            if any(arrays):  # the host memory of an input is free to change from here on
                self._device.wait()
        return result or {name: buffer.array() for name, buffer in self._outputs.items()}

    def _advance(self, side: int, stream: int) -> None:
        graph = self.graphs[side]
        if graph is not None:
            graph()
            return
        records = self._wants_graph and not self._refused()
        self._bind(side)
        self._execution.enqueue(stream)
        if records:
            self._record(side, stream)

    def _bind(self, side: int) -> None:
        execution = self._execution
        execution.set_shapes(self._shapes)  # another plan may have used the context
        for buffers in (self._inputs, self._outputs):
            for name, buffer in buffers.items():
                execution.set_address(name, buffer.address)
        for base, pair in self._states.items():
            execution.set_address(f"{base}_in", pair[side].address)
            execution.set_address(f"{base}_out", pair[1 - side].address)

    def _record(self, side: int, stream: int) -> None:
        """Make the graph of the step that has just run, which TensorRT demands to have run."""
        reason = "TensorRT says that the engine cannot be captured"
        if self._execution.capturable(stream):
            try:
                self.graphs[side] = self._device.capture(lambda: self._execution.enqueue(stream))
                return
            except (RuntimeError, EngineError) as error:
                reason = first_line(error)
        self._session.graph_obstacle = reason
        self._refused()
        warnings.warn(
            f"{self._session.path}: no CUDA graph for one step ({reason}); this and later steps "
            "run without, it is not tried again",
            CudaGraphWarning,
            stacklevel=5,
        )

    def _refused(self) -> bool:
        """Whether a recording has failed before.

        Raises:
            EngineError: it has, and graphs are required.
        """
        reason = self._session.graph_obstacle
        if reason and self._session.cuda_graph == "require":
            raise EngineError(
                f"{self._session.path}: no CUDA graph for one step ({reason}): leave cuda_graph at "
                "'auto', or build another engine"
            )
        return bool(reason)


@contextmanager
def cuda_errors(path: object) -> Iterator[None]:
    """Tell an error of CUDA in one line."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise InputError(f"{path}: no GPU memory left ({first_line(error)})") from error
        raise EngineError(f"{path}: the GPU fails ({first_line(error)})") from error
