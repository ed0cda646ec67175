"""Streams: chunks of any size, state carried inside, nothing copied twice.

What is the same in every runtime stands here: checks, cuts, resets, saved states. Where the states
live and how a step runs is the model's :class:`StreamMemory`.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._metadata_check import shown
from ..errors import InputError
from ..metadata import LENGTHS, Metadata
from . import feeds, lateness, state_bytes
from .contract import listed
from .feeds import Array
from .stream_memory import Plan, StreamedModel

if TYPE_CHECKING:
    from .engine_plans import GraphChoice
    from .loading import KernelChoice

Rows = Sequence[int] | NDArray[np.integer[Any]] | int | None
"""Row numbers, one of them, or None for all."""

_PLANS_KEPT = 16


class StreamingSession:
    """Independent streams, one per batch row, fed chunk by chunk.

    ``step(x)`` returns the outputs of the chunk and keeps the state; the results are those of the
    whole sequence, however it was cut (float32: equal within 1e-6).
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | StreamedModel,
        batch_size: int = 1,
        *,
        kernel: KernelChoice = "auto",
        threads: int | None = None,
        device: str | None = None,
        providers: Sequence[Any] | None = None,
        cuda_graph: GraphChoice | None = None,
    ) -> None:
        """Open ``batch_size`` streams at the start of their sequences.

        Args:
            model: an ONNX file or an engine, or what ``open_model`` made of one, which several
                streams may share.
            batch_size: rows B.
            kernel: of an ONNX file, as for ``Session``.
            threads: likewise.
            device: likewise.
            providers: likewise.
            cuda_graph: whether a chunk of one time step runs as a CUDA graph: ``off``, ``auto`` or
                ``require``; default: that of ``Session`` or ``EngineSession``.

        Raises:
            InputError: ``model`` is neither, the file was exported without states, or
                ``batch_size`` is no number of rows, or more than memory holds.
            ModelError: as for ``Session``.
            EngineError: as for ``EngineSession``.
        """
        if not isinstance(model, (str, os.PathLike)) and not hasattr(model, "stream_memory"):
            raise InputError(
                f"model is {shown(model)}, expected the path of a file, or an open model"
            )
        if isinstance(model, (str, os.PathLike)):
            from .opening import open_model

            model = open_model(
                model,
                kernel=kernel,
                threads=threads,
                device=device,
                providers=providers,
                cuda_graph=cuda_graph,
            )
        self.session = model
        meta = self.metadata
        if meta.state_mode == "none":
            raise InputError(
                f"{model.path} carries no state: expected a streaming file; export it with "
                "--states separate"
            )
        whole = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
        if not whole or batch_size < 0:
            raise InputError(
                f"batch_size is {shown(batch_size)}, expected a whole number, 0 or more"
            )
        self.batch_size = int(batch_size)
        self._memory = model.stream_memory(self.batch_size)
        self._late = lateness.Lateness(self.batch_size, meta.delay) if meta.delay else None
        self._side = 0
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._only = meta.inputs[0].name if len(meta.inputs) == 1 and not meta.ragged else None
        self._fast_dtype = feeds.numpy_dtype(meta.inputs[0].dtype)
        self._single_output = meta.outputs[0].name if len(meta.outputs) == 1 else None

    @property
    def metadata(self) -> Metadata:
        """What the file says about itself."""
        return self.session.metadata

    @property
    def implementation(self) -> Mapping[str, str]:
        """What runs each pooling node; see :class:`Session`."""
        return self.session.implementation

    @property
    def delay(self) -> int:
        """Steps by which outputs are late; 0 without a :class:`~qrnn_deploy.nn.Delayed`."""
        return self.metadata.delay

    @property
    def invalid(self) -> NDArray[np.int64]:
        """How many outputs of the last answer, the leading ones, are not valid: [B].

        Those of the first ``delay`` steps of a stream answer to no input.
        """
        return np.zeros(self.batch_size, np.int64) if self._late is None else self._late.invalid

    def step(
        self,
        inputs: ArrayLike | Mapping[str, ArrayLike],
        *,
        lengths: ArrayLike | None = None,
    ) -> Any:
        """Feed the next chunk of every stream.

        Args:
            inputs: the input [B, T, ...] with any T, 0 included, or arrays by name.
            lengths: [B], how many of the T steps count in each row (ragged files only); the
                other streams rest. May stand among the named arrays as ``lengths`` instead.

        Returns:
            The output [B, T, ...], or a dictionary where the model has several.

        Raises:
            InputError: a chunk does not fit, or a stream has ended; the streams stay as they were.
        """
        plan = None
        feed: Mapping[str, Any]
        if self._only is not None and type(inputs) is np.ndarray and lengths is None:
            plan = self._plans.get(inputs.shape)
            if plan is not None and inputs.dtype == self._fast_dtype:
                feed = {self._only: inputs}
                self._plans.move_to_end(inputs.shape)
            else:
                plan = None
        if plan is None:
            feed, sizes = self._checked(inputs, lengths)
            if feeds.no_steps(self.metadata, sizes):
                if self._late is not None:
                    self._late.count(0)
                return self._result(feeds.empty_outputs(self.metadata, sizes, feed))
            plan = self._plan(feed, sizes)
        if self._late is not None:
            self._late.check(steps := self._steps(feed))
        outputs = plan.run(feed, self._side)
        self._side = 1 - self._side
        if self._late is not None:
            self._late.count(steps)
        return self._result(outputs)

    def flush(self, inputs: ArrayLike | Mapping[str, ArrayLike] | None = None) -> Any:
        """Bring out the last ``delay`` outputs of every stream, and end the streams.

        Args:
            inputs: the ``delay`` inputs that follow the sequences, as :meth:`step` takes them;
                None for the model's own padding.

        Returns:
            What :meth:`step` returns, of ``delay`` steps. A stream of fewer steps than that has
            not valid ones among them (:attr:`invalid`).

        Raises:
            InputError: the model has no delay or no padding of its own, ``inputs`` does not fit,
                or a stream has ended already.
        """
        if self._late is None:
            raise InputError(
                f"{self.session.path} has no delay, so all outputs are out: leave flush() away"
            )
        if inputs is None:
            inputs = lateness.padding_steps(self.metadata, self.batch_size)
        feed, _ = self._checked(inputs, None)
        steps = {int(n) for n in np.atleast_1d(np.asarray(self._steps(feed)))}
        if self.batch_size and steps != {self.delay}:
            raise InputError(
                f"flush() got {max(steps)} steps, expected {self.delay}, the delay of the model"
            )
        result = self.step(inputs)
        self._late.end()
        return result

    def reset(self, rows: Rows = None) -> None:
        """Put all streams, or only those of ``rows``, back to the start of a sequence.

        Raises:
            InputError: a row is outside 0..B-1.
        """
        chosen = self._rows(rows)
        self._memory.write(self._side, chosen, None)
        if self._late is not None:
            self._late.write(chosen, None)

    def save_state(self, rows: Rows = None) -> bytes:
        """The state of all streams, or of ``rows``, as bytes for :meth:`load_state`.

        The format is safetensors: it holds no code. It belongs to this model's weights.
        """
        return state_bytes.pack(self._current(rows), state_bytes.fingerprint(self.metadata))

    def load_state(self, data: bytes, rows: Rows = None) -> None:
        """Continue from a saved state, in all streams or in ``rows``.

        Raises:
            InputError: the bytes are damaged, from another model, or for another number of rows.
        """
        arrays = state_bytes.unpack(
            data,
            state_bytes.fingerprint(self.metadata),
            self._current(rows),
            self.session.path.name,
        )
        chosen = self._rows(rows)
        if self._late is not None:
            self._late.write(chosen, arrays.pop(lateness.STATE))
        self._memory.write(self._side, chosen, arrays)

    def _current(self, rows: Rows) -> dict[str, Array]:
        chosen = self._rows(rows)
        arrays = self._memory.read(self._side, chosen)
        if self._late is not None:
            arrays[lateness.STATE] = self._late.read(chosen)
        return arrays

    def _steps(self, feed: Mapping[str, Any]) -> int | NDArray[np.int64]:
        """Steps of a checked feed: of all rows, or [B] where it has lengths."""
        if LENGTHS in feed:
            lengths: Any = feed[LENGTHS]
            return np.asarray(lengths if isinstance(lengths, np.ndarray) else lengths.cpu().numpy())
        return next(
            int(feed[port.name].shape[port.time_axis])
            for port in self.metadata.inputs
            if port.time_axis is not None
        )

    def _rows(self, rows: Rows) -> Any:
        if rows is None:
            return slice(None)
        listed = list(rows) if isinstance(rows, (Sequence, range)) else rows
        chosen = feeds.as_array("rows", listed)
        if chosen.size == 0 and chosen.ndim == 1:
            return []
        if chosen.dtype.kind not in "iu" or chosen.ndim > 1:
            raise InputError(f"rows is {shown(rows)}, expected a row number or a list of them")
        for row in (indices := [int(row) for row in chosen.reshape(-1)]):
            if not 0 <= row < self.batch_size:
                raise InputError(
                    f"row {row} is outside the batch: expected 0..{self.batch_size - 1}"
                )
        return indices

    def _checked(
        self, inputs: ArrayLike | Mapping[str, ArrayLike], lengths: ArrayLike | None
    ) -> tuple[dict[str, Any], dict[str, int]]:
        meta = self.metadata
        feed = feeds.as_named(meta, inputs, self._memory.keeps)
        sizes = feeds.sizes_of(meta, feed)
        batch = sizes.get("batch", self.batch_size)
        if batch != self.batch_size:
            raise InputError(
                f"the chunk has {batch} rows, expected {self.batch_size}: one per stream"
            )
        if meta.ragged and LENGTHS in feed:
            if lengths is not None:
                raise InputError("lengths is given twice: expected it once, in inputs or beside")
            lengths = feed.pop(LENGTHS)
        unknown = sorted(set(feed) - {port.name for port in meta.inputs})
        if unknown:
            names = listed(port.name for port in meta.inputs)
            raise InputError(f"unknown input {shown(unknown[0])}: expected {names}")
        ordered = {port.name: feed[port.name] for port in meta.inputs}
        time = sizes.get("time", 0)
        if meta.ragged:
            if lengths is None:
                lengths = np.full((batch,), time)
            given = feeds.as_array(LENGTHS, lengths, self._memory.keeps)
            ordered[LENGTHS] = feeds.check_lengths(given, batch, time)
        elif lengths is not None:
            raise InputError(
                f"{self.session.path} takes no lengths: export it with --lengths for ragged chunks"
            )
        return ordered, sizes

    def _plan(self, feed: Mapping[str, Any], sizes: Mapping[str, int]) -> Plan:
        # Shapes in the order of the metadata; the fast path knows a single one bare.
        shapes = tuple(tuple(value.shape) for value in feed.values())
        key: Any = shapes if self._only is None else shapes[0]
        plan = self._plans.get(key)
        if plan is None:
            plan = self._memory.plan(feed, sizes)
            self._plans[key] = plan
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return plan

    def _result(self, outputs: Mapping[str, Any]) -> Any:
        return outputs if self._single_output is None else outputs[self._single_output]
