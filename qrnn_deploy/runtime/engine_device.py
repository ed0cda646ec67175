"""The GPU as engines need it: buffers, copies, one stream, CUDA graphs. All of it is torch's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .._optional import require
from ..engines.gpu import Card
from ..errors import EngineError, InputError
from .feeds import Array

if TYPE_CHECKING:
    from torch import Tensor

_locks: dict[int, threading.Lock] = {}
"""One for each CUDA stream: torch hands out the same ones in turn, and what another thread enqueued
on a stream that is being captured would become part of the graph."""

_capturing = threading.Lock()
"""Beginning a capture waits for the whole device, which another capture would not survive."""


class Buffer:
    """Device memory of one input, output or state, and host memory beside it for arrays.

    Attributes:
        tensor: in device memory; its address stays.
    """

    def __init__(self, tensor: Tensor, pinned: bool) -> None:
        self.tensor = tensor
        self._pinned = pinned
        self._host: Tensor | None = None

    @property
    def address(self) -> int:
        """Device pointer."""
        return int(self.tensor.data_ptr())

    def upload(self, value: Any) -> None:
        """Enqueue a copy of an array or a tensor of this shape and type to the device."""
        if isinstance(value, np.ndarray):
            np.copyto(self._host_array(), value)
            value = self._host
        self.tensor.copy_(value.detach(), non_blocking=True)

    def write_rows(self, rows: Any, value: Array | None) -> None:
        """Enqueue a copy to some rows (anything that indexes an axis); None is zero."""
        if value is None:
            self.tensor[rows] = 0
        else:
            self.tensor[rows] = host_tensor(value).to(self.tensor.device)

    def download(self) -> None:
        """Enqueue a copy to the host, for :meth:`array`."""
        self._host_array()
        assert self._host is not None
        self._host.copy_(self.tensor, non_blocking=True)

    def array(self) -> Array:
        """What was downloaded, in memory of its own; the copy must have ended."""
        return np.array(self._host_array())

    def _host_array(self) -> Array:
        if self._host is None:
            import torch

            self._host = torch.empty(
                self.tensor.shape, dtype=self.tensor.dtype, pin_memory=self._pinned
            )
        return host_array(self._host)


class Device(Protocol):
    """What runs an engine's work; replaced in tests by a machine without a GPU.

    Attributes:
        card: the GPU that it is.
    """

    @property
    def card(self) -> Card:
        """See above."""

    def keeps(self, value: object) -> bool:
        """Whether ``value`` is a tensor that work on this device reads as it is."""

    def another(self) -> Device:
        """The same device with a stream of its own."""

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """A buffer of zeros. Not to be called within :meth:`working`.

        Raises:
            InputError: memory does not hold it.
        """

    def working(self) -> AbstractContextManager[int]:
        """Context in which work is enqueued; yields the stream's handle.

        The work runs after what the caller has enqueued so far, and before what comes later, also
        where the block ends in an error.
        """

    def wait(self) -> None:
        """Wait for all work enqueued so far."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work that ``work`` enqueues, without running it; returns what runs it.

        After a failure it must not be tried again: torch may believe for as long as the process
        lives that a capture is under way.
        """

    def returned(self, buffer: Buffer) -> Tensor:
        """A copy of the buffer for the caller to keep, enqueued like work."""


class CudaDevice:
    """A CUDA device of torch, with one stream for the work of engines.

    Attributes:
        card: the GPU that it is.
    """

    def __init__(self, device: int | None = None) -> None:
        """Take a stream.

        Args:
            device: its number in torch; default: the current one of this thread.

        Raises:
            MissingDependencyError: torch is not installed.
            EngineError: torch has no CUDA, or does not start it.
        """
        torch = require("torch", "running an engine")
        if torch.version.cuda is None:
            raise EngineError(
                f"running an engine needs torch with CUDA, here is {torch.__version__}: install a "
                "CUDA build of torch"
            )
        try:
            number = torch.cuda.current_device() if device is None else device
            self._device = torch.device("cuda", number)
            self._stream = torch.cuda.Stream(self._device)
            major, minor = torch.cuda.get_device_capability(self._device)
            self.card = Card(torch.cuda.get_device_name(self._device), f"sm{major}{minor}")
        except (RuntimeError, AssertionError) as error:
            raise EngineError(f"torch does not start CUDA ({first_line(error)})") from error
        self._torch = torch
        self._lock = _locks.setdefault(self._stream.cuda_stream, threading.Lock())

    def keeps(self, value: object) -> bool:
        """Whether ``value`` is a tensor on this GPU."""
        return isinstance(value, self._torch.Tensor) and value.device == self._device

    def another(self) -> CudaDevice:
        """The same GPU, whichever is current now, with a stream of its own."""
        return CudaDevice(self._device.index)

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """A buffer of zeros in GPU memory, which belongs to our stream: all its users run there."""
        torch = self._torch
        try:
            with self._lock, torch.cuda.stream(self._stream):
                tensor = torch.zeros(shape, dtype=getattr(torch, dtype), device=self._device)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            raise InputError(
                f"no GPU memory for {dtype} {list(shape)} ({first_line(error)})"
            ) from error
        return Buffer(tensor, pinned=True)

    @contextmanager
    def working(self) -> Iterator[int]:
        """Enqueue on our stream, between the caller's earlier and later work."""
        cuda = self._torch.cuda
        with self._lock:
            self._caller = cuda.current_stream(self._device)
            self._stream.wait_stream(self._caller)
            try:
                with cuda.stream(self._stream):
                    yield self._stream.cuda_stream
            finally:
                self._caller.wait_stream(self._stream)

    def wait(self) -> None:
        """Wait for our stream."""
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of ``work``, which must enqueue on our stream only."""
        graph = self._torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile; that is no error of this capture.
        with (
            _capturing,
            self._torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            work()
        replay: Callable[[], None] = graph.replay
        return replay

    def returned(self, buffer: Buffer) -> Tensor:
        """A copy of the buffer in memory of the caller's stream, on which it will be freed.

        No ``record_stream``: what bears that mark is never freed after a capture that failed in a
        torch whose allocator does not learn of its end (before PyTorch's change 180395).
        """
        with self._torch.cuda.stream(self._caller):
            copy: Tensor = self._torch.empty_like(buffer.tensor)
        self._stream.wait_stream(self._caller)  # whoever had that memory before may still read it
        copy.copy_(buffer.tensor, non_blocking=True)
        return copy


def host_tensor(array: Array) -> Tensor:
    """The memory of an array as a tensor on the host."""
    import torch

    whole = np.ascontiguousarray(array)
    if whole.dtype.name == "bfloat16":
        return torch.from_numpy(whole.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(whole)


def host_array(tensor: Tensor) -> Array:
    """The memory of a tensor on the host as an array; NumPy's bfloat16 is that of ml_dtypes."""
    import torch

    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return np.asarray(tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(tensor.numpy())


def first_line(error: BaseException) -> str:
    """The first line of an error, which may be long and many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
