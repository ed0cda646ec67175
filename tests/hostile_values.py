"""Pickles of checkpoints in which a value is no such value: tensors, storages, opcodes, names.

Every pickle is that of a sound checkpoint but for one place.
"""

from __future__ import annotations

import struct

from pickle_assembler import (
    call,
    get,
    listed,
    many,
    mapping,
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
)

from qrnn_deploy.nn import QRNNLayer

CONFIG = QRNNLayer(1, 1, pooling="f").config()
WEIGHT, BIAS = [1.0, 2.0], [3.0, 4.0]
"""What the sound checkpoint holds."""

_V2 = named("torch._utils", "_rebuild_tensor_v2")
_V3 = named("torch._utils", "_rebuild_tensor_v3")
_PARAMETER = named("torch._utils", "_rebuild_parameter")
_ORDERED = named("collections", "OrderedDict")
_LINEAR = "torch.nn.modules.linear.Linear"


def weight(
    storage: bytes | None = None,
    offset: bytes = number(0),
    size: bytes = plain((2, 1)),
    stride: bytes = plain((1, 1)),
) -> bytes:
    return tensor(storage, offset, size, stride)


def model(
    first: bytes | None = None,
    *,
    before: bytes = b"",
    more: dict[str, bytes] | None = None,
    **config: bytes,
) -> bytes:
    """A checkpoint of ``QRNNLayer(1, 1)``: ``first`` is its weight, ``before`` come first."""
    header = {
        "version": plain(1),
        "config": mapping({k: plain(v) for k, v in CONFIG.items()} | config),
    }
    tensors = {
        "weight": weight() if first is None else first,
        "bias": tensor(None, number(2), plain((2,)), plain((1,))),
    }
    return before + mapping(
        {"qrnn_deploy": mapping(header), "state_dict": mapping(tensors)} | (more or {})
    )


def _numbers(count: int) -> bytes:
    return b"(" + b"K\x01" * count + b"t"


def _deep_call(function: bytes, inner: bytes, depth: int) -> bytes:
    return function * depth + inner + b"\x85R" * depth


TENSORS: dict[str, bytes] = {
    **{
        f"offset-{name}": weight(offset=value)
        for name, value in {
            "negative": number(-1),
            "beyond": number(3),
            "2-63": number(2**63),
            "2-64": number(2**64),
            "2-200": number(2**200),
            "real": plain(0.0),
            "true": b"\x88",
            "none": b"N",
            "tuple": plain(((0,),)),
            "text": text("0"),
        }.items()
    },
    **{
        f"size-{name}": weight(size=value)
        for name, value in {
            "negative": plain((-2, 1)),
            "both-negative": plain((-2, -1)),
            "2-63": plain((2**63, 1)),
            "2-31-squared": plain((2**31, 2**31)),
            "2-40-and-0": plain((2**41, 0)),
            "rank-65": _numbers(65),
            "rank-million": _numbers(10**6),
            "true": plain((2, True)),
            "real": plain((2.0, 1)),
            "text": text("ab"),
            "bytes": raw(b"\x02\x01"),
            "bytearray": b"\x96" + struct.pack("<Q", 2) + b"\x02\x01",
            "dictionary": plain({2: 1, 1: 1}),
            "nested": plain(((2,), 1)),
            "number": plain(2),
            "none": b"N",
            "itself": b"]" + put(9) + get(9) + b"a",
        }.items()
    },
    **{
        f"stride-{name}": weight(stride=value)
        for name, value in {
            "negative": plain((-1, 1)),
            "2-63": plain((2**63, 1)),
            "2-40": plain((2**40, 1)),
            "beyond": plain((4, 1)),
            "short": plain((1,)),
            "long": plain((1, 1, 1)),
            "true": plain((True, 1)),
            "none": b"N",
        }.items()
    },
    "expanded-million": weight(size=plain((2**20, 2**15)), stride=plain((0, 0))),
    "expanded-2-40": weight(size=plain((2**40,)), stride=plain((0,))),
    "expanded-half": weight(size=plain((2**20, 2)), stride=plain((0, 1))),
    "storage-text": weight(text("0")),
    "storage-none": weight(b"N"),
    "storage-tensor": weight(weight()),
    "storage-class": weight(named("torch", "FloatStorage")),
    "few-arguments": call(_V2, persistent()),
    "no-arguments": call(_V2),
    "newobj": _V2 + b")\x81",
    "arguments-list": _V2 + b"]R",
    "arguments-100000": _V2 + b"(" + b"N" * 10**5 + b"tR",
    "v3-no-type": call(
        _V3, persistent(), number(0), plain((2, 1)), plain((1, 1)), b"\x89", b"N", b"N"
    ),
    "v3-wrong-type": call(
        _V3, persistent(), number(0), plain((2, 1)), plain((1, 1)), b"\x89", b"N", _ORDERED
    ),
    "v3-wider-type": call(
        *(_V3, persistent(), number(0), plain((2, 2)), plain((2, 1)), b"\x89", b"N"),
        named("torch", "float64"),
    ),
    "v3-short": call(_V3, persistent()),
    "parameter-of-list": call(_PARAMETER, listed([weight()]), b"\x89", _ORDERED + b")R"),
    "parameter-of-nothing": call(_PARAMETER),
    "parameter-of-itself": b"]" + put(9) + b"0" + call(_PARAMETER, get(9)),
    "dictionary": plain({"load": 1, "shape": (2, 1), "dtype": 1}),
}
"""In the place of a weight."""

STORAGES: dict[str, bytes] = {
    "two-types": persistent(text("0"), number(4), "torch.IntStorage"),
    "two-sizes": persistent(text("0"), number(3)),
    "absent": persistent(text("9")),
    "numel-2-59": persistent(text("1"), number(2**59)),
    "numel-2-60": persistent(text("1"), number(2**60)),
    "numel-2-64": persistent(text("1"), number(2**64)),
    "numel-more": persistent(text("1"), number(5)),
    "numel-negative": persistent(text("1"), number(-4)),
    "numel-true": persistent(text("1"), b"\x88"),
    "numel-real": persistent(text("1"), plain(4.0)),
    "numel-text": persistent(text("1"), text("4")),
    "numel-none": persistent(text("1"), b"N"),
    "double": persistent(text("1"), number(4), "torch.DoubleStorage"),
    **{
        f"key-{name}": persistent(value)
        for name, value in {
            "parent": text("../0"),
            "parents": text("../" * 20 + "etc/passwd"),
            "absolute": text("/etc/passwd"),
            "nul": text("0\0"),
            "newline": text("0\n\x1b[31m"),
            "surrogate": text("\ud800"),
            "empty": text(""),
            "long": text("0" * 10**6),
            "digits": number(10**70),
            "huge": number(10**5000),
            "bytes": raw(b"0"),
            "tuple": plain(("0",)),
            "none": b"N",
            "backslash": text("..\\0"),
        }.items()
    },
    "class-unknown": persistent(text("1"), number(4), "torch.ComplexFloatStorage"),
    "class-of-os": persistent(text("1"), number(4), "os.FloatStorage"),
    "class-text": many([text("storage"), text("FloatStorage"), text("1"), text("cpu"), number(4)])
    + b"Q",
    "class-layer": persistent(text("1"), number(4), _LINEAR),
    "other-word": many(
        [text("Storage"), named("torch", "FloatStorage"), text("1"), b"N", number(4)]
    )
    + b"Q",
    "short": plain(("storage",)) + b"Q",
    "list": listed([text("storage"), named("torch", "FloatStorage"), text("1"), b"N", number(4)])
    + b"Q",
    "text": text("storage") + b"Q",
    "line": b"Pstorage\n",
    "module": many(
        [text("module"), named("torch.nn.modules.linear", "Linear"), text("x.py"), text("x")]
    )
    + b"Q",
}
"""In the place of a weight's storage; there are storages 0 and 1 of four numbers each."""

CALLS: dict[str, bytes] = {
    "none": b"N)R",
    "text": text("os.system") + b")R",
    "shell": shell(_LINEAR) + b")R",
    "tensor": weight() + b")R",
    "dtype": named("torch", "float32") + b")R",
    "storage-class": named("torch", "FloatStorage") + b")R",
    "object": named("builtins", "object") + b")R",
    "object-newobj": named("builtins", "object") + b")\x81",
    "layout": call(named("torch.serialization", "_get_layout"), text("torch.strided")),
    "ordered-number": call(_ORDERED, number(1)),
    "ordered-text": call(_ORDERED, text("abc")),
    "ordered-bytes": call(_ORDERED, raw(b"abc")),
    "ordered-numbers": call(_ORDERED, plain([1])),
    "ordered-triples": call(_ORDERED, plain([(1, 2, 3)])),
    "ordered-texts": call(_ORDERED, plain(["ab"])),
    "ordered-list-keys": call(_ORDERED, listed([listed([b"]", b"N"])])),
    "ordered-shell": call(_ORDERED, shell(_LINEAR)),
    "counter-number": call(named("collections", "Counter"), number(1)),
    "dict-number": call(named("builtins", "dict"), number(1)),
    "set-number": call(named("builtins", "set"), number(2**62)),
    "set-text": call(named("builtins", "frozenset"), text("abc")),
    "size-text": call(named("torch", "Size"), text("abc")),
    "size-two": call(named("torch", "Size"), b"]", b"]"),
    "tuple-number": call(named("builtins", "tuple"), number(2**62)),
    "encode-one": call(named("_codecs", "encode"), text("a")),
    "reconstructor-popen": call(
        named("copyreg", "_reconstructor"),
        named("torch", "Size"),
        named("builtins", "object"),
        b"N",
    ),
    "reconstructor-state": call(
        *(named("copyreg", "_reconstructor"), named("torch.nn.modules.linear", "Linear")),
        *(named("builtins", "object"), plain({})),
    ),
    "reconstructor-short": call(named("copyreg", "_reconstructor")),
    "newobj-number": number(1) + b")\x81",
    "newobj-ex-number": number(1) + b")}\x92",
}
"""In the place of anything."""

OPCODES: dict[str, bytes] = {
    "ext1": b"\x82\x01",
    "ext2": b"\x83\x01\x00",
    "ext4": b"\x84\x01\x00\x00\x00",
    "inst": b"(icollections\nOrderedDict\n",
    "obj": b"(" + _ORDERED + b"o",
    "next-buffer": b"\x97",
    "readonly-buffer": b"N\x98",
    "unknown": b"\xff",
    "zero": b"\x00",
    "get-missing": b"g77\n",
    "binget-missing": b"h\x4d",
    "long-binget-missing": get(2**32 - 1),
    "put-digits": b"Np" + b"9" * 4000 + b"\n" + b"g" + b"9" * 4001 + b"\n",
    "put-text": b"Npx\n",
    "memoize-mark": b"(\x94",
    "dup-mark": b"(2",
    "pop-past-the-start": b"0" * 9,
    "tuple-without-mark": b"t",
    "tuple3-with-mark": b"(NN\x87",
    "append-to-dictionary": b"}Na",
    "append-to-tuple": b")Na",
    "append-to-shell": shell(_LINEAR) + b"Na",
    "appends-without-list": b"(NNe",
    "setitem-on-list": b"]NNs",
    "setitem-on-number": number(1) + b"NNs",
    "setitems-odd": b"}(NNNu",
    "dict-odd": b"(NNNd",
    "key-list": b"}]Ns",
    "key-dictionary": b"}}Ns",
    "key-shell": b"}" + shell(_LINEAR) + b"Ns",
    "key-tuple-of-lists": b"}]\x85Ns",
    "key-deep-tuple": b"})" + b"\x85" * 100_000 + b"Ns",
    "key-wide-tuple": b"}(" + b"K\x01" * 100_000 + b"tNs",
    "key-long": b"}" + text("k" * 10**6) + b"Ns",
    "build-on-mark": b"(}b",
    "stack-global-numbers": b"NN\x93",
    "global-one-line": b"ccollections\n",
    "global-not-ascii": b"c\xff\nx\n",
    "persid": b"P0\n",
    "binbytes8-2-62": b"\x8e" + struct.pack("<Q", 2**62) + b"x",
    "binbytes8-2-64": b"\x8e" + b"\xff" * 8 + b"x",
    "bytearray8-2-62": b"\x96" + struct.pack("<Q", 2**62) + b"x",
    "binunicode8-2-62": b"\x8d" + struct.pack("<Q", 2**62) + b"x",
    "binunicode-2-32": b"X\xff\xff\xff\xffx",
    "binbytes-2-32": b"B\xff\xff\xff\xffx",
    "binstring-negative": b"T\xff\xff\xff\xffx",
    "long4-2-31": b"\x8b\xff\xff\xff\x7fx",
    "long4-negative": b"\x8b\xff\xff\xff\xffx",
    "long4-million-bytes": number(2 ** (8 * 10**6)),
    "long-million-digits": b"L" + b"9" * 10**6 + b"L\n",
    "int-million-digits": b"I" + b"9" * 10**6 + b"\n",
    "int-underscores": b"I1__0\n",
    "int-text": b"Ix\n",
    "float-text": b"Fx\n",
    "float-million-digits": b"F" + b"9" * 10**6 + b"\n",
    "string-open": b"S'abc\n",
    "string-bare": b"Sabc\n",
    "string-not-ascii": b"S'\\xff'\n",
    "string-odd-escape": b"S'\\q'\n\xff",
    "string-bad-escape": b"S'\\x'\n",
    "unicode-bad-escape": b"V\\uzzzz\n",
    "unicode-bad-utf8": b"X\x01\x00\x00\x00\xff",
    "line-without-end": b"V" + b"a" * 10**6,
    "endless-line": b"S'" + b"a" * (15 << 20),
    "stop-early": b".",
}
"""Before a sound checkpoint, all of whose opcodes follow."""

_BAD_NAMES = {
    "newline": "os\nsystem",
    "carriage-return": "os\rsystem",
    "escape": "\x1b]0;x\x07\x1b[2J",
    "nul": "os\0system",
    "backwards": "\u202esystem",
    "line-separator": "os\u2028system",
    "next-line": "os\x85system",
    "surrogate": "os\ud800system",
    "two-surrogates": "\ud83d\ude00",
    "astral": "os\U0001f600",
    "long": "system" * 100_000,
    "empty": "",
    "percent": "%s%n{0}{x}",
    "markup": "[red]os[/red][link=http://x]",
}

NAMES: dict[str, bytes] = {
    **{f"module-{n}": stacked(bad, "system") + b"0" + model() for n, bad in _BAD_NAMES.items()},
    **{f"qualname-{n}": stacked("os", bad) + b"0" + model() for n, bad in _BAD_NAMES.items()},
    **{
        f"class-{n}": stacked("torch.nn.modules.linear", f"Linear{bad}") + b"0" + mapping({})
        for n, bad in _BAD_NAMES.items()
    },
    **{f"tensor-{n}": mapping({f"a{bad}": weight()}) for n, bad in _BAD_NAMES.items()},
    **{
        f"layer-{n}": mapping({"linear.weight": weight(), f"linear.{bad}": weight()})
        for n, bad in _BAD_NAMES.items()
    },
    **{f"part-{n}": mapping({bad: model(), f"{bad}2": model()}) for n, bad in _BAD_NAMES.items()},
    **{
        f"submodule-{n}": shell(
            _LINEAR, mapping({"_modules": mapping({bad: shell(_LINEAR, plain({"_modules": {}}))})})
        )
        for n, bad in _BAD_NAMES.items()
    },
    **{f"architecture-{n}": model(architecture=text(bad)) for n, bad in _BAD_NAMES.items()},
    **{f"option-{n}": model(**{f"x{bad}": b"N"}) for n, bad in _BAD_NAMES.items()},
    **{f"native-{n}": model(more={}, hidden_size=text(bad)) for n, bad in _BAD_NAMES.items()},
}
"""Names that must not reach a terminal as they are; a whole content each."""

CONFIGS: dict[str, bytes] = {
    "nan": plain(float("nan")),
    "infinity": plain(float("inf")),
    "2-255": number(2**255),
    "shell": shell(_LINEAR),
    "tensor": weight(),
    "storage": persistent(),
    "name": named("torch", "float32"),
    "bytes": raw(b"1"),
    "parameter-list": listed([weight()] * 9),
}
"""In the place of a size in the configuration."""

SOUND: dict[str, bytes] = {
    "plain": model(),
    "memo-2-32": model(before=b"N" + put(2**32 - 1) + b"0"),
    "memo-negative": model(before=b"Np-5\n0"),
    "frame-2-63": model(before=b"\x95" + struct.pack("<Q", 2**63)),
    "protocol-255": model(before=b"\x80\xff"),
    "nan-beside": model(more={"loss": plain(float("nan"))}),
    "surrogate-beside": model(more={"note": text("\ud800\n\x1b[31m")}),
    "parameter-1000-deep": model(_deep_call(_PARAMETER, weight(), 1000)),
    "build-on-parameter": model(weight() + plain({"__class__": "os"}) + b"b"),
    "build-on-dictionary": model() + plain({"_metadata": {}, "__class__": 1}) + b"b",
    "shell-with-dunders": model(
        more={"x": shell(_LINEAR, plain({"__class__": 1, "__dict__": {}, "__reduce__": "os"}))}
    ),
    "shell-with-slots": model(more={"x": shell(_LINEAR, plain(({"a": 1}, {"__setstate__": 2})))}),
    "overlapping-strides": model(tensor(None, number(0), plain((2, 1)), plain((1, 7)))),
    "size-0-strides": model(more={"x": tensor(None, number(0), plain((0, 5)), plain((9, 9)))}),
    "behind-the-end": model() + b"." + b"cos\nsystem\n",
    "frozen-set": model(more={"x": b"(NNN\x91"}),
    "numpy-scalar": model(
        more={
            "x": call(named("numpy.core.multiarray", "scalar"), named("numpy", "dtype"), raw(b"x"))
        }
    ),
}
"""They look strange and are sound: the weights come out."""
