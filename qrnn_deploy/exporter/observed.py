"""Running a user's module on examples: its output leaves, which axis follows what, its errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..metadata import PortInfo
from ..nn import LanguageModel, QRNNClassifier
from ..nn.binding import Binding, bound
from ..nn.delayed import Delayed
from ..nn.recurrent import is_state
from ..nn.standard import lifted
from .ports import BATCH, TIME, dtype_name, turn

Leaf = tuple[str | None, Tensor]


@contextmanager
def running(what: str, hint: str = "", passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Report an error of the user's own forward as one line, "the model fails <what>".

    Args:
        what: completes the line.
        hint: follows it.
        passing: errors of ours that may come out of the block as they are.

    Raises:
        ExportError: anything else was raised in the block.
    """
    try:
        yield
    except passing:
        raise
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"the model fails {what} ({first_line(error)}){hint}") from error


def first_line(error: BaseException) -> str:
    """``Type: first line`` of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0][:300]}" if lines else kind


class Late(Binding):
    """Leaves delayed modules late, as they are in a streaming file."""

    def delayed(self, module: Delayed) -> bool:
        """See :meth:`Binding.delayed`."""
        return True


def observe(
    module: nn.Module,
    inputs: Sequence[PortInfo],
    args: Sequence[Tensor],
    time_major: bool,
    binding: Binding,
) -> list[Leaf]:
    """Run the module once under ``binding``; its output leaves as the module returns them.

    Args:
        module: the model.
        inputs: its inputs.
        args: one tensor per input, batch first.
        time_major: whether the module takes [T, B, ...].
        binding: sees every call of a layer.
    """
    turned = [turn(a, port.time_axis, time_major) for port, a in zip(inputs, args, strict=True)]
    with torch.no_grad(), bound(binding), lifted(module):
        return named_output_leaves(module(*turned))


def output_ports(
    module: nn.Module,
    inputs: Sequence[PortInfo],
    args: Sequence[Tensor],
    leaves: Sequence[Leaf],
    time_major: bool,
    given: Sequence[str] | None,
    late: bool = False,
) -> list[PortInfo]:
    """Find the axes of each output: run again with each symbolic size of the inputs grown alone.

    ``late``: whether delayed modules are late, as in a streaming file.

    Raises:
        ExportError: the model fails when a size changes, or an output has its axes where a graph
            of ours cannot have them.
    """
    names = _output_names(module, leaves, given)
    symbols = [size for port in inputs for size in port.shape if isinstance(size, str)]
    found: list[dict[str, int]] = [{} for _ in leaves]  # per output: symbol -> axis
    lengths: list[dict[str, int]] = [{} for _ in leaves]
    for symbol in dict.fromkeys(symbols):
        longer = [_grown(port, a, symbol) for port, a in zip(inputs, args, strict=True)]
        with running(*_while_growing(symbol, inputs)):
            again = observe(module, inputs, longer, time_major, Late() if late else Binding())
        if [y.dim() for _, y in again] != [y.dim() for _, y in leaves]:
            raise ExportError(
                f"the model returns other outputs when {symbol!r} grows: expected as many, with "
                "as many axes"
            )
        for i, (name, (_, short), (_, long)) in enumerate(zip(names, leaves, again, strict=True)):
            grown = [k for k in range(short.dim()) if short.shape[k] != long.shape[k]]
            if len(grown) > 1:
                raise ExportError(
                    f"output {name!r} grows along axes {grown} with {symbol!r}: expected at most "
                    "one"
                )
            if grown:
                found[i][symbol] = grown[0]
                lengths[i][symbol] = long.shape[grown[0]]
    sizes = {s: _size_of(s, inputs, args) for s in symbols}
    ports = []
    for name, (_, y), axes, long_at in zip(names, leaves, found, lengths, strict=True):
        batch = axes.pop(BATCH, None)
        if len(set(axes.values())) > 1 or batch in axes.values():
            raise ExportError(
                f"output {name!r} has sizes that vary along axes {axes} beside batch axis {batch}: "
                "expected one axis of time"
            )
        time = next(iter(axes.values()), None)
        shape: list[int | str] = list(y.shape)
        if batch is not None:
            shape[batch] = BATCH
        if time is not None:
            shape[time] = f"{TIME}_{name}"
            if len(axes) == 1:
                (symbol,) = axes
                if (y.shape[time], long_at[symbol]) == (sizes[symbol], _longer(sizes[symbol])):
                    shape[time] = symbol
        if time_major and time == 1:
            raise ExportError(
                f"output {name!r} of a time-major model has time on axis 1: expected axis 0, as "
                "in the inputs; return it as [T, B, ...], or give time_major=False and turn the "
                "inputs in the model"
            )
        if time_major and (batch, time) == (1, 0):
            batch, time = 0, 1
            shape[:2] = shape[1], shape[0]
        ports.append(PortInfo(name, dtype_name(y), shape, batch, time))
    return ports


def named_output_leaves(result: Any) -> list[Leaf]:
    """The tensors of a module's result in order, without the states of our layers.

    Returns:
        (key, tensor): the key is None outside dictionaries.

    Raises:
        ExportError: the result holds something that an ONNX graph cannot return.
    """
    if result is None or is_state(result):
        return []
    if isinstance(result, Tensor):
        return [(None, result)]
    if isinstance(result, (tuple, list)):
        return [leaf for item in result for leaf in named_output_leaves(item)]
    if isinstance(result, dict):
        return [
            (str(key), tensor)
            for key, item in result.items()
            for _, tensor in named_output_leaves(item)
        ]
    raise ExportError(
        f"the model returns a {type(result).__name__}: expected tensors, or tuples, lists and "
        "dicts of them"
    )


def _longer(size: int) -> int:
    return 2 * size + 1


def _grown(port: PortInfo, x: Tensor, symbol: str) -> Tensor:
    for axis, size in enumerate(port.shape):
        if size == symbol:
            x = torch.cat([x, x, x.narrow(axis, 0, 1)], dim=axis)
    return x


def _size_of(symbol: str, inputs: Sequence[PortInfo], args: Sequence[Tensor]) -> int:
    pairs = zip(inputs, args, strict=True)
    return next(a.shape[p.shape.index(symbol)] for p, a in pairs if symbol in p.shape)


def _while_growing(symbol: str, inputs: Sequence[PortInfo]) -> tuple[str, str]:
    """For :func:`running`: what was done, and what to do about it."""
    if symbol == BATCH:
        return "on a larger batch", "; expected a model that takes any batch size"
    names = [port.name for port in inputs if symbol in port.shape]
    flat = [port.name for port in inputs if symbol in port.shape and len(port.shape) == 2]
    example = (flat or names)[-1]
    hint = f"; if {example!r} has no time axis, give time_axes={{{example!r}: None}}"
    return f"when {' and '.join(map(repr, names))} are longer in time", hint


def _output_names(
    module: nn.Module, leaves: Sequence[Leaf], given: Sequence[str] | None
) -> list[str]:
    if not leaves:
        raise ExportError("the model returns no tensor: expected at least one output")
    if given is not None:
        names = list(given)
    elif isinstance(module, (LanguageModel, QRNNClassifier)):
        names = ["logits"]
    else:
        plain = ["y"] if len(leaves) == 1 else [f"y_{i}" for i in range(len(leaves))]
        names = [key or name for (key, _), name in zip(leaves, plain, strict=True)]
    if len(names) != len(leaves) or len(set(names)) != len(names) or not all(names):
        raise ExportError(
            f"got output names {names} for {len(leaves)} outputs: expected one distinct name each "
            "(output_names)"
        )
    return names
