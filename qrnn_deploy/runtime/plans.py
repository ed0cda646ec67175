"""Memory and bindings of a stream's steps, made once for each set of chunk shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from ..errors import InputError
from ..metadata import Metadata
from .feeds import Array

States = Sequence[tuple[str, str, tuple[Any, Any]]]
"""Graph input, graph output and the OrtValues of both sides, of every state."""


class Plan:
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
        states: States,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.bindings = []
        for side in (0, 1):
            binding = session.io_binding()
            for name, array in inputs.items():
                binding.bind_ortvalue_input(name, shared(array))
            for name in output_names:
                if outputs is None:  # a size that the metadata do not tell: the runtime allocates
                    binding.bind_output(name, "cpu")
                else:
                    binding.bind_ortvalue_output(name, shared(outputs[name]))
            for in_name, out_name, sides in states:
                binding.bind_ortvalue_input(in_name, sides[side])
                binding.bind_ortvalue_output(out_name, sides[1 - side])
            self.bindings.append(binding)


def make_plan(
    session: onnxruntime.InferenceSession,
    metadata: Metadata,
    feed: Mapping[str, Array],
    sizes: Mapping[str, int],
    states: States,
) -> Plan:
    """A plan for chunks like ``feed``, whose symbolic sizes are ``sizes``.

    Raises:
        InputError: memory does not hold the outputs.
    """
    ports = metadata.outputs
    known = all(not isinstance(s, str) or s in sizes for port in ports for s in port.shape)
    try:
        outputs = {
            port.name: np.empty(
                [sizes[s] if isinstance(s, str) else s for s in port.shape], port.dtype
            )
            for port in (ports if known else [])
        }
        inputs = {name: np.empty_like(array, order="C") for name, array in feed.items()}
    except (MemoryError, ValueError) as error:
        raise InputError(f"no memory for the outputs of chunks of size {dict(sizes)}") from error
    return Plan(session, inputs, outputs if known else None, [p.name for p in ports], states)


def shared(array: Array) -> onnxruntime.OrtValue:
    """An OrtValue over the array's own memory (ONNX Runtime copies only for other devices)."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
