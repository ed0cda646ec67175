"""A file that may be a checkpoint, opened once for all formats to look at.

Four containers can hold weights: safetensors, PyTorch's zip or legacy file, NumPy's .npz, and
TensorFlow's checkpoints. They are laid out here, so a format only has to know names and
configurations. Anything else is named in the error by what it looks like.
"""

from __future__ import annotations

import glob
import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from .._files import is_text, printable
from .._heads import PICKLE, UNKNOWN, look
from ..errors import CheckpointError
from ..npz import GuardedFile
from .npz_file import read_npz
from .pickle_advice import advice
from .pickle_names import PickleDamage, PickleRefusal, Shell
from .pytorch_file import LEGACY_START, read_legacy, read_zip
from .safetensors_file import read_safetensors
from .tables import InMemory, WeightTable, find_tables
from .tensorflow_file import is_tensorflow, read_tensorflow
from .untrusted_text import is_name, shown

WAYS = (
    "qrnn_deploy.save_checkpoint(model, path) for a model of qrnn_deploy.nn, or "
    "qrnn_deploy.export(module, path, args) for a network of your own"
)
"""What to call with a model in memory whose file cannot be read."""

Container = Literal["safetensors", "pytorch", "npz", "tensorflow"]
_KINDS = {
    "safetensors": "safetensors file",
    "pytorch": "PyTorch file",
    "npz": "NumPy .npz archive",
    "tensorflow": "TensorFlow checkpoint",
}


@dataclass(frozen=True)
class Candidate:
    """An opened file. Its tensors are :class:`.stored.StoredTensor`: none has been read yet.

    Attributes:
        path: where it lies.
        sha256: of its bytes.
        container: how the content is stored.
        metadata: of a safetensors file, else empty.
        content: of a PyTorch file: plain values, tensors and shells; otherwise tensors by name.
        tables: the state dicts and modules in it, the outermost first.
    """

    path: Path
    sha256: str
    container: Container
    metadata: Mapping[str, str] = field(default_factory=dict)
    content: Any = None
    tables: Sequence[WeightTable] = ()

    def error(self, problem: str) -> CheckpointError:
        """An error that names this file."""
        return CheckpointError(f"{self.path}: {problem}")

    def describe(self) -> str:
        """What it looks like, for a file that no format recognises."""
        kind = _KINDS[self.container]
        if not isinstance(self.content, Mapping):
            what = type(self.content).__name__
            if isinstance(self.content, Shell):
                what = self.content.cls
            return f"a {kind} that holds a {'Tensor' if what == 'StoredTensor' else what}"
        names = [shown(str(name), 60) for name in self.content]
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"a {kind} that holds {some}" if names else f"a {kind} that holds nothing"


def open_candidate(path: str | os.PathLike[str]) -> Candidate:
    """Read a file that may be a checkpoint.

    Raises:
        CheckpointError: it is absent, unreadable, damaged, or neither safetensors nor PyTorch.
    """
    file = Path(path)
    index = Path(f"{file}.index")
    if not os.path.exists(file) and is_tensorflow(index):
        file = index  # TensorFlow calls the whole by the name without a suffix
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
            head = stream.read(512)
        size, mark = file.stat().st_size, _sha256(file)
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file, expected a checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from None
    if size == 0:
        raise CheckpointError(f"{file}: is empty, expected a checkpoint")

    if head.startswith(b"PK"):
        if _is_npz(file):
            return _arrays(file, mark, "npz", read_npz(file))
        return _pytorch(file, mark, _read_zip)
    if head.startswith(LEGACY_START):
        return _pytorch(file, mark, read_legacy)
    if is_tensorflow(file):
        return _arrays(file, mark, "tensorflow", read_tensorflow(file))
    if _is_safetensors(head, file):
        metadata, tensors = read_safetensors(file, size)
        return Candidate(file, mark, "safetensors", metadata, tensors, [WeightTable(tensors)])
    kind = look(head)
    named = "is named .safetensors but " if file.suffix == ".safetensors" else ""
    fix = f": load it where its code is, then call {WAYS}" if kind == PICKLE else ""
    raise CheckpointError(
        f"{file}: {named}looks like {kind}, expected a .safetensors or PyTorch .pt file{fix}"
    )


def _sha256(file: Path) -> str:
    """Of a file's bytes, or of a TensorFlow index and its data files one after the other."""
    files = [file]
    if is_tensorflow(file):
        files += sorted(file.parent.glob(f"{glob.escape(file.stem)}.data-*"))
    digest = hashlib.sha256()
    for part in files:
        with part.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _is_safetensors(head: bytes, file: Path) -> bool:
    """Eight bytes of header size, then a JSON object; a short or damaged file goes by its name."""
    if head[8:9] == b"{":
        return True
    return file.suffix == ".safetensors" and (len(head) <= 8 or look(head) == UNKNOWN)


def _arrays(file: Path, mark: str, kind: Container, arrays: Mapping[str, Tensor]) -> Candidate:
    """A file whose tensors have been read."""
    for name in arrays:
        if not is_name(name):
            raise CheckpointError(f"{file}: holds {shown(name)}, which is no name of a tensor")
    content = {name: InMemory(value) for name, value in arrays.items()}
    return Candidate(file, mark, kind, {}, content, [WeightTable(content)])


def _is_npz(file: Path) -> bool:
    try:
        with GuardedFile(file) as stream, zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _pytorch(file: Path, mark: str, read: Callable[[Path], Any]) -> Candidate:
    """A PyTorch file, read as data."""
    try:
        content = read(file)
        return Candidate(file, mark, "pytorch", {}, content, find_tables(content))
    except PickleRefusal as error:
        raise CheckpointError(
            f"{file}: holds a pickle that asks for {printable(str(error))[:100]}, which could run "
            f"code: refused; {advice(str(error), WAYS)}"
        ) from None
    except (PickleDamage, OSError) as error:
        raise CheckpointError(
            f"{file}: is a truncated or damaged PyTorch file, copy it again: "
            f"{shown(str(error), 120)}"
        ) from None


def _read_zip(file: Path) -> Any:
    """Refuse archives that are damaged, packed (PyTorch never packs), or not PyTorch's."""
    try:
        with GuardedFile(file) as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
        _check_entries(file, entries)
        return read_zip(file, entries)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        if isinstance(error, (CheckpointError, PickleDamage)):
            raise
        raise CheckpointError(
            f"{file}: is a truncated or damaged zip archive, copy it again: "
            f"{shown(str(error), 120)}"
        ) from None


def _check_entries(file: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(
            f"{file}: looks like a zip archive, expected a .safetensors or PyTorch .pt file"
        )
    if any(name.endswith("constants.pkl") for name in names):
        raise CheckpointError(
            f"{file}: is a TorchScript archive, expected weights: if you trust its maker, "
            "torch.save(torch.jit.load(FILE).state_dict(), WEIGHTS) saves them; or build the model "
            "from its own code and export qrnn_deploy.convert(model) (docs/convert.md)"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{file}: has compressed entries, which PyTorch never writes: save it with torch.save"
        )
