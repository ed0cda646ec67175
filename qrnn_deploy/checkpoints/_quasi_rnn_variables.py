"""The variables of a quasi-rnn checkpoint: which there are, and whether they fit together."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import NoReturn

import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..nn.config import shorten
from ..pooling.spec import POOLINGS

SCOPE = "QRNN_LM/"
EMBEDDING = f"{SCOPE}word_W"
DECODER = f"{SCOPE}output_softmax/weights"
DECODER_BIAS = f"{SCOPE}output_softmax/biases"
LEARNING_RATE = "Variable"
"""What TensorFlow calls a variable without a name; upstream's only one holds the learning rate."""

LAYER = re.compile(r"QRNN_LM/QRNN_layer(0|[1-9]\d{0,3})/convolutions/([Wb])([zfoi])")
_POOLING_OF = {frozenset(POOLINGS[name].gates): name for name in ("f", "fo", "ifo")}
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def plain_names(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without ``:0``, which TensorFlow adds to those of tensors."""
    plain = {name.removesuffix(":0"): tensor for name, tensor in arrays.items()}
    if len(plain) != len(arrays):
        twice = next(name for name in arrays if f"{name}:0" in arrays)
        raise CheckpointError(
            f"holds both {shorten(twice)} and {shorten(f'{twice}:0')}, expected one of them"
        )
    return plain


def sort_out(variables: Mapping[str, Tensor]) -> tuple[list[set[str]], set[str]]:
    """The parts of every layer (Wz, bf, ...), and the names that are no part of the model.

    An optimizer's slot is named after the variable it belongs to: ``QRNN_LM/word_W/Adam``.
    """
    model = {name for name in variables if name in (EMBEDDING, DECODER, DECODER_BIAS)}
    parts: dict[int, set[str]] = {}
    for name in variables:
        if match := LAYER.fullmatch(name):
            model.add(name)
            parts.setdefault(int(match[1]), set()).add(match[2] + match[3])
    ignored = variables.keys() - model
    for name in sorted(ignored):
        if name.startswith(SCOPE) and name.rpartition("/")[0] not in model:
            raise CheckpointError(
                f"has unknown variable {shorten(name)}{_nearest(name, model)}: it is none of "
                "upstream's, so a model without it would not be the trained one"
            )
    count = max(parts, default=-1) + 1
    return [parts.get(number, set()) for number in range(count)], set(ignored)


def check_present(variables: Mapping[str, Tensor], layers: list[set[str]]) -> None:
    """Every variable that the others ask for."""
    if not layers:
        _lacks(variables, name_of(0, "Wz"))
    for number, found in enumerate(layers):
        wanted = {"Wz", "Wf"}
        if any(name.startswith("b") for name in found):
            wanted |= {f"b{name[1]}" for name in found if name.startswith("W")}
            wanted |= {f"W{name[1]}" for name in found if name.startswith("b")}
        for part in sorted(wanted - found):
            _lacks(variables, name_of(number, part))
    for name in (EMBEDDING, DECODER):
        if name not in variables:
            _lacks(variables, name)


def pooling_of(number: int, found: Iterable[str]) -> str:
    """The pooling that has these gates."""
    gates = frozenset(name[1] for name in found if name.startswith("W"))
    if gates not in _POOLING_OF:
        shown = ", ".join(sorted(gates, key="zifo".index))
        raise ConfigError(
            f"layer {number} has the gates {shown}, expected z, f or z, f, o or z, i, f, o"
        )
    return _POOLING_OF[gates]


def check_types(model: Mapping[str, Tensor]) -> None:
    first = model[EMBEDDING].dtype
    for name, tensor in model.items():
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(f"variable {name} is {tensor.dtype}, expected torch.float32")
        if tensor.dtype != first:
            raise CheckpointError(
                f"variable {name} is {tensor.dtype} and {EMBEDDING} is {first}, "
                "expected one type for all"
            )


def shape_of(variables: Mapping[str, Tensor], name: str, rank: int, axes: str) -> tuple[int, ...]:
    shape = tuple(variables[name].shape)
    if len(shape) != rank or 0 in shape:
        raise CheckpointError(f"variable {name} has shape {_shown(shape)}, expected {axes}")
    return shape


def expect(variables: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> None:
    found = tuple(variables[name].shape)
    if found != shape:
        raise CheckpointError(
            f"variable {name} has shape {_shown(found)}, expected {_shown(shape)} by the variables "
            "before it"
        )


def _shown(shape: tuple[int, ...]) -> str:
    return str(list(shape)) if len(shape) <= 8 else f"of {len(shape)} axes"


def _lacks(variables: Mapping[str, Tensor], name: str) -> NoReturn:
    raise CheckpointError(
        f"lacks variable {name}{_nearest(name, variables.keys() - {name})}: save every variable of "
        "the graph, under the name it has there"
    )


def _nearest(name: str, others: Collection[str]) -> str:
    """In brackets, the name that is most like this one."""
    # Comparing takes time that grows with length: a stranger's names are cut to a sane one.
    short = {other[:120]: None for other in sorted(others)[:2000]}
    close = difflib.get_close_matches(name[:120], list(short), n=1)
    return f" (nearest: {shorten(close[0], 90)})" if close else ""


def name_of(number: int, part: str) -> str:
    return f"{SCOPE}QRNN_layer{number}/convolutions/{part}"
