"""Checks and defaults for what a user feeds, from the metadata alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._metadata_check import shown
from ..errors import InputError
from ..metadata import LENGTHS, PACKED_INPUT, Metadata, PortInfo
from .contract import listed

Array = NDArray[Any]

Keep = Callable[[object], bool]
"""Whether a runtime takes a value as it is (a tensor on its device), rather than as an array."""


def no_tensors(value: object) -> bool:
    """The :data:`Keep` of a runtime that takes arrays only."""
    return False


def as_named(
    metadata: Metadata,
    inputs: ArrayLike | Mapping[str, ArrayLike | None] | None,
    keep: Keep = no_tensors,
) -> dict[str, Any]:
    """Inputs by name; a single array is the model's only input, and None is no input."""
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        return {
            str(name): as_array(str(name), value, keep)
            for name, value in inputs.items()
            if value is not None
        }
    if len(metadata.inputs) != 1:
        names = listed(port.name for port in metadata.inputs)
        raise InputError(
            f"got one array for a model with inputs {names}: expected a dictionary of arrays"
        )
    name = metadata.inputs[0].name
    return {name: as_array(name, inputs, keep)}


def as_array(name: str, value: ArrayLike, keep: Keep = no_tensors) -> Any:
    """An array in this machine's byte order; ONNX Runtime reads any other as garbage.

    What ``keep`` accepts is returned as it is.

    Raises:
        InputError: ``value`` is no array, for example rows of unequal length.
    """
    if keep(value):
        return value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # torch raises RuntimeError
        reason = (str(error).splitlines() or [""])[0][:200]
        raise InputError(f"{shown(name)} is no array ({reason}): expected a NumPy array") from error
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def sizes_of(metadata: Metadata, feed: Mapping[str, Any]) -> dict[str, int]:
    """Check the model's inputs and return the symbolic sizes (batch, time, ...).

    Raises:
        InputError: an input is absent, unknown, or of the wrong dtype, rank or size.
    """
    sizes: dict[str, int] = {}
    for port in metadata.inputs:
        if port.name not in feed:
            raise InputError(
                f"input {shown(port.name)} is missing (got {listed(feed) or 'none'}): expected "
                f"{port.dtype} {_shape_text(port)}"
            )
        _check_port(port, feed[port.name], sizes)
    return sizes


def _check_port(port: PortInfo, value: Any, sizes: dict[str, int]) -> None:
    dtype = dtype_name(value)
    if dtype != port.dtype:
        array = isinstance(value, np.ndarray)
        kind = "ml_dtypes.bfloat16" if port.dtype == "bfloat16" else repr(port.dtype)
        convert = f".astype({kind})" if array else f".to(torch.{port.dtype})"
        raise InputError(
            f"input {shown(port.name)} has dtype {dtype}, expected {port.dtype}: convert it with "
            f"{convert}"
        )
    if value.ndim != len(port.shape):
        raise InputError(
            f"input {shown(port.name)} has shape {list(value.shape)}, expected rank "
            f"{len(port.shape)}: {_shape_text(port)}"
        )
    for axis, (got, expected) in enumerate(zip(value.shape, port.shape, strict=True)):
        wanted = sizes.setdefault(expected, got) if isinstance(expected, str) else expected
        if got != wanted:
            raise InputError(
                f"input {shown(port.name)} has shape {list(value.shape)}, expected {wanted} along "
                f"axis {axis} of {_shape_text(port)}"
            )


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's type of that name; bfloat16 is that of ml_dtypes, which onnx brings."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def dtype_name(value: Any) -> str:
    """NumPy's name of the element type of an array or a tensor."""
    if isinstance(value, np.ndarray):
        return str(value.dtype.name)
    return str(value.dtype).removeprefix("torch.")


def no_steps(metadata: Metadata, sizes: Mapping[str, int]) -> bool:
    """Whether the inputs hold no time step at all, whatever their time axes are called.

    Raises:
        InputError: some inputs hold none and others do.
    """
    steps = {
        port.name: sizes[str(port.shape[port.time_axis])]
        for port in metadata.inputs
        if port.time_axis is not None
    }
    empty = [name for name, size in steps.items() if size == 0]
    if empty and len(empty) < len(steps):
        other = next(name for name, size in steps.items() if size)
        raise InputError(
            f"input {shown(empty[0])} has 0 time steps and {shown(other)} has {steps[other]}: "
            "expected 0 in all inputs or in none"
        )
    return bool(empty)


def one_step(metadata: Metadata, sizes: Mapping[str, int]) -> bool:
    """Whether the inputs hold one time step, whatever their time axes are called."""
    times = [port.shape[port.time_axis] for port in metadata.inputs if port.time_axis is not None]
    return bool(times) and all((sizes[t] if isinstance(t, str) else t) == 1 for t in times)


def check_lengths(lengths: Any, batch: int, time: int) -> Any:
    """Valid lengths as int64.

    A tensor on a device is cut to 0..T instead: to look at it would be to wait for the device.

    Raises:
        InputError: not integers, not [B], or a value outside 0..T.
    """
    dtype = dtype_name(lengths)
    whole = dtype.startswith(("int", "uint"))
    if not whole or tuple(lengths.shape) != (batch,):
        raise InputError(f"lengths is {dtype} {list(lengths.shape)}, expected int64 [{batch}]")
    if not isinstance(lengths, np.ndarray):
        return lengths.long().clamp(0, time)
    lengths = lengths.astype(np.int64)
    if lengths.size and (lengths.min() < 0 or lengths.max() > time):
        raise InputError(
            f"lengths spans {lengths.min()}..{lengths.max()}, expected values in 0..{time} (time)"
        )
    return lengths


def complete(metadata: Metadata, feed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """A full feed: checked inputs, lengths (default: all steps) and states (default: zero).

    Raises:
        InputError: see :func:`sizes_of`; also for unknown names and misfitting states.
    """
    sizes = sizes_of(metadata, feed)
    full = {port.name: _contiguous(feed[port.name]) for port in metadata.inputs}
    batch, time = sizes.get("batch", 1), sizes.get("time", 0)
    if metadata.ragged:
        given = feed.get(LENGTHS)
        full[LENGTHS] = (
            np.full((batch,), time, np.int64)
            if given is None
            else check_lengths(given, batch, time)
        )
    for name, shape, dtype in state_inputs(metadata, batch):
        value = feed.get(name)
        if value is None:
            value = np.zeros(shape, numpy_dtype(dtype))
        elif tuple(value.shape) != shape or dtype_name(value) != dtype:
            raise InputError(
                f"state {shown(name)} is {dtype_name(value)} {list(value.shape)}, "
                f"expected {dtype} {list(shape)}"
            )
        full[name] = _contiguous(value)
    unknown = sorted(set(feed) - set(full))
    if unknown:
        raise InputError(f"unknown input {shown(unknown[0])}: expected {listed(full)}")
    return full, sizes


def state_inputs(metadata: Metadata, batch: int) -> list[tuple[str, tuple[int, ...], str]]:
    """(name, shape, dtype) of every state input of the graph."""
    if metadata.state_mode == "packed":
        return [(PACKED_INPUT, (batch, metadata.packed_size), "float32")]
    return [(s.input, (batch, *s.shape), s.dtype) for s in metadata.states]


def empty_outputs(
    metadata: Metadata, sizes: Mapping[str, int], feed: Mapping[str, Any]
) -> dict[str, Any]:
    """The outputs of zero steps. ONNX Runtime's Scan refuses T = 0, so no runtime is asked.

    Where the feed holds tensors, so does the answer.

    Raises:
        InputError: an output has no time axis, so zero steps have no answer.
    """
    outputs: dict[str, Any] = {}
    tensors = [value for value in feed.values() if not isinstance(value, np.ndarray)]
    for port in metadata.outputs:
        if port.time_axis is None:
            raise InputError(
                f"got 0 time steps, but output {shown(port.name)} sums over time: expected at "
                "least 1"
            )
        shape = [sizes.get(s, 0) if isinstance(s, str) else s for s in port.shape]
        shape[port.time_axis] = 0
        outputs[port.name] = (
            _empty_tensor(tensors[0], shape, port.dtype)
            if tensors
            else np.zeros(shape, numpy_dtype(port.dtype))
        )
    return outputs


def without_steps(
    metadata: Metadata, sizes: Mapping[str, int], feed: Mapping[str, Any]
) -> dict[str, Any]:
    """All outputs of a run over zero steps: the states stay as they are given."""
    outputs = empty_outputs(metadata, sizes, feed)
    for name, *_ in state_inputs(metadata, sizes.get("batch", 1)):
        value = feed[name]
        copy = value.copy() if isinstance(value, np.ndarray) else value.clone()
        outputs[f"{name.removesuffix('_in')}_out"] = copy
    return outputs


def _empty_tensor(like: Any, shape: list[int], dtype: str) -> Any:
    import torch

    return torch.zeros(shape, dtype=getattr(torch, dtype), device=like.device)


def _contiguous(value: Any) -> Any:
    return np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value.contiguous()


def _shape_text(port: PortInfo) -> str:
    return f"[{listed(port.shape)}]"
