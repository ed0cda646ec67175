"""The seam through which export, streaming checks and verification see into a model.

A user's module calls our layers somewhere deep inside and throws their state away. While a
:class:`Binding` is active (``with bound(binding): model(x)``), every
:class:`~qrnn_deploy.nn.recurrent.RecurrentLayer` asks it for the state to start from and hands it
the state that results, so a graph can take its state from named inputs without the module knowing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .delayed import Delayed
    from .recurrent import RecurrentLayer


class Binding:
    """Base class: sees every call of a layer and changes nothing."""

    def enter(
        self, layer: RecurrentLayer, x: Tensor, state: Any, lengths: Tensor | None
    ) -> tuple[Tensor, Any, Tensor | None]:
        """Called before a layer computes.

        Args:
            layer: the layer that was called.
            x: its input, always time-major [T, B, input_size].
            state: the state the caller gave, or None.
            lengths: [B] int64 the caller gave, or None.

        Returns:
            The three values the layer is to use instead.
        """
        return x, state, lengths

    def extra(self, layer: RecurrentLayer, extra: dict[str, Any]) -> None:
        """Called after :meth:`enter` with what else the layer was given, by keyword."""

    def gates(self, layer: RecurrentLayer, gates: Tensor) -> Tensor:
        """Called with the packed pre-activations [T, B, G*H]; returns those to use."""
        return gates

    def leave(self, layer: RecurrentLayer, y: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Called after a layer computed y [T, B, H] and its new state; returns those to use."""
        return y, state

    def delayed(self, module: Delayed) -> bool:
        """Called before a delayed module computes.

        Returns:
            Whether it is to give its late outputs as they come, neither padding nor dropping.
        """
        return False


_active: ContextVar[Binding | None] = ContextVar("qrnn_deploy_binding", default=None)


def active_binding() -> Binding | None:
    """The binding of the innermost :func:`bound` block of this thread, or None."""
    return _active.get()


@contextmanager
def bound(binding: Binding) -> Iterator[Binding]:
    """Make ``binding`` see every layer call in the block."""
    token = _active.set(binding)
    try:
        yield binding
    finally:
        _active.reset(token)
