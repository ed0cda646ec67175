"""The manifest beside an engine: what the engine is, needs and takes, as versioned JSON.

``model.engine`` has its manifest in ``model.engine.json``. An engine is code for a card: it is
opened only together with the manifest that has its digest, and everything read from a manifest is
checked first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import __version__
from .._metadata_check import MetadataDamage, shown
from ..errors import EngineError, ModelError
from ..metadata import KEY, Metadata, PortInfo
from ._manifest_check import check_manifest
from .model import file_sha256
from .profiles import Profile, ShapeRange, choose_profile

FORMAT = 1
"""Version of this JSON. A reader accepts its own version and every earlier one."""

KIND = "qrnn-deploy engine"
MAX_BYTES = 64 << 20
"""Largest manifest that is read; a vocabulary is the only large thing in one."""


@dataclass(frozen=True)
class Library:
    """A library of ours that must be loaded before the engine.

    Attributes:
        name: its file name; it is looked for where qrnn-deploy is installed.
        sha256: of the file the engine was built with.
        embedded: the engine carries a copy, so that none needs to be installed.
    """

    name: str
    sha256: str
    embedded: bool = False


@dataclass(frozen=True)
class Manifest:
    """Everything that a runtime must know before it opens an engine.

    Attributes:
        backend: ``tensorrt`` or ``tensorrt-rtx``.
        form: ``plugin`` or ``function``: what runs the pooling nodes.
        proof: where that was looked up: in the ``network`` before the build, in the ``engine``.
        tensorrt_version: the version that built the engine.
        version_compatible: whether later versions run it, too.
        refit: whether its weights can be exchanged.
        architectures: of the cards it is for, such as ``sm86``.
        libraries: of ours that it needs.
        precision: storage type of the weights.
        inputs, outputs: all graph ports, in graph order. A text in a shape is a variable size.
        profiles: by index. Their inputs are the ones with a variable size.
        metadata: what the ONNX file records, the states included.
        golden: folder of golden vectors that lay beside the model, to be looked for beside the
            engine.
        model: name of each file of the ONNX model -> sha256; the first is the ONNX file itself.
        engine_bytes, engine_sha256: of the engine.
        toolkit_version: of the qrnn-deploy that built it.
    """

    backend: str
    form: str
    proof: list[str]
    tensorrt_version: str
    version_compatible: bool
    refit: bool
    architectures: list[str]
    libraries: list[Library]
    precision: str
    inputs: list[PortInfo]
    outputs: list[PortInfo]
    profiles: list[Profile]
    metadata: Metadata
    golden: str | None
    model: dict[str, str]
    engine_bytes: int
    engine_sha256: str
    toolkit_version: str = __version__
    format: int = FORMAT
    kind: str = field(default=KIND, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        result = asdict(self)
        for side in ("inputs", "outputs"):
            result[side] = [
                {key: port[key] for key in ("name", "dtype", "shape")} for port in result[side]
            ]
        return {"kind": result.pop("kind"), "format": result.pop("format"), **result}

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def profile_for(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """Index of the profile to run these input shapes with: the one with the fewest shapes.

        Args:
            shapes: input name -> its shape; inputs that are not named are not looked at.

        Raises:
            InputError: no profile takes them; says for which sizes there is one.
        """
        return choose_profile(self.profiles, self.inputs, shapes)


def manifest_path(engine: Path) -> Path:
    """Where the manifest of an engine is."""
    return engine.with_name(f"{engine.name}.json")


def read_manifest(engine: str | os.PathLike[str], *, check_digest: bool = True) -> Manifest:
    """The manifest of an engine, checked, and that it is this engine's.

    Args:
        engine: path of the engine.
        check_digest: False leaves out the digest of the engine, and with it reading the whole file.

    Raises:
        EngineError: one of the files is missing or damaged, of a later format, or of another
            engine.
    """
    path = Path(engine)
    beside = manifest_path(path)
    if not path.is_file():
        raise EngineError(f"{path} is no file: expected an engine, as `qrnn-deploy build` writes")
    manifest = parse_manifest(_read(beside, path), str(beside))
    size = path.stat().st_size
    if size != manifest.engine_bytes:
        raise EngineError(
            f"{path} has {size} bytes, and {beside.name} is the manifest of an engine of "
            f"{manifest.engine_bytes}: copy both files again, or build the engine again"
        )
    if check_digest and file_sha256(path) != manifest.engine_sha256:
        raise EngineError(
            f"{path} is not the engine that {beside.name} describes (its sha256 differs): copy "
            "both files again, or build the engine again"
        )
    return manifest


def parse_manifest(text: str, name: str) -> Manifest:
    """A manifest from its text.

    Args:
        text: the JSON.
        name: of the file, for messages.

    Raises:
        EngineError: it is damaged, no manifest of ours, or of a later format.
    """
    try:
        raw = json.loads(text)
        json.dumps(raw, ensure_ascii=False).encode()  # halves of surrogate pairs print nowhere
        if not isinstance(raw, dict) or raw.get("kind") != KIND:
            raise EngineError(f"{name} is no manifest of an engine: expected kind {KIND!r}")
        version = raw.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise EngineError(
                f"{name} has format {shown(version)}, this qrnn-deploy reads up to {FORMAT}: "
                "upgrade qrnn-deploy"
            )
        return _from_dict(raw, name)
    except EngineError:
        raise
    except ModelError as error:
        raise EngineError(f"{error} and build the engine again") from error
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        reason = str(error) if type(error) is MetadataDamage else type(error).__name__
        raise EngineError(f"{name} is damaged ({reason}): build the engine again") from error


def _read(beside: Path, engine: Path) -> str:
    if beside.exists() and not beside.is_file():  # a pipe would be waited for
        raise EngineError(f"{beside} is not a regular file: expected the manifest of {engine}")
    try:
        with beside.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise EngineError(
            f"{beside} is missing, the manifest of {engine}: copy it there too, or build the "
            "engine again"
        ) from None
    except OSError as error:
        raise EngineError(f"{beside} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise EngineError(f"{beside} is larger than {MAX_BYTES >> 20} MiB: no manifest is")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise EngineError(f"{beside} is damaged (not UTF-8): build the engine again") from None


def _from_dict(raw: dict[str, Any], name: str) -> Manifest:
    if not isinstance(raw.get("metadata"), dict):
        raise MetadataDamage("metadata is missing, expected those of the model")
    metadata = Metadata.from_properties({KEY: json.dumps(raw["metadata"])}, name)
    check_manifest(raw, metadata)
    return Manifest(
        backend=raw["backend"],
        form=raw["form"],
        proof=raw["proof"],
        tensorrt_version=raw["tensorrt_version"],
        version_compatible=raw["version_compatible"],
        refit=raw["refit"],
        architectures=raw["architectures"],
        libraries=[
            Library(item["name"], item["sha256"], item["embedded"]) for item in raw["libraries"]
        ],
        precision=raw["precision"],
        inputs=_sized(metadata.input_ports(), raw["inputs"]),
        outputs=_sized(metadata.output_ports(), raw["outputs"]),
        profiles=[
            Profile(
                item["name"],
                {
                    name: ShapeRange(*(tuple(sizes[bound]) for bound in ("min", "opt", "max")))
                    for name, sizes in item["inputs"].items()
                },
            )
            for item in raw["profiles"]
        ],
        metadata=metadata,
        golden=raw["golden"],
        model=raw["model"],
        engine_bytes=raw["engine_bytes"],
        engine_sha256=raw["engine_sha256"],
        toolkit_version=raw["toolkit_version"],
        format=raw["format"],
    )


def _sized(ports: Sequence[PortInfo], raw: Sequence[Mapping[str, Any]]) -> list[PortInfo]:
    return [replace(port, shape=item["shape"]) for port, item in zip(ports, raw, strict=True)]
