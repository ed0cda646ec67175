"""Legacy PyTorch files, safetensors and vocabularies that lie."""

from __future__ import annotations

import json
import pickle
import struct
from typing import Any

from hostile_values import model, weight
from pickle_assembler import (
    FOUR,
    get,
    legacy,
    listed,
    many,
    named,
    number,
    persistent,
    plain,
    put,
    raw,
    text,
    whole,
)


def _view(key: str, offset: int, size: int) -> bytes:
    """A persistent id as PyTorch 0.3 wrote it, with a part of a storage."""
    kind = named("torch", "FloatStorage")
    view = plain((key, offset, size))
    return many([text("storage"), kind, text("0"), text("cpu"), number(4), view]) + b"Q"


def _class(module: str, name: str, source: str = "x") -> bytes:
    """A class with its source, as legacy files of whole modules have it."""
    return many([text("module"), named(module, name), text("/etc/passwd"), text(source)]) + b"Q"


def refused_legacy() -> dict[str, bytes]:
    """All refused."""
    return {
        "magic": b"\x80\x02\x8a\x0a" + b"\x6d" + legacy(model())[5:],
        "protocol-1000": legacy(model(), protocol=1000),
        "protocol-text": legacy(model(), protocol="1001"),
        "protocol-list": legacy(model(), protocol=[1001]),
        "protocol-long": legacy(model(), protocol="x" * 10**6),
        "system-none": legacy(model(), system=whole(b"N")),
        "system-empty": legacy(model(), system=whole(b"}")),
        "system-big-endian": legacy(model(), system=pickle.dumps({"little_endian": False}, 2)),
        "system-one": legacy(model(), system=pickle.dumps({"little_endian": 1}, 2)),
        "system-long": legacy(model(), system=whole(b"](" + b"N" * 10**6 + b"e")),
        "system-persistent": legacy(model(), system=whole(persistent())),
        "keys-none": legacy(model(), keys=whole(b"N")),
        "keys-numbers": legacy(model(), keys=pickle.dumps([0], 2)),
        "keys-tuple": legacy(model(), keys=pickle.dumps(("0",), 2)),
        "keys-dictionary": legacy(model(), keys=pickle.dumps({"0": 0}, 2)),
        "keys-text": legacy(model(), keys=pickle.dumps("0", 2)),
        "keys-100000": legacy(
            model(), keys=whole(text("0") + put(1) + b"0](" + get(1) * 10**5 + b"e")
        ),
        "keys-twice": legacy(model(), {"0": FOUR, "1": FOUR}, keys=pickle.dumps(["0", "0"], 2)),
        "keys-other": legacy(model(), {"1": FOUR}),
        "keys-newline": legacy(model(), {"0\n\x1b[31m": FOUR}),
        "keys-surrogate": legacy(model(), {"\ud800": FOUR}, keys=whole(listed([text("\ud800")]))),
        "keys-empty": legacy(model(), {}),
        "keys-persistent": legacy(model(), keys=whole(listed([persistent()]))),
        "keys-code": legacy(model(), keys=whole(listed([named("os", "system")]))),
        "count-negative": legacy(model(), counts=[-4]),
        "count-less": legacy(model(), counts=[3]),
        "count-more": legacy(model(), counts=[5]),
        "count-2-62": legacy(model(), counts=[2**62]),
        "count-least": legacy(model(), counts=[-(2**63)]),
        "storage-2-59": legacy(
            model(weight(persistent(text("9"), number(2**59)))),
            {"9": b"", "0": FOUR},
            counts=[2**59, 4],
        ),
        "storage-cut": legacy(model())[:-1],
        "storage-none": legacy(model())[:-16],
        "count-cut": legacy(model())[:-20],
        "keys-cut": legacy(model())[:-30],
        "content-cut": legacy(model())[:200],
        "system-cut": legacy(model())[:40],
        "magic-only": legacy(model())[:15],
        "view": legacy(model(weight(_view("1", 0, 2)))),
        "view-2-62": legacy(model(weight(_view("0", 2**62, -(2**62))))),
        "class-as-storage": legacy(model(weight(_class("torch.nn.modules.linear", "Linear")))),
        "class-of-os": legacy(model(more={"x": _class("os", "system")})),
        "persistent-line": legacy(b"P0\n0" + model()),
    }


def sound_legacy() -> dict[str, bytes]:
    """Strange, and sound."""
    return {
        "plain": legacy(model()),
        "trailing": legacy(model()) + b"cos\nsystem\n(S'x'\ntR." * 99,
        "class-with-source": legacy(
            model(
                more={
                    "x": _class("torch.nn.modules.linear", "Linear", "import os; os.system('x')")
                    + b")\x81"
                }
            )
        ),
        "system-extra": legacy(
            model(), system=pickle.dumps({"little_endian": True, "type_sizes": {"long": 9**9}}, 2)
        ),
    }


def safetensors_file(header: Any, data: bytes = FOUR, size: int | None = None) -> bytes:
    """A safetensors file of any header, or of any bytes in its place."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if size is None else size) + content + data


def _one(**fields: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | fields


_ENTRY = json.dumps(_one()).encode()


def refused_safetensors() -> dict[str, bytes]:
    """All refused."""
    return {
        "overlapping": safetensors_file({"a": _one(), "b": _one()}),
        "overlapping-half": safetensors_file(
            {"a": _one(), "b": _one(data_offsets=[8, 24])}, bytes(24)
        ),
        "gap": safetensors_file({"a": _one(), "b": _one(data_offsets=[20, 36])}, bytes(36)),
        "backwards": safetensors_file({"a": _one(data_offsets=[16, 0])}),
        "beyond": safetensors_file({"a": _one(shape=[8], data_offsets=[0, 32])}),
        "negative": safetensors_file({"a": _one(data_offsets=[-16, 0])}),
        "offsets-2-64": safetensors_file({"a": _one(data_offsets=[2**64 - 16, 2**64])}),
        "offsets-three": safetensors_file({"a": _one(data_offsets=[0, 8, 16])}),
        "header-2-60": safetensors_file({"a": _one()}, size=2**60),
        "header-2-64": safetensors_file({"a": _one()}, size=2**64 - 1),
        "header-0": safetensors_file(b"", b"{", size=0),
        "header-short": safetensors_file({"a": _one()}, size=9),
        "header-16-mib-of-blanks": safetensors_file(b"{" + b" " * 2**24 + b"}"),
        "twice": safetensors_file(b'{"a":%s,"a":%s}' % (_ENTRY, _ENTRY)),
        "twice-different": safetensors_file(
            b'{"a":%s,"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}' % _ENTRY,
            bytes(32),
        ),
        "twice-escaped": safetensors_file(b'{"a":%s,"\\u0061":%s}' % (_ENTRY, _ENTRY)),
        "field-twice": safetensors_file(
            b'{"a":{"dtype":"F32","dtype":"I32","shape":[4],"data_offsets":[0,16]}}'
        ),
        "metadata-twice": safetensors_file(
            b'{"__metadata__":{"a":"b"},"__metadata__":{"qrnn_deploy":"{}"},"a":%s}' % _ENTRY
        ),
        "dtype-unknown": safetensors_file({"a": _one(dtype="X99")}),
        "dtype-float8": safetensors_file({"a": _one(dtype="F8_E4M3", shape=[16])}),
        "dtype-float4": safetensors_file({"a": _one(dtype="F4", shape=[32])}),
        "dtype-complex": safetensors_file({"a": _one(dtype="C64", shape=[2])}),
        "dtype-number": safetensors_file({"a": _one(dtype=1)}),
        "shape-overflow": safetensors_file({"a": _one(shape=[2**40, 2**40])}),
        "shape-2-64": safetensors_file({"a": _one(shape=[2**64])}),
        "shape-overflow-to-4": safetensors_file({"a": _one(shape=[2**63, 2, 4])}),
        "shape-0-2-62": safetensors_file({"a": _one(shape=[0, 2**62], data_offsets=[0, 0])}, b""),
        "shape-negative": safetensors_file({"a": _one(shape=[-4])}),
        "shape-real": safetensors_file({"a": _one(shape=[4.0])}),
        "shape-rank-65": safetensors_file({"a": _one(shape=[1] * 64 + [4])}),
        "shape-other-size": safetensors_file({"a": _one(shape=[3])}),
        "entry-null": safetensors_file({"a": None}),
        "entry-list": safetensors_file({"a": [1]}),
        "header-list": safetensors_file(b"{}[]"),
        "header-nan": safetensors_file(
            b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}'
        ),
        "header-deep": safetensors_file(b'{"a":' * 100_000),
        "header-not-utf8": safetensors_file(b'{"\xff":1}'),
        "header-surrogate": safetensors_file(b'{"\\ud800":%s}' % _ENTRY),
        "name-newline": safetensors_file({"a\n\x1b[31m": _one()}),
        "name-long": safetensors_file({"a" * 10**6: _one()}),
        "name-dots": safetensors_file({"a." * 10**5: _one()}),
        "metadata-number": safetensors_file({"__metadata__": {"qrnn_deploy": 1}, "a": _one()}),
        "metadata-deep": safetensors_file(
            {"__metadata__": {"qrnn_deploy": "[" * 10**5}, "a": _one()}
        ),
        "metadata-digits": safetensors_file(
            {"__metadata__": {"qrnn_deploy": '{"version": 1' + "0" * 10**5 + "}"}, "a": _one()}
        ),
        "metadata-config": safetensors_file(
            {
                "__metadata__": {
                    "qrnn_deploy": json.dumps({"version": 1, "config": {"x\n\x1b[2J": 1}})
                },
                "a": _one(),
            }
        ),
        "empty": safetensors_file({}, b""),
        "pickle": whole(model()),
    }


def large_safetensors() -> dict[str, bytes]:
    """Headers that grow when they are read."""
    return {
        "rank-60000": safetensors_file({"a": _one(shape=[1] * 59_999 + [4])}),
        "many-tensors": safetensors_file(
            {str(n): _one(shape=[0], data_offsets=[0, 0]) for n in range(200_000)}, b""
        ),
    }


def refused_vocabularies() -> dict[str, bytes]:
    """Files for ``--vocabulary`` of a model of text; all refused."""
    return {
        "code": pickle.dumps(["a"], 2)[:-1] + b"0cos\nsystem\n(X\x01\x00\x00\x00xtR.",
        "protocol-0": b"(lp0\nVa\np1\nacos\nsystem\n(S'x'\ntR.",
        "numbers": pickle.dumps(list(range(9)), 2),
        "bytes": whole(listed([raw(b"a")]), 3),
        "nested": whole(b"]" * 1000 + b"a" * 999),
        "itself": whole(b"]" + put(1) + get(1) + b"a"),
        "persistent": whole(listed([persistent()])),
        "shell": whole(listed([named("torch.nn.modules.linear", "Linear") + b")\x81"])),
        "newline-name": whole(b"X\x03\x00\x00\x00o\ns" + text("sys\x1b[31m") + b"\x93", 4),
        "surrogate-name": whole(text("\ud800") + text("x") + b"\x93", 4),
        "wrong-numbers": pickle.dumps({"a": 2**63, "b": -1}, 2),
        "two-of-a-number": pickle.dumps({"a": 0, "b": 0}, 2),
        "true": pickle.dumps({"a": False, "b": "x"}, 2),
        "huge": whole(number(2 ** (8 * 10**6))),
        "empty": whole(b"]"),
        "cut": pickle.dumps(["a"] * 99, 2)[:-9],
        "long-token": whole(listed([text("a" * 10**6)])),
    }
