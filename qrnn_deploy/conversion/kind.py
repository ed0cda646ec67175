"""How an upstream layer is recognised, by its names alone: upstream code is never imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..nn.layer import QRNNLayer
from .adapter import Adapter, Carrying
from .errors import ConversionError
from .proof import prove
from .weights import Weights, refuse_hooks


@dataclass(frozen=True)
class AnyKind:
    """One class of upstream parts.

    Attributes:
        name: of the project, for messages.
        class_name: of the part, or of a class that it inherits from.
        has: attributes that it must have.
        has_not: attributes that make it another kind.
    """

    name: str
    class_name: str
    has: tuple[str, ...]
    has_not: tuple[str, ...]

    def replace(self, upstream: Any, weights: Weights, carried: bool, check: bool) -> Carrying:
        """Ours in place of an upstream part, compared with it if ``check``.

        Raises:
            ConversionError: it cannot be replaced.
            ConfigError: its sizes or rates are out of range.
        """
        raise NotImplementedError

    def is_named(self, module: nn.Module) -> bool:
        """Whether the class, or one that it inherits from, has the name."""
        return any(cls.__name__ == self.class_name for cls in type(module).__mro__)

    def lacks(self, module: nn.Module) -> list[str]:
        """Names of the attributes that are missing."""
        return [name for name in self.has if not hasattr(module, name)]

    def fits(self, module: nn.Module) -> bool:
        """Whether ``module`` is of this kind."""
        return (
            self.is_named(module)
            and not self.lacks(module)
            and not any(hasattr(module, name) for name in self.has_not)
        )


@dataclass(frozen=True)
class Kind(AnyKind):
    """One class of upstream QRNN layers.

    Attributes:
        part: the attribute that is its linear map.
        replacement: (upstream layer, weights, carried) -> ours in its place; it raises
            ConversionError or ConfigError for a layer that is like none of the kind's.
    """

    part: str
    replacement: Callable[[Any, Weights, bool], Adapter]

    def replace(self, upstream: Any, weights: Weights, carried: bool, check: bool) -> Adapter:
        """See :meth:`AnyKind.replace`."""
        refuse_extras(upstream, self)
        adapter = self.replacement(upstream, weights, carried)
        if check:
            prove(upstream, self.part, adapter)
        return adapter


def gates(upstream: Any) -> int:
    """Gates of a layer: z, f and o, or z and f."""
    return 3 if upstream.output_gate else 2


def window(upstream: Any) -> int:
    """Taps of a layer.

    Raises:
        ConversionError: not 1 or 2, which is all that upstream has.
    """
    taps = upstream.window
    if isinstance(taps, bool) or taps not in (1, 2):
        raise ConversionError(f"its window is {taps!r}, expected 1 or 2")
    return int(taps)


def agree(upstream: Any, layer: QRNNLayer) -> None:
    """Check the hidden size that the weight tells against the one that is recorded.

    Raises:
        ConversionError: they differ.
    """
    said = getattr(upstream, "hidden_size", layer.hidden_size)
    if said != layer.hidden_size:
        raise ConversionError(
            f"its hidden_size is {said!r} and its weight has {layer.weight.shape[0]} rows, "
            f"expected {layer.spec.gate_count} times as many: it is a layer of another kind"
        )


def refuse_extras(upstream: nn.Module, kind: Kind) -> None:
    """Check that a layer has nothing that its replacement would lack.

    Raises:
        ConversionError: it has hooks, or parameters besides its linear map.
    """
    refuse_hooks(upstream)
    others = [
        name for name, _ in upstream.named_parameters() if not name.startswith(f"{kind.part}.")
    ]
    if others:
        raise ConversionError(
            f"it has the parameters {', '.join(others[:5])} besides {kind.part}, expected none: "
            "it is a layer of another kind"
        )
