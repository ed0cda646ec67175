"""Comparison with the golden vectors beside a model: needs neither torch nor the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from ..errors import ModelError
from ..runtime import Session
from .report import Comparison, compare


def golden_folder(path: Path) -> Path:
    """Where the vectors of the model ``path`` are: ``model.golden``."""
    return path.with_suffix(".golden")


def compare_golden(
    path: Path, sessions: Mapping[str, Session], atol: float | None
) -> list[Comparison]:
    """Run every stored set through every session.

    Raises:
        ModelError: the vectors are absent, damaged, or belong to another model.
    """
    folder = golden_folder(path)
    metadata = next(iter(sessions.values())).metadata
    record = _record(path, folder)
    if record["fingerprint"] != metadata.weights_sha256:
        raise ModelError(
            f"{folder} belongs to a model with other weights: export {path.name} again, or verify "
            "with --checkpoint"
        )
    comparisons = []
    for number, item in enumerate(record["sets"]):
        place = folder / f"test_data_set_{number}"
        inputs = _tensors(place, "input")
        expected = _tensors(place, "output")
        for artifact, session in sessions.items():
            got = session.run(inputs)
            comparisons += [
                compare(
                    artifact,
                    f"golden {item['name']}",
                    name,
                    got[name],
                    value,
                    item["tolerance"][name] if atol is None else atol,
                )
                for name, value in expected.items()
            ]
    return comparisons


def _record(path: Path, folder: Path) -> dict[str, Any]:
    file = folder / "golden.json"
    if not file.is_file():
        raise ModelError(
            f"{path} has no golden vectors ({file} is missing): give --checkpoint, or export with "
            "golden vectors"
        )
    try:
        record = json.loads(file.read_text())
        sets = [(str(item["name"]), dict(item["tolerance"])) for item in record["sets"]]
        if not sets or not isinstance(record["fingerprint"], str):
            raise ValueError("no sets")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(
            f"{file} is damaged ({type(error).__name__}): export the model again"
        ) from error
    return dict(record)


def _tensors(place: Path, kind: str) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {}
    for number in range(len(list(place.glob(f"{kind}_*.pb")))):
        file = place / f"{kind}_{number}.pb"
        try:
            proto = onnx.TensorProto.FromString(file.read_bytes())
            tensors[proto.name] = np.asarray(numpy_helper.to_array(proto))
        except (OSError, DecodeError, ValueError, TypeError) as error:
            raise ModelError(
                f"{file} is damaged ({type(error).__name__}): export the model again"
            ) from error
    if not tensors:
        raise ModelError(f"{place} holds no {kind} vectors: export the model again")
    return tensors
