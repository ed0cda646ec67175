"""From a reading to a module: tensors checked against the configuration, then read and put in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..nn.factory import QRNNModule, from_config
from ..pooling.walk import STATE_DTYPES
from .candidate import Candidate
from .reading import Reading
from .stored import StoredTensor

HARMLESS_BYTES = 2**26
"""As much as any machine has, whatever the size of the file."""


def outline(candidate: Candidate, reading: Reading) -> QRNNModule:
    """The module that a reading describes, on the meta device: nothing is allocated.

    Args:
        candidate: the file, for messages.
        reading: how it is understood; its configuration may come from a stranger.

    Raises:
        CheckpointError: the configuration describes no module, or not one of these tensors.
    """
    try:
        module = from_config(reading.config, device="meta")
    except ConfigError as error:
        raise candidate.error(f"its configuration is not usable: {error}") from None
    expected, tensors = module.state_dict(), reading.tensors
    for problem, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has unexpected", tensors.keys() - expected.keys()),
    ):
        if names:
            some = ", ".join(name[:80] for name in sorted(names)[:4])
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            raise candidate.error(
                f"{problem} tensor{'s' if len(names) > 1 else ''} {some}{more}: "
                f"weights and configuration ({reading.config['architecture']}) do not belong "
                "together"
            )
    for name, value in tensors.items():
        if isinstance(value, StoredTensor):
            _check(candidate, name, value.shape, value.dtype, expected[name])
            if not value.holds_its_elements():
                raise candidate.error(
                    f"tensor {name} of shape {list(value.shape)} does not hold its elements"
                )
    _refuse_bombs(candidate, expected)
    return module


def _refuse_bombs(candidate: Candidate, expected: Mapping[str, Tensor]) -> None:
    """A file can name one run of numbers as the weight of a thousand layers."""
    if candidate.container not in ("pytorch", "safetensors"):
        return  # those have been read already
    least = 2 * sum(tensor.numel() for tensor in expected.values())
    size = candidate.path.stat().st_size
    if least > 2 * size + HARMLESS_BYTES:
        raise candidate.error(
            f"would take {least} bytes or more in memory and has {size}: its weights are one and "
            "the same under many names"
        )


def build_module(
    candidate: Candidate, reading: Reading, allow_non_finite: bool
) -> tuple[QRNNModule, tuple[str, ...]]:
    """The module on the meta device, every tensor compared with it, then the weights put in.

    So a configuration of absurd sizes never allocates: the file's own tensors must match first.

    Args:
        candidate: the file, for messages.
        reading: how it is understood.
        allow_non_finite: accept weights that hold NaN or infinity.

    Returns:
        The module in eval mode, and what a user should know, one sentence each.

    Raises:
        CheckpointError: the tensors are not those of the configuration, of several types, or not
            finite.
        StorageDamage: the file does not hold them.
    """
    module = outline(candidate, reading)
    expected, tensors = module.state_dict(), reading.tensors
    loaded = {name: value_of(tensors[name]) for name in expected}
    for name, tensor in loaded.items():
        _check(candidate, name, tuple(tensor.shape), tensor.dtype, expected[name])
    usual = Counter(tensor.dtype for tensor in loaded.values()).most_common(1)[0][0]
    first = next(name for name, tensor in loaded.items() if tensor.dtype == usual)
    for name, tensor in loaded.items():
        if tensor.dtype != usual:
            raise candidate.error(
                f"tensor {name} is {tensor.dtype} and {first} is {usual}, expected one type for all"
            )
    notes = reading.notes
    spoiled = [name for name, tensor in loaded.items() if not is_finite(tensor)]
    if spoiled and not allow_non_finite:
        raise candidate.error(
            f"tensor {spoiled[0]} holds NaN or infinity: the training diverged or the file is "
            "damaged; allow_non_finite=True (--allow-non-finite) loads it all the same"
        )
    if spoiled:
        notes += (f"NaN or infinity in {', '.join(spoiled)} was allowed.",)
    module.load_state_dict(loaded, assign=True)
    return module.eval(), notes


def value_of(source: Callable[[], Tensor] | Any) -> Tensor:
    """The tensor that an entry of :attr:`.Reading.tensors` stands for.

    Raises:
        StorageDamage: the file does not hold it.
    """
    value: Tensor = source.load() if isinstance(source, StoredTensor) else source()
    return value


def _check(
    candidate: Candidate, name: str, shape: Sequence[int], dtype: torch.dtype, wanted: Tensor
) -> None:
    """The shape as configured, and a floating type."""
    if tuple(shape) != tuple(wanted.shape):
        raise candidate.error(
            f"tensor {name} has shape {list(shape)}, expected {list(wanted.shape)} "
            "by the configuration"
        )
    if dtype not in STATE_DTYPES:
        raise candidate.error(
            f"tensor {name} is {dtype}, expected float32, float16, bfloat16 or float64"
        )


def is_finite(tensor: Tensor) -> bool:
    """In one pass without a copy: NaN and infinity show in the least or the greatest element."""
    if not tensor.numel():
        return True
    return all(bool(torch.isfinite(bound)) for bound in torch.aminmax(tensor))
