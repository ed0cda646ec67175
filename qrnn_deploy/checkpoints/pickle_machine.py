"""The machine that a pickle is a program for: a stack, a memo, and one action for each opcode.

Nothing is imported, called or built: :mod:`.pickle_names` says what stands for a name. Each opcode
makes one small object or one copy of its own bytes. The few that copy a container pay for each of
its entries, and keys of a mapping are small and cheap to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .pickle_names import (
    MAPPINGS,
    Name,
    PickleDamage,
    PickleRefusal,
    Shell,
    call,
    checked_key,
    checked_name,
    entries_of,
    is_class,
)

MAX_OPCODES = 2_000_000
"""Of one pickle, and as many entries that its calls may copy. A vocabulary of 250,000 tokens in
both directions takes half of it."""

MAX_BITS = 256
"""Of a whole number: more than any counter, seed or state of a generator has. It can be shown,
compared and converted without effort."""

MAX_NUMBER_KEYS = 2**16
"""Keys of mappings that are no text: unlike texts, numbers hash to what their maker wants. Tuples
of numbers, of which any number can hash to one value, count as 16."""

_MARK = object()

PersistentLoad = Callable[[Any], Any]


def run(opcodes: Iterable[tuple[str, Any]], persistent_load: PersistentLoad | None) -> Any:
    """The value that a pickle stands for.

    Args:
        opcodes: name and argument of each.
        persistent_load: makes a value of a persistent id; without it such ids are refused.

    Raises:
        PickleRefusal: it names what is in no table.
        PickleDamage: its opcodes do not fit together, or are too many.
        IndexError: a value is missing on the stack.
    """
    machine = _Machine(persistent_load)
    for count, (name, argument) in enumerate(opcodes):
        if count >= MAX_OPCODES:
            raise PickleDamage(f"it has more than {MAX_OPCODES} opcodes")
        machine.step(name, argument)
    return machine.result()


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self, persistent_load: PersistentLoad | None) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.persistent_load = persistent_load
        self.copies, self.number_keys = MAX_OPCODES, MAX_NUMBER_KEYS

    def result(self) -> Any:
        if len(self.stack) != 1 or self.stack[0] is _MARK:
            raise PickleDamage("it does not end with one value")
        return self.stack[0]

    def step(self, name: str, argument: Any) -> None:
        """Run one opcode."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
                raise PickleDamage(f"it holds a number of {argument.bit_length()} bits")
            self.stack.append(argument)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        else:
            if name not in _ACTIONS:
                raise PickleRefusal(f"opcode {name}")
            _ACTIONS[name](self, argument)

    def pay(self, *values: Any) -> None:
        """For the entries of containers, before one opcode looks at them all."""
        self.copies -= sum(len(value) for value in values if isinstance(value, _CONTAINERS))
        if self.copies < 0:
            raise PickleDamage(f"its calls copy more than {MAX_OPCODES} entries")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise PickleDamage("a value is missing on its stack")
        return value

    def pop_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while at >= 0 and self.stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise PickleDamage("a mark is missing on its stack")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleDamage("a value is missing on its stack")
        return self.stack[-1]

    def op_proto(self, _: Any) -> None:
        pass

    def op_frame(self, _: Any) -> None:
        pass

    def op_stop(self, _: Any) -> None:
        pass

    def op_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def op_pop(self, _: Any) -> None:
        self.stack.pop()

    def op_pop_mark(self, _: Any) -> None:
        self.pop_to_mark()

    def op_dup(self, _: Any) -> None:
        self.stack.append(self.top())

    def op_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def op_tuple1(self, _: Any) -> None:
        self._tuple(1)

    def op_tuple2(self, _: Any) -> None:
        self._tuple(2)

    def op_tuple3(self, _: Any) -> None:
        self._tuple(3)

    def _tuple(self, size: int) -> None:
        items = [self.pop() for _ in range(size)]
        self.stack.append(tuple(reversed(items)))

    def op_list(self, _: Any) -> None:
        self.stack.append(self.pop_to_mark())

    def op_frozenset(self, _: Any) -> None:
        self.stack.append(self.pop_to_mark())

    def op_dict(self, _: Any) -> None:
        items = self.pop_to_mark()
        self.stack.append({})
        self._set_items(items)

    def op_append(self, _: Any) -> None:
        value = self.pop()
        self._extend([value])

    def op_appends(self, _: Any) -> None:
        self._extend(self.pop_to_mark())

    def op_additems(self, _: Any) -> None:
        self._extend(self.pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise PickleDamage(f"items are added to a {type(target).__name__}")
        target.extend(items)

    def op_setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._set_items([key, value])

    def op_setitems(self, _: Any) -> None:
        self._set_items(self.pop_to_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self.top()
        target = target.state if isinstance(target, Shell) else target
        if not isinstance(target, dict) or len(items) % 2:
            raise PickleDamage(f"entries are set in a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                self.number_keys -= 16 if isinstance(key, tuple) else 1
                if self.number_keys < 0:
                    raise PickleDamage(f"it has more than {MAX_NUMBER_KEYS} keys that are no text")
            target[checked_key(key)] = value

    def op_put(self, index: int) -> None:
        self.memo[index] = self.top()

    op_binput = op_long_binput = op_put

    def op_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.top()

    def op_get(self, index: int) -> None:
        if index not in self.memo:
            raise PickleDamage(f"memo {index} is missing")
        self.stack.append(self.memo[index])

    op_binget = op_long_binget = op_get

    def op_global(self, argument: str) -> None:
        module, _, qualname = argument.partition(" ")
        self.stack.append(checked_name(module, qualname))

    def op_stack_global(self, _: Any) -> None:
        qualname, module = self.pop(), self.pop()
        if not isinstance(qualname, str) or not isinstance(module, str):
            raise PickleDamage("a name is no text")
        self.stack.append(checked_name(module, qualname))

    def op_reduce(self, _: Any) -> None:
        args, function = self.pop(), self.pop()
        if not isinstance(function, Name) or not isinstance(args, tuple):
            raise PickleDamage("it calls something that is no function")
        self._call(function, args)

    def _call(self, function: Name, args: tuple[Any, ...]) -> None:
        self.pay(args)
        self.pay(*args)
        if function.text in MAPPINGS:
            self.stack.append({})
            self._set_items(entries_of(function, args))
        else:
            self.stack.append(call(function, args))

    def op_newobj(self, _: Any) -> None:
        _args, cls = self.pop(), self.pop()
        self._new(cls)

    def op_newobj_ex(self, _: Any) -> None:
        _kwargs, _args, cls = self.pop(), self.pop(), self.pop()
        self._new(cls)

    def _new(self, cls: Any) -> None:
        if not isinstance(cls, Name):
            raise PickleDamage("it makes an object of something that is no class")
        if is_class(cls.text):
            self.stack.append(Shell(cls.text))
        else:
            self._call(cls, ())

    def op_build(self, _: Any) -> None:
        state, target = self.pop(), self.top()
        if isinstance(state, tuple) and len(state) == 2:  # beside the dictionary, that of slots
            state = state[0] or state[1]
        if isinstance(target, Shell) and isinstance(state, dict):
            self.pay(state)
            if not all(isinstance(name, str) for name in state):
                raise PickleDamage("the name of an attribute is no text")
            target.state.update(state)
        # A container's own attributes, such as _metadata of a state dict, carry no weights.

    def op_persid(self, argument: str) -> None:
        self._load(argument)

    def op_binpersid(self, _: Any) -> None:
        self._load(self.pop())

    def _load(self, identity: Any) -> None:
        if self.persistent_load is None:
            raise PickleDamage("it refers to something outside of itself")
        self.stack.append(self.persistent_load(identity))


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    name.removeprefix("op_").upper(): action
    for name, action in vars(_Machine).items()
    if name.startswith("op_")
}
_CONTAINERS = (tuple, list, dict)
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
        *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
