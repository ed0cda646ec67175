"""Streams through ONNX Runtime: chunks of any size, state carried inside, nothing copied twice."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import safetensors
import safetensors.numpy
from numpy.typing import ArrayLike

from ..errors import InputError
from ..metadata import LENGTHS, Metadata
from . import feeds
from .feeds import Array
from .session import Implementation, KernelChoice, Session, run_error

_FINGERPRINT = "qrnn_deploy_state"
_PLANS_KEPT = 16


class _Plan:
    """Buffers and bindings for one set of chunk shapes.

    ``bindings[p]`` reads the states of side p and writes those of side 1-p, so a step never
    copies a state. The arrays share their memory with the OrtValues bound beside them.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        inputs: dict[str, Array],
        outputs: dict[str, Array] | None,
        output_names: Sequence[str],
        states: Sequence[tuple[str, str, tuple[Any, Any]]],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.bindings = []
        for side in (0, 1):
            binding = session.io_binding()
            for name, array in inputs.items():
                binding.bind_ortvalue_input(name, _shared(array))
            for name in output_names:
                if outputs is None:  # a size that the metadata do not tell: the runtime allocates
                    binding.bind_output(name, "cpu")
                else:
                    binding.bind_ortvalue_output(name, _shared(outputs[name]))
            for in_name, out_name, sides in states:
                binding.bind_ortvalue_input(in_name, sides[side])
                binding.bind_ortvalue_output(out_name, sides[1 - side])
            self.bindings.append(binding)


class StreamingSession:
    """Independent streams, one per batch row, fed chunk by chunk.

    ``step(x)`` returns the outputs of the chunk and keeps the state; the results are those of the
    whole sequence, however it was cut (float32: equal within 1e-6).
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Session,
        batch_size: int = 1,
        *,
        kernel: KernelChoice = "auto",
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
    ) -> None:
        """Open ``batch_size`` streams at the start of their sequences.

        Args:
            model: a file or an open :class:`Session`, which several streams may share.
            batch_size: rows B.
            kernel: as for :class:`Session`.
            threads: as for :class:`Session`.
            providers: as for :class:`Session`.

        Raises:
            InputError: the file was exported without states, or ``batch_size`` is negative.
            ModelError: as for :class:`Session`.
        """
        if not isinstance(model, Session):
            model = Session(model, kernel=kernel, threads=threads, providers=providers)
        self.session = model
        meta = self.metadata
        if meta.state_mode == "none":
            raise InputError(
                f"{model.path} carries no state: expected a streaming file; export it with "
                "--states separate"
            )
        if batch_size < 0:
            raise InputError(f"batch_size is {batch_size}, expected 0 or more")
        self.batch_size = batch_size
        self._side = 0
        self._buffers: dict[str, tuple[Array, Array]] = {}
        self._states: list[tuple[str, str, tuple[Any, Any]]] = []
        for name, shape, dtype in feeds.state_inputs(meta, batch_size):
            pair = (np.zeros(shape, dtype), np.zeros(shape, dtype))
            base = name.removesuffix("_in")
            self._buffers[base] = pair
            self._states.append((name, f"{base}_out", (_shared(pair[0]), _shared(pair[1]))))
        self._plans: OrderedDict[Any, _Plan] = OrderedDict()
        self._only = meta.inputs[0] if len(meta.inputs) == 1 and not meta.ragged else None
        self._fast_dtype = np.dtype(meta.inputs[0].dtype)
        self._single_output = meta.outputs[0].name if len(meta.outputs) == 1 else None
        self._run = model.onnxruntime_session.run_with_iobinding

    @property
    def metadata(self) -> Metadata:
        """What the file says about itself."""
        return self.session.metadata

    @property
    def implementation(self) -> dict[str, Implementation]:
        """What runs each pooling node; see :class:`Session`."""
        return self.session.implementation

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
                other streams rest.

        Returns:
            The output [B, T, ...], or a dictionary where the model has several.

        Raises:
            InputError: a chunk does not fit; the streams stay as they were.
        """
        plan = None
        if self._only is not None and type(inputs) is np.ndarray and lengths is None:
            plan = self._plans.get(inputs.shape)
            if plan is not None and inputs.dtype == self._fast_dtype:
                np.copyto(plan.inputs[self._only.name], inputs)
            else:
                plan = None
        if plan is None:
            feed, sizes = self._checked(inputs, lengths)
            if sizes.get("time") == 0:
                return self._result(feeds.empty_outputs(self.metadata, sizes))
            plan = self._plan(feed, sizes)
            for name, array in plan.inputs.items():
                np.copyto(array, feed[name])
        binding = plan.bindings[self._side]
        try:
            self._run(binding)
        except Exception as error:
            raise run_error(error) from error
        self._side = 1 - self._side
        if plan.outputs is None:
            values = binding.copy_outputs_to_cpu()
            return self._result(
                {port.name: v for port, v in zip(self.metadata.outputs, values, strict=False)}
            )
        if self._single_output is not None:
            return plan.outputs[self._single_output].copy()
        return {name: array.copy() for name, array in plan.outputs.items()}

    def reset(self, rows: Sequence[int] | int | None = None) -> None:
        """Put all streams, or only those of ``rows``, back to the start of a sequence.

        Raises:
            InputError: a row is outside 0..B-1.
        """
        chosen = self._rows(rows)
        for pair in self._buffers.values():
            pair[self._side][chosen] = 0

    def save_state(self, rows: Sequence[int] | int | None = None) -> bytes:
        """The state of all streams, or of ``rows``, as bytes for :meth:`load_state`.

        The format is safetensors: it holds no code. It belongs to this model's weights.
        """
        chosen = self._rows(rows)
        arrays = {
            name: np.ascontiguousarray(pair[self._side][chosen])
            for name, pair in self._buffers.items()
        }
        metadata = {_FINGERPRINT: self._fingerprint()}
        return bytes(safetensors.numpy.save(arrays, metadata=metadata))

    def load_state(self, data: bytes, rows: Sequence[int] | int | None = None) -> None:
        """Continue from a saved state, in all streams or in ``rows``.

        Raises:
            InputError: the bytes are damaged, from another model, or for another number of rows.
        """
        chosen = self._rows(rows)
        arrays = self._read_state(data)
        for name, pair in self._buffers.items():
            wanted = pair[self._side][chosen]
            if arrays[name].shape != wanted.shape:
                raise InputError(
                    f"saved state {name!r} has shape {list(arrays[name].shape)}, expected "
                    f"{list(wanted.shape)}: give as many rows as were saved"
                )
        for name, pair in self._buffers.items():
            pair[self._side][chosen] = arrays[name]

    def _read_state(self, data: bytes) -> dict[str, Array]:
        try:
            header_size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + header_size])
            found = header.get("__metadata__", {}).get(_FINGERPRINT)
            arrays = safetensors.numpy.load(data)
        except (safetensors.SafetensorError, ValueError, AttributeError, TypeError) as error:
            raise InputError(
                f"the saved state is damaged ({type(error).__name__}): expected bytes from "
                "save_state()"
            ) from error
        if found != self._fingerprint():
            raise InputError(
                "the saved state belongs to another model or export: expected one saved with "
                f"{self.session.path.name} (same weights, dtype and state layout)"
            )
        for name, pair in self._buffers.items():
            if name not in arrays or arrays[name].dtype != pair[0].dtype:
                raise InputError(f"the saved state lacks {name!r} as {pair[0].dtype.name}")
        return arrays

    def _fingerprint(self) -> str:
        return f"{self.metadata.state_mode}:{self.metadata.state_fingerprint()}"

    def _rows(self, rows: Sequence[int] | int | None) -> Any:
        if rows is None:
            return slice(None)
        chosen = [rows] if isinstance(rows, (int, np.integer)) else list(rows)
        for row in chosen:
            if not 0 <= row < self.batch_size:
                raise InputError(
                    f"row {row} is outside the batch: expected 0..{self.batch_size - 1}"
                )
        return chosen

    def _checked(
        self, inputs: ArrayLike | Mapping[str, ArrayLike], lengths: ArrayLike | None
    ) -> tuple[dict[str, Array], dict[str, int]]:
        meta = self.metadata
        feed = feeds.as_named(meta, inputs)
        sizes = feeds.sizes_of(meta, feed)
        batch = sizes.get("batch", self.batch_size)
        if batch != self.batch_size:
            raise InputError(
                f"the chunk has {batch} rows, expected {self.batch_size}: one per stream"
            )
        unknown = sorted(set(feed) - {port.name for port in meta.inputs})
        if unknown:
            names = ", ".join(port.name for port in meta.inputs)
            raise InputError(f"unknown input {unknown[0]!r}: expected {names}")
        time = sizes.get("time", 0)
        if meta.ragged:
            given = np.full((batch,), time) if lengths is None else np.asarray(lengths)
            feed[LENGTHS] = feeds.check_lengths(given, batch, time)
        elif lengths is not None:
            raise InputError(
                f"{self.session.path} takes no lengths: export it with --lengths for ragged chunks"
            )
        return feed, sizes

    def _plan(self, feed: Mapping[str, Array], sizes: Mapping[str, int]) -> _Plan:
        key: Any = tuple(array.shape for array in feed.values())
        if self._only is not None:
            (key,) = key
        plan = self._plans.get(key)
        if plan is None:
            meta = self.metadata
            known = all(not isinstance(s, str) or s in sizes for p in meta.outputs for s in p.shape)
            outputs = None
            if known:
                outputs = {
                    port.name: np.empty(
                        [sizes[s] if isinstance(s, str) else s for s in port.shape], port.dtype
                    )
                    for port in meta.outputs
                }
            plan = _Plan(
                self.session.onnxruntime_session,
                {name: np.empty_like(array, order="C") for name, array in feed.items()},
                outputs,
                [port.name for port in meta.outputs],
                self._states,
            )
            self._plans[key] = plan
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return plan

    def _result(self, outputs: dict[str, Array]) -> Any:
        return outputs if self._single_output is None else outputs[self._single_output]


def _shared(array: Array) -> onnxruntime.OrtValue:
    """An OrtValue over the array's own memory (ONNX Runtime copies only for other devices)."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
