"""Look at a model once, before tracing it: its layers, ports and states."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .. import __version__
from ..errors import ExportError
from ..metadata import LayerInfo, Metadata, StateEntry, StateMode
from ..nn import QRNN, QRNNLanguageModel
from ..nn.binding import Binding
from ..nn.layer import LayerState, QRNNLayer
from ..pooling.spec import OPSET_VERSION, POOLINGS
from .ports import check_input_names, input_ports, observe, output_ports


@dataclass
class Discovery(Binding):
    """Notes every layer call and changes nothing."""

    names: dict[int, str]
    calls: list[str] = field(default_factory=list)
    own_lengths: bool = False

    def enter(
        self, layer: QRNNLayer, x: Tensor, state: LayerState | None, lengths: Tensor | None
    ) -> tuple[Tensor, LayerState | None, Tensor | None]:
        """See :meth:`Binding.enter`.

        Raises:
            ExportError: the model cannot have its state lifted out.
        """
        name = self.names[id(layer)]
        if name in self.calls:
            raise ExportError(
                f"layer {name!r} is called twice in one forward pass: expected once, since each "
                "layer has one state; use two layers (they may share weights)"
            )
        if state is not None:
            raise ExportError(
                f"the model passes a state to layer {name!r} itself: expected None, since export "
                "takes the state from graph inputs; leave `state` out of the call"
            )
        self.own_lengths = self.own_lengths or lengths is not None
        self.calls.append(name)
        return x, state, lengths


def make_plan(
    module: nn.Module,
    args: Sequence[Tensor],
    *,
    states: StateMode,
    ragged: bool,
    time_major: bool,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    time_axes: Mapping[str, int | None] | None = None,
) -> Metadata:
    """Run ``module`` on ``args`` and describe its border.

    Args:
        module: in eval mode, on the CPU.
        args: one tensor per parameter of ``forward``, batch first, B >= 2 and T >= 2.
        states: how the graph carries state.
        ragged: whether the graph takes ``lengths``.
        time_major: whether ``module`` itself takes [T, B, ...].
        input_names: default: the names of forward's parameters.
        output_names: default: ``logits`` for a language model, dict keys, else y or y_0, y_1...
        time_axes: axis of time per input name (default 1, None for a 1-D input).

    Raises:
        ExportError: no QRNN layer, a layer used in a way that cannot be lifted, bad names.
    """
    names = check_input_names(module, args, input_names)
    inputs = input_ports(names, args, time_axes or {})
    discovery = Discovery({id(m): name for name, m in module.named_modules()})
    first = observe(module, args, time_major, discovery)
    if not discovery.calls:
        raise ExportError(
            f"{type(module).__name__} runs no QRNN layer: expected a model built on "
            "qrnn_deploy.nn; convert its layers first"
        )
    if ragged and discovery.own_lengths:
        raise ExportError(
            "the model passes lengths to its layers itself: expected lengths=False, since they "
            "come from the model's own inputs"
        )
    layers = [_layer_info(module, i, name) for i, name in enumerate(discovery.calls)]
    if states != "none":
        _refuse_reverse(layers)
    outputs = output_ports(module, inputs, args, first, time_major, output_names)
    dtype = str(module.get_submodule(layers[0].name).weight.dtype).removeprefix("torch.")
    entries = _state_entries(layers, dtype) if states != "none" else []
    config = getattr(module, "config", None)
    return Metadata(
        dtype=dtype,
        state_mode=states,
        ragged=ragged,
        inputs=inputs,
        outputs=outputs,
        layers=layers,
        states=entries,
        time_major=time_major,
        own_lengths=discovery.own_lengths,
        config=config() if callable(config) else None,
        weights_sha256=weights_digest(module),
        toolkit_version=__version__,
        op_domain_version=OPSET_VERSION,
    )


def example_args(module: nn.Module) -> tuple[Tensor, ...]:
    """Inputs [2, 7, ...] for a module of ours, whose shapes are known.

    Raises:
        ExportError: for any other module, which needs ``args``.
    """
    generator = torch.Generator().manual_seed(0)
    if isinstance(module, QRNNLanguageModel):
        vocabulary = module.config()["vocab_size"]
        return (torch.randint(vocabulary, (2, 7), generator=generator),)
    if isinstance(module, (QRNN, QRNNLayer)):
        dtype = next(module.parameters()).dtype
        return (torch.randn(2, 7, module.input_size, generator=generator).to(dtype),)
    raise ExportError(
        f"{type(module).__name__} is not a module of qrnn_deploy.nn: expected `args`, a tuple of "
        "example inputs with batch >= 2 and time >= 2"
    )


def weights_digest(module: nn.Module) -> str:
    """sha256 over name, dtype, shape and bytes of every parameter and buffer, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()


def _layer_info(module: nn.Module, index: int, name: str) -> LayerInfo:
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


def _state_entries(layers: Sequence[LayerInfo], dtype: str) -> list[StateEntry]:
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


def _refuse_reverse(layers: Sequence[LayerInfo]) -> None:
    for layer in layers:
        if layer.direction < 0:
            raise ExportError(
                f"layer {layer.name!r} runs in reverse, so its first output needs the last input "
                "and it cannot stream: export with states='none' (--states none) to run whole "
                "sequences"
            )
