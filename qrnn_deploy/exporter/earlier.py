"""What an earlier export left beside an output, told from files that are the user's own.

An export replaces or removes the first and must never touch the second, so whatever cannot be
recognised for certain counts as the user's.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from .._files import golden_folder
from ..errors import ExportError, ModelError
from ..metadata import KEY
from ..model_file import external_files, read_model

_FIELDS = {"fingerprint", "file_weights", "sets"}
_SET = re.compile(r"test_data_set_\d+")
_TENSOR = re.compile(r"(input|output)_\d+\.pb")


def data_name(target: Path) -> str:
    """Name of the file of weights beside the ONNX file ``target``."""
    return f"{target.name}.data"


def earlier_files(target: Path) -> list[str]:
    """Names beside ``target`` that an earlier export to it wrote, golden vectors and weights.

    Raises:
        ExportError: one of the names belongs to something else. It is left as it is.
    """
    found = []
    golden, data = golden_folder(target), target.parent / data_name(target)
    for path, expected, objection in (
        (golden, "the golden vectors of an earlier export", _foreign_in_golden),
        (data, f"the weights of the {target.name} beside it", _not_data_of),
    ):
        if not os.path.lexists(path):
            continue
        reason = objection(path)
        if reason is not None:
            raise ExportError(
                f"{path} is in the way: expected nothing or {expected}, but it {reason}; move it "
                "elsewhere, or give another output name"
            )
        found.append(path.name)
    return found


def refuse_overwriting(checkpoint: Path, target: Path) -> None:
    """Leave the checkpoint as it is.

    Raises:
        ExportError: an export to ``target`` would write over it, under whatever name.
    """
    if not checkpoint.exists():
        return
    golden = golden_folder(target)
    for path in (target, target.parent / data_name(target), golden):
        if os.path.exists(path) and path.samefile(checkpoint):
            break
    else:
        if golden.resolve() not in checkpoint.resolve().parents:
            return
    raise ExportError(
        f"output {target} would overwrite the checkpoint {checkpoint}, which must stay: give "
        "another output name"
    )


def _foreign_in_golden(folder: Path) -> str | None:
    """What shows that ``folder`` does not hold golden vectors of ours and nothing else."""
    if folder.is_symlink():
        return "is a symbolic link"
    if not folder.is_dir():
        return "is a file"
    try:
        for entry in sorted(folder.iterdir()):
            if entry.is_symlink():
                return f"holds {entry.name}, a symbolic link"
            if entry.name == "golden.json" and entry.is_file():
                continue
            if not (_SET.fullmatch(entry.name) and entry.is_dir()):
                return f"holds {entry.name}, which no export writes"
            for part in sorted(entry.iterdir()):
                if part.is_symlink() or not (_TENSOR.fullmatch(part.name) and part.is_file()):
                    return f"holds {entry.name}/{part.name}, which no export writes"
        record = json.loads((folder / "golden.json").read_text())
    except FileNotFoundError:
        return "holds no golden.json"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, RecursionError):
        return "holds a golden.json that is damaged"
    if not isinstance(record, dict) or not record.keys() >= _FIELDS:
        return "holds a golden.json that no export wrote"
    return None


def _not_data_of(data: Path) -> str | None:
    """What shows that ``data`` is not the weights of the ONNX file beside it."""
    target = data.with_suffix("")
    if data.is_symlink():
        return "is a symbolic link"
    if data.is_dir():
        return "is a folder"
    if not target.is_file():
        return f"belongs to no {target.name}"
    try:
        if not any(entry.key == KEY for entry in read_model(target).metadata_props):
            return f"belongs to a {target.name} that no export of qrnn-deploy wrote"
        if data in external_files(target):
            return None
    except ModelError:
        return f"lies beside a {target.name} that cannot be read"
    return f"is not what {target.name} refers to"
