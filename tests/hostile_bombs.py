"""Small files that would grow: in memory, in time, on the stack of whoever walks through them."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hostile_values import model, weight
from pickle_assembler import (
    call,
    get,
    listed,
    mapping,
    module,
    named,
    number,
    persistent,
    plain,
    put,
    raw,
    shell,
    stacked,
    tensor,
    text,
    zipped,
)

from qrnn_deploy.nn import QRNN

_ORDERED = named("collections", "OrderedDict")
_A = b"\x8c\x01a"
_LINEAR = "torch.nn.modules.linear.Linear"


def doubled(step: Callable[[bytes], bytes], inner: bytes = b"]", levels: int = 60) -> bytes:
    """``inner``, and on each level a container that holds the level below twice."""
    out = inner + put(100)
    for level in range(levels):
        out += b"0" + step(get(100 + level) * 2) + put(101 + level)
    return out


def _again(first: bytes, times: int, each: bytes) -> bytes:
    """A list of ``times`` values, each made by ``each`` from what ``first`` put into the memo."""
    return first + b"0](" + each * times + b"e"


def _children(names: str, child: bytes) -> bytes:
    return mapping({name: child for name in names})


def _shared_modules(levels: int) -> bytes:
    out = module(_LINEAR, plain({})) + put(100)
    for level in range(levels):
        out += b"0" + module(_LINEAR, _children("ab", get(100 + level))) + put(101 + level)
    return out


def _deep_modules(depth: int) -> bytes:
    start = named("torch.nn.modules.linear", "Linear") + put(1) + b"0"
    opened = get(1) + b")\x81}" + text("_modules") + b"}" + text("a")
    return start + opened * depth + b"N" + b"ssb" * depth


_WIDE = mapping({f"a{n}": b"K\x01" for n in range(2000)})
_HUGE_NAME = "A" * 10**6

DEEP: dict[str, bytes] = {
    "lists": b"]" * 300_000 + b"a" * 299_999,
    "tuples": b")" + b"\x85" * 500_000,
    "dictionaries": (b"}" + _A) * 150_000 + b"N" + b"s" * 150_000,
    "shells": _deep_modules(50_000),
    "ordered": _ORDERED + put(1) + b"0" + (get(1) + b")R" + _A) * 100_000 + b"N" + b"s" * 200_000,
    "lists-65": b"]" * 66 + b"a" * 65,
    "marks": b"(" * 500_000 + b"N",
}
"""As a whole content, and in the configuration of a model."""

SHARED: dict[str, bytes] = {
    "lists": doubled(lambda two: b"](" + two + b"e"),
    "tuples": doubled(lambda two: two + b"\x86"),
    "dictionaries": doubled(
        lambda two: (
            b"}(" + text("a") + two[: len(two) // 2] + text("b") + two[len(two) // 2 :] + b"u"
        )
    ),
    "texts": doubled(lambda two: two + b"\x86", text("a" * 1000), 20),
    "numbers": doubled(lambda two: two + b"\x86", number(2**250), 24),
    "text-in-dictionary": text("\x01" * 10**6)
    + put(100)
    + b"0}("
    + b"".join(text(str(n)) + get(100) for n in range(100_000))
    + b"u",
    "list-in-itself": b"]" + put(9) + get(9) + b"a",
    "tuple-in-itself": b"]" + put(9) + b"\x85" + put(8) + b"0" + get(9) + get(8) + b"a",
    "dictionary-in-itself": b"}" + put(9) + text("a") + get(9) + b"s",
}
"""In the configuration of a model, and as a whole content."""

CONTENTS: dict[str, bytes] = {
    "modules-shared": _shared_modules(30),
    "modules-shared-wide": module(
        _LINEAR,
        mapping(
            {
                f"m{n}": (module(_LINEAR, b"}", x=_WIDE) + put(7) if n == 0 else get(7))
                for n in range(9000)
            }
        ),
    ),
    "module-in-itself": named("torch.nn.modules.linear", "Linear")
    + b")\x81"
    + put(9)
    + mapping({"_modules": mapping({"a": get(9)})})
    + b"b",
    "modules-in-a-ring": named("torch.nn.modules.linear", "Linear")
    + b")\x81"
    + put(9)
    + mapping({"_modules": mapping({"a": module(_LINEAR, mapping({"b": get(9)}))})})
    + b"b",
    "modules-many-roots": b"0".join(
        [module(_LINEAR, mapping({"a": module(_LINEAR)})) + put(9), listed([b"N"])]
    )
    + b"0"
    + listed(module(_LINEAR, mapping({str(n): get(9) for n in range(100)})) for n in range(900)),
    "module-long-names": module(_LINEAR, mapping({"a" * 4000: module(_LINEAR)})),
    "attributes-copied": _again(
        _WIDE + put(1) + b"0" + named("torch.nn.modules.linear", "Linear") + put(2),
        20_000,
        get(2) + b")\x81" + get(1) + b"b",
    ),
    "ordered-copied": _again(
        _ORDERED + put(1) + b"0" + _WIDE + b"\x85" + put(2), 20_000, get(1) + get(2) + b"R"
    ),
    "sets-copied": _again(
        named("builtins", "set") + put(1) + b"0" + listed([b"N"] * 9000) + b"\x85" + put(2),
        20_000,
        get(1) + get(2) + b"R",
    ),
    "sizes-copied": _again(
        named("torch", "Size") + put(1) + b"0(" + b"K\x01" * 9000 + b"t\x85" + put(2),
        20_000,
        get(1) + get(2) + b"R",
    ),
    "names-copied": _again(
        text("torch.nn.modules.a") + put(1) + text(_HUGE_NAME) + put(2),
        20_000,
        get(1) + get(2) + b"\x93",
    ),
    "shells-of-a-name": _again(
        named("torch.nn.modules.linear", "Linear") + put(1), 120_000, get(1) + b")\x81"
    ),
    "tensors-of-a-storage": _again(
        persistent() + put(1),
        40_000,
        call(named("torch._utils", "_rebuild_tensor"), get(1), number(0), plain((2,)), plain((1,))),
    ),
    "empty-dictionaries": b"](" + b"}" * 1_990_000 + b"e",
    "memo-of-lists": b"(" + b"]\x94" * 100_000 + b"t",
    "memo-everywhere": b"N" + b"".join(put(n * 2147) for n in range(250_000)),
    "byte-arrays": b"](" + (b"\x96" + bytes(8)) * 200_000 + b"e",
    "opcodes": b"N0" * 1_100_000 + b"N",
    "bytes": raw(bytes(17 << 20)),
    "wide-text": text("a" * (15 << 20) + "\U0001f600"),
    "long-numbers": listed([number(2**60_000)] * 2000),
    "one-container-many-times": _again(plain({}) + put(1), 210_000, get(1)),
    "many-containers": listed([b"}"] * 201_000),
    "many-tables": _again(weight() + put(1), 15_000, b"}" + text("linear.weight") + get(1) + b"s"),
    "many-tensors": weight()
    + put(1)
    + b"0}("
    + b"".join(text(f"layers.{n}.linear.weight") + get(1) for n in range(100_000))
    + b"u",
    "many-layers": weight()
    + put(1)
    + b"0}("
    + b"".join(
        text(f"layers.{n}.linear.{kind}") + get(1)
        for n in range(9000)
        for kind in ("weight", "bias")
    )
    + b"u",
    "long-common-prefix": weight()
    + put(1)
    + b"0}("
    + b"".join(text("a." * 31 + str(n)) + get(1) for n in range(5_000))
    + b"u",
    "prefix-without-end": mapping({"a." * 2000 + "b": weight()}),
    "numbers-of-one-hash": b"}("
    + b"".join(number(n * (2**61 - 1)) + b"N" for n in range(60_000))
    + b"u",
    "tuples-as-keys": b"}(" + b"".join(plain((n, -n)) + b"N" for n in range(60_000)) + b"u",
    "numbers-as-keys": b"}(" + b"".join(number(n << 17) + b"N" for n in range(200_000)) + b"u",
    "one-long-key": text("k" * 4000) + put(1) + b"0}(" + (get(1) + b"N") * 200_000 + b"u",
    "vocabulary": model(vocabulary=_again(text("a") + put(1), 300_000, get(1))),
    "sizes-2-24": model(hidden_size=number(2**24), input_size=number(2**24)),
    "layers-2-30": mapping(
        {
            "qrnn_deploy": plain(
                {"version": 1, "config": {"architecture": "QRNN", "num_layers": 2**30}}
            ),
            "state_dict": mapping({"weight": tensor()}),
        }
    ),
    "dotted-persistent-ids": b"](" + (text("storage") + b"\x85" + b"Q") * 10 + b"e",
    "extra-long-int-in-tuple": b"I" + b"1" * 60_000 + b"\n",
    "classes-by-text": listed([stacked("torch.nn.modules.linear", "Linear")] * 30_000),
    "frames": (b"\x95" + struct.pack("<Q", 2**62)) * 300_000 + b"N",
    "empty-shells-as-state": shell(_LINEAR, shell(_LINEAR)),
}
"""A whole content each."""


def shared_layers(layers: int = 64, size: int = 1024) -> bytes:
    """A stack whose layers all have the same weight: the file holds it once, the model often."""
    config = QRNN(2, [2] * layers, layers, window=[1] * layers, pooling="f").config()
    config |= {"input_size": size, "hidden_size": [size] * layers}
    numel = 2 * size * size
    one = weight(persistent(text("0"), number(numel)), size=plain((2 * size, size)))
    row = weight(persistent(text("0"), number(numel)), size=plain((2 * size,)), stride=plain((1,)))
    one = one.replace(plain((1, 1)), plain((size, 1)))
    tensors = {"layers.0.weight": one + put(1), "layers.0.bias": row + put(2)}
    for layer in range(1, layers):
        tensors |= {f"layers.{layer}.weight": get(1), f"layers.{layer}.bias": get(2)}
    header = mapping({"version": plain(1), "config": plain(config)})
    content = mapping({"qrnn_deploy": header, "state_dict": mapping(tensors)})
    return zipped(content, {"0": bytes(4 * numel)})
