"""The float64 reference that every artifact is compared with, without a float64 copy of the model.

Large weights stay in the type and the memory they are in. A :class:`Widened` stands in for each:
to the module it is a float64 tensor, and whatever computes with it gets float64 values, converted
where and when they are used: the rows of an embedding that are looked up, a matrix product block
by block, anything else for the time of one operator.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from .border import Border
from .copies import copied
from .memory import Meter

_aten = torch.ops.aten

_LARGE = 2**16
"""Tensors of at most as many elements are copied."""

_BLOCK = 2**21
"""Elements of a weight that are converted at a time in a product: 16 MiB in float64."""


def in_double(border: Border) -> Border:
    """The model in float64, as ``copy.deepcopy(border).double()`` is; ``border`` stays as it is.

    Large weights are shared with ``border``, so they must not change while the result is in use.
    """
    return _Economical(border)


class Widened(Tensor):
    """A float64 tensor whose values are kept in a narrower type, and are not to be changed.

    Results of operators are ordinary float64 tensors, views of it are of its own kind.

    Attributes:
        stored: the values, float32, float16 or bfloat16 of any shape and strides.
        meter: is told of each use.
    """

    stored: Tensor
    meter: Meter

    @staticmethod
    def __new__(cls, stored: Tensor, meter: Meter) -> Widened:  # noqa: D102
        made: Widened = Tensor._make_wrapper_subclass(
            cls,
            stored.shape,
            strides=stored.stride(),
            storage_offset=stored.storage_offset(),
            dtype=torch.float64,
            device=stored.device,
        )
        made.stored, made.meter = stored, meter
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls in Python: all go on to :meth:`__torch_dispatch__` but what would pass it by."""
        if func is Tensor.data_ptr or (func in _SETTERS and args[0] is not args[1]):
            raise RuntimeError("the weight has no float64 memory of its own")
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # PyTorch itself passes what this takes
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Operators, once autograd and composite ones have come apart.

        Raises:
            RuntimeError: the operator would change the weight, or read its bits.
        """
        kwargs = kwargs or {}
        if func.is_view and func is not _aten.view.dtype:
            views = func(*_stored(args), **_stored(kwargs))
            return tree_map_only(Tensor, lambda view: Widened(view, args[0].meter), views)
        if func in _PICKS and isinstance(args[0], Widened):
            return func(*_stored(args), **_stored(kwargs)).double()
        if func in _PRODUCTS and isinstance(args[-1], Widened):
            return _product(func, args, kwargs)
        _refuse_writing(func, args, kwargs)
        return func(*_converted(args), **_converted(kwargs))


_PICKS = {
    _aten.embedding.default,
    _aten.gather.default,
    _aten.index.Tensor,
    _aten.index_select.default,
}
"""Operators whose result holds some elements of the first argument and nothing else."""

_PRODUCTS = {_aten.mm.default, _aten.addmm.default}
"""Matrix products, the last argument on the right; ``nn.functional.linear`` comes down to them."""

_SETTERS = {Tensor.data.__set__}  # type: ignore[attr-defined]


def _product(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """``[added,] left [M, K], right [K, N] -> [M, N]``, some columns of ``right`` at a time."""
    *added, left, right = args
    (left,) = _converted((left,))
    stored = right.stored
    result: Tensor = left.new_empty((left.shape[0], stored.shape[1]))
    added = [a.expand_as(result) for a in _converted(added)]
    step = max(1, _BLOCK // max(1, stored.shape[0]))
    buffer = torch.empty_like(stored[:, :step], dtype=torch.float64)
    for start in range(0, stored.shape[1], step):
        columns = slice(start, start + step)
        block = stored[:, columns]
        converted = buffer[:, : block.shape[1]].copy_(block)
        result[:, columns] = func(*(a[:, columns] for a in added), left, converted, **kwargs)
        right.meter.use(block.nbytes)
    return result


def _refuse_writing(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    schema = func._schema
    given = {**dict(zip((a.name for a in schema.arguments), args, strict=False)), **kwargs}
    for argument in schema.arguments:
        changed = argument.alias_info is not None and argument.alias_info.is_write
        if (changed or func is _aten.view.dtype) and isinstance(given.get(argument.name), Widened):
            raise RuntimeError(f"{func} cannot have a weight that is kept in another type")


def _stored(values: Any) -> Any:
    return tree_map_only(Widened, lambda tensor: tensor.stored, values)


def _converted(values: Any) -> Any:
    return tree_map_only(Widened, _dense, values)


def _dense(tensor: Widened) -> Tensor:
    dense = tensor.stored.double()
    tensor.meter.use(tensor.stored.nbytes)
    return dense


class _Economical(Border):
    """A float64 copy that shares its large weights.

    A module that does with them what a :class:`Widened` cannot have (changes them, hands them to
    NumPy) fails. Then the plain copy takes over: it runs, or has the error that counts.
    """

    def __init__(self, border: Border) -> None:
        meter = Meter(border.module)
        shared: list[Tensor] = []

        def double(weight: Tensor) -> Tensor:
            if weight.dtype == torch.float64 or weight.numel() <= _LARGE:
                return weight.to(torch.float64, copy=True)
            shared.append(Widened(weight, meter))
            return shared[-1]

        module = copied(border.module, torch.float64, double)
        super().__init__(module, border.metadata, tagged=border.tagged)
        self._plain: Callable[[], nn.Module] | None = None
        if shared:
            self._plain = lambda: copy.deepcopy(border.module).double()

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        """See :class:`Border`."""
        plain = self._plain
        try:
            return super().forward(*flat)
        except Exception:
            if plain is None:
                raise
        self.module, self._plain = plain(), None
        return super().forward(*flat)
