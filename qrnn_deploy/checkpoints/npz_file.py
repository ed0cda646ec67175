"""Weights in a .npz archive, as tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .._files import reason
from .._metadata_check import shown
from ..errors import CheckpointError
from ..npz import ADVICE, NpzError
from ..npz import read_npz as read_arrays

DTYPES = ("float32", "float16", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
"""What becomes a tensor."""


def read_npz(path: Path) -> dict[str, Tensor]:
    """All arrays of a .npz file by name, in the order of the file.

    Args:
        path: written by ``numpy.savez`` or ``numpy.savez_compressed``.

    Returns:
        Tensors on the CPU in memory of their own, of a type in :data:`DTYPES`. Names are as they
        were given, also with a ``/`` in them.

    Raises:
        CheckpointError: the file is absent, no .npz file, damaged, would unpack to more than it
            plausibly holds, or has something in it that is no plain array of numbers.
    """
    try:
        arrays = read_arrays(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from None
    except NpzError as error:
        raise CheckpointError(f"{path}: {error}: {ADVICE}") from None
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise CheckpointError(
                f"{path}: {shown(name)} holds {shown(str(array.dtype))}, expected numbers "
                f"({DTYPES[0]}): leave it out"
            )
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
