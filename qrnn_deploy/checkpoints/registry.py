"""The formats that can be read, and the way in for all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..nn import QRNN, ConfigError, QRNNLanguageModel, QRNNLayer, from_config
from ..pooling.torch_loops import STATE_DTYPES
from .candidate import WAYS, Candidate, open_candidate
from .format import Format, Parts
from .native import NativeFormat

FORMATS: tuple[Format, ...] = (NativeFormat(),)
"""In the order they are asked; the first that recognises a file reads it."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A trained model, ready to run.

    Attributes:
        module: in eval mode, on the CPU, in the type its weights were saved in.
        config: ``module.config()``.
        sha256: of the file.
        format: name of the format that read it.
        notes: what was assumed or changed on the way, one sentence each.
        path: the file.
    """

    module: QRNNLayer | QRNN | QRNNLanguageModel
    config: dict[str, Any]
    sha256: str
    format: str
    notes: tuple[str, ...]
    path: Path


def load_checkpoint(
    path: str | os.PathLike[str], *, allow_non_finite: bool = False
) -> LoadedCheckpoint:
    """Read a checkpoint of any known format. Nothing in it is executed.

    Args:
        path: the file.
        allow_non_finite: accept weights that hold NaN or infinity.

    Raises:
        CheckpointError: one line that says what is wrong with the file.
    """
    candidate = open_candidate(path)
    for known in FORMATS:
        if known.recognise(candidate):
            parts = known.load(candidate)
            module, notes = _build(candidate, parts, allow_non_finite)
            return LoadedCheckpoint(
                module, module.config(), candidate.sha256, known.name, notes, candidate.path
            )
    unknown = f"is {candidate.describe()}, which no known format recognises"
    if candidate.holds_weights():
        raise candidate.error(
            f"{unknown}, weights without a configuration: build the model yourself, load them "
            f"with load_state_dict(), then call {WAYS}"
        )
    readable = "; ".join(f"{known.name} ({known.description})" for known in FORMATS)
    raise candidate.error(f"{unknown}, expected one of: {readable}")


def _build(
    candidate: Candidate, parts: Parts, allow_non_finite: bool
) -> tuple[QRNNLayer | QRNN | QRNNLanguageModel, tuple[str, ...]]:
    """The module on the meta device, every tensor compared with it, then the weights put in.

    So a configuration of absurd sizes never allocates: the file's own tensors must match first.
    """
    try:
        module = from_config(parts.config, device="meta")
    except ConfigError as error:
        raise candidate.error(f"its configuration is not usable: {error}") from None
    expected, tensors = module.state_dict(), parts.tensors
    for problem, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has unexpected", tensors.keys() - expected.keys()),
    ):
        if names:
            shown = ", ".join(name[:80] for name in sorted(names)[:4])
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            raise candidate.error(
                f"{problem} tensor{'s' if len(names) > 1 else ''} {shown}{more}: "
                f"weights and configuration ({parts.config['architecture']}) do not belong together"
            )
    _check_tensors(candidate, expected, tensors)
    notes = parts.notes
    spoiled = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if spoiled and not allow_non_finite:
        raise candidate.error(
            f"tensor {spoiled[0]} holds NaN or infinity: the training diverged or the file is "
            "damaged; allow_non_finite=True (--allow-non-finite) loads it all the same"
        )
    if spoiled:
        notes += (f"NaN or infinity in {', '.join(spoiled)} was allowed.",)
    module.load_state_dict(dict(tensors), assign=True)
    return module.eval(), notes


def _check_tensors(
    candidate: Candidate, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Shapes as configured, one floating type for all, and every element really there."""
    first = next(iter(expected))
    for name, wanted in expected.items():
        tensor = tensors[name]
        if tensor.shape != wanted.shape:
            raise candidate.error(
                f"tensor {name} has shape {list(tensor.shape)}, expected {list(wanted.shape)} "
                "by the configuration"
            )
        if tensor.layout != torch.strided or tensor.dtype not in STATE_DTYPES:
            raise candidate.error(
                f"tensor {name} is {tensor.dtype} ({tensor.layout}), expected dense float32, "
                "float16, bfloat16 or float64"
            )
        if tensor.dtype != tensors[first].dtype:
            raise candidate.error(
                f"tensor {name} is {tensor.dtype} and {first} is {tensors[first].dtype}, "
                "expected one type for all"
            )
        if tensor.is_meta or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.itemsize:
            raise candidate.error(
                f"tensor {name} of shape {list(tensor.shape)} does not hold its elements"
            )


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def formats() -> tuple[Format, ...]:
    """The formats that :func:`load_checkpoint` knows."""
    return FORMATS
