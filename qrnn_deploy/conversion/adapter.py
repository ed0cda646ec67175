"""What stands where an upstream layer stood: called as that was called, and ours inside.

A layer has two memories. The pooling state c goes in and out as ``hidden``, as upstream has it. The
last input, which a window of 2 needs at the start of the next chunk, stays inside with
``save_prev_x`` (upstream's ``prevX``). While an exporter's
:class:`~qrnn_deploy.nn.binding.Binding` is active, the file carries both: prevX is neither read nor
written then, and what happens to ``hidden`` is decided in :meth:`Carrying._lifted`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..nn.binding import active_binding
from ..nn.layer import LayerState, QRNNLayer


class Carrying(nn.Module):
    """Base class: a replacement whose state is an argument and a result of each call.

    Args:
        carried: every state that the model passes is zeros or what this part returned last, so
            that an export may carry it instead of the model.
    """

    def __init__(self, *, carried: bool) -> None:
        super().__init__()
        self.carried = carried
        self._returned: Tensor | None = None

    def reset(self) -> None:
        """Forget what was remembered between calls; the next one starts a sequence."""
        self._returned = None

    def _lifted(self, hidden: Tensor | None) -> Tensor | None:
        """The state to give to our layer for ``hidden`` [B, *].

        Outside an export that is ``hidden``. In an export the file carries the state: a
        ``hidden`` that is nothing but that state is left out (``carried``). Any other is given on,
        and the exporter refuses it where states are carried, with the reason.

        Raises:
            InputError: ``carried`` was promised, and ``hidden`` is something else.
        """
        if hidden is None or not self.carried or active_binding() is None:
            return hidden
        # A trace has no values to look at; the exporter has run the model before, with values.
        if not torch.compiler.is_compiling() and not _is_carried(hidden, self._returned):
            raise InputError(
                f"{type(self).__name__}: hidden is neither zeros nor what this layer returned "
                "last, as carried=True promises: call the model's reset() first; for an initial "
                "state of its own convert without carried, and export with states='none'"
            )
        return None

    def _remember(self, c: Tensor) -> None:
        """Keep what is returned, for the next call's check."""
        if self.carried and not torch.compiler.is_compiling():
            self._returned = c.detach()


class Adapter(Carrying):
    """Base class: our layer, and what of upstream's attributes a user may read.

    Args:
        layer: ours, time-major.
        batch_first: x and y are [B, T, *] instead of [T, B, *].
        carried: as in :class:`Carrying`.

    Attributes:
        input_size, hidden_size, window, output_gate, batch_first: as upstream had them.
    """

    state_is_upstreams = True
    """Whether the state returned is what upstream returns."""

    def __init__(self, layer: QRNNLayer, *, batch_first: bool, carried: bool) -> None:
        super().__init__(carried=carried)
        self.layer = layer
        self.batch_first = batch_first
        self.input_size = layer.input_size
        self.hidden_size = layer.hidden_size
        self.window = layer.window
        self.output_gate = layer.pooling == "fo"

    def extra_repr(self) -> str:
        """Arguments that the layer does not show, for ``print(module)``."""
        return f"batch_first={self.batch_first}, carried={self.carried}"

    @property
    def zoneout(self) -> float:
        """Probability that a channel keeps its state at a step; ``layer.zoneout`` sets it."""
        return self.layer.zoneout

    def hidden_shape(self, batch: int) -> tuple[int, ...]:
        """A shape of ``hidden`` that upstream takes."""
        return (batch, self.hidden_size)


class SavingAdapter(Adapter):
    """A layer that can remember its last input.

    Args:
        layer: as in :class:`Adapter`.
        save_prev_x: remember the last input, if the window is 2.
        batch_first: as in :class:`Adapter`.
        carried: as in :class:`Adapter`.

    Attributes:
        save_prev_x: the argument.
        prevX: [1, B, in] ([B, 1, in] with ``batch_first``), the input before the next call's
            first; None for zeros.
    """

    def __init__(
        self, layer: QRNNLayer, *, save_prev_x: bool, batch_first: bool, carried: bool
    ) -> None:
        super().__init__(layer, batch_first=batch_first, carried=carried)
        self.save_prev_x = save_prev_x
        self.prevX: Tensor | None = None

    def extra_repr(self) -> str:
        """Arguments that the layer does not show, for ``print(module)``."""
        return f"save_prev_x={self.save_prev_x}, {super().extra_repr()}"

    def reset(self) -> None:
        """Forget the last input; the next call starts a sequence."""
        super().reset()
        self.prevX = None

    def _advance(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run our layer.

        Args:
            x: [T, B, in], or [B, T, in] with ``batch_first``.
            hidden: [B, H], or None for zeros.

        Returns:
            y like x, with H features, and c after the last step [B, H], both in the type of y.

        Raises:
            InputError: an argument or prevX does not fit.
        """
        if self.batch_first:
            x = x.transpose(0, 1)
        exporting = active_binding() is not None
        before = self._before(x, self._lifted(hidden), None if exporting else self.prevX)
        y, after = self.layer(x, before)
        if self.save_prev_x and after.x is not None and not exporting:
            last = after.x.detach()
            self.prevX = last if self.batch_first else last.transpose(0, 1)
        c = after.c.to(y.dtype)
        self._remember(c)
        return (y.transpose(0, 1) if self.batch_first else y), c

    def _before(
        self, x: Tensor, hidden: Tensor | None, previous: Tensor | None
    ) -> LayerState | None:
        """The state of our layer from upstream's two memories; x is time-major."""
        if hidden is None and previous is None:
            return None
        before: LayerState = self.layer.initial_state(x.shape[1])
        if hidden is not None:
            before = before._replace(c=hidden.to(before.c.dtype))
        if previous is not None and before.x is not None:
            rows = previous if self.batch_first else previous.transpose(0, 1)
            before = before._replace(x=self._fitted(rows, x.shape[1]).to(x.dtype))
        return before

    def _fitted(self, previous: Tensor, batch: int) -> Tensor:
        """The remembered input [B', 1, in] for a batch of B.

        Raises:
            InputError: B' is another number, where upstream fails too.
        """
        if previous.shape[0] != batch:
            raise InputError(
                f"{type(self).__name__}: x has a batch of {batch}, expected "
                f"{previous.shape[0]} as in the call before (save_prev_x): call reset() where a "
                "sequence starts"
            )
        return previous


def _is_carried(hidden: Tensor, returned: Tensor | None) -> bool:
    """Whether ``hidden`` [B, *] is zeros or what was returned, with rows cut off or zeros added."""
    if not bool(hidden.any()):
        return True
    if returned is None or hidden.shape[1:] != returned.shape[1:]:
        return False
    rows = min(len(hidden), len(returned))
    same = torch.allclose(
        hidden[:rows].to(returned), returned[:rows], rtol=0, atol=0, equal_nan=True
    )
    return same and not bool(hidden[rows:].any())
