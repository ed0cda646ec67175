"""Comparison with the golden vectors beside a model: needs neither torch nor the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from ..errors import ModelError
from ..metadata import Metadata
from ..tolerance import proves_something
from ..weights import file_digest
from .artifacts import ON_CPU, Runnable
from .report import Comparison, compare
from .running import Arrays, outside_in_chunks, run_chunks, run_stream, time_of


def compare_golden(
    path: Path,
    folder: Path,
    models: Mapping[str, Runnable],
    atol: float | None,
    source: Path | None,
) -> tuple[list[Comparison], list[str], dict[str, str]]:
    """Run every stored set through every model.

    The weights are compared by digest too: no run looks at every row of an embedding.

    Args:
        path: the file that is verified, for messages.
        folder: the vectors.
        models: open models by artifact name.
        atol: tolerance for every output instead of the stored ones.
        source: the ONNX file, whose weights are compared; None where it is not here.

    Returns:
        The comparisons, other problems, and what could not be compared.

    Raises:
        ModelError: the vectors are absent, incomplete, damaged, or belong to another model.
    """
    metadata = next(iter(models.values())).metadata
    wanted_in, wanted_out = metadata.input_names(), metadata.output_names()
    record = _record(path, folder)
    if record.fingerprint != metadata.weights_sha256:
        raise ModelError(
            f"{folder} belongs to a model with other weights: export {path.name} again, or verify "
            "with --checkpoint"
        )
    missing: dict[str, str] = {}
    comparisons = []
    for number, (label, tolerance) in enumerate(record.sets):
        place = folder / f"test_data_set_{number}"
        inputs = _tensors(place, "input", wanted_in)
        expected = _tensors(place, "output", wanted_out)
        for name, value in expected.items():
            finite = np.abs(value[np.isfinite(value)].astype(np.float64))
            if not proves_something(tolerance.get(name, -1.0), float(finite.max(initial=0.0))):
                raise ModelError(
                    f"{folder / 'golden.json'}: the tolerance of {name!r} in set {number} is "
                    f"{tolerance.get(name)}, expected one that is small beside its values: export "
                    "the model again"
                )
        for artifact, model in models.items():
            for case, run, chunks in _runs(artifact, metadata, f"golden {label}", inputs):
                misfit = outside_in_chunks(model, inputs, chunks)
                if misfit is not None:
                    missing[f"{artifact}, {case}"] = misfit
                    continue
                got = run(model, inputs, chunks)
                for name, value in expected.items():
                    allowed = tolerance[name] if atol is None else atol
                    comparisons.append(compare(artifact, case, name, got[name], value, allowed))
    problems = []
    if source is not None and record.file_weights != file_digest(source):
        problems.append(f"the weights in {source} are not those that were exported: digests differ")
    return comparisons, problems, missing


def _runs(
    artifact: str, metadata: Metadata, label: str, inputs: Arrays
) -> list[tuple[str, Callable[[Runnable, Arrays, Sequence[int]], Arrays], list[int]]]:
    """How a set is run: label, function and chunks; on a GPU also step by step as a stream."""
    time = time_of(metadata, inputs)
    whole = (label, run_chunks, [time])
    if artifact in ON_CPU or metadata.state_mode == "none":
        return [whole]
    return [whole, (f"{label}, step by step", run_stream, [1] * time)]


@dataclass(frozen=True)
class _Record:
    fingerprint: str
    file_weights: str
    sets: list[tuple[str, dict[str, float]]]


def _record(path: Path, folder: Path) -> _Record:
    file = folder / "golden.json"
    if not file.is_file():
        raise ModelError(
            f"{path} has no golden vectors ({file} is missing): give --checkpoint, or export with "
            "golden vectors"
        )
    try:
        raw = json.loads(file.read_text())
        sets = [
            (str(item["name"]), {str(k): float(v) for k, v in item["tolerance"].items()})
            for item in raw["sets"]
        ]
        record = _Record(str(raw["fingerprint"]), str(raw["file_weights"]), sets)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise ModelError(
            f"{file} is damaged ({type(error).__name__}): export the model again"
        ) from error
    if len(sets) != len(list(folder.glob("test_data_set_*"))) or not sets:
        raise ModelError(
            f"{folder} holds other sets than golden.json lists ({len(sets)}): export the model "
            "again"
        )
    return record


def _tensors(place: Path, kind: str, wanted: list[str]) -> dict[str, NDArray[Any]]:
    """The tensors of one set by name: exactly the ``wanted`` ones.

    Raises:
        ModelError: one is absent, damaged or not known to the model.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for number in range(len(wanted)):
        file = place / f"{kind}_{number}.pb"
        try:
            proto = onnx.TensorProto.FromString(file.read_bytes())
            if proto.external_data:
                raise ValueError("external data")
            tensors[proto.name] = np.asarray(numpy_helper.to_array(proto))
        except FileNotFoundError as error:
            raise ModelError(f"{file} is missing: export the model again") from error
        except (OSError, DecodeError, ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"{file} is damaged ({type(error).__name__}): export the model again"
            ) from error
    if sorted(tensors) != sorted(wanted):
        raise ModelError(
            f"{place} holds the {kind}s {sorted(tensors)}, expected {sorted(wanted)}: export the "
            "model again"
        )
    return tensors
