"""What stacks of recurrent layers share, whatever their layers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from ..errors import InputError
from .recurrent import RecurrentLayer


class LayerStack(nn.Module):
    """Base class: layers that answer one after the other, each with a state of its own.

    Attributes:
        layers: the layers in the order of the state list.
        input_size: features of x.
        batch_first: whether x and y are [B, T, *] instead of [T, B, *].
    """

    layers: nn.ModuleList
    input_size: int
    batch_first: bool

    @property
    def streams(self) -> bool:
        """Whether chunks of a sequence, with the state carried, give what the whole gives."""
        return all(cast(RecurrentLayer, layer).streams for layer in self.layers)

    def initial_state(self, batch_size: int) -> list[Any]:
        """Zeros for every layer, in the order of ``layers``."""
        return [cast(RecurrentLayer, layer).initial_state(batch_size) for layer in self.layers]

    def check_call(self, x: Tensor, state: Sequence[Any] | None) -> None:
        """Refuse an x of other features, and a state of another number of layers.

        Raises:
            InputError: x or state does not fit.
        """
        name = type(self).__name__
        if x.dim() != 3 or x.shape[2] != self.input_size:
            layout = "[B, T, {}]" if self.batch_first else "[T, B, {}]"
            raise InputError(
                f"{name}: x has shape {list(x.shape)}, expected {layout.format(self.input_size)}"
            )
        if state is not None and len(state) != len(self.layers):
            raise InputError(
                f"{name}: state has {len(state)} entries, expected {len(self.layers)}, "
                "one per layer"
            )
