"""Typed checks of a manifest that came out of a file, before anything believes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .._metadata_check import MAX_EXTENT, MetadataDamage, distinct, integer, shown
from ..metadata import Metadata, PortInfo
from .backends import BACKENDS

MAX_ITEMS = 64
"""Most profiles, libraries, architectures or files of a model."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){1,5}")
_ARCHITECTURE = re.compile(r"sm\d{2,3}")
_FILE = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}")
_BOUNDS = ("min", "opt", "max")


def check_manifest(raw: dict[str, Any], metadata: Metadata) -> None:
    """Check parsed JSON against the format and against the model's metadata.

    Args:
        raw: of a format version that this reader knows.
        metadata: the ones in it, checked.

    Raises:
        MetadataDamage: a field is absent, of the wrong type or out of range, or contradicts
            another field.
    """
    integer(_need(raw, "format"), "format", 1)
    backend = _need(raw, "backend")
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise _wrong("backend", backend, " or ".join(BACKENDS))
    if _need(raw, "form") != BACKENDS[backend].form:
        raise _wrong("form", raw["form"], BACKENDS[backend].form)
    if _need(raw, "precision") != metadata.dtype:
        raise _wrong("precision", raw["precision"], f"{metadata.dtype} from the metadata")
    for key in ("version_compatible", "refit"):
        _flag(_need(raw, key), key)
    _match(_need(raw, "tensorrt_version"), "tensorrt_version", _VERSION, "a version")
    _match(_need(raw, "toolkit_version"), "toolkit_version", re.compile(r"[\w.+-]{1,64}"), "one")
    for item in _items(raw, "proof"):
        if item not in ("network", "engine"):
            raise _wrong("proof", item, "network or engine")
    if "network" not in raw["proof"]:
        raise _wrong("proof", raw["proof"], "network, where every build looks")
    distinct(raw["proof"], "proof")
    architectures = _items(raw, "architectures")
    for item in architectures:
        _match(item, "architectures", _ARCHITECTURE, "a text such as sm86")
    distinct(architectures, "architectures")
    if not architectures:
        raise MetadataDamage("architectures is empty, expected at least one")
    _check_files(raw)
    for side, ports in (("inputs", metadata.input_ports()), ("outputs", metadata.output_ports())):
        _check_ports(raw, side, ports)
    for position, profile in enumerate(_items(raw, "profiles")):
        _check_profile(profile, f"profiles[{position}]", raw["inputs"])
    distinct([profile["name"] for profile in raw["profiles"]], "profiles")
    if not raw["profiles"] and any(map(_varies, raw["inputs"])):
        raise MetadataDamage("profiles is empty, expected one or more for the variable sizes")


def _check_files(raw: dict[str, Any]) -> None:
    for position, item in enumerate(_items(raw, "libraries")):
        where = f"libraries[{position}]"
        _match(_need(_object(item, where), "name"), f"{where}.name", _FILE, "a file name")
        _match(_need(item, "sha256"), f"{where}.sha256", _DIGEST, "a sha256")
        _flag(_need(item, "embedded"), f"{where}.embedded")
    model = _object(_need(raw, "model"), "model")
    if not 1 <= len(model) <= MAX_ITEMS:
        raise _wrong("model", model, f"1 to {MAX_ITEMS} files")
    for name, digest in model.items():
        _match(name, "model", re.compile(r"[^\x00-\x1f\x7f]{1,1024}"), "file names")
        _match(digest, f"model.{name}", _DIGEST, "a sha256")
    if _need(raw, "golden") is not None:
        _match(raw["golden"], "golden", _FILE, "a folder's name or null")
    integer(_need(raw, "engine_bytes"), "engine_bytes", 1, 2**48)
    _match(_need(raw, "engine_sha256"), "engine_sha256", _DIGEST, "a sha256")


def _check_ports(raw: dict[str, Any], side: str, ports: Sequence[PortInfo]) -> None:
    """Each port is the metadata's, where a size may be fixed that is a symbol there."""
    items = _need(raw, side)
    if not isinstance(items, list) or len(items) != len(ports):
        raise _wrong(side, items, f"{len(ports)} ports")
    for position, (item, port) in enumerate(zip(items, ports, strict=True)):
        where = f"{side}[{position}]"
        for key in ("name", "dtype"):
            if _need(_object(item, where), key) != getattr(port, key):
                raise _wrong(f"{where}.{key}", item[key], shown(getattr(port, key)))
        shape = _need(item, "shape")
        if not isinstance(shape, list) or len(shape) != len(port.shape):
            raise _wrong(f"{where}.shape", shape, f"{len(port.shape)} sizes")
        for size, known in zip(shape, port.shape, strict=True):
            if isinstance(known, str) and not isinstance(size, str):
                integer(size, f"{where}.shape", 1)
            elif size != known or isinstance(size, bool):
                raise _wrong(f"{where}.shape", shape, shown(port.shape))


def _check_profile(profile: Any, where: str, inputs: Sequence[dict[str, Any]]) -> None:
    variable = {item["name"]: item["shape"] for item in inputs if _varies(item)}
    known: dict[str, tuple[int, int, int]] = {}
    name = _need(_object(profile, where), "name")
    _match(name, f"{where}.name", re.compile(r"[a-z_]{1,32}"), "a name")
    ranges = _object(_need(profile, "inputs"), f"{where}.inputs")
    if ranges.keys() != variable.keys():
        raise _wrong(f"{where}.inputs", sorted(ranges), shown(sorted(variable)))
    for name, shape in variable.items():
        port = f"{where}.{shown(name)}"
        bounds = _object(ranges[name], port)
        for bound in _BOUNDS:
            sizes = _need(bounds, bound)
            if not isinstance(sizes, list) or len(sizes) != len(shape):
                raise _wrong(f"{port}.{bound}", sizes, f"{len(shape)} sizes")
            for size in sizes:
                integer(size, f"{port}.{bound}", 1, MAX_EXTENT)
        for low, usual, high, size in zip(
            *(bounds[bound] for bound in _BOUNDS), shape, strict=True
        ):
            here = low, usual, high
            if not low <= usual <= high or (isinstance(size, int) and (low, high) != (size, size)):
                raise MetadataDamage(
                    f"{port} has min {low}, opt {usual}, max {high} for size {shown(size)}"
                )
            if isinstance(size, str) and known.setdefault(size, here) != here:
                raise MetadataDamage(
                    f"{port} has min {low}, opt {usual}, max {high} for "
                    f"{shown(size)}, another input has min, opt, max {known[size]}"
                )


def _varies(item: dict[str, Any]) -> bool:
    """Whether a port, which is checked already, has a variable size."""
    return any(isinstance(size, str) for size in item["shape"])


def _need(raw: dict[str, Any], key: str) -> Any:
    if key not in raw:
        raise MetadataDamage(f"{key} is missing")
    return raw[key]


def _items(raw: dict[str, Any], key: str) -> list[Any]:
    value = _need(raw, key)
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise _wrong(key, value, f"a list of up to {MAX_ITEMS}")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    return value


def _flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        raise _wrong(where, value, "true or false")


def _match(value: Any, where: str, pattern: re.Pattern[str], expected: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _wrong(where, value, expected)


def _wrong(where: str, value: Any, expected: str) -> MetadataDamage:
    return MetadataDamage(f"{where} is {shown(value)}, expected {expected}")
