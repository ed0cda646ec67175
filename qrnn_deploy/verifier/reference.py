"""Comparison with the PyTorch model itself, over a grid of sizes, chunkings and states."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ModelError
from ..exporter.border import Border
from ..exporter.golden import in_double, make_inputs, output_names, run_border
from ..metadata import LENGTHS, PACKED_INPUT, PACKED_OUTPUT, Metadata
from ..nn.layer import QRNNLayer
from ..runtime import Session
from ..tolerance import allowed_error
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


class Reference:
    """The PyTorch model at the file's border, in float64 and in the file's own type."""

    def __init__(self, module: nn.Module, metadata: Metadata, example: Sequence[Tensor]) -> None:
        """Wrap ``module`` (in eval mode) as ``metadata`` describe it.

        Raises:
            ModelError: the module is not the one that the file was exported from.
        """
        for info in metadata.layers:
            layer = dict(module.named_modules()).get(info.name)
            fits = isinstance(layer, QRNNLayer) and (
                (layer.input_size, layer.hidden_size, layer.window, layer.pooling)
                == (info.input_size, info.hidden_size, info.window, info.pooling)
            )
            if not fits:
                raise ModelError(
                    f"the file has a {info.pooling} layer {info.name!r} ({info.input_size} to "
                    f"{info.hidden_size}, window {info.window}) that the PyTorch model lacks: "
                    "expected the checkpoint that the file was exported from"
                )
        self.metadata = metadata
        dtype = getattr(torch, metadata.dtype)
        self.example = [a.to(dtype) if a.is_floating_point() else a for a in example]
        self.same = Border(copy.deepcopy(module).to(dtype), metadata)
        self.exact = in_double(self.same)

    def inputs(self, case: GridCase) -> dict[str, Tensor]:
        """The whole sequence of a case; a ragged one has rows of every kind of length."""
        lengths = None
        if self.metadata.ragged and len(case.chunks) > 1:
            lengths = [case.time] * case.batch
        return make_inputs(
            self.metadata,
            self.example,
            batch=case.batch,
            time=case.time,
            seed=case.seed,
            random_state=case.random_state,
            lengths=lengths,
        )

    def compare(
        self, sessions: Mapping[str, Session], case: GridCase, atol: float | None
    ) -> list[Comparison]:
        """Every output of every session in one case."""
        feed = self.inputs(case)
        exact = _numpy(run_border(self.exact, feed))
        same = _numpy(run_border(self.same, feed))
        allowed = {name: tolerance(same[name], exact[name], self.metadata, atol) for name in exact}
        found = []
        for artifact, session in sessions.items():
            got = run_chunks(session, _numpy(feed), case.chunks)
            for name in output_names(self.metadata):
                label = case.label
                found.append(compare(artifact, label, name, got[name], exact[name], allowed[name]))
        return found


def tolerance(
    same: NDArray[Any], exact: NDArray[Any], metadata: Metadata, atol: float | None
) -> float:
    """The allowed error of one output; ``atol`` overrides."""
    if atol is not None:
        return atol
    if not exact.size:
        return 0.0
    error = np.abs(same.astype(np.float64) - exact).max()
    return allowed_error(float(error), float(np.abs(exact).max()), metadata.dtype)


def run_chunks(session: Session, feed: Arrays, chunks: Sequence[int]) -> Arrays:
    """Run a sequence in chunks through the bare graph, states carried by hand.

    Outputs come joined along their time axis; one without time is that of the last chunk.
    """
    meta = session.metadata
    current = dict(feed)
    pieces: dict[str, list[NDArray[Any]]] = {port.name: [] for port in meta.outputs}
    result: Arrays = {}
    start = 0
    for size in chunks:
        for port in meta.inputs:
            if port.time_axis is not None:
                span = np.arange(start, start + size)
                current[port.name] = np.take(feed[port.name], span, axis=port.time_axis)
        if meta.ragged and len(chunks) > 1:
            current[LENGTHS] = np.full(len(feed[LENGTHS]), size, np.int64)
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
