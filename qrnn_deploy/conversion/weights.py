"""The one linear map of an upstream layer, and our layer with the same numbers.

Plain (``linear``), or wrapped for weight dropout: awd-lstm-lm's WeightDrop keeps the trained weight
as ``linear.module.weight_raw``, fastai's WeightDropout as ``linear.weight_raw``. Beside either,
``linear.module.weight`` is a copy that the last forward pass made, so it is never used.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from torch import Tensor, nn

from ..checkpoints.gates import paper_bias, paper_weight
from ..nn.layer import QRNNLayer
from .errors import ConversionError

_WRAPPERS = ("WeightDrop", "WeightDropout")
_TRAINED = ("weight_raw", "module.weight_raw")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class LinearMap:
    """The trained numbers of a layer, in upstream's layout and memory.

    Attributes:
        weight: [g*H, w*in], rows z, f, (o), columns newest input first.
        bias: [g*H], or None.
    """

    weight: Tensor
    bias: Tensor | None


def trained(linear: object) -> LinearMap:
    """Find them in ``nn.Linear``, or in one with a weight dropout around it.

    Raises:
        ConversionError: it is another module, has further parameters (a reparametrisation) or
            hooks, or no values.
    """
    if not isinstance(linear, nn.Module):
        raise ConversionError(f"its linear map is a {type(linear).__name__}, expected nn.Linear")
    wrapped = type(linear).__name__ in _WRAPPERS
    inner = getattr(linear, "module", linear) if wrapped else linear
    if not isinstance(inner, nn.Linear) or type(inner).forward is not nn.Linear.forward:
        raise ConversionError(
            f"its linear map is a {type(inner).__name__}, expected nn.Linear, alone or in a "
            "WeightDropout"
        )
    refuse_hooks(inner)
    refuse_hooks(linear)
    found = dict(linear.named_parameters(remove_duplicate=False))
    raw = next((name for name in _TRAINED if name in found), None)
    weight = found.pop(raw or "weight", None)
    if raw:
        found.pop("module.weight", None)
    biases = [found.pop(name) for name in ("bias", "module.bias") if name in found]
    if weight is None or len(biases) > 1 or found:
        names = ", ".join(name for name, _ in linear.named_parameters(remove_duplicate=False))
        raise ConversionError(
            f"its linear map has the parameters {names}, expected weight and bias: take a weight "
            "norm, pruning or the like off first"
        )
    if weight.is_meta:
        raise ConversionError("its weight is on the meta device, expected one with values")
    return LinearMap(weight, biases[0] if biases else None)


def refuse_hooks(part: nn.Module) -> None:
    """Check that nobody watches or changes what a module computes.

    Raises:
        ConversionError: it has hooks, which the replacement would not call.
    """
    if any(getattr(part, hooks, None) for hooks in _HOOKS):
        raise ConversionError(
            f"its {type(part).__name__} has hooks, which would be lost: remove them first"
        )


class Weights:
    """Makes our layers; upstream tensors that several layers share stay shared."""

    def __init__(self) -> None:
        self._made: dict[Hashable, nn.Parameter] = {}

    def kept(self, key: Hashable, made: nn.Parameter) -> nn.Parameter:
        """The first parameter that was made under ``key``, an upstream tensor and a part of it."""
        return self._made.setdefault(key, made)

    def layer(
        self,
        linear: LinearMap,
        *,
        gates: int,
        window: int,
        reverse: bool = False,
        zoneout: float = 0.0,
        zoneout_eval: str = "identity",
    ) -> QRNNLayer:
        """Our layer, time-major, with the device and type of ``linear``.

        Args:
            linear: is left as it is.
            gates: 3, or 2 without an output gate.
            window: taps.
            reverse: as in :class:`QRNNLayer`.
            zoneout: as in :class:`QRNNLayer`.
            zoneout_eval: as in :class:`QRNNLayer`.

        Raises:
            ConversionError: the weight has another shape than such a layer's.
            ConfigError: an argument is out of range.
        """
        rows, columns = linear.weight.shape
        if rows % gates or columns % window:
            raise ConversionError(
                f"its weight has shape [{rows}, {columns}], expected {gates} times the hidden size "
                f"and {window} times the input size"
            )
        layer = QRNNLayer(
            columns // window,
            rows // gates,
            window=window,
            pooling="fo" if gates == 3 else "f",
            reverse=reverse,
            bias=linear.bias is not None,
            zoneout=zoneout,
            zoneout_eval=zoneout_eval,
            # No memory and no random numbers for weights that are replaced at once.
            device="meta",
            dtype=linear.weight.dtype,
        )
        layer.weight = self._parameter(
            linear.weight, gates, window, lambda weight: paper_weight(weight, gates, window)
        )
        if linear.bias is not None:
            layer.bias = self._parameter(
                linear.bias, gates, window, lambda bias: paper_bias(bias, gates)
            )
        return layer

    def _parameter(
        self, tensor: Tensor, gates: int, window: int, turn: Callable[[Tensor], Tensor]
    ) -> nn.Parameter:
        key = (id(tensor), gates, window)
        if key not in self._made:
            # A copy first: the turn happens in place, and the user's model stays as it is.
            turned = turn(tensor.detach().clone())
            self._made[key] = nn.Parameter(turned, tensor.requires_grad)
        return self._made[key]
