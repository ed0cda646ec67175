"""What a verification found, for people and for machines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

_ON_GPU = ("cuda", "tensorrt", "tensorrt-rtx")
"""Implementations that few machines have. Why they are missing takes a line each, every time."""

_CLAUSE_END = re.compile(r": |; | \(")


@dataclass(frozen=True)
class Comparison:
    """One output of one artifact in one case.

    Attributes:
        artifact: ``kernel``, ``function``, ``cuda``, ...: what ran the pooling nodes.
        case: sizes, chunking and initial state.
        output: name of the output, or of a layer's tensor.
        max_abs: largest absolute error; infinity where the other value is not finite.
        max_rel: largest error relative to the exact value, where that is above the tolerance.
        allowed: the absolute error that passes.
    """

    artifact: str
    case: str
    output: str
    max_abs: float
    max_rel: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is within what is allowed. NaN and infinity never are."""
        return math.isfinite(self.allowed) and self.max_abs <= self.allowed


def compare(
    artifact: str,
    case: str,
    output: str,
    got: NDArray[np.generic],
    exact: NDArray[np.generic],
    allowed: float,
    same: NDArray[np.generic] | None = None,
) -> Comparison:
    """Measure ``got`` against ``exact``. Shapes that differ, and NaN on one side, never pass.

    Args:
        artifact: what ran.
        case: what it ran on.
        output: which output.
        got: the artifact's values.
        exact: those of PyTorch in float64.
        allowed: the absolute error that passes.
        same: those of PyTorch in the artifact's type: where it overflows, so may the artifact.
    """
    if got.shape != exact.shape:
        return Comparison(artifact, case, output, float("inf"), float("inf"), allowed)
    a, b = got.astype(np.float64), exact.astype(np.float64)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    if same is not None:
        s = same.astype(np.float64)
        equal |= ~np.isfinite(s) & ((a == s) | (np.isnan(a) & np.isnan(s)))
    with np.errstate(invalid="ignore"):
        error = np.where(equal, 0.0, np.abs(a - b))
    error = np.where(np.isnan(error), np.inf, error)
    large = np.abs(b) > allowed
    relative = np.divide(error, np.abs(b), out=np.zeros_like(error), where=large & np.isfinite(b))
    return Comparison(
        artifact,
        case,
        output,
        float(error.max(initial=0.0)),
        float(relative.max(initial=0.0)),
        allowed,
    )


@dataclass
class LayerFinding:
    """How one layer does on its own (fed the reference's input) and in the running model."""

    index: int
    name: str
    alone: list[Comparison] = field(default_factory=list)
    in_model: list[Comparison] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the layer, given the right input, gives the right output and state."""
        return all(item.passed for item in self.alone)


@dataclass
class VerifyReport:
    """The result of :func:`qrnn_deploy.verify`.

    Attributes:
        model: the file.
        reference: what it was compared with.
        comparisons: every output of every artifact in every case.
        layers: filled with ``per_layer``, or after a failure where the checkpoint is there.
        problems: faults that no comparison shows, such as weights that differ; any one fails.
        missing: artifacts and cases that were not compared, and why; they count for nothing.
        notes: what else a user should know.
        most_atol: the largest absolute tolerance that would be accepted for every output: more
            than a tenth of the values proves nothing.
    """

    model: str
    reference: str
    comparisons: list[Comparison] = field(default_factory=list)
    layers: list[LayerFinding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    most_atol: float = math.inf

    @property
    def passed(self) -> bool:
        """Whether something was compared, every comparison passed, and nothing else is wrong."""
        every = bool(self.comparisons) and all(item.passed for item in self._judged)
        return every and not self.problems

    @property
    def _judged(self) -> list[Comparison]:
        return [*self.comparisons, *(item for layer in self.layers for item in layer.alone)]

    @property
    def first_departure(self) -> str | None:
        """The first layer that is wrong although its input is right, or None."""
        return next((layer.name for layer in self.layers if not layer.passed), None)

    @property
    def would_pass(self) -> float:
        """The smallest absolute tolerance under which every output passes."""
        return max((item.max_abs for item in self._judged), default=0.0)

    def to_json(self) -> str:
        """The whole report as JSON text; a number that is not finite is null."""
        report = {
            **asdict(self),
            "passed": self.passed,
            "first_departure": self.first_departure,
            "would_pass": self.would_pass,
        }
        return json.dumps(_finite(report), indent=1, allow_nan=False)

    def __rich__(self) -> Group:
        """The report as a person reads it."""
        parts: list[Table | Text] = [Text(f"{self.model} against {self.reference}")]
        parts.append(_table("output", self.comparisons))
        if self.layers:
            parts.append(self._layer_table())
        parts += [Text(f"problem: {problem}", style="red") for problem in self.problems]
        parts += [Text(f"not compared: {text}", style="yellow") for text in self._missing_lines()]
        parts += [Text(f"note: {note}") for note in self.notes]
        parts.append(self._verdict())
        return Group(*parts)

    def _missing_lines(self) -> list[str]:
        """One for each that is missing; the implementations for a GPU share one, in short."""
        lines = [f"{name} ({why})" for name, why in self.missing.items() if name not in _ON_GPU]
        absent = [
            f"{name} ({_CLAUSE_END.split(self.missing[name], maxsplit=1)[0]})"
            for name in _ON_GPU
            if name in self.missing
        ]
        if absent:
            lines.insert(0, f"{', '.join(absent)}; `qrnn-deploy doctor` says what they need")
        return lines

    def _verdict(self) -> Text:
        if self.passed:
            return Text(
                f"PASS: {len(self.comparisons)} comparisons, largest error {self.would_pass:.2g}",
                style="green",
            )
        if not self.comparisons:
            return Text("FAIL: nothing could be compared", style="red")
        failed = sum(not item.passed for item in self._judged)
        text = f"FAIL: {failed} of {len(self._judged)} comparisons"
        if failed and not self.problems and math.isfinite(self.would_pass):
            text += f"; {self._remedy()}"
        if self.problems:
            text += f"; {len(self.problems)} problem{'s' if len(self.problems) > 1 else ''} above"
        if self.first_departure is not None:
            text += f"; the first layer that departs is {self.first_departure}"
        elif self.layers and failed:
            text += "; every layer alone is right, so the fault lies between or around the layers"
        return Text(text, style="red")

    def _remedy(self) -> str:
        """The tolerance that would pass, if it would be accepted."""
        needed = _rounded_up(self.would_pass)
        if float(needed) <= self.most_atol:
            return f"--atol {needed} would pass"
        return (
            f"they differ too much for any --atol: {float(needed):g} would be needed, and more "
            f"than {self.most_atol:.2g}, a tenth of the values, proves nothing"
        )

    def _layer_table(self) -> Table:
        table = Table("layer", "alone: max abs", "allowed", "in the model: max abs", "")
        for layer in self.layers:
            alone, model = _worst(layer.alone), _worst(layer.in_model)
            table.add_row(
                layer.name,
                f"{alone.max_abs:.2g}" if alone else "-",
                f"{alone.allowed:.2g}" if alone else "-",
                f"{model.max_abs:.2g}" if model else "-",
                "ok" if layer.passed else "DEPARTS",
            )
        return table


def _rounded_up(value: float) -> str:
    """Two digits, never below the value."""
    text = f"{value:.1e}"
    return text if float(text) >= value else f"{value * 1.05:.1e}"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _worst(items: Iterable[Comparison]) -> Comparison | None:
    """The comparison nearest to failing, or furthest beyond."""
    return max(items, key=lambda c: c.max_abs / c.allowed if c.allowed else c.max_abs, default=None)


def _table(what: str, comparisons: Iterable[Comparison]) -> Table:
    """One row per artifact and output: its worst case."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for item in comparisons:
        groups.setdefault((item.artifact, item.output), []).append(item)
    table = Table("artifact", what, "max abs", "max rel", "allowed", "worst case", "")
    for (artifact, output), items in groups.items():
        worst = _worst(items)
        assert worst is not None
        failed = sum(not item.passed for item in items)
        table.add_row(
            artifact,
            output,
            f"{worst.max_abs:.2g}",
            f"{worst.max_rel:.2g}",
            f"{worst.allowed:.2g}",
            worst.case,
            "ok" if not failed else f"{failed} of {len(items)} FAIL",
        )
    return table
