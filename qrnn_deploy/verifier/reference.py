"""Comparison with the PyTorch model itself, over a grid of sizes, chunkings and states."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import InputError, ModelError
from ..exporter.border import Border
from ..exporter.golden import finite_error, in_double, make_inputs, run_border
from ..exporter.observed import first_line, observe
from ..exporter.plan import Discovery
from ..metadata import LENGTHS, PACKED_INPUT, PACKED_OUTPUT, Metadata
from ..nn.layer import QRNNLayer
from ..runtime import Session
from ..tolerance import allowed_error
from ..weights import looked_up_tables
from .report import Comparison, compare

Arrays = dict[str, NDArray[Any]]


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


def grid(metadata: Metadata) -> list[GridCase]:
    """Odd and even sizes, one step, several chunkings of one length, zero and random states."""
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
    return [GridCase(*point, seed) for seed, point in enumerate(plain)]


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
        if discovery.calls != names:
            raise ModelError(
                f"the file has the layers {names}, the PyTorch model runs {discovery.calls}: "
                f"{_EXPECTED}"
            )
        for info in meta.layers:
            layer = parts[info.name]
            if not isinstance(layer, QRNNLayer) or (
                (layer.input_size, layer.hidden_size, layer.window, layer.pooling)
                != (info.input_size, info.hidden_size, info.window, info.pooling)
            ):
                raise ModelError(
                    f"the file has a {info.pooling} layer {info.name!r} ({info.input_size} to "
                    f"{info.hidden_size}, window {info.window}) that the PyTorch model lacks: "
                    f"{_EXPECTED}"
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
    sessions: Mapping[str, Session],
    metadata: Metadata,
    atol: float | None,
) -> list[Comparison]:
    """Every output of every session in every case.

    PyTorch's own error is taken over all cases: in one small case it can be zero by luck.
    """
    names = metadata.output_names()
    worst = {name: max((a.errors[name][0] for a in answers), default=0.0) for name in names}
    found = []
    for answer in answers:
        for artifact, session in sessions.items():
            got = run_chunks(session, answer.feed, answer.case.chunks)
            for name in names:
                peak = answer.errors[name][1]
                allowed = allowed_error(worst[name], peak, metadata.dtype) if atol is None else atol
                found.append(
                    compare(
                        artifact,
                        answer.case.label,
                        name,
                        got[name],
                        answer.exact[name],
                        allowed,
                        answer.same[name],
                    )
                )
    return found


def run_chunks(session: Session, feed: Arrays, chunks: Sequence[int]) -> Arrays:
    """Run a sequence in chunks through the bare graph, states carried by hand.

    Outputs come joined along their time axis; one without time is that of the last chunk. In a
    ragged batch a row that ends inside a chunk rests in the later ones.
    """
    meta = session.metadata
    current = dict(feed)
    pieces: dict[str, list[NDArray[Any]]] = {port.name: [] for port in meta.outputs}
    result: Arrays = {}
    start = 0
    for size in chunks:
        for port in meta.inputs:
            if port.time_axis is not None and len(chunks) > 1:
                span = np.arange(start, start + size)
                current[port.name] = np.take(feed[port.name], span, axis=port.time_axis)
        if meta.ragged:
            current[LENGTHS] = np.clip(feed[LENGTHS] - start, 0, size)
        result = session.run(current)
        for name, parts in pieces.items():
            parts.append(result[name])
        if meta.state_mode == "packed":
            current[PACKED_INPUT] = result[PACKED_OUTPUT]
        for state in meta.states if meta.state_mode == "separate" else []:
            current[state.input] = result[state.output]
        start += size
    for port in meta.outputs:
        if port.time_axis is not None:
            result[port.name] = np.concatenate(pieces[port.name], axis=port.time_axis)
    return result


def _numpy(tensors: Mapping[str, Tensor]) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
