"""Typed checks of metadata that came out of a file, before anything believes them.

A file can be damaged or made up: every field is checked for type and range, and sizes are
bounded, so that nothing is allocated on the word of the file alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .pooling.spec import ACTIVATIONS, BY_OP_TYPE, FORWARD, OPSET_VERSION, REVERSE, STORAGE_DTYPES

MAX_EXTENT = 2**31
"""Largest size along one axis."""

MAX_ELEMENTS = 2**28
"""Most elements of all states of one row, and of one step of one port: 1 GiB of float32."""

MAX_RANK = 32

MAX_DELAY = 2**16
"""Largest delay, in steps."""

PORT_DTYPES = (
    *("float32", "float16", "bfloat16", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""Names of the element types that a graph port may have."""

STANDARD_OPERATORS = ("LSTM", "GRU")
"""Operators of ONNX itself that layers may be."""

LAYER_TENSORS = ("input", "gates", "h", "c")
"""Names that a node of ours has; one of :data:`STANDARD_OPERATORS` has the first and third."""


class MetadataDamage(ValueError):
    """A field that cannot be what the exporter wrote; the text names it."""


def check_metadata(raw: Any) -> None:
    """Check parsed JSON against the format.

    Args:
        raw: the parsed JSON, of a format version that this reader knows.

    Raises:
        MetadataDamage: a field is absent, of the wrong type or out of range, or contradicts
            another field.
    """
    _object(raw, "the metadata")
    integer(_need(raw, "format"), "format", 1)
    integer(raw.get("op_domain_version", 1), "op_domain_version", 1)
    _one_of(_need(raw, "dtype"), "dtype", STORAGE_DTYPES)
    _one_of(_need(raw, "state_mode"), "state_mode", ("separate", "packed", "none"))
    _flag(_need(raw, "ragged"), "ragged")
    for name in ("time_major", "own_lengths"):
        _flag(raw.get(name, False), name)
    integer(raw.get("delay", 0), "delay", 0, MAX_DELAY)
    padding = raw.get("padding")
    if padding is not None and (isinstance(padding, bool) or not isinstance(padding, (int, float))):
        raise _wrong("padding", padding, "a number or null")
    for name in ("weights_sha256", "toolkit_version", "library"):
        _instance(raw.get(name, ""), name, str, "a text")
    _texts(raw.get("assumptions", []), "assumptions")
    for name in ("config", "source"):
        if raw.get(name) is not None:
            _object(raw[name], name)
    for name in ("vocabulary", "classes"):
        if (raw.get("config") or {}).get(name) is not None:
            _texts(raw["config"][name], f"config.{name}")
    for name in ("inputs", "outputs"):
        _each(raw, name, _check_port)
        if not raw[name]:
            raise MetadataDamage(f"{name} is empty, expected at least one")
    known = raw.get("op_domain_version", 1) <= OPSET_VERSION
    _each(raw, "layers", lambda layer, where: _check_layer(layer, where, known))
    for position, layer in enumerate(raw["layers"]):
        if layer["index"] != position:
            raise MetadataDamage(f"layers[{position}].index is {layer['index']}")
    for name in ("name", "node"):
        distinct([layer[name] for layer in raw["layers"]], f"layers' {name}")
    _check_states(raw)


def integer(value: Any, where: str, low: int, high: int = MAX_EXTENT) -> None:
    """Refuse what is no whole number in ``low``..``high``; booleans are none.

    Raises:
        MetadataDamage: naming ``where``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong(where, value, f"a whole number in {low}..{high}")


def distinct(names: Sequence[str], what: str) -> None:
    """Refuse a name that occurs twice.

    Raises:
        MetadataDamage: naming ``what``.
    """
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MetadataDamage(f"{what}: {shown(twice)} occurs twice")


def shown(value: Any) -> str:
    """A value of the file for a message: on one line and short."""
    try:
        text = repr(value)
    except RecursionError:  # lists within lists
        text = f"a deep {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_port(port: dict[str, Any], where: str) -> None:
    _name(_need(port, "name", where), f"{where}.name")
    _one_of(_need(port, "dtype", where), f"{where}.dtype", PORT_DTYPES)
    shape = _instance(_need(port, "shape", where), f"{where}.shape", list, "a list of sizes")
    if len(shape) > MAX_RANK:
        raise MetadataDamage(f"{where}.shape has {len(shape)} axes, expected at most {MAX_RANK}")
    for size in shape:
        if isinstance(size, str):
            _name(size, f"{where}.shape")
        else:
            integer(size, f"{where}.shape", 0)
    _bounded(math.prod(size for size in shape if isinstance(size, int)), f"{where}.shape")
    for key, default in (("batch_axis", 0), ("time_axis", 1)):
        axis = port.get(key, default)
        if axis is None:
            continue
        integer(axis, f"{where}.{key}", 0, len(shape) - 1)
        # The sizes of these two vary, so they are symbols, and only the batch is called batch.
        if not isinstance(shape[axis], str) or (key == "batch_axis") != (shape[axis] == "batch"):
            raise MetadataDamage(
                f"{where}.{key} is {axis}, where the shape has {shown(shape[axis])}"
            )


def _check_layer(layer: dict[str, Any], where: str, known: bool) -> None:
    """``known``: whether this installation knows all operators of the file's version."""
    integer(_need(layer, "index", where), f"{where}.index", 0)
    _name(_need(layer, "name", where), f"{where}.name", empty=True)
    for key in ("node", "op_type"):
        _name(_need(layer, key, where), f"{where}.{key}")
    for key in ("pooling", "activation"):
        _name(_need(layer, key, where), f"{where}.{key}", empty=True)
    family = layer.get("family", "QRNN")
    _name(family, f"{where}.family")
    standard = layer["op_type"] in STANDARD_OPERATORS
    if known:
        _one_of(layer["op_type"], f"{where}.op_type", (*BY_OP_TYPE, *STANDARD_OPERATORS))
        spec = BY_OP_TYPE.get(layer["op_type"])
        _one_of(layer["pooling"], f"{where}.pooling", (spec.name if spec else "",))
        _one_of(family, f"{where}.family", (spec.family if spec else layer["op_type"],))
        active = spec is not None and "activation" in spec.attributes
        _one_of(layer["activation"], f"{where}.activation", ACTIVATIONS if active else ("",))
    direction = _need(layer, "direction", where)
    integer(direction, f"{where}.direction", REVERSE, FORWARD)
    if direction == 0:
        raise _wrong(f"{where}.direction", direction, "1 or -1")
    scale = _need(layer, "zoneout_scale", where)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 <= scale <= 1:
        raise _wrong(f"{where}.zoneout_scale", scale, "a number in 0..1")
    for key in ("window", "input_size", "hidden_size"):
        integer(_need(layer, key, where), f"{where}.{key}", 1)
    integer(layer.get("depth", 1), f"{where}.depth", 1)
    tensors = _object(_need(layer, "tensors", where), f"{where}.tensors")
    for key in LAYER_TENSORS[::2] if standard else LAYER_TENSORS:
        _name(_need(tensors, key, f"{where}.tensors"), f"{where}.tensors.{key}")


def _check_states(raw: dict[str, Any]) -> None:
    _each(raw, "states", lambda state, where: _check_state(state, where, raw))
    states = raw["states"]
    if (raw["state_mode"] == "none") != (not states):
        raise MetadataDamage(f"state_mode is {raw['state_mode']!r} with {len(states)} states")
    distinct([f"{state['kind']} of layer {state['layer']}" for state in states], "states")
    offset = 0
    for position, state in enumerate(states):
        if state["offset"] != offset:
            raise _wrong(f"states[{position}].offset", state["offset"], str(offset))
        offset += math.prod(state["shape"])
    _bounded(offset, "states")


def _check_state(state: dict[str, Any], where: str, raw: dict[str, Any]) -> None:
    _name(_need(state, "name", where), f"{where}.name")
    integer(_need(state, "layer", where), f"{where}.layer", 0, len(raw["layers"]) - 1)
    integer(_need(state, "offset", where), f"{where}.offset", 0)
    layer = raw["layers"][state["layer"]]
    shapes = _state_shapes(layer)
    _one_of(_need(state, "kind", where), f"{where}.kind", tuple(shapes))
    recurrent = state["kind"] != "x" and layer["op_type"] not in STANDARD_OPERATORS
    dtype = "float32" if recurrent else raw["dtype"]
    _one_of(_need(state, "dtype", where), f"{where}.dtype", (dtype,))
    shape = _instance(_need(state, "shape", where), f"{where}.shape", list, "a list of sizes")
    for size in shape:
        integer(size, f"{where}.shape", 1)
    if shape != shapes[state["kind"]]:
        raise _wrong(f"{where}.shape", shape, f"{shapes[state['kind']]} from its layer")


def _state_shapes(layer: dict[str, Any]) -> dict[str, list[int]]:
    """Sizes of the states that a layer may have, by kind."""
    hidden = layer["hidden_size"]
    stacked = [layer.get("depth", 1), hidden]
    by_family = {
        "QRNN": {"c": [hidden], "x": [layer["window"] - 1, layer["input_size"]]},
        "SRU": {"c": [hidden]},
        "RHN": {"s": [hidden]},
        "LSTM": {"h": stacked, "c": stacked},
        "GRU": {"h": stacked},
    }
    return by_family.get(layer.get("family", "QRNN"), by_family["QRNN"])


def _bounded(elements: int, where: str) -> None:
    if elements > MAX_ELEMENTS:
        raise MetadataDamage(f"{where} is too large: expected at most {MAX_ELEMENTS} elements")


def _each(raw: dict[str, Any], key: str, check: Callable[[dict[str, Any], str], None]) -> None:
    items = _instance(_need(raw, key), key, list, "a list")
    for position, item in enumerate(items):
        where = f"{key}[{position}]"
        check(_object(item, where), where)


def _need(raw: dict[str, Any], key: str, where: str = "") -> Any:
    if key not in raw:
        raise MetadataDamage(f"{where}{'.' * bool(where)}{key} is missing")
    return raw[key]


def _object(value: Any, where: str) -> dict[str, Any]:
    result: dict[str, Any] = _instance(value, where, dict, "an object")
    return result


def _instance(value: Any, where: str, kind: type, expected: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong(where, value, expected)
    return value


def _flag(value: Any, where: str) -> None:
    _instance(value, where, bool, "true or false")


def _texts(value: Any, where: str) -> None:
    for item in _instance(value, where, list, "a list of texts"):
        _instance(item, where, str, "a list of texts")


def _name(value: Any, where: str, *, empty: bool = False) -> None:
    """Names stand in messages, so they have no line breaks or control characters."""
    if not isinstance(value, str) or not value.isprintable() or not (value or empty):
        raise _wrong(where, value, "a printable name")


def _one_of(value: Any, where: str, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise _wrong(where, value, " or ".join(allowed))


def _wrong(where: str, value: Any, expected: str) -> MetadataDamage:
    return MetadataDamage(f"{where} is {shown(value)}, expected {expected}")
