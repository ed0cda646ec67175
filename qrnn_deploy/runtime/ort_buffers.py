"""Memory that ONNX Runtime is given to read and write: arrays of the host, or of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import onnxruntime

from ..errors import InputError
from .feeds import Array

ALL = slice(None)


class Buffer(Protocol):
    """A tensor at a fixed address.

    Attributes:
        value: the OrtValue to bind.
    """

    value: onnxruntime.OrtValue

    def read(self, rows: Any = ALL) -> Array:
        """A copy of some rows (anything that indexes an axis)."""

    def write(self, array: Array) -> None:
        """Replace the whole."""

    def write_rows(self, rows: Any, array: Array | int) -> None:
        """Replace some rows."""


MakeBuffer = Callable[[tuple[int, ...], str], Buffer]
"""A buffer of zeros of a shape and NumPy dtype."""


class HostBuffer:
    """An array whose memory ONNX Runtime shares."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        """Allocate zeros."""
        self._array = np.zeros(shape, dtype)
        self.value = onnxruntime.OrtValue.ortvalue_from_numpy(self._array)

    def read(self, rows: Any = ALL) -> Array:
        """See :class:`Buffer`."""
        return np.array(self._array[rows])

    def write(self, array: Array) -> None:
        """See :class:`Buffer`."""
        np.copyto(self._array, array)

    def write_rows(self, rows: Any, array: Array | int) -> None:
        """See :class:`Buffer`."""
        self._array[rows] = array


class DeviceBuffer:
    """Memory of a device, which ONNX Runtime copies from and to. A copy is done on return."""

    def __init__(self, shape: tuple[int, ...], dtype: str, device: tuple[str, int]) -> None:
        """Allocate zeros on a device that ONNX Runtime knows by that name and number."""
        self.value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            list(shape), np.dtype(dtype), *device
        )
        self.write(np.zeros(shape, dtype))

    def read(self, rows: Any = ALL) -> Array:
        """See :class:`Buffer`."""
        array: Array = self.value.numpy()
        if rows is not ALL:
            return np.array(array[rows])
        return array if array.flags.owndata else array.copy()  # ONNX Runtime shares the host's own

    def write(self, array: Array) -> None:
        """See :class:`Buffer`."""
        self.value.update_inplace(np.ascontiguousarray(array))

    def write_rows(self, rows: Any, array: Array | int) -> None:
        """See :class:`Buffer`; the other rows make the way to the host and back."""
        whole = self.read()
        whole[rows] = array
        self.write(whole)


def buffers_on(device: tuple[str, int] | None) -> MakeBuffer:
    """How to make buffers on a device, by ONNX Runtime's name and number, or on the host."""
    if device is None:
        return HostBuffer
    return lambda shape, dtype: DeviceBuffer(shape, dtype, device)


def allocated(make: MakeBuffer, shape: tuple[int, ...], dtype: str, what: str) -> Buffer:
    """A new buffer.

    Raises:
        InputError: there is not enough memory for ``what``.
    """
    try:
        return make(shape, dtype)
    # ONNX Runtime says of its own devices what its exceptions say; all are RuntimeErrors.
    except (MemoryError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[-1].strip()[:160]
        raise InputError(f"no memory for {what} {list(shape)} ({reason})") from error
