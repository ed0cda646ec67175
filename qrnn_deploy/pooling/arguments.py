"""Checks of an operator's arguments that read no values, so that tracing makes them too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..errors import InputError
from .spec import ACTIVATIONS, PoolingSpec
from .walk import state_dtype


def check_tensors(spec: PoolingSpec, axes: Mapping[str, tuple[str, ...]], *tensors: Tensor) -> None:
    """Ranks, types and sizes of an operator's inputs.

    Args:
        spec: the operator.
        axes: sizes of each of its inputs, by name: B and H are those of the state, G*H follows
            from them, a number is itself, and any other is bound by the input that has it first.
        tensors: the inputs in the order of ``spec.inputs``.

    Raises:
        InputError: one does not fit.
    """
    name = f"pool_{spec.name}"
    named = dict(zip(spec.inputs, tensors, strict=True))
    gates, state = tensors[:2]
    wide = state_dtype(gates.dtype)
    for label, tensor in named.items():
        rank = len(axes[label])
        if tensor.dim() != rank:
            written = f"[{', '.join(axes[label]).replace('G', str(spec.gate_count))}]"
            raise InputError(f"{name}: {label} has rank {tensor.dim()}, expected {rank}: {written}")
        wanted = {"lengths": torch.int64}.get(label, gates.dtype if label in spec.stored else wide)
        if tensor.dtype != wanted:
            suffix = "" if label == "lengths" else f" for {gates.dtype} gates"
            raise InputError(f"{name}: {label} has dtype {tensor.dtype}, expected {wanted}{suffix}")
    batch, hidden = state.shape
    sizes: dict[str, int] = {"B": batch, "H": hidden, "G*H": spec.gate_count * hidden}
    for label, tensor in named.items():
        wanted_sizes = [int(axis) if axis.isdigit() else sizes.get(axis) for axis in axes[label]]
        pairs = zip(tensor.shape, wanted_sizes, strict=True)
        if any(expected is not None and size != expected for size, expected in pairs):
            shown = (
                axis if expected is None else str(expected)
                for axis, expected in zip(axes[label], wanted_sizes, strict=True)
            )
            raise InputError(
                f"{name}: {label} has shape {_listed(tensor.shape)}, expected "
                f"{_listed(shown)} to fit {spec.inputs[1]} {_listed(state.shape)}"
            )
        for axis, size in zip(axes[label], tensor.shape, strict=True):
            sizes.setdefault(axis, size)


def check_direction(spec: PoolingSpec, direction: int) -> None:
    """Refuse what is not 1 or -1.

    Raises:
        InputError: it is not.
    """
    if direction not in (1, -1):
        raise InputError(f"pool_{spec.name}: direction is {direction}, expected 1 or -1")


def check_activation(spec: PoolingSpec, activation: str) -> None:
    """Refuse what is not in :data:`~qrnn_deploy.pooling.spec.ACTIVATIONS`.

    Raises:
        InputError: it is not.
    """
    if activation not in ACTIVATIONS:
        raise InputError(
            f"pool_{spec.name}: activation is {activation!r}, "
            f"expected one of {', '.join(ACTIVATIONS)}"
        )


def _listed(sizes: Iterable[object]) -> str:
    return f"[{', '.join(str(size) for size in sizes)}]"
