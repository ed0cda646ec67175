"""How far streams are into the delay of their model (:class:`~qrnn_deploy.nn.Delayed`).

Of the first d steps of a stream the outputs are not valid: they answer to no input. After its last
input d steps of padding bring out the last d outputs; then the stream has ended.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..metadata import Metadata, PortInfo
from .feeds import numpy_dtype

STATE = "lateness"
"""Name of the saved form: float32 [B, 2], the steps met (at most d) and 1 where a stream ended."""


class Lateness:
    """The streams of one session.

    Args:
        batch_size: B.
        delay: d > 0.

    Attributes:
        invalid: [B] int64, how many of the outputs of the last answer, the leading ones, are not
            valid in each row.
    """

    def __init__(self, batch_size: int, delay: int) -> None:
        self.delay = delay
        self._met = np.zeros(batch_size, np.int64)  # never above the delay
        self._ended = np.zeros(batch_size, np.bool_)
        self.invalid = np.zeros(batch_size, np.int64)

    def check(self, steps: int | NDArray[np.int64]) -> None:
        """Refuse steps of a stream that has ended.

        Raises:
            InputError: there are some; the row is named.
        """
        wrong = self._ended & (np.asarray(steps) > 0)
        if wrong.any():
            raise InputError(
                f"stream {int(np.argmax(wrong))} has ended by flush(): reset() it before the next "
                "sequence"
            )

    def count(self, steps: int | NDArray[np.int64]) -> None:
        """Take note of an answer to so many steps, of all rows or [B]."""
        self.invalid = np.minimum(self.delay - self._met, steps)
        self._met = np.minimum(self._met + steps, self.delay)

    def end(self) -> None:
        """Take note that all streams have ended."""
        self._ended[:] = True

    def read(self, rows: Any) -> NDArray[np.float32]:
        """The saved form of some rows."""
        return np.stack([self._met[rows], self._ended[rows]], axis=-1).astype(np.float32)

    def write(self, rows: Any, saved: NDArray[np.float32] | None) -> None:
        """Continue from the saved form; None is the start of a sequence.

        Raises:
            InputError: it holds what :meth:`read` never gives.
        """
        if saved is None:
            saved = np.zeros((1, 2), np.float32)
        met, ended = saved[..., 0], saved[..., 1]
        whole = np.isin(ended, (0, 1)) & (met >= 0) & (met <= self.delay) & (met == np.round(met))
        if not whole.all():
            raise InputError(
                f"the saved state is damaged ({STATE} holds no number of steps): expected bytes "
                "from save_state()"
            )
        self._met[rows], self._ended[rows] = met.astype(np.int64), ended.astype(np.bool_)


def padding_steps(metadata: Metadata, batch_size: int) -> dict[str, NDArray[Any]]:
    """Inputs of the d further steps, by name.

    Raises:
        InputError: the model has no padding of its own, or an input beside those that vary in time.
    """
    if metadata.padding is None:
        raise InputError(
            f"the model has no padding of its own: give flush() the {metadata.delay} inputs that "
            "follow the sequence"
        )
    return {port.name: _padding(port, metadata, batch_size) for port in metadata.inputs}


def _padding(port: PortInfo, metadata: Metadata, batch_size: int) -> NDArray[Any]:
    if port.time_axis is None:
        raise InputError(
            f"input {port.name!r} has no time axis: give flush() all inputs of {metadata.delay} "
            "further steps by name"
        )
    shape = [batch_size if size == "batch" else size for size in port.shape]
    shape[port.time_axis] = metadata.delay
    return np.full([int(size) for size in shape], metadata.padding, numpy_dtype(port.dtype))
