"""A stream's state as bytes: safetensors, with a fingerprint of the model it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .._metadata_check import shown
from ..errors import InputError
from ..metadata import Metadata
from .contract import listed
from .feeds import Array

_FINGERPRINT = "qrnn_deploy_state"
_METADATA = "__metadata__"
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def fingerprint(metadata: Metadata) -> str:
    """Identifies the model, and the form of export, that a saved state belongs to."""
    return f"{metadata.state_mode}:{metadata.state_fingerprint()}"


def pack(arrays: Mapping[str, Array], fingerprint: str) -> bytes:
    """Arrays by state name as bytes that :func:`unpack` takes with the same fingerprint."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return bytes(safetensors.numpy.save(whole, metadata={_FINGERPRINT: fingerprint}))


def unpack(
    data: bytes, fingerprint: str, wanted: Mapping[str, Array], model: str
) -> dict[str, Array]:
    """Arrays with the names, dtypes and shapes of ``wanted``.

    The fingerprint is compared before any tensor is read, so nothing of a foreign file is parsed
    beyond its header.

    Args:
        data: bytes of :func:`pack`.
        fingerprint: of the model that is to continue.
        wanted: arrays like those expected, by state name.
        model: its file name, for the message.

    Raises:
        InputError: the bytes are damaged, from another model, or for another number of rows.
    """
    header = _header(data)
    facts = header.pop(_METADATA, None)
    if not isinstance(facts, dict) or facts.get(_FINGERPRINT) != fingerprint:
        raise InputError(
            f"the saved state belongs to another model or export: expected one saved with {model} "
            "(same weights, layers, dtype and state layout)"
        )
    if set(header) != set(wanted):
        raise _damaged(f"names {len(header)} tensors, expected {listed(wanted)}")
    for name, array in wanted.items():
        entry = header[name]
        dtype, shape = _DTYPES[array.dtype.name], list(array.shape)
        if not isinstance(entry, dict) or entry.get("dtype") != dtype:
            raise _damaged(f"{name} is not {array.dtype.name}")
        if entry.get("shape") != shape:
            raise InputError(
                f"saved state {shown(name)} has shape {shown(entry.get('shape'))}, expected "
                f"{shape}: give as many rows as were saved"
            )
    try:
        tensors = safetensors.deserialize(bytes(data))  # type: ignore[no-untyped-call]
        return {
            name: np.frombuffer(entry["data"], wanted[name].dtype).reshape(entry["shape"])
            for name, entry in tensors
        }
    except (safetensors.SafetensorError, ValueError, TypeError, LookupError) as error:
        raise _damaged(type(error).__name__) from error


def _header(data: bytes) -> dict[str, Any]:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InputError(
            f"the saved state is a {type(data).__name__}, expected bytes from save_state()"
        )
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 + size:
        raise _damaged(f"{len(data)} bytes, too few")
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
    except (ValueError, RecursionError) as error:
        raise _damaged(type(error).__name__) from error
    if not isinstance(header, dict):
        raise _damaged("no header")
    return header


def _damaged(reason: str) -> InputError:
    return InputError(f"the saved state is damaged ({reason}): expected bytes from save_state()")
