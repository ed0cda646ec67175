"""Weights by name, as a file or a part of it holds them, still unread.

A checkpoint is a state dict, or has one somewhere inside (``{"model": ..., "opt": ...}``), or is a
whole pickled module, whose shells are walked here as ``state_dict()`` would walk the modules.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import CheckpointError
from .pickle_names import PickleDamage, Shell
from .untrusted_text import is_name, shown

MAX_LEVEL = 4
"""Of a state dict or module in the content of a file."""

MAX_DEPTH = 32
"""Of modules in modules."""

MAX_OBJECTS = 200_000
"""Containers, modules and their attributes that are looked at; a module may be reached in more
ways than one, and counts each time."""

MAX_BESIDE = 256
"""Entries of a dictionary whose plain values are looked at beside the weights in it."""

MAX_TENSORS = 2**15
"""In all tables together. The formats' patterns are tried on each name."""


class Lazy(Protocol):
    """A tensor whose numbers are read when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Type of the elements."""
        ...

    def load(self) -> Tensor:
        """The tensor, dense, in memory of its own: the caller may change it in place."""
        ...

    def is_same(self, other: object) -> bool:
        """Whether another one stands for the very same numbers, by identity."""
        ...


def same_numbers(a: Lazy, b: Lazy) -> bool:
    """Whether two tensors are equal; both are read unless they are the same in the file."""
    return a.is_same(b) or (
        a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.load(), b.load())
    )


@dataclass(frozen=True)
class InMemory:
    """A tensor that is there already, as a :class:`Lazy`."""

    value: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the elements."""
        return self.value.dtype

    def load(self) -> Tensor:
        """A copy of the tensor."""
        return self.value.clone()

    def is_same(self, other: object) -> bool:
        """Whether another one holds the same tensor."""
        return isinstance(other, InMemory) and self.value is other.value


@dataclass(frozen=True)
class WeightTable:
    """Tensors by name.

    Attributes:
        tensors: by the name that ``state_dict()`` gives.
        attributes: of a pickled module: path of a submodule -> its plain attributes (numbers,
            texts, truth values) with its class under ``class``. Empty for a state dict.
        where: the part of the file, for messages: empty for the whole of it.
        beside: plain values by name in the dictionary that the state dict or module lies in.
    """

    tensors: Mapping[str, Lazy]
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    where: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor."""
        return self.tensors[name].shape

    def attribute(self, path: str, name: str) -> Any:
        """A plain attribute of a pickled submodule, or None."""
        return self.attributes.get(path, {}).get(name)

    def has_class(self, start: str) -> bool:
        """Whether a pickled submodule is of a class whose name begins so."""
        return any(
            str(values.get("class", "")).startswith(start) for values in self.attributes.values()
        )

    def below(self, prefix: str) -> WeightTable:
        """The part whose names begin with ``prefix``, without it.

        Raises:
            CheckpointError: a name is none; a container that has been read whole may have such.
        """
        for name in self.tensors:
            if not is_name(name):
                raise CheckpointError(f"has {shown(name)}, which is no name of a tensor")
        modules = {
            f"{path}.".removeprefix(prefix).removesuffix("."): values
            for path, values in self.attributes.items()
            if f"{path}.".startswith(prefix)
        }
        return replace(
            self,
            tensors={
                name.removeprefix(prefix): tensor
                for name, tensor in self.tensors.items()
                if name.startswith(prefix)
            },
            attributes=modules,
        )

    def matching(self, pattern: str) -> dict[str, re.Match[str]]:
        """Names that match a pattern as a whole."""
        found = {name: re.fullmatch(pattern, name) for name in self.tensors}
        return {name: match for name, match in found.items() if match}


def find_tables(content: Any) -> list[WeightTable]:
    """Every state dict and module in the content of a PyTorch file, the outermost first.

    Raises:
        PickleDamage: it has more of them than any checkpoint, or they are nested without end.
    """
    found: list[WeightTable] = []
    seen = {id(content)}
    effort = _Effort()
    queue: deque[tuple[str, Any, int, dict[str, Any]]] = deque([("", content, 0, {})])
    while queue:
        where, value, depth, around = queue.popleft()
        effort.looks(1)
        if isinstance(value, Shell):
            if "_modules" in value.state:
                found.append(replace(_module_table(value, where, effort), beside=around))
            continue
        items: Iterator[tuple[Any, Any]]
        inside: dict[str, Any] = {}
        if isinstance(value, dict):
            tensors = {k: v for k, v in value.items() if isinstance(k, str) and _is_lazy(v)}
            if tensors:
                effort.finds(tensors)
                found.append(WeightTable(tensors, where=where, beside=around))
            items = iter(value.items())
            if len(value) <= MAX_BESIDE:
                inside = {name: item for name, item in value.items() if _is_attribute(name, item)}
        elif isinstance(value, (list, tuple)):
            items = enumerate(value)
        else:
            continue
        for key, item in items if depth < MAX_LEVEL else ():
            if not isinstance(item, (dict, list, tuple, Shell)) or id(item) in seen:
                continue
            if isinstance(key, (str, int)):
                seen.add(id(item))
                effort.looks(1)
                label = shown(str(key), 60)
                place = f"{where}.{label}"[:60] if where else label
                queue.append((place, item, depth + 1, inside))
    return found


class _Effort:
    """What has been spent on one file."""

    def __init__(self) -> None:
        self.objects, self.tensors = 0, 0

    def looks(self, count: int) -> None:
        """Look at so many objects.

        Raises:
            PickleDamage: that is too much.
        """
        self.objects += count
        if self.objects > MAX_OBJECTS:
            raise PickleDamage(f"it has more than {MAX_OBJECTS} objects")

    def finds(self, names: Iterable[str]) -> None:
        """Take tensors of these names.

        Raises:
            PickleDamage: they are too many, or one is no name.
        """
        for name in names:
            self.tensors += 1
            if not is_name(name):
                raise PickleDamage(f"{shown(name)} is no name of a tensor")
        if self.tensors > MAX_TENSORS:
            raise PickleDamage(f"it has more than {MAX_TENSORS} tensors")


def _is_lazy(value: Any) -> bool:
    return hasattr(value, "load") and hasattr(value, "shape")


def _module_table(shell: Shell, where: str, effort: _Effort) -> WeightTable:
    """Parameters and buffers of a pickled module by their names in ``state_dict()``."""
    tensors: dict[str, Lazy] = {}
    attributes: dict[str, dict[str, Any]] = {}
    queue: list[tuple[str, Shell, int]] = [("", shell, 0)]
    while queue:
        path, module, depth = queue.pop()
        if depth > MAX_DEPTH or not is_name(path):
            raise PickleDamage("its modules contain each other, or have no usable names")
        effort.looks(1 + len(module.state))
        dot = f"{path}." if path else ""
        attributes[path] = {
            name: value for name, value in module.state.items() if _is_attribute(name, value)
        } | {"class": module.cls}
        for kind in ("_parameters", "_buffers"):
            here = {n: v for n, v in _entries(module, kind, effort) if _is_lazy(v)}
            effort.finds(f"{dot}{name}" for name in here)
            tensors |= {f"{dot}{name}": value for name, value in here.items()}
        for name, value in _entries(module, "_modules", effort):
            if isinstance(value, Shell):
                queue.append((f"{dot}{name}", value, depth + 1))
    return WeightTable(tensors, attributes, where)


def _is_attribute(name: Any, value: Any) -> bool:
    """Whether it may tell something about a module: a number, or a text that can be shown."""
    if not isinstance(name, str) or not is_name(name):
        return False
    return is_name(value) if isinstance(value, str) else isinstance(value, (int, float))


def _entries(module: Shell, kind: str, effort: _Effort) -> list[tuple[str, Any]]:
    values = module.state.get(kind)
    if not isinstance(values, dict):
        return []
    effort.looks(len(values))
    names = [(name, value) for name, value in values.items() if isinstance(name, str)]
    for name, _ in names:
        if not is_name(name):
            raise PickleDamage(f"{shown(name)} is no name in a module")
    return names
