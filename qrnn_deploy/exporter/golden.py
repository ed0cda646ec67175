"""Golden vectors: inputs, and the outputs that the PyTorch model gives for them in float64.

Stored beside the model in the layout of ONNX's own test data, so that a machine with neither
torch nor the checkpoint can prove that its runtime gives the right answer::

    model.golden/test_data_set_0/input_0.pb ... output_0.pb ...
    model.golden/golden.json          tolerance per output, and which model they belong to
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from ..metadata import LENGTHS, PACKED_INPUT, PACKED_OUTPUT, Metadata
from ..tolerance import allowed_error
from .border import Border


@dataclass(frozen=True)
class Case:
    """One run: the name says what it is for; tensors are in graph order."""

    name: str
    inputs: dict[str, Tensor]


def input_names(metadata: Metadata) -> list[str]:
    """Names of all graph inputs in order."""
    names = [port.name for port in metadata.inputs]
    names += [LENGTHS] if metadata.ragged else []
    if metadata.state_mode == "packed":
        return [*names, PACKED_INPUT]
    return [*names, *(state.input for state in metadata.states)]


def output_names(metadata: Metadata) -> list[str]:
    """Names of all graph outputs in order."""
    names = [port.name for port in metadata.outputs]
    if metadata.state_mode == "packed":
        return [*names, PACKED_OUTPUT]
    return [*names, *(state.output for state in metadata.states)]


def make_inputs(
    metadata: Metadata,
    example: Sequence[Tensor],
    *,
    batch: int,
    time: int,
    seed: int,
    random_state: bool,
    lengths: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Inputs of another size made from the example: rows and steps drawn from it, states random.

    Floating inputs get noise of the example's own spread, so that no two rows are alike; integer
    inputs stay within the values of the example, which are known to be valid. ``lengths`` None
    draws random ones for a ragged graph.
    """
    generator = torch.Generator().manual_seed(seed)
    feed: dict[str, Tensor] = {}
    for port, sample in zip(metadata.inputs, example, strict=True):
        rows = torch.randint(sample.shape[0], (batch,), generator=generator)
        value = sample[rows]
        if port.time_axis is not None:
            steps = torch.randint(sample.shape[port.time_axis], (time,), generator=generator)
            value = value.index_select(port.time_axis, steps)
        if value.is_floating_point():
            spread = sample.double().std().clamp(min=0.1)
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64) * spread
            value = (value.double() + noise).to(sample.dtype)
        feed[port.name] = value
    if metadata.ragged:
        drawn = torch.randint(0, time + 1, (batch,), generator=generator)
        feed[LENGTHS] = drawn if lengths is None else torch.tensor(lengths, dtype=torch.int64)
    scale = 0.5 if random_state else 0.0
    states = [
        scale * torch.randn(batch, *entry.shape, generator=generator) for entry in metadata.states
    ]
    if metadata.state_mode == "packed":
        feed[PACKED_INPUT] = torch.cat([state.flatten(1) for state in states], dim=1)
    else:
        for entry, state in zip(metadata.states, states, strict=True):
            feed[entry.input] = state.to(getattr(torch, entry.dtype))
    return feed


def golden_cases(metadata: Metadata, example: Sequence[Tensor]) -> list[Case]:
    """The standard cases: a batch from zero state, one step and an odd chunk from random state."""
    shapes = [("whole", 3, 13, False)]
    if metadata.state_mode != "none":
        shapes += [("step", 2, 1, True), ("chunk", 1, 5, True)]
    return [
        Case(
            name,
            make_inputs(
                metadata, example, batch=batch, time=time, seed=seed, random_state=random_state
            ),
        )
        for seed, (name, batch, time, random_state) in enumerate(shapes)
    ]


def run_border(border: Border, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run the PyTorch model on named graph inputs; float inputs are cast to its precision."""
    double = any(p.dtype == torch.float64 for p in border.parameters())
    flat = [
        value.double() if double and value.is_floating_point() else value
        for value in (inputs[name] for name in input_names(border.metadata))
    ]
    with torch.no_grad():
        result = border(*flat)
    return dict(zip(output_names(border.metadata), result, strict=True))


def in_double(border: Border) -> Border:
    """A float64 copy: the reference that every artifact is compared with."""
    return copy.deepcopy(border).double()


def write_golden(folder: Path, border: Border, example: Sequence[Tensor]) -> None:
    """Write the standard cases into ``folder``, which is created."""
    metadata = border.metadata
    reference = in_double(border)
    record = []
    folder.mkdir()
    for number, case in enumerate(golden_cases(metadata, example)):
        exact = run_border(reference, case.inputs)
        same = run_border(border, case.inputs)
        place = folder / f"test_data_set_{number}"
        place.mkdir()
        for index, name in enumerate(input_names(metadata)):
            _write_tensor(place / f"input_{index}.pb", name, case.inputs[name])
        tolerance = {}
        for index, name in enumerate(output_names(metadata)):
            value = exact[name].to(same[name].dtype)
            _write_tensor(place / f"output_{index}.pb", name, value)
            error = (same[name].double() - exact[name].double()).abs()
            peak = exact[name].abs().max().item() if exact[name].numel() else 0.0
            tolerance[name] = allowed_error(
                error.max().item() if error.numel() else 0.0, peak, metadata.dtype
            )
        record.append({"name": case.name, "tolerance": tolerance})
    text = json.dumps({"fingerprint": metadata.weights_sha256, "sets": record}, indent=1)
    (folder / "golden.json").write_text(text + "\n")


def _write_tensor(path: Path, name: str, value: Tensor) -> None:
    if value.dtype == torch.bfloat16:  # NumPy has no bfloat16 of its own
        bits = value.contiguous().view(torch.int16).numpy().view(np.uint16)
        proto = onnx.helper.make_tensor(
            name, onnx.TensorProto.BFLOAT16, list(value.shape), bits.tobytes(), raw=True
        )
    else:
        proto = numpy_helper.from_array(value.contiguous().numpy(), name)
    path.write_bytes(proto.SerializeToString())
