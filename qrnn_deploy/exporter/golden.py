"""Golden vectors: inputs, and the outputs that the PyTorch model gives for them in float64.

Stored beside the model in the layout of ONNX's own test data, so that a machine with neither
torch nor the checkpoint can prove that its runtime gives the right answer::

    model.golden/test_data_set_0/input_0.pb ... output_0.pb ...
    model.golden/golden.json          tolerance per output, and the digests of the weights
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from ..errors import ExportError
from ..metadata import LENGTHS, PACKED_INPUT, Metadata, PortInfo
from ..nn.binding import Binding
from ..tolerance import allowed_error
from ..weights import file_digest
from .blocks import blocks
from .border import Border
from .double import in_double
from .memory import give_back
from .observed import observe
from .ports import turn
from .tokens import draw_tokens


@dataclass(frozen=True)
class Case:
    """One run: the name says what it is for; tensors are in graph order."""

    name: str
    inputs: dict[str, Tensor]


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
    """Inputs of another size, drawn around the example; states random or zero.

    Floating inputs are rows and steps of the example with noise of its own spread, so that no two
    are alike. Integer inputs are drawn from the model's vocabulary, or from the values of the
    example, which are known to be valid. ``lengths`` None gives a ragged graph rows of every kind.

    Raises:
        ExportError: an integer sequence whose example holds one value only: nothing that varies
            along time could be told apart with it.
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
        else:
            value = _whole_numbers(metadata, port, sample, value, time, generator)
        feed[port.name] = value
    if metadata.ragged:
        chosen = ragged_lengths(batch, time, seed) if lengths is None else lengths
        feed[LENGTHS] = torch.tensor(list(chosen), dtype=torch.int64)
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


def ragged_lengths(batch: int, time: int, seed: int) -> list[int]:
    """Lengths of every kind: all, some, none and one of ``time`` steps, in turn."""
    kinds = [time, time - time // 3, 0, min(1, time)]
    return [kinds[(row + (seed if batch > 1 else 0)) % len(kinds)] for row in range(batch)]


def _whole_numbers(
    metadata: Metadata,
    port: PortInfo,
    sample: Tensor,
    value: Tensor,
    time: int,
    generator: torch.Generator,
) -> Tensor:
    """Values for an integer or boolean input."""
    config = metadata.config or {}
    if "vocab_size" in config:
        return draw_tokens(config, value.shape, generator)
    if port.time_axis is not None:
        if sample.numel() > 1 and bool((sample == sample.flatten()[0]).all()):
            raise ExportError(
                f"example input {port.name!r} holds one value only: expected at least two "
                "different valid values, since the checks draw their inputs from it"
            )
        chosen = torch.randint(sample.numel(), value.shape, generator=generator)
        return sample.flatten()[chosen]
    return value.clamp(max=time) if metadata.own_lengths else value


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
    flat = _in_its_type(border, inputs, border.metadata.input_names())
    with torch.no_grad():
        result = border(*flat)
    return dict(zip(border.metadata.output_names(), result, strict=True))


def run_whole(border: Border, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the module itself gives for whole sequences, none of its states lifted out.

    Args:
        border: the PyTorch model.
        inputs: of the graph by name; those that the module itself does not take play no part.

    Returns:
        The outputs that are not states, batch first, by name.
    """
    meta = border.metadata
    flat = _in_its_type(border, inputs, [port.name for port in meta.inputs])
    leaves = observe(border.module, meta.inputs, flat, meta.time_major, Binding())
    return {
        port.name: turn(leaf, port.time_axis, meta.time_major)
        for port, (_, leaf) in zip(meta.outputs, leaves, strict=True)
    }


def _in_its_type(
    border: Border, inputs: Mapping[str, Tensor], names: Sequence[str]
) -> list[Tensor]:
    """The named inputs, floats in float64 if the model is."""
    double = any(p.dtype == torch.float64 for p in border.parameters())
    return [
        inputs[name].double() if double and inputs[name].is_floating_point() else inputs[name]
        for name in names
    ]


def finite_error(same: Tensor, exact: Tensor) -> tuple[float, float]:
    """(largest error, largest magnitude) over the elements that are finite on both sides."""
    error, peak = 0.0, 0.0
    for same_part, exact_part in zip(blocks(same), blocks(exact), strict=True):
        a, b = same_part.double(), exact_part.double()
        finite = torch.isfinite(a) & torch.isfinite(b)
        if bool(finite.any()):
            error = max(error, (a - b).abs().where(finite, 0.0).max().item())
            peak = max(peak, b.abs().where(finite, 0.0).max().item())
    return error, peak


Errors = dict[str, tuple[float, float]]
"""What PyTorch in the model's own type has: :func:`finite_error` of each output."""


def write_vectors(folder: Path, border: Border, example: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Write the standard cases into ``folder``, which is created.

    Args:
        folder: ``model.golden``.
        border: the PyTorch model.
        example: the example inputs.

    Returns:
        The record of each case, for :func:`write_record`.
    """
    metadata = border.metadata
    reference = in_double(border)
    folder.mkdir()
    found: list[tuple[str, Errors]] = []
    for number, case in enumerate(golden_cases(metadata, example)):
        place = folder / f"test_data_set_{number}"
        place.mkdir()
        for index, name in enumerate(metadata.input_names()):
            _write_tensor(place / f"input_{index}.pb", name, case.inputs[name])
        found.append((case.name, _write_outputs(place, reference, border, case)))
    worst = {name: max(errors[name][0] for _, errors in found) for name in metadata.output_names()}
    return [
        {
            "name": case_name,
            "tolerance": {
                name: allowed_error(worst[name], peak, metadata.dtype, metadata.feedback)
                for name, (_, peak) in errors.items()
            },
        }
        for case_name, errors in found
    ]


def write_record(folder: Path, model: Path, metadata: Metadata, sets: Sequence[Any]) -> None:
    """Write ``golden.json``, which binds the vectors in ``folder`` to the finished ``model``."""
    head = {"fingerprint": metadata.weights_sha256, "file_weights": file_digest(model)}
    text = json.dumps({**head, "sets": sets}, indent=1, allow_nan=False)
    (folder / "golden.json").write_text(text + "\n")


def _write_outputs(place: Path, reference: Border, border: Border, case: Case) -> Errors:
    """Run a case and write what must come out, one output at a time: they may be large."""
    same = run_border(border, case.inputs)
    give_back(border.module)
    exact = run_border(reference, case.inputs)
    found = {}
    for index, name in enumerate(border.metadata.output_names()):
        own, value = same.pop(name), exact.pop(name)
        found[name] = finite_error(own, value)
        rounded = value.to(own.dtype)
        del own, value
        _write_tensor(place / f"output_{index}.pb", name, rounded)
    return found


def _write_tensor(path: Path, name: str, value: Tensor) -> None:
    if value.dtype == torch.bfloat16:  # NumPy has no bfloat16 of its own
        bits = value.contiguous().view(torch.int16).numpy().view(np.uint16)
        proto = onnx.helper.make_tensor(
            name, onnx.TensorProto.BFLOAT16, list(value.shape), bits.tobytes(), raw=True
        )
    else:
        proto = numpy_helper.from_array(value.contiguous().numpy(), name)
    path.write_bytes(proto.SerializeToString())
