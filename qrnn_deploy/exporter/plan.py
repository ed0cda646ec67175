"""Look at a model once, before tracing it: its layers, ports and states."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..errors import ExportError
from ..metadata import LayerInfo, Metadata, PortInfo
from ..nn import ARCHITECTURES, DelayedRNN, QRNNClassifier, QRNNEncoderDecoder, TextEncoder
from ..nn.binding import Binding
from ..nn.delayed import Delayed
from ..nn.recurrent import RecurrentLayer
from ..nn.standard import StandardLayer
from ..pooling.spec import OPSET_VERSION
from .layers import layer_info, refuse_reverse, reserved_names, state_entries, weight_type
from .observed import observe, output_ports, running
from .options import ExportOptions
from .ports import check_input_names, input_ports
from .tokens import draw_tokens


@dataclass
class Discovery(Binding):
    """Notes every layer call and changes nothing.

    Args:
        names: of the modules, by id.
        lifting: whether the graph carries state, so that the model must not pass its own.
    """

    names: dict[int, str]
    lifting: bool = True
    calls: list[str] = field(default_factory=list)
    own_lengths: bool = False
    whole_delays: list[Delayed] = field(default_factory=list)  # where the module itself drops
    delays: list[Delayed] = field(default_factory=list)
    repeated: set[str] = field(default_factory=set)  # called again, where that does no harm

    def enter(
        self, layer: RecurrentLayer, x: Tensor, state: Any, lengths: Tensor | None
    ) -> tuple[Tensor, Any, Tensor | None]:
        """See :meth:`Binding.enter`.

        Raises:
            ExportError: the model cannot have its state lifted out.
        """
        name = self.names.get(id(layer.owner))
        if name is None:
            raise ExportError(
                f"the model runs a {layer.family} layer ({layer.input_size} to "
                f"{layer.hidden_size}) that is none of its submodules: expected an attribute of a "
                "module, or nn.ModuleList rather than a list"
            )
        if name in self.calls and isinstance(layer, StandardLayer) and not self.lifting:
            self.repeated.add(name)
            return x, state, lengths
        if name in self.calls:
            reason = "state" if self.lifting else "node and one name per tensor in the file"
            raise ExportError(
                f"layer {name!r} is called twice in one forward pass: expected once, since each "
                f"layer has one {reason}; use two layers (they may share weights)"
            )
        if state is not None and self.lifting:
            raise ExportError(
                f"the model passes a state to layer {name!r} itself: expected None, since export "
                "takes the state from graph inputs; leave `state` out of the call, export with "
                "states='none' (--states none), or, if its layers come from "
                "qrnn_deploy.convert(model), convert with carried=True"
            )
        self.own_lengths = self.own_lengths or lengths is not None
        self.calls.append(name)
        return x, state, lengths

    def delayed(self, module: Delayed) -> bool:
        """See :meth:`Binding.delayed`.

        Raises:
            ExportError: a second delay, whose input would be late already.
        """
        if not self.lifting:
            self.whole_delays.append(module)
            return False
        if self.delays:
            raise ExportError(
                f"the model has a second delay ({self.names.get(id(module), 'unnamed')!r}): "
                "expected one in a streaming export, since what follows a delay gets its inputs "
                "late; export with states='none' (--states none)"
            )
        self.delays.append(module)
        return True

    @property
    def layers(self) -> list[str]:
        """Names of the layers that a file records, in order of their calls."""
        return [name for name in self.calls if name not in self.repeated]


def make_plan(
    module: nn.Module, args: Sequence[Tensor], options: ExportOptions, time_major: bool
) -> Metadata:
    """Run ``module`` on ``args`` and describe its border.

    Args:
        module: in eval mode, on the CPU.
        args: one tensor per parameter of ``forward``, batch first, B >= 2 and T >= 2.
        options: names default to those of forward's parameters; to ``logits`` for a language
            model or classifier, dict keys, else y or y_0, y_1... for outputs.
        time_major: whether ``module`` itself takes [T, B, ...].

    Raises:
        ExportError: no QRNN layer, a layer used in a way that cannot be lifted, bad names.
    """
    states, ragged = options.states or "separate", options.lengths
    names = check_input_names(module, args, options.input_names)
    inputs = input_ports(names, args, options.time_axes, options.whole)
    discovery = Discovery({id(m): name for name, m in module.named_modules()}, states != "none")
    with running("on the example inputs", _hint(inputs)):
        first = observe(module, inputs, args, time_major, discovery)
    if not discovery.layers:
        for name, part in module.named_modules():
            if isinstance(part, (nn.LSTM, nn.GRU)):
                raise ExportError(
                    f"{type(module).__name__} runs no recurrent layer that a file could name: "
                    f"{name!r} is called twice, has a proj_size, or is of a subclass; expected a "
                    "plain nn.LSTM or nn.GRU that is called once, or layers of qrnn_deploy.nn"
                )
        raise ExportError(
            f"{type(module).__name__} runs no recurrent layer: expected a model built on "
            "qrnn_deploy.nn, nn.LSTM or nn.GRU; convert its layers first"
        )
    if ragged and discovery.own_lengths:
        raise ExportError(
            "the model passes lengths to its layers itself: expected lengths=False, since they "
            "come from the model's own inputs"
        )
    if ragged and any(isinstance(part, QRNNClassifier) for part in module.modules()):
        raise ExportError(
            "the model is a classifier, which finds the end of each text by its padding: expected "
            "lengths=False; pad the texts as the model wants it (QRNNClassifier, `padding`)"
        )
    delay = next(iter(discovery.delays), None)
    layers = [layer_info(module, i, name) for i, name in enumerate(discovery.layers)]
    if states != "none":
        refuse_reverse(module, layers)
    if ragged:
        _refuse_without_lengths(layers)
        if discovery.whole_delays:
            raise ExportError(
                "the model has a delay, and each row of a batch would be longer by it than its "
                "length: expected lengths=False with states='none'; with states='separate' the "
                "file takes lengths"
            )
    dtype = weight_type(module, layers)
    for layer in layers:
        if not layer.is_ours and dtype == "bfloat16":
            raise ExportError(
                f"layer {layer.name!r} is an nn.{layer.family}, and ONNX's {layer.family} takes no "
                "bfloat16: expected another type; give dtype='float32' (--dtype float32)"
            )
    outputs = output_ports(
        module, inputs, args, first, time_major, options.output_names, late=states != "none"
    )
    entries = state_entries(module, layers, dtype) if states != "none" else []
    _refuse_clashes(inputs, outputs, reserved_names(layers, entries, states, ragged))
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
        delay=delay.delay if delay else 0,
        padding=delay.padding if delay else None,
        config=_config(module),
        weights_sha256=weights_digest(module),
        toolkit_version=__version__,
        op_domain_version=OPSET_VERSION,
    )


def example_args(module: nn.Module) -> tuple[Tensor, ...]:
    """Inputs [2, 7, ...] for a module of ours, whose shapes are known; longer by a delay.

    Raises:
        ExportError: for any other module, which needs ``args``.
    """
    if isinstance(module, QRNNEncoderDecoder):
        raise ExportError(
            "an encoder-decoder becomes two files with inputs of their own: expected a model of one"
        )
    generator = torch.Generator().manual_seed(0)
    steps = 7 + (module.delay if isinstance(module, Delayed) else 0)
    if isinstance(module, (TextEncoder, DelayedRNN)) and module.vocab_size is not None:
        config = _config(module) or {"vocab_size": module.vocab_size}
        return (draw_tokens(config, (2, steps), generator),)
    width = (_config(module) or {}).get("input_size", getattr(module, "input_size", None))
    if isinstance(module, tuple(ARCHITECTURES.values())) and isinstance(width, int):
        dtype = next(module.parameters()).dtype
        return (torch.randn(2, steps, width, generator=generator).to(dtype),)
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


def _hint(inputs: Sequence[PortInfo]) -> str:
    """What to try where the model fails and an input [B, D] may have been taken for [B, T]."""
    flat = [port.name for port in inputs if port.time_axis is not None and len(port.shape) == 2]
    if not flat or len(inputs) == 1:
        return ""
    return f"; if {flat[-1]!r} has no time axis, give time_axes={{{flat[-1]!r}: None}}"


def _config(module: nn.Module) -> dict[str, Any] | None:
    """The configuration of a module of ours; a method of that name elsewhere may be anything."""
    for kind in ARCHITECTURES.values():
        if isinstance(module, kind) and type(module).config is kind.config:
            return module.config()
    return None


def _refuse_without_lengths(layers: Sequence[LayerInfo]) -> None:
    for layer in layers:
        if not layer.is_ours:
            raise ExportError(
                f"layer {layer.name!r} is an nn.{layer.family}, which takes no lengths: expected "
                "lengths=False, or a layer of qrnn_deploy.nn in its place"
            )


def _refuse_clashes(
    inputs: Sequence[PortInfo], outputs: Sequence[PortInfo], reserved: set[str]
) -> None:
    taken = {port.name for port in inputs}
    for option, ports in (("input_names", inputs), ("output_names", outputs)):
        for port in ports:
            kind = option.removesuffix("_names")
            if port.name in reserved:
                raise ExportError(
                    f"{kind} {port.name!r} has a name that the exported graph uses itself: "
                    f"expected another; give {option}"
                )
            if kind == "output" and port.name in taken:
                raise ExportError(
                    f"{port.name!r} names an input and an output: expected distinct names; give "
                    "output_names"
                )
