"""What recurrent layers have in common: a state, and the seam through which it is seen.

A layer computes in time-major order and starts from a state that a caller gives, or from zeros.
While a :class:`~qrnn_deploy.nn.binding.Binding` is active it may give and take the state instead,
so export and verification treat every kind of layer alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..pooling.spec import FORWARD, REVERSE
from ..pooling.walk import STATE_DTYPES, length_range
from .binding import active_binding

_STATE_TYPES: set[type[Any]] = set()


@dataclass(frozen=True)
class StatePart:
    """One tensor [B, *shape] of a layer's state.

    Attributes:
        kind: the field of the layer's :attr:`RecurrentLayer.state_type`: c, s, h or x.
        shape: sizes after the batch axis.
        recurrent: whether it has the type of the recurrence, which is float32 (float64 in a float64
            model); else it has the type of the layer's input.
    """

    kind: str
    shape: tuple[int, ...]
    recurrent: bool = True

    def dtype(self, storage: torch.dtype) -> torch.dtype:
        """Its type in a layer whose weights are of type ``storage``."""
        return STATE_DTYPES[storage] if self.recurrent else storage


def is_state(value: object) -> bool:
    """Whether ``value`` is the state of a layer."""
    return type(value) in _STATE_TYPES


class RecurrentLayer(nn.Module):
    """Base class of the layers that carry a state between the chunks of a sequence.

    A subclass sets :attr:`family` and :attr:`state_type`, has the attributes below, and defines
    :meth:`state_parts`, :meth:`facts` and :meth:`walk`; it gets :meth:`forward`.

    Attributes:
        family: the network that it comes from, as files record it: QRNN, SRU, RHN.
        state_type: a NamedTuple of tensors [B, ...], one field for each possible part; a part that
            a layer lacks is None.
        input_size: features of x.
        hidden_size: channels H.
        reverse: whether it walks from the last step to the first.
        batch_first: whether x and y are [B, T, *] instead of [T, B, *].
    """

    family: str
    state_type: ClassVar[type[Any]]
    input_size: int
    hidden_size: int
    reverse: bool
    batch_first: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class's state known to :func:`is_state`."""
        super().__init_subclass__(**kwargs)
        if "state_type" in vars(cls):
            _STATE_TYPES.add(cls.state_type)

    def state_parts(self) -> tuple[StatePart, ...]:
        """The tensors of the state in order."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What a file records beside sizes and direction.

        Keys: ``op_type``, and where they apply ``pooling``, ``activation``, ``zoneout_scale``,
        ``window`` and ``depth``, as :class:`~qrnn_deploy.metadata.LayerInfo` has them.
        """
        raise NotImplementedError

    def walk(
        self, x: Tensor, state: Any, lengths: Tensor | None, *args: Any, **extra: Any
    ) -> tuple[Tensor, Any]:
        """Compute; everything but ``extra`` has been checked.

        Args:
            x: [T, B, input_size].
            state: of type :attr:`state_type`, or None for the start of a sequence.
            lengths: [B] int64 or None.
            args: none; a subclass names instead the keywords that it takes.
            extra: what :meth:`forward` was given beside these.

        Returns:
            y [T, B, H], 0 past the lengths, and the state after the last step.
        """
        raise NotImplementedError

    @property
    def owner(self) -> nn.Module:
        """The module of the model that this layer is."""
        return self

    @property
    def direction(self) -> int:
        """1 or -1, as the operators take it."""
        return REVERSE if self.reverse else FORWARD

    @property
    def streams(self) -> bool:
        """Whether chunks of a sequence, fed from its start, give what the whole gives."""
        return not self.reverse

    @property
    def storage(self) -> torch.dtype:
        """The type of its weights."""
        return next(self.parameters()).dtype

    def initial_state(self, batch_size: int) -> Any:
        """The state before a sequence: zeros in this layer's types and on its device."""
        weight = next(self.parameters())
        return self.state_of(
            {
                part.kind: weight.new_zeros(
                    (batch_size, *part.shape), dtype=part.dtype(weight.dtype)
                )
                for part in self.state_parts()
            }
        )

    def state_of(self, parts: dict[str, Tensor]) -> Any:
        """A state from its tensors by kind."""
        return self.state_type(*(parts.get(kind) for kind in self.state_type._fields))

    def forward(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None, **extra: Any
    ) -> tuple[Tensor, Any]:
        """Run over a sequence or the next chunk of one.

        Args:
            x: [T, B, input_size], or [B, T, input_size] with ``batch_first``.
            state: from :meth:`initial_state` or an earlier call; None starts a sequence. The
                chunks of a reverse layer are fed from the end of the sequence.
            lengths: [B] int64, steps that count in each row; None means T everywhere. What
                lies past them influences nothing.
            extra: further inputs that :meth:`walk` of this kind of layer takes, time-major; a
                binding sees them and changes nothing.

        Returns:
            y [T, B, H] (or [B, T, H]), 0 past the lengths, and the state after the last step.

        Raises:
            InputError: x, state or lengths has a wrong rank, size or dtype.
        """
        self._check_input(x)
        if self.batch_first:
            x = x.transpose(0, 1)
        binding = active_binding()
        if binding is not None:
            x, state, lengths = binding.enter(self, x, state, lengths)
            binding.extra(self, extra)
        self._check_state(x, state)
        self._check_lengths(x, lengths)
        if lengths is not None and self.training:
            # Its gates get no gradient, but 0 * NaN in the weight's gradient would be NaN.
            past = torch.arange(x.shape[0], device=x.device)[:, None] >= lengths
            x = x.masked_fill(past[:, :, None], 0.0)
        y, after = self.walk(x, state, lengths, **extra)
        if binding is not None:
            y, after = binding.leave(self, y, after)
        return (y.transpose(0, 1) if self.batch_first else y), after

    def seen(self, gates: Tensor) -> Tensor:
        """The packed pre-activations [T, B, G*H] as an active binding wants them."""
        binding = active_binding()
        return gates if binding is None else binding.gates(self, gates)

    def full_lengths(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """``lengths``, or T for every row of x [T, B, *]."""
        if lengths is not None:
            return lengths
        return torch.full((x.shape[1],), x.shape[0], dtype=torch.int64, device=x.device)

    def _check_input(self, x: Tensor) -> None:
        layout = "[B, T, {}]" if self.batch_first else "[T, B, {}]"
        name = type(self).__name__
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise InputError(
                f"{name}: x has shape {list(x.shape)}, expected {layout.format(self.input_size)}"
            )
        if x.dtype != self.storage and not torch.is_autocast_enabled(x.device.type):
            raise InputError(
                f"{name}: x has dtype {x.dtype}, expected {self.storage}: "
                "convert the input or the model"
            )

    def _check_state(self, x: Tensor, state: Any) -> None:
        """Types, ranks and sizes of every part."""
        if state is None:
            return
        name = type(self).__name__
        if type(state) is not self.state_type:
            raise InputError(
                f"{name}: state is a {type(state).__name__}, expected a {self.state_type.__name__}"
            )
        parts = {part.kind: part for part in self.state_parts()}
        for kind, value in zip(self.state_type._fields, state, strict=True):
            part = parts.get(kind)
            if (value is None) != (part is None):
                raise InputError(
                    f"{name}: state.{kind} is {'None' if value is None else 'given'}, expected "
                    f"{'None' if part is None else 'a tensor'} in this layer"
                )
            if value is None or part is None:
                continue
            shape = (x.shape[1], *part.shape)
            wanted = part.dtype(x.dtype)
            fits = value.dim() == len(shape) and all(
                a == b for a, b in zip(value.shape, shape, strict=True)
            )
            if not fits or value.dtype != wanted:
                raise InputError(
                    f"{name}: state.{kind} is {value.dtype} {list(value.shape)}, "
                    f"expected {wanted} {list(shape)}"
                )

    def _check_lengths(self, x: Tensor, lengths: Tensor | None) -> None:
        """What an operator would check, before rows are picked by it; no values in a trace."""
        if lengths is None:
            return
        steps, batch = x.shape[0], x.shape[1]
        name = type(self).__name__
        if not isinstance(lengths, Tensor):
            raise InputError(f"{name}: lengths is a {type(lengths).__name__}, expected a tensor")
        if lengths.dtype != torch.int64 or lengths.dim() != 1 or lengths.shape[0] != batch:
            raise InputError(
                f"{name}: lengths is {lengths.dtype} {list(lengths.shape)}, "
                f"expected torch.int64 [{batch}]"
            )
        if not torch.compiler.is_compiling():
            length_range(name, lengths, steps)
