"""The graph inputs and outputs of a model that are not states: names, types, axes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..metadata import PortInfo
from ..nn import QRNNLanguageModel
from ..nn.binding import Binding, bound
from .border import named_output_leaves

BATCH, TIME = "batch", "time"


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
    if len(given) != len(args) or len(set(given)) != len(given):
        raise ExportError(
            f"got input names {list(given)} for {len(args)} example inputs: expected one distinct "
            "name each (input_names)"
        )
    return list(given)


def input_ports(
    names: Sequence[str], args: Sequence[Tensor], time_axes: Mapping[str, int | None]
) -> list[PortInfo]:
    """The inputs with their batch and time axes (axis 1 unless ``time_axes`` says otherwise).

    Raises:
        ExportError: an axis too short to stay dynamic, or a name that is not there.
    """
    unknown = set(time_axes) - set(names)
    if unknown:
        raise ExportError(f"time_axes names {sorted(unknown)}: expected some of {list(names)}")
    ports: list[PortInfo] = []
    lengths: list[int] = []
    for name, arg in zip(names, args, strict=True):
        axis = time_axes.get(name, 1 if arg.dim() >= 2 else None)
        shape: list[int | str] = list(arg.shape)
        for which, at in (("batch", 0), ("time", axis)):
            if at is not None and arg.shape[at] < 2:
                raise ExportError(
                    f"example input {name!r} has {which} size {arg.shape[at]} (shape "
                    f"{tuple(arg.shape)}): expected >= 2, so that the size can stay dynamic"
                )
        shape[0] = BATCH
        if axis is not None:
            time = arg.shape[axis]
            first = not lengths or time == lengths[0]
            lengths.append(time)
            shape[axis] = TIME if first else f"{TIME}_{name}"
        ports.append(PortInfo(name, _dtype_name(arg), shape, 0, axis))
    return ports


def observe(
    module: nn.Module, args: Sequence[Tensor], time_major: bool, binding: Binding
) -> list[tuple[str | None, Tensor]]:
    """Run the module once under ``binding``; its output leaves, batch first."""
    turned = [a.transpose(0, 1) if time_major and a.dim() >= 2 else a for a in args]
    with torch.no_grad(), bound(binding):
        leaves = named_output_leaves(module(*turned))
    return [(k, y.transpose(0, 1) if time_major and y.dim() >= 2 else y) for k, y in leaves]


def output_ports(
    module: nn.Module,
    inputs: Sequence[PortInfo],
    args: Sequence[Tensor],
    leaves: Sequence[tuple[str | None, Tensor]],
    time_major: bool,
    given: Sequence[str] | None,
) -> list[PortInfo]:
    """Find the time axis of each output by running once more on a longer input."""
    longer = [
        a
        if port.time_axis is None
        else torch.cat([a, a, a.narrow(port.time_axis, 0, 1)], dim=port.time_axis)
        for port, a in zip(inputs, args, strict=True)
    ]
    names = _output_names(module, leaves, given)
    again = observe(module, longer, time_major, Binding())
    ports = []
    for name, (_, short), (_, long) in zip(names, leaves, again, strict=True):
        grown = [
            axis for axis, (a, b) in enumerate(zip(short.shape, long.shape, strict=True)) if a != b
        ]
        if len(grown) > 1:
            raise ExportError(
                f"output {name!r} grows along axes {grown} with time: expected at most one"
            )
        axis = grown[0] if grown else None
        batched = short.dim() > 0 and short.shape[0] == args[0].shape[0]
        shape: list[int | str] = list(short.shape)
        if batched:
            shape[0] = BATCH
        if axis is not None:
            shape[axis] = TIME if short.shape[axis] in _times(inputs, args) else f"{TIME}_{name}"
        ports.append(PortInfo(name, _dtype_name(short), shape, 0 if batched else None, axis))
    return ports


def _times(inputs: Sequence[PortInfo], args: Sequence[Tensor]) -> set[int]:
    pairs = zip(inputs, args, strict=True)
    return {a.shape[p.time_axis] for p, a in pairs if p.time_axis is not None}


def _output_names(
    module: nn.Module,
    leaves: Sequence[tuple[str | None, Tensor]],
    given: Sequence[str] | None,
) -> list[str]:
    if not leaves:
        raise ExportError("the model returns no tensor: expected at least one output")
    if given is not None:
        names = list(given)
    elif isinstance(module, QRNNLanguageModel):
        names = ["logits"]
    else:
        plain = ["y"] if len(leaves) == 1 else [f"y_{i}" for i in range(len(leaves))]
        names = [key or name for (key, _), name in zip(leaves, plain, strict=True)]
    if len(names) != len(leaves) or len(set(names)) != len(names):
        raise ExportError(
            f"got output names {names} for {len(leaves)} outputs: expected one distinct name each "
            "(output_names)"
        )
    return names


def _dtype_name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
