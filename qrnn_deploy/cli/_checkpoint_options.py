"""What the user says about a checkpoint: the options that ``export`` and ``inspect`` share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ._shared import FiniteFloat

if TYPE_CHECKING:
    from ..checkpoints import Given

Command = TypeVar("Command", bound=Callable[..., Any])

FIELDS = (
    *("format", "key", "window", "output_gate", "input_size", "zoneout", "direction"),
    *("bidirectional", "batch_first", "vocabulary", "classes", "pad_token", "bptt", "max_len"),
    *("activation", "highway", "rescale", "layer_norm", "causal", "heads", "delay", "padding"),
)
"""Parameters of a command that has :func:`checkpoint_options`; they come as one, ``given``."""


def _windows(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | tuple[int, ...] | None:
    """``2`` or ``2,1,1``."""
    if value is None:
        return None
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no number of taps and no list of them, such as 2 or 2,1,1"
        ) from None
    if any(number < 1 for number in numbers):
        raise click.BadParameter(f"{value!r} has a number below 1")
    return numbers[0] if len(numbers) == 1 else numbers


def _names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """``neg,pos``."""
    return None if value is None else tuple(part.strip() for part in value.split(","))


def _padding(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | int | str | None:
    """``3`` for a token, ``0.5``, ``future``."""
    if value is None or value == "future":
        return value
    for kind in (int, float):
        try:
            number: float | int = kind(value)
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    raise click.BadParameter(f"{value!r} is no number, and not 'future'")


_OPTIONS = (
    click.option(
        "--format",
        metavar="NAME",
        help="Which project wrote the checkpoint, where several could have (docs/checkpoints.md).",
    ),
    click.option("--key", help="Which part of the file, where several hold a model: model_ema."),
    click.option(
        "--window",
        metavar="K[,K...]",
        callback=_windows,
        help="Taps of the convolution: one number, or one per layer.",
    ),
    click.option("--output-gate/--no-output-gate", default=None, help="fo-pooling or f-pooling."),
    click.option("--input-size", type=click.IntRange(min=1), help="Features of the input."),
    click.option(
        "--zoneout",
        type=FiniteFloat(min=0, max=1, max_open=True),
        help="Probability of zoneout in training, where the upstream code scales by it in eval "
        "mode too (torchqrnn, SpeechBrain).",
    ),
    click.option(
        "--direction",
        type=click.Choice(["forward", "reverse"]),
        help="Which way one-directional layers walk.",
    ),
    click.option(
        "--bidirectional/--one-directional", default=None, help="Whether layers walk both ways."
    ),
    click.option(
        "--batch-first/--time-major",
        default=None,
        help="Layout of the PyTorch module. The ONNX file is batch first in any case.",
    ),
    click.option(
        "--vocabulary",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The tokens of a model of text: itos.pkl, a .json list, or one per line.",
    ),
    click.option(
        "--classes",
        metavar="NAME,NAME...",
        callback=_names,
        help="Names of a classifier's classes.",
    ),
    click.option(
        "--pad-token", type=click.IntRange(min=0), help="Of a classifier: the token that pads."
    ),
    click.option(
        "--bptt", type=click.IntRange(min=1), help="Of a classifier: steps per chunk in training."
    ),
    click.option(
        "--max-len",
        type=click.IntRange(min=1),
        help="Of a classifier: steps at the end of a text that it looks at.",
    ),
    click.option(
        "--activation",
        type=click.Choice(["identity", "tanh", "relu"]),
        help="Of an SRU: the activation of its state on the way out (use_tanh).",
    ),
    click.option(
        "--highway/--no-highway",
        default=None,
        help="Of an SRU: whether its input is mixed into its output (has_skip_term).",
    ),
    click.option(
        "--rescale/--no-rescale", default=None, help="Of an SRU: whether its scale_x applies."
    ),
    click.option(
        "--layer-norm",
        type=click.Choice(["before", "after"]),
        help="Of an SRU: whether its layer norms stand before the gates or behind the output.",
    ),
    click.option(
        "--causal/--no-causal",
        default=None,
        help="Of an SRU++: whether its attention looks at earlier steps only.",
    ),
    click.option(
        "--heads", type=click.IntRange(min=1), help="Of an SRU++: heads of its attention."
    ),
    click.option(
        "--delay",
        type=click.IntRange(min=0),
        help="Of a delayed RNN: steps by which its outputs are late.",
    ),
    click.option(
        "--padding",
        metavar="X|future",
        callback=_padding,
        help="Of a delayed RNN: the number or token that follows a sequence, or future where the "
        "inputs go on.",
    ),
)


def checkpoint_options(command: Command) -> Callable[..., Any]:
    """Give a command the options; it gets them as ``said``, a dictionary without what was not."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        said = {name: kwargs.pop(name) for name in FIELDS}
        if said["vocabulary"] is not None:
            said["vocabulary"] = str(said["vocabulary"])
        kwargs["said"] = {name: value for name, value in said.items() if value is not None}
        return command(*args, **kwargs)

    result: Callable[..., Any] = update_wrapper(wrapped, command)
    for option in reversed(_OPTIONS):
        result = option(result)
    return result


def given_from(said: dict[str, Any]) -> Given:
    """What was said, for the library (imports torch).

    Raises:
        CheckpointError: a value is none.
    """
    from ..checkpoints import Given

    return Given(**said)
