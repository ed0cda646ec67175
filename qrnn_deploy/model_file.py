"""An ONNX file as a file: whether it is there and whole, and whether its weights lie beside it.

Every command says the same of the same mistake. ``onnx`` is imported when it is first needed,
so that a :class:`~qrnn_deploy.runtime.Session` of a good file does without.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ._files import is_text, printable
from ._heads import ONNX, UNKNOWN, look
from .errors import ModelError
from .metadata import Metadata

if TYPE_CHECKING:
    from onnx import ModelProto


_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors", ".npz", ".ckpt", ".index", ".bin")
_CHECKPOINT_HEADS = (b"PK\x03\x04", b"\x80\x02\x8a\x0a")


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a file is to be taken for a checkpoint: by its name, else by its first bytes."""
    file = Path(path)
    if file.suffix == ".onnx":
        return False
    if file.suffix in _CHECKPOINT_SUFFIXES or Path(f"{file}.index").is_file():
        return True
    try:
        return _begins_as_checkpoint(_head(file))
    except OSError:  # whoever opens it next says what is wrong
        return False


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(512)


def _begins_as_checkpoint(head: bytes) -> bool:
    return head.startswith(_CHECKPOINT_HEADS) or head[8:10] == b'{"'


def check_model_file(path: Path) -> None:
    """Check what needs no look into the file.

    Raises:
        ModelError: it is absent, empty, not a regular file, or has a name that ONNX cannot take.
    """
    if not is_text(path):
        raise ModelError(
            f"{printable(path)} has bytes in its path that are not UTF-8, which ONNX cannot open: "
            "rename it"
        )
    if ".engine" in (path.suffix, path.name):
        raise ModelError(
            f"{path} is named like an engine of TensorRT: expected an ONNX file here (in Python, "
            "open_model and StreamingSession take both)"
        )
    if path.is_dir():
        raise ModelError(
            f"{path} is a folder: expected the file of a model, such as {path / 'model.onnx'}"
        )
    if not path.exists():
        raise ModelError(
            f"{path} does not exist: expected an ONNX file, as `qrnn-deploy export` writes"
        )
    if not path.is_file():
        raise ModelError(f"{path} is not a regular file: expected an ONNX file")
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty: expected an ONNX file; export the model again")


def read_model(path: Path) -> ModelProto:
    """The model without the weights that lie in other files.

    Raises:
        ModelError: as :func:`check_model_file`, or the file cannot be read or parsed.
    """
    import onnx
    from google.protobuf.message import DecodeError

    check_model_file(path)
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise _no_model(
            path, "is not a whole ONNX file, it may be truncated: copy it again, or"
        ) from error
    if not model.graph.node:
        raise _no_model(path, "holds no ONNX graph:")
    return model


def metadata_of(model: ModelProto, path: Path) -> Metadata:
    """What a file that was read says about itself.

    Raises:
        ModelError: as for :meth:`Metadata.from_properties`.
    """
    properties = {entry.key: entry.value for entry in model.metadata_props}
    return Metadata.from_properties(properties, str(path))


def _no_model(path: Path, defect: str) -> ModelError:
    """What is wrong with a file: that it is something else, or else ``defect``."""
    head = _head(path)
    kind = look(head)
    known = kind not in (ONNX, UNKNOWN)
    if _begins_as_checkpoint(head) or (path.suffix in _CHECKPOINT_SUFFIXES and not known):
        return ModelError(
            f"{path} looks like a checkpoint, expected an ONNX file: export it first, "
            f"qrnn-deploy export {shlex.quote(str(path))} -o MODEL.onnx"
        )
    if known:
        return ModelError(
            f"{path} looks like {kind}: expected an ONNX file, as `qrnn-deploy export` writes"
        )
    return ModelError(f"{path} {defect} export the model again")


def external_files(path: Path) -> list[Path]:
    """The files that hold weights of the model ``path``, whether they are there or not.

    Raises:
        ModelError: as :func:`read_model`.
    """
    return [path.parent / name for name in _external_names(read_model(path))]


def external_sizes(model: ModelProto, path: Path) -> dict[str, int]:
    """Bytes of each file that holds weights of ``model``, which was read from ``path``.

    Raises:
        ModelError: such a file is missing or too short.
    """
    sizes = {}
    for name in _external_names(model):
        part = path.parent / name
        if not part.is_file():
            raise ModelError(
                f"{part} is missing, which holds the weights of {path}: copy it there too, or "
                "export the model again (--single-file keeps the weights inside)"
            )
        sizes[name] = part.stat().st_size
    for tensor in model.graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if "location" in place:
            needed = _whole(place.get("offset")) + _whole(place.get("length"))
            if needed > sizes[place["location"]]:
                raise ModelError(
                    f"{path.parent / place['location']}, which holds the weights of {path}, is "
                    f"truncated: it has {sizes[place['location']]} bytes, expected {needed} or "
                    "more; copy it again, or export the model again"
                )
    return sizes


def _external_names(model: ModelProto) -> list[str]:
    places = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(places)


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
