"""Our own format: safetensors or a PyTorch file, with the configuration beside the weights.

safetensors
    The metadata key ``qrnn_deploy`` holds JSON ``{"version": 1, "config": {...}}``.
PyTorch
    ``{"qrnn_deploy": {"version": 1, "config": {...}}, "state_dict": {...}}`` by ``torch.save``.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from .._files import replacing
from ..errors import CheckpointError
from ..nn.factory import ARCHITECTURES, QRNNModule
from .candidate import Candidate
from .reading import Reading
from .stored import StoredTensor

NAME = "native"
DESCRIPTION = "qrnn-deploy: .safetensors or .pt with the configuration inside"
KEY = "qrnn_deploy"
VERSION = 1


def holds_native(candidate: Candidate) -> bool:
    """Whether the key that holds the configuration is there."""
    if candidate.container == "safetensors":
        return KEY in candidate.metadata
    return isinstance(candidate.content, Mapping) and KEY in candidate.content


def read_native(candidate: Candidate) -> Reading:
    """Separate configuration and weights.

    Raises:
        CheckpointError: either is missing or malformed, or the file is of a newer version.
    """
    if candidate.container == "safetensors":
        try:
            header = json.loads(candidate.metadata[KEY])
        except (ValueError, RecursionError):
            raise CheckpointError(
                f"its metadata key {KEY} is not readable JSON: the file is damaged"
            ) from None
        tensors = candidate.content
    else:
        header, tensors = candidate.content[KEY], candidate.content.get("state_dict")
    version = header.get("version") if isinstance(header, dict) else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise CheckpointError(
            f"its key {KEY} holds no version number, expected 1..{VERSION}: the file is damaged"
        )
    if version > VERSION:
        raise CheckpointError(
            f"is of format version {version}, this qrnn-deploy reads up to {VERSION}: "
            "upgrade qrnn-deploy"
        )
    if not isinstance(header.get("config"), dict):
        raise CheckpointError(f"its key {KEY} holds no configuration: the file is damaged")
    if not isinstance(tensors, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, StoredTensor)
        for name, tensor in tensors.items()
    ):
        raise CheckpointError("its key state_dict holds no tensors by name")
    return Reading(header["config"], tensors, format=NAME)


def save_checkpoint(module: QRNNModule, path: str | os.PathLike[str]) -> None:
    """Write a module's configuration and weights; the file is whole or not there.

    Args:
        module: one of this package's own classes. Other modules are kept by their own code and
            exported with :func:`qrnn_deploy.export`.
        path: ends in .safetensors, or in .pt or .pth for PyTorch's container.

    Raises:
        CheckpointError: the module or the suffix is of another kind, or the file cannot be
            written.
    """
    target = Path(path)
    if type(module) not in ARCHITECTURES.values():
        raise CheckpointError(
            f"cannot save a {type(module).__name__}, expected one of {', '.join(ARCHITECTURES)}: a "
            "network of your own goes straight to ONNX with qrnn_deploy.export(module, path, args)"
        )
    header = {"version": VERSION, "config": module.config()}
    tensors = _apart(module.state_dict())
    if target.suffix == ".safetensors":
        data = safetensors.torch.save(tensors, metadata={KEY: json.dumps(header)})
    elif target.suffix in (".pt", ".pth"):
        buffer = io.BytesIO()
        torch.save({KEY: header, "state_dict": tensors}, buffer)
        data = buffer.getvalue()
    else:
        raise CheckpointError(f"{target}: expected a name that ends in .safetensors, .pt or .pth")
    try:
        with replacing(target) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written: {error.strerror or error}") from None


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in memory of its own: safetensors takes no shared ones."""
    result: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        result[name] = value.clone() if value.data_ptr() in taken else value
        taken.add(value.data_ptr())
    return result
