"""What a file records of each recurrent layer: its node, its states, the names it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from .._metadata_check import LAYER_TENSORS, STANDARD_OPERATORS
from ..errors import ExportError
from ..metadata import (
    LENGTHS,
    PACKED_INPUT,
    PACKED_OUTPUT,
    LayerInfo,
    StateEntry,
    StateKind,
    StateMode,
)
from ..nn.recurrent import RecurrentLayer
from ..nn.standard import recurrent_layer
from .options import DTYPES
from .ports import dtype_name


def layer_info(module: nn.Module, index: int, name: str) -> LayerInfo:
    """The record of the ``index``-th layer called, whose place in ``module`` is ``name``."""
    layer = layer_at(module, name)
    prefix = f"layer_{index:02d}"
    facts: dict[str, Any] = {
        **{"pooling": "", "activation": "", "zoneout_scale": 1.0, "window": 1},
        **layer.facts(),
    }
    ours = facts["op_type"] not in STANDARD_OPERATORS
    tensors = LAYER_TENSORS if ours else ("input", "h")
    return LayerInfo(
        index=index,
        name=name,
        node=f"{prefix}_pool" if ours else prefix,
        direction=layer.direction,
        input_size=layer.input_size,
        hidden_size=layer.hidden_size,
        tensors={what: f"{prefix}_{what}" for what in tensors},
        family=layer.family,
        **facts,
    )


def layer_at(module: nn.Module, name: str) -> RecurrentLayer:
    """The layer of ``module`` at ``name``, as a plan recorded it.

    Raises:
        LookupError: there is none.
    """
    try:
        layer = recurrent_layer(module.get_submodule(name))
    except AttributeError:
        layer = None
    if layer is None:
        raise LookupError(f"no recurrent layer at {name!r}")
    return layer


def state_entries(module: nn.Module, layers: Sequence[LayerInfo], dtype: str) -> list[StateEntry]:
    """The carried states of the layers in graph order.

    Those of our operators are float32, others have the type of the weights, ``dtype``.
    """
    entries: list[StateEntry] = []
    offset = 0
    for layer in layers:
        for part in layer_at(module, layer.name).state_parts():
            entry = StateEntry(
                name=f"state_{layer.index:02d}_{part.kind}",
                kind=cast("StateKind", part.kind),
                layer=layer.index,
                shape=list(part.shape),
                dtype="float32" if part.recurrent else dtype,
                offset=offset,
            )
            entries.append(entry)
            offset += entry.size
    return entries


def weight_type(module: nn.Module, layers: Sequence[LayerInfo]) -> str:
    """The one type of the layers' weights.

    Raises:
        ExportError: they have several, or one that is not exported.
    """
    kinds: dict[str, str] = {}
    for info in layers:
        kinds.setdefault(dtype_name(layer_at(module, info.name).storage), info.name)
    if len(kinds) > 1:
        found = " and ".join(f"{kind} in {name!r}" for kind, name in kinds.items())
        raise ExportError(
            f"the layers have weights of {found}: expected one type; give dtype='float32'"
        )
    (kind,) = kinds
    if kind not in DTYPES:
        raise ExportError(
            f"the model has {kind} weights, and {kind} is not exported: expected one of "
            f"{', '.join(DTYPES)}; give dtype='float32' (--dtype float32)"
        )
    return kind


def reserved_names(
    layers: Sequence[LayerInfo], entries: Sequence[StateEntry], states: StateMode, ragged: bool
) -> set[str]:
    """Names that the exported graph gives to tensors of its own."""
    names = {tensor for layer in layers for tensor in layer.tensors.values()}
    names |= {LENGTHS} if ragged else set()
    if states == "packed":
        return names | {PACKED_INPUT, PACKED_OUTPUT}
    return names | {name for entry in entries for name in (entry.input, entry.output)}


def refuse_reverse(module: nn.Module, layers: Sequence[LayerInfo]) -> None:
    """Check that all layers can stream.

    Raises:
        ExportError: one runs backwards in time.
    """
    for layer in layers:
        if not layer_at(module, layer.name).streams:
            raise ExportError(
                f"layer {layer.name!r} runs in reverse, so its first output needs the last input "
                "and it cannot stream: export with states='none' (--states none) to run whole "
                "sequences"
            )
