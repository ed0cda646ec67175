"""``nn.LSTM`` and ``nn.GRU`` inside a user's model, seen as layers that carry a state.

ONNX has both as operators, so nothing replaces them: while :func:`lifted` is open, a call of one
passes through the active :class:`~qrnn_deploy.nn.binding.Binding` as a call of our own layers does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import InputError
from .binding import active_binding
from .recurrent import RecurrentLayer, StatePart
from .standard_op import gru, lstm


class StandardState(NamedTuple):
    """The state of an nn.LSTM or nn.GRU, batch first.

    Attributes:
        h: [B, num_layers, H] the last outputs.
        c: [B, num_layers, H] the cells; None for a GRU.
    """

    h: Tensor
    c: Tensor | None


class StandardLayer(RecurrentLayer):
    """A view of one nn.LSTM or nn.GRU, whose weights stay where they are.

    Args:
        module: the layer.

    Raises:
        InputError: :meth:`walk` was given lengths, which the standard modules do not take.
    """

    state_type = StandardState
    _module: nn.LSTM | nn.GRU

    def __init__(self, module: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.family = type(module).__name__
        self.input_size, self.hidden_size = module.input_size, module.hidden_size
        self.reverse = False
        self.batch_first = module.batch_first
        object.__setattr__(self, "_module", module)  # not a part of this one

    @property
    def owner(self) -> nn.Module:
        """See :attr:`RecurrentLayer.owner`."""
        return self._module

    @property
    def streams(self) -> bool:
        """See :attr:`RecurrentLayer.streams`."""
        return not self._module.bidirectional

    @property
    def storage(self) -> torch.dtype:
        """See :attr:`RecurrentLayer.storage`."""
        return next(self.owner.parameters()).dtype

    def state_parts(self) -> tuple[StatePart, ...]:
        """h, and c for an LSTM."""
        ways = 2 if self._module.bidirectional else 1
        shape = (self._module.num_layers * ways, self.hidden_size)
        kinds = ("h", "c") if self.family == "LSTM" else ("h",)
        return tuple(StatePart(kind, shape, recurrent=False) for kind in kinds)

    def facts(self) -> dict[str, Any]:
        """See :meth:`RecurrentLayer.facts`."""
        return {"op_type": self.family, "depth": self._module.num_layers}

    def initial_state(self, batch_size: int) -> StandardState:
        """See :meth:`RecurrentLayer.initial_state`."""
        weight = next(self.owner.parameters())
        parts = {
            part.kind: weight.new_zeros((batch_size, *part.shape)) for part in self.state_parts()
        }
        return StandardState(parts["h"], parts.get("c"))

    def walk(
        self, x: Tensor, state: StandardState | None, lengths: Tensor | None
    ) -> tuple[Tensor, StandardState]:
        """See :meth:`RecurrentLayer.walk`."""
        if lengths is not None:
            raise InputError(
                f"nn.{self.family} takes no lengths: expected every row to be full, or a layer of "
                "qrnn_deploy.nn"
            )
        module = self._module
        if state is None:
            state = self.initial_state(x.shape[1])
        before = [part.transpose(0, 1).contiguous() for part in state if part is not None]
        weights = [getattr(module, name) for name in module._flat_weights_names]
        run: Any = lstm if self.family == "LSTM" else gru
        options = module.bias, module.num_layers, module.bidirectional
        y, *after = run(x, *before, weights, *options)
        h, *c = (part.transpose(0, 1) for part in after)
        return y, StandardState(h, c[0] if c else None)

    def called(self, input: Any, hx: Any = None) -> Any:
        """What stands in for the module's ``forward``: its arguments, its results."""
        plain = isinstance(input, Tensor) and input.dim() == 3
        if active_binding() is None or not plain:
            forward: Any = type(self._module).forward
            return forward(self._module, input, hx)
        state = None
        if hx is not None:
            parts = hx if isinstance(hx, (tuple, list)) else (hx,)
            # The float64 reference meets zeros that the model makes in float32.
            h, *c = (part.transpose(0, 1).to(self.storage) for part in parts)
            state = StandardState(h, c[0] if c else None)
        y, after = self(input, state)
        turned = tuple(part.transpose(0, 1) for part in after if part is not None)
        return y, (turned if self.family == "LSTM" else turned[0])


def standard_layer(module: nn.Module) -> StandardLayer | None:
    """A view of ``module`` if it is an nn.LSTM or nn.GRU that ONNX's operators can express."""
    plain = type(module) in (nn.LSTM, nn.GRU)
    if plain and isinstance(module, (nn.LSTM, nn.GRU)) and module.proj_size == 0:
        return StandardLayer(module)
    return None


def recurrent_layer(module: nn.Module) -> RecurrentLayer | None:
    """``module`` as a layer with a state: itself, a view of it, or None."""
    return module if isinstance(module, RecurrentLayer) else standard_layer(module)


@contextmanager
def lifted(model: nn.Module) -> Iterator[None]:
    """While open, calls of every nn.LSTM and nn.GRU in ``model`` pass through a binding."""
    changed = []
    try:
        for part in model.modules():
            view = standard_layer(part)
            if view is not None and "forward" not in part.__dict__:
                part.forward = view.called
                changed.append(part)
        yield
    finally:
        for part in changed:
            del part.forward
