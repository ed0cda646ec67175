"""What a file records of each recurrent layer: its node, its states, the names it takes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import ExportError
from ..metadata import LENGTHS, PACKED_INPUT, PACKED_OUTPUT, LayerInfo, StateEntry, StateMode
from ..nn.layer import QRNNLayer
from ..pooling.spec import POOLINGS
from .options import DTYPES
from .ports import dtype_name


def layer_info(module: nn.Module, index: int, name: str) -> LayerInfo:
    """The record of the ``index``-th layer called, whose place in ``module`` is ``name``."""
    layer = module.get_submodule(name)
    assert isinstance(layer, QRNNLayer)
    prefix = f"layer_{index:02d}"
    return LayerInfo(
        index=index,
        name=name,
        node=f"{prefix}_pool",
        op_type=POOLINGS[layer.pooling].op_type,
        pooling=layer.pooling,
        activation=layer.activation,
        direction=-1 if layer.reverse else 1,
        zoneout_scale=layer.zoneout_scale,
        window=layer.window,
        input_size=layer.input_size,
        hidden_size=layer.hidden_size,
        tensors={what: f"{prefix}_{what}" for what in ("input", "gates", "h", "c")},
    )


def state_entries(layers: Sequence[LayerInfo], dtype: str) -> list[StateEntry]:
    """The carried states of the layers in graph order; windows of inputs have type ``dtype``."""
    entries: list[StateEntry] = []
    offset = 0
    for layer in layers:
        prefix = f"state_{layer.index:02d}"
        wanted = [(f"{prefix}_c", "c", [layer.hidden_size], "float32")]
        if layer.window > 1:
            wanted.append((f"{prefix}_x", "x", [layer.window - 1, layer.input_size], dtype))
        for name, kind, shape, state_dtype in wanted:
            entry = StateEntry(
                name, "c" if kind == "c" else "x", layer.index, shape, state_dtype, offset
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
        layer = module.get_submodule(info.name)
        assert isinstance(layer, QRNNLayer)
        kinds.setdefault(dtype_name(layer.weight), info.name)
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


def refuse_reverse(layers: Sequence[LayerInfo]) -> None:
    """Check that all layers can stream.

    Raises:
        ExportError: one runs backwards in time.
    """
    for layer in layers:
        if layer.direction < 0:
            raise ExportError(
                f"layer {layer.name!r} runs in reverse, so its first output needs the last input "
                "and it cannot stream: export with states='none' (--states none) to run whole "
                "sequences"
            )
