"""How containers out of a pickle may lie in each other.

A pickle of a hundred bytes can hold a list of two references to a list of two references to ...:
whoever prints or walks such a value never comes to an end, and one that is nested 100,000 deep
ends the interpreter's stack. After :func:`check_nesting` neither can happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .pickle_names import PickleDamage, Shell

MAX_DEPTH = 64

MAX_UNFOLDED = 2**25
"""Characters and numbers of a value written out, a number counted as 16."""


def check_nesting(content: Any) -> None:
    """Follow lists, tuples and dictionaries; what a shell holds is a value of its own.

    Raises:
        PickleDamage: a value contains itself, is nested too deep, or would be too long to print.
    """
    unfolded: dict[int, int] = {}
    roots = [content]
    while roots:
        root = roots.pop()
        if isinstance(root, Shell):
            root = root.state
        if isinstance(root, (list, tuple, dict)) and id(root) not in unfolded:
            _unfold(root, unfolded, roots)


def _unfold(root: Any, unfolded: dict[int, int], roots: list[Any]) -> None:
    """Note how long each container in ``root`` is written out, and which shells it holds."""
    path = {id(root): 0}
    walk: list[tuple[Any, Iterator[Any]]] = [(root, iter(_members(root)))]
    while walk:
        container, members = walk[-1]
        size = path[id(container)]
        for member in members:
            if isinstance(member, (list, tuple, dict)) and member:
                if id(member) in unfolded:
                    size += unfolded[id(member)]
                    continue
                if id(member) in path:
                    raise PickleDamage("a container in it contains itself")
                if len(walk) == MAX_DEPTH:
                    raise PickleDamage(f"its containers are nested more than {MAX_DEPTH} deep")
                path[id(container)] = size
                path[id(member)] = 0
                walk.append((member, iter(_members(member))))
                break
            if isinstance(member, Shell):
                roots.append(member)
            size += len(member) if isinstance(member, (str, bytes, bytearray)) else 16
        else:
            if size > MAX_UNFOLDED:
                raise PickleDamage("its containers hold each other too often")
            walk.pop()
            unfolded[id(container)] = size + 1
            del path[id(container)]
            if walk:
                path[id(walk[-1][0])] += size + 1


def _members(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container
