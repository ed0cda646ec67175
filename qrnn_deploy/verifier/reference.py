"""Comparison with the PyTorch model itself, over a grid of sizes, chunkings and states."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, ModelError
from ..exporter.border import Border
from ..exporter.double import in_double
from ..exporter.golden import finite_error, make_inputs, run_border
from ..exporter.layers import layer_info
from ..exporter.observed import first_line, observe
from ..exporter.plan import Discovery
from ..metadata import LayerInfo, Metadata
from ..runtime.engine import Bounds
from ..runtime.engine_device import host_array
from ..tolerance import allowed_error
from ..weights import looked_up_tables
from .artifacts import ON_CPU, Runnable
from .report import Comparison, compare
from .running import Arrays, outside_in_chunks, run_chunks, run_stream


@dataclass(frozen=True)
class GridCase:
    """One point of the grid. ``chunks`` add up to the time; one chunk is the whole sequence."""

    batch: int
    chunks: tuple[int, ...]
    random_state: bool
    seed: int

    @property
    def time(self) -> int:
        """Steps in all."""
        return sum(self.chunks)

    @property
    def label(self) -> str:
        """As the report shows it."""
        sizes = sorted(set(self.chunks), reverse=True)
        cut = "" if len(self.chunks) == 1 else f" in chunks of {'/'.join(map(str, sizes))}"
        return (
            f"B={self.batch} T={self.time}{cut} {'random' if self.random_state else 'zero'} state"
        )


def grid(metadata: Metadata, bounds: Bounds | None = None) -> list[GridCase]:
    """Odd and even sizes, one step, several chunkings of one length, zero and random states.

    Sizes out of ``bounds`` (default: none are) are moved to the nearest that are within.
    """
    wholes: list[tuple[int, tuple[int, ...]]] = [
        (1, (1,)),
        (3, (2,)),
        (2, (7,)),
        (1, (33,)),
        (3, (64,)),
    ]
    cuts: list[tuple[int, tuple[int, ...]]] = [
        (2, (1,) * 9),
        (3, (7,) * 4 + (5,)),
        (1, (32, 1)),
        (2, (1, 2, 30)),
    ]
    plain = [(batch, chunks, False) for batch, chunks in wholes]
    if metadata.state_mode != "none":
        plain += [(batch, chunks, True) for batch, chunks in wholes + cuts]
    limits = bounds or Bounds()
    fitting = dict.fromkeys(
        (_clip(batch, limits.batch), tuple(_clip(size, limits.time) for size in chunks), state)
        for batch, chunks, state in plain
    )
    return [GridCase(*point, seed) for seed, point in enumerate(fitting)]


def _clip(size: int, limits: tuple[int, int]) -> int:
    return min(max(size, limits[0]), limits[1])


_EXPECTED = "expected the checkpoint that the file was exported from"


class Reference:
    """The PyTorch model at the file's border, in float64 and in the file's own type."""

    def __init__(self, module: nn.Module, metadata: Metadata, example: Sequence[Tensor]) -> None:
        """Wrap ``module`` (in eval mode) as ``metadata`` describe it.

        Raises:
            ModelError: the module is not the one that the file was exported from.
        """
        dtype = getattr(torch, metadata.dtype)
        self.metadata = metadata
        self.example = [a.to(dtype) if a.is_floating_point() else a for a in example]
        module = copy.deepcopy(module).to(dtype)
        self._check_layers(module)
        self.same = Border(module, metadata)
        self.exact = in_double(self.same)

    def _check_layers(self, module: nn.Module) -> None:
        parts = dict(module.named_modules())
        discovery = Discovery(
            {id(part): name for name, part in parts.items()}, self.metadata.state_mode != "none"
        )
        meta = self.metadata
        try:
            observe(module, meta.inputs, self.example, meta.time_major, discovery)
        except (RuntimeError, InputError, TypeError) as error:
            raise ModelError(
                f"the PyTorch model does not take the file's inputs ({first_line(error)}): "
                f"{_EXPECTED}"
            ) from error
        names = [info.name for info in meta.layers]
        if discovery.layers != names:
            raise ModelError(
                f"the file has the layers {names}, the PyTorch model runs {discovery.layers}: "
                f"{_EXPECTED}"
            )
        for info in meta.layers:
            if _shape(layer_info(module, info.index, info.name)) != _shape(info):
                raise ModelError(
                    f"the file has a {info.pooling or info.family} layer {info.name!r} "
                    f"({info.input_size} to {info.hidden_size}, window {info.window}) that the "
                    f"PyTorch model lacks: {_EXPECTED}"
                )

    def inputs(self, case: GridCase) -> dict[str, Tensor]:
        """The whole sequence of a case; a ragged one has rows of every kind of length."""
        return make_inputs(
            self.metadata,
            self.example,
            batch=case.batch,
            time=case.time,
            seed=case.seed,
            random_state=case.random_state,
        )

    def answer(self, case: GridCase) -> Answer:
        """What PyTorch gives in a case.

        Raises:
            RuntimeError: the model itself cannot run at that size.
        """
        feed = self.inputs(case)
        exact, same = run_border(self.exact, feed), run_border(self.same, feed)
        errors = {name: finite_error(same[name], exact[name]) for name in exact}
        return Answer(case, _numpy(feed), _numpy(exact), _numpy(same), errors)

    def table_problems(self, path: Path) -> list[str]:
        """Rows that the file looks up (embeddings) and the PyTorch model does not hold."""
        state = self.same.module.state_dict()
        known = [tensor.float().numpy() for tensor in state.values() if tensor.dim() >= 1]
        return [
            f"the file's table {name!r} {list(table.shape)} is not among the weights of the "
            "PyTorch model"
            for name, table in looked_up_tables(path).items()
            if table.dtype.kind not in "iub"
            and not any(np.array_equal(table.astype(np.float32), weight) for weight in known)
        ]


@dataclass(frozen=True)
class Answer:
    """PyTorch's part of a case: (error of the same type, peak) per output in ``errors``."""

    case: GridCase
    feed: Arrays
    exact: Arrays
    same: Arrays
    errors: dict[str, tuple[float, float]]


def compare_grid(
    answers: Sequence[Answer],
    models: Mapping[str, Runnable],
    metadata: Metadata,
    atol: float | None,
) -> tuple[list[Comparison], dict[str, str]]:
    """Every output of every model in every case, and the cases that a model does not take.

    PyTorch's own error is taken over all cases: in one small case it can be zero by luck.
    """
    names = metadata.output_names()
    worst = {name: max((a.errors[name][0] for a in answers), default=0.0) for name in names}
    found: list[Comparison] = []
    missing: dict[str, str] = {}
    for answer in answers:
        case = answer.case
        for artifact, model in models.items():
            misfit = outside_in_chunks(model, answer.feed, case.chunks)
            if misfit is not None:
                missing[f"{artifact}, {case.label}"] = misfit
                continue
            results = {case.label: run_chunks(model, answer.feed, case.chunks)}
            if artifact not in ON_CPU and metadata.state_mode != "none":
                results[f"{case.label}, as a stream"] = run_stream(model, answer.feed, case.chunks)
            for label, got in results.items():
                for name in names:
                    peak = answer.errors[name][1]
                    allowed = (
                        allowed_error(worst[name], peak, metadata.dtype, metadata.feedback)
                        if atol is None
                        else atol
                    )
                    exact, same = answer.exact[name], answer.same[name]
                    found.append(compare(artifact, label, name, got[name], exact, allowed, same))
    return found, missing


def _shape(info: LayerInfo) -> tuple[object, ...]:
    """What decides which weights a layer has."""
    sizes = info.input_size, info.hidden_size, info.window, info.depth
    return (*sizes, info.op_type)


def _numpy(tensors: Mapping[str, Tensor]) -> Arrays:
    return {name: host_array(tensor) for name, tensor in tensors.items()}
