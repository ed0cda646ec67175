"""Which options of ``run`` go with which mode and which kind of model."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.core import ParameterSource

MODES = {"score": "--score", "generate": "--generate", "text": "--text", "frames": "frames"}
_USED_BY = {
    "source": ("score", "text", "frames"),
    "prompt": ("generate",),
    "temperature": ("generate",),
    "seed": ("generate",),
    "unknown": ("score", "generate", "text"),
    "chunk": ("score", "frames"),
    "beam": ("text",),
    "length_penalty": ("text",),
    "max_steps": ("text",),
    "form": ("frames",),
    "as_json": ("score", "text"),
}
"""The arguments that not every mode has a use for."""


def refuse_unused(context: click.Context, mode: str) -> None:
    """Refuse what the user gave and the mode would pass over in silence."""
    for parameter in context.command.params:
        users = _USED_BY.get(parameter.name or "", (mode,))
        if mode in users:
            continue
        if context.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT:
            name = "INPUT" if parameter.name == "source" else max(parameter.opts, key=len)
            raise click.UsageError(f"{name} goes with {joined(users)}, not with {MODES[mode]}")


def refuse_unlike(context: click.Context, mode: str, two_files: bool) -> None:
    """Refuse what the user gave and the kind of the model has no use for."""
    model = context.params["model"]
    if two_files and mode != "text":
        raise click.UsageError(
            f"{model} is an encoder-decoder: add --text to have each line translated"
        )
    what = "an" if two_files else "no"
    for name in ("cuda_graph",) if two_files else ("beam", "length_penalty", "max_steps"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{model} is {what} encoder-decoder: leave out {option}")


def joined(modes: Sequence[str]) -> str:
    """Modes as a sentence names them."""
    names = [MODES[mode] for mode in modes]
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
