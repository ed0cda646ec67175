"""The graph inputs of a model that are not states: names, types, axes, layout.

Axes are those of the graph, which is batch first. A time-major module takes and returns a port
with time on axis 1 as [T, B, ...]; every other port is the same on both sides (:func:`turn`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..metadata import PortInfo

BATCH, TIME = "batch", "time"


def turn(x: Tensor, time_axis: int | None, time_major: bool) -> Tensor:
    """``x`` from the graph's layout into the module's, or back.

    Args:
        x: the value of an input or output.
        time_axis: of its port (:attr:`PortInfo.time_axis`).
        time_major: whether the module is (:attr:`Metadata.time_major`).

    Returns:
        ``x`` with its first two axes exchanged if it is [B, T, ...] in the graph and [T, B, ...]
        in the module, else ``x``.
    """
    return x.transpose(0, 1) if time_major and time_axis == 1 else x


def check_input_names(
    module: nn.Module, args: Sequence[Tensor], given: Sequence[str] | None
) -> list[str]:
    """Names of the graph inputs: the given ones, or those of forward's parameters.

    Raises:
        ExportError: not one distinct name per example input.
    """
    if given is None:
        parameters = list(inspect.signature(module.forward).parameters)
        given = parameters[: len(args)]
    if len(given) != len(args) or len(set(given)) != len(given) or not all(given):
        raise ExportError(
            f"got input names {list(given)} for {len(args)} example inputs: expected one distinct "
            "name each (input_names)"
        )
    return list(given)


def input_time_axes(
    names: Sequence[str], args: Sequence[Tensor], given: Mapping[str, int | None]
) -> list[int | None]:
    """The time axis of each input: axis 1, none for an input of one axis, or what ``given`` says.

    Raises:
        ExportError: ``given`` names no input, or no axis behind that of the batch.
    """
    unknown = set(given) - set(names)
    if unknown:
        raise ExportError(f"time_axes names {sorted(unknown)}: expected some of {list(names)}")
    axes = [
        given.get(name, 1 if arg.dim() >= 2 else None)
        for name, arg in zip(names, args, strict=True)
    ]
    for name, arg, axis in zip(names, args, axes, strict=True):
        if axis is not None and not 1 <= axis < arg.dim():
            raise ExportError(
                f"time_axes gives {axis} for input {name!r} of shape {tuple(arg.shape)}: expected "
                f"None or an axis from 1 to {arg.dim() - 1}, counted batch first, as in the graph"
            )
    return axes


def input_ports(
    names: Sequence[str],
    args: Sequence[Tensor],
    time_axes: Mapping[str, int | None],
    whole: Sequence[str] = (),
) -> list[PortInfo]:
    """The inputs with their batch and time axes (axis 1 unless ``time_axes`` says otherwise).

    Inputs whose examples are equally long share a size: the first one ``time``, a further one
    ``time_<name of the input that first has it>``. One of ``whole`` has a size of its own on that
    axis and no time that is cut into chunks.

    Raises:
        ExportError: an axis too short to stay dynamic, an axis or a name that is not there, or
            examples that differ in batch size.
    """
    axes = input_time_axes(names, args, time_axes)
    ports: list[PortInfo] = []
    symbols: dict[int, str] = {}
    for name, arg, axis in zip(names, args, axes, strict=True):
        shape: list[int | str] = list(arg.shape)
        for which, at in ((BATCH, 0), (TIME, axis)):
            if at is not None and arg.shape[at] < 2:
                raise ExportError(
                    f"example input {name!r} has {which} size {arg.shape[at]} (shape "
                    f"{tuple(arg.shape)}, batch first): expected >= 2, so that the size can stay "
                    "dynamic; an input without time needs time_axes={" + repr(name) + ": None}"
                )
        if arg.shape[0] != args[0].shape[0]:
            raise ExportError(
                f"example input {names[0]!r} has batch size {args[0].shape[0]} and {name!r} "
                f"{arg.shape[0]} (axis 0 of {tuple(args[0].shape)} and {tuple(arg.shape)}, batch "
                "first): expected the same; give examples of one batch"
            )
        shape[0] = BATCH
        if axis is not None:
            fresh = f"{TIME}_{name}" if symbols or name in whole else TIME
            shape[axis] = fresh if name in whole else symbols.setdefault(arg.shape[axis], fresh)
        if name in whole:
            axis = None
        ports.append(PortInfo(name, dtype_name(arg), shape, 0, axis))
    return ports


def dtype_name(x: Tensor | torch.dtype) -> str:
    """NumPy's name of a type, or of a tensor's."""
    return str(x.dtype if isinstance(x, Tensor) else x).removeprefix("torch.")
