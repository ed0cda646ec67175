"""Frames through a model, in chunks: raw float32 or a .npy array in, the same out."""

from __future__ import annotations

import tokenize
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._heads import HEADS
from .errors import InputError, ModelError
from .metadata import Metadata, PortInfo

if TYPE_CHECKING:
    from .runtime import EngineSession, Session, StreamingSession

RAW_DTYPE = np.dtype("<f4")
"""What a raw stream holds, whatever the model's own type."""

DEFAULT_CHUNK = 64
WHOLE = 2**62
"""Chunk size that takes a whole sequence."""

_BLOCK = 2**20
"""Bytes asked for at once: Python sets that much memory aside before it reads."""


class ByteSource(Protocol):
    """A binary file or pipe, or what reads like one."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; fewer only at the end."""


def single_input(metadata: Metadata) -> PortInfo:
    """The data input of a model that has exactly one, running over time.

    Raises:
        ModelError: a model with several inputs, which no single stream can feed.
    """
    if len(metadata.inputs) != 1 or metadata.inputs[0].time_axis != 1:
        names = ", ".join(f"{port.name} {port.shape}" for port in metadata.inputs)
        raise ModelError(
            f"the model takes {names}: expected one input [batch, time, ...] to stream into; "
            "call qrnn_deploy.Session or StreamingSession from Python"
        )
    return metadata.inputs[0]


def frame_shape(port: PortInfo) -> tuple[int, ...]:
    """Sizes of one frame of an input: its axes after batch and time.

    Raises:
        ModelError: an axis other than batch and time is dynamic.
    """
    sizes = port.shape[2:]
    if not all(isinstance(size, int) for size in sizes):
        raise ModelError(f"input {port.name} {port.shape} has frames of no fixed size")
    return tuple(int(size) for size in sizes)


def read_raw(source: ByteSource, shape: tuple[int, ...], chunk: int) -> Iterator[NDArray[Any]]:
    """Frames of a raw float32 stream as arrays [1, up to chunk, *shape].

    Raises:
        InputError: the stream ends within a frame, or begins as a file of another kind does.
    """
    frame = int(np.prod(shape, dtype=np.int64)) * RAW_DTYPE.itemsize
    data = _read_start(source, chunk * frame)
    while data:
        if len(data) % frame:
            raise InputError(
                f"the input ends {len(data) % frame} bytes into a frame: expected a multiple of "
                f"{frame} bytes (float32 {list(shape)})"
            )
        yield np.frombuffer(data, RAW_DTYPE).reshape(1, -1, *shape)
        data = _read(source, chunk * frame)


def read_npy(source: ByteSource, port: PortInfo) -> tuple[NDArray[Any], bool]:
    """A .npy array as [B, T, ...] in the input's type.

    Returns:
        The array, and whether a batch axis of 1 was put in front of it.

    Raises:
        InputError: not a .npy file, Python objects in it, or a rank, frame or type that the
            model does not take.
    """
    try:
        # In a real file NumPy would seek, which a pipe cannot, so it sees the reading alone.
        plain: Any = SimpleNamespace(read=source.read)
        array = np.lib.format.read_array(plain, allow_pickle=False)
    except NPY_ERRORS as error:
        raise InputError(
            f"the input is not a readable .npy array ({npy_reason(error)}): write it with "
            "numpy.save, or give raw float32 frames and --format raw"
        ) from None
    wanted = len(port.shape)
    unbatched = array.ndim == wanted - 1
    if unbatched:
        array = array[None]
    if array.ndim != wanted or array.shape[2:] != frame_shape(port):
        raise InputError(
            f"the array has shape {list(array.shape[1:] if unbatched else array.shape)}, expected "
            f"{list(port.shape)} or {list(port.shape[1:])} for input {port.name!r}"
        )
    if not np.can_cast(array.dtype, model_dtype(port), "same_kind"):
        raise InputError(
            f"the array holds {array.dtype}, expected {port.dtype} for input {port.name!r}"
        )
    return array, unbatched


def check_tokens(metadata: Metadata, array: NDArray[Any]) -> None:
    """Refuse token numbers that a model of text has no row for, before it meets them midway.

    How many it has a model of ours records; of any other the runtime finds out.

    Args:
        metadata: of the model.
        array: for its one input.

    Raises:
        InputError: a number is negative or too large.
    """
    (port,) = metadata.inputs
    size = (metadata.config or {}).get("vocab_size")
    if "int" not in port.dtype or not isinstance(size, int) or not array.size:
        return
    wrong = (array < 0) | (array >= size)
    if wrong.any():
        at = [int(axis[0]) for axis in wrong.nonzero()]
        raise InputError(
            f"the array holds {array[tuple(at)]} at row {at[0]}, step {at[1]}: expected token "
            f"numbers in 0..{size - 1} for input {port.name!r}"
        )


def model_dtype(port: PortInfo) -> np.dtype[Any]:
    """NumPy type of a port.

    Raises:
        ModelError: bfloat16, which NumPy lacks and ONNX Runtime's CPU provider does not multiply.
    """
    if port.dtype == "bfloat16":
        raise ModelError(
            "the model is bfloat16, which ONNX Runtime's CPU provider cannot run: "
            "export it with --dtype float32 or float16"
        )
    return np.dtype(port.dtype)


def chunk_size(metadata: Metadata, wanted: int | None, most: int = WHOLE) -> int:
    """Steps per call: what the user wants, and whole sequences where the model cannot be cut.

    Where nothing is wanted it is a size of ours, at most ``most``.

    Raises:
        InputError: chunks are wanted of a model that cannot be cut.
    """
    answer = metadata.outputs[0]
    if metadata.state_mode != "none" and answer.time_axis == 1:
        return min(DEFAULT_CHUNK, most) if wanted is None else wanted
    if wanted is None:
        return WHOLE
    reason = (
        "this file was exported without a carried state (--states none)"
        if metadata.state_mode == "none"
        else f"output {answer.name!r} {answer.shape} is one answer to the whole sequence"
    )
    raise InputError(
        f"the sequence cannot be cut into chunks of {wanted} steps, since {reason}: "
        "leave out --chunk"
    )


def stream(
    session: Session | EngineSession, chunks: Iterator[NDArray[Any]]
) -> Iterator[NDArray[Any]]:
    """The model's first output for each chunk of its input, [B, T, ...].

    A session whose file carries no state answers each chunk from zero state. Where the model has a
    delay, a chunk's answer may be shorter or empty, and the last one follows the last chunk; where
    it has no padding of its own, the last steps of the input only bring out those before them.

    Raises:
        InputError: the model does not take the chunk, or not its values.
    """
    from .runtime import StreamingSession

    metadata = session.metadata
    port = single_input(metadata)
    name = metadata.outputs[0].name
    streams: StreamingSession | None = None
    steps = 0
    for chunk in chunks:
        x = converted(chunk, port, steps)
        steps += x.shape[1]
        if metadata.state_mode == "none":
            yield session.run(x)[name]
            continue
        if streams is None:
            streams = StreamingSession(session, batch_size=x.shape[0])
        result = streams.step(x)
        yield _valid(streams, result, name)
    if streams is not None and streams.delay and metadata.padding is not None:
        yield _valid(streams, streams.flush(), name)


def _valid(streams: StreamingSession, result: Any, name: str) -> NDArray[Any]:
    """Output ``name`` of an answer without what is not valid yet; all rows are equally far."""
    y: NDArray[Any] = result[name] if isinstance(result, dict) else result
    return y[:, int(streams.invalid.max(initial=0)) :]


def converted(array: NDArray[Any], port: PortInfo, steps: int = 0) -> NDArray[Any]:
    """[B, T, ...] in the type of an input, contiguous.

    Floats are rounded as that type rounds; nothing else may change.

    Args:
        array: of a type that NumPy casts with ``same_kind``.
        port: the input.
        steps: how many came before, for the error message.

    Raises:
        InputError: a finite value would become infinite, or a whole number another one.
    """
    dtype = model_dtype(port)
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(array, dtype)
    if np.can_cast(array.dtype, dtype, "safe"):
        return x
    lost = np.isinf(x) & np.isfinite(array) if dtype.kind == "f" else x != array
    if lost.any():
        where = tuple(int(number) for number in np.argwhere(lost)[0])
        at = f", element {list(where[2:])}" if where[2:] else ""
        largest = np.finfo(dtype).max if dtype.kind == "f" else np.iinfo(dtype).max
        raise InputError(
            f"input {port.name!r} holds {array[where]} ({array.dtype}) at sequence {where[0]}, "
            f"step {steps + where[1]}{at}, counted from 0: expected what fits the model's "
            f"{port.dtype}, at most {largest}; scale the values, or export the model with a larger "
            "--dtype"
        )
    return x


def split(array: NDArray[Any], chunk: int) -> Iterator[NDArray[Any]]:
    """Pieces [B, up to chunk, ...] of an array; one empty piece for an array without steps."""
    for start in range(0, max(array.shape[1], 1), chunk):
        yield array[:, start : start + chunk]


NPY_ERRORS = (
    ValueError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    EOFError,
    MemoryError,
    OverflowError,
    RecursionError,
)
"""What NumPy raises at a file that is damaged or made to hurt."""


def npy_reason(error: Exception) -> str:
    """Why, without what NumPy advises its callers to do, such as to trust the file."""
    text = str(error)
    if "max_header_size" in text:
        return "its header is too long"
    if "allow_pickle" in text:
        return "it holds Python objects, which could run code"
    if isinstance(error, (MemoryError, OverflowError)):
        return "its header asks for more than the memory holds"
    if text.startswith("the magic string"):
        return "it does not begin as one"
    if text.startswith("EOF: "):
        return "it is cut off"
    return "its header is damaged"


def _read(source: ByteSource, size: int) -> bytes:
    """``size`` bytes, or what is left of them."""
    parts = []
    while size and (part := source.read(min(size, _BLOCK))):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_start(source: ByteSource, size: int) -> bytes:
    """The first ``size`` bytes of raw frames, and more only while they may still be a header.

    Raises:
        InputError: a header, which as float32 would be frames of garbage.
    """
    data = more = _read(source, size)
    while more and any(head.may_become(data) and not head.fits(data) for head in HEADS):
        more = _read(source, size)
        data += more
    for head in HEADS:
        if head.fits(data):
            raise InputError(
                f"the input looks like {head.what}, not like raw frames: {head.advice}"
            )
    return data
