"""A file that may be a checkpoint, opened once for all formats to look at.

Two containers can hold weights: safetensors, and PyTorch's zip or legacy file. Their contents
are read here, so a format only has to know names and configurations. Anything else is named in
the error by what it looks like.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .._files import is_text, printable
from ..errors import CheckpointError

WAYS = (
    "qrnn_deploy.save_checkpoint(model, path) for a model of qrnn_deploy.nn, or "
    "qrnn_deploy.export(module, path, args) for a network of your own"
)
"""What to call with a model in memory whose file cannot be read."""

Container = Literal["safetensors", "pytorch"]

_PYTORCH_LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")

_PICKLE = "a Python pickle, which could run code and is never opened"
_UNKNOWN = "no known format"

_LOOKS = (
    (b"\x89HDF\r\n", "an HDF5 file (Keras?)"),
    (b"\x93NUMPY", "a NumPy .npy array"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"GGUF", "a GGUF model"),
    (b"\x7fELF", "a program or shared library"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
)


@dataclass(frozen=True)
class Candidate:
    """An opened file.

    Attributes:
        path: where it lies.
        sha256: of its bytes.
        container: how the content is stored.
        metadata: of a safetensors file, else empty.
        content: of a PyTorch file: whatever plain values and tensors it holds; of a safetensors
            file the tensors by name.
    """

    path: Path
    sha256: str
    container: Container
    metadata: Mapping[str, str] = field(default_factory=dict)
    content: Any = None

    def error(self, problem: str) -> CheckpointError:
        """An error that names this file."""
        return CheckpointError(f"{self.path}: {problem}")

    def holds_weights(self) -> bool:
        """Whether there are tensors by name in it, as in a state dict or one level below."""
        if not isinstance(self.content, Mapping):
            return False
        values = list(self.content.values())
        for value in self.content.values():
            values += value.values() if isinstance(value, Mapping) else ()
        return any(isinstance(value, Tensor) for value in values)

    def describe(self) -> str:
        """What it looks like, for a file that no format recognises."""
        kind = "safetensors file" if self.container == "safetensors" else "PyTorch file"
        if not isinstance(self.content, Mapping):
            return f"a {kind} that holds a {type(self.content).__name__}"
        names = [str(name)[:60] for name in self.content]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"a {kind} that holds {shown}" if names else f"a {kind} that holds nothing"


def open_candidate(path: str | os.PathLike[str]) -> Candidate:
    """Read a file that may be a checkpoint.

    Raises:
        CheckpointError: it is absent, unreadable, damaged, or neither safetensors nor PyTorch.
    """
    file = Path(path)
    if not is_text(file):
        raise CheckpointError(
            f"{printable(file)}: has bytes in its path that are not UTF-8, which an exported file "
            "cannot record: rename it"
        )
    try:
        if file.is_dir():
            raise CheckpointError(f"{file}: is a folder, expected a checkpoint file")
        if file.exists() and not file.is_file():
            raise CheckpointError(f"{file}: is not a regular file, expected a checkpoint file")
        with file.open("rb") as stream:
            head = block = stream.read(2**20)
            size, digest = 0, hashlib.sha256()
            while block:
                size += len(block)
                digest.update(block)
                block = stream.read(2**20)
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file, expected a checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from None
    if size == 0:
        raise CheckpointError(f"{file}: is empty, expected a checkpoint")

    if head.startswith(b"PK"):
        _check_zip(file)
        return Candidate(file, digest.hexdigest(), "pytorch", content=_read_pytorch(file))
    if head.startswith(_PYTORCH_LEGACY):
        return Candidate(file, digest.hexdigest(), "pytorch", content=_read_pytorch(file))
    if _is_safetensors(head, file):
        metadata, tensors = _read_safetensors(file, size)
        return Candidate(file, digest.hexdigest(), "safetensors", metadata, tensors)
    look = _look(head)
    named = "is named .safetensors but " if file.suffix == ".safetensors" else ""
    fix = f": load it where its code is, then call {WAYS}" if look == _PICKLE else ""
    raise CheckpointError(
        f"{file}: {named}looks like {look}, expected a .safetensors or PyTorch .pt file{fix}"
    )


def _is_safetensors(head: bytes, file: Path) -> bool:
    """Eight bytes of header size, then a JSON object; a short or damaged file goes by its name."""
    if head[8:9] == b"{":
        return True
    return file.suffix == ".safetensors" and (len(head) <= 8 or _look(head) == _UNKNOWN)


def _look(head: bytes) -> str:
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _PICKLE
    for magic, name in _LOOKS:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:1] == b"\x08" and b"\x12" in head[:16]:
        return "an ONNX model"
    if head.lstrip()[:1] in (b"{", b"["):
        return "a JSON document"
    if re.match(rb"\s*<", head):
        return "an HTML or XML document (a failed download?)"
    try:
        head[:400].decode("ascii")
    except UnicodeDecodeError:
        return _UNKNOWN
    return "a text file"


def _read_safetensors(file: Path, size: int) -> tuple[dict[str, str], dict[str, Tensor]]:
    with file.open("rb") as stream:
        start = stream.read(8)
    announced = 8 + struct.unpack("<Q", start)[0] if len(start) == 8 else 8
    if announced > size:
        raise CheckpointError(
            f"{file}: is a truncated or damaged safetensors file: its header needs "
            f"{announced} bytes, the file has {size}"
        )
    try:
        with safetensors.safe_open(file, framework="pt") as archive:
            metadata = dict(archive.metadata() or {})
        return metadata, safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{file}: is a truncated or damaged safetensors file: {_one_line(error)}"
        ) from None


def _check_zip(file: Path) -> None:
    """Refuse archives that are damaged, packed (PyTorch never packs), or not PyTorch's."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{file}: is a truncated or damaged zip archive: {_one_line(error)}"
        ) from None
    names = [entry.filename for entry in entries]
    if not any(name.endswith("data.pkl") for name in names):
        kind = "a NumPy .npz archive" if any(n.endswith(".npy") for n in names) else "a zip archive"
        raise CheckpointError(
            f"{file}: looks like {kind}, expected a .safetensors or PyTorch .pt file"
        )
    if any(name.endswith("constants.pkl") for name in names):
        raise CheckpointError(
            f"{file}: is a TorchScript archive, expected weights: build the model from its own "
            f"code, then call {WAYS}"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{file}: has compressed entries, which PyTorch never writes: save it with torch.save"
        )


def _read_pytorch(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the message below says all there is to say
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file provokes is a damaged file
        asked = re.search(r"GLOBAL (\S+) (?:was not|whose)", str(error))
        if asked:
            raise CheckpointError(
                f"{file}: holds a pickle that asks for {asked.group(1)[:100]}, which could run "
                f"code: refused; load it where its code is, then call {WAYS}"
            ) from None
        raise CheckpointError(
            f"{file}: is a truncated, damaged or foreign PyTorch file: {_one_line(error)}"
        ) from None


def _one_line(error: BaseException, limit: int = 120) -> str:
    """The line of a library's message that says something, shortened."""
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    line = text.strip().partition("\n")[0].strip() or type(error).__name__
    return line if len(line) <= limit else line[: limit - 3] + "..."
