"""Comparison with outputs that a user recorded from upstream code: needs neither it nor torch.

The tolerance of an output whose largest magnitude is ``peak``::

    float32             max(1e-5, 5e-6 peak)
    float16, bfloat16   the floor of qrnn_deploy.tolerance, 4 units in the last place of the peak
    whole numbers       0

and never more than a tenth of the peak. Upstream did not round its weights to 16 bits as the export
did, and still the trained model of examples/charlm stays below a third of that floor in float16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..._metadata_check import shown
from ...errors import InputError
from ...metadata import Metadata, PortInfo
from ...tolerance import VOID, floor, proves_something
from ..artifacts import ON_CPU, Runnable
from ..report import VerifyReport, compare
from ..running import Arrays, outside_in_chunks, run_chunks, run_stream, state_after, time_of
from .arrays import BATCH_MAJOR, Fitting
from .causes import likely_causes
from .fit import Chunk, check_answers, fit
from .recording import RecordedFile, plan
from .slots import Slot, slots_of

_ABSOLUTE, _RELATIVE = 1e-5, 5e-6

Run = Callable[[Runnable, Arrays, Sequence[int]], Arrays]


def compare_recorded(
    report: VerifyReport, file: RecordedFile, models: Mapping[str, Runnable], atol: float | None
) -> None:
    """Run a recording through every model, and enter what is found into ``report``.

    Args:
        report: gets the comparisons, what could not be compared, and notes.
        file: the recording.
        models: open models by artifact name, at least one.
        atol: absolute tolerance for every output instead of ours.

    Raises:
        InputError: the recording does not fit the model or tells nothing, or ``atol`` is more than
            a tenth of what it judges.
    """
    metadata = next(iter(models.values())).metadata
    slots = slots_of(metadata)
    order = plan(file, metadata, slots)
    fitting = Fitting(file.path, file.layout or BATCH_MAJOR)
    start, chunks = fit(order, metadata, fitting)
    check_answers(fitting, slots, chunks)
    report.most_atol = _most_atol(slots, chunks)
    judged = [
        (chunk, {name: _allowed(slots, metadata, chunk, name, atol) for name in chunk.expected})
        for chunk in chunks
    ]
    for artifact, model in models.items():
        for way in _ways(artifact, metadata):
            _compare(report, artifact, model, way, slots, start, judged)
    report.missing |= _not_recorded(metadata, chunks)
    for port in metadata.inputs:
        if "int" in port.dtype and port.time_axis is not None:  # tokens
            values = np.unique(np.concatenate([c.feed[port.name].ravel() for c in chunks]))
            report.missing.setdefault(
                "weights",
                f"rows of tables that the recording does not look up; {port.name} holds "
                f"{len(values)} different values",
            )
    report.notes += [f"recorded {key}: {text}" for key, text in order.remarks.items()]
    report.notes += fitting.notes
    report.notes += likely_causes(report.comparisons, metadata, chunks, file.layout)


def _allowed(
    slots: Mapping[str, Slot], metadata: Metadata, chunk: Chunk, name: str, atol: float | None
) -> float:
    """The tolerance of an output in a chunk.

    Raises:
        InputError: ``atol`` is too much for it.
    """
    port = slots[name].port
    peak = _peak(port, chunk, name)
    if peak is None:
        return atol or 0.0
    if atol is None:
        wanted = max(_tolerance(peak, dtype) for dtype in (metadata.dtype, port.dtype))
        return min(wanted, VOID * peak) if peak > 0 else wanted
    if not proves_something(atol, peak):
        raise InputError(
            f"atol is {atol:g}, expected at most {VOID * peak:.2g}, a tenth of the largest "
            f"magnitude in {shown(name + chunk.suffix)}: more would prove nothing"
        )
    return atol


def _peak(port: PortInfo, chunk: Chunk, name: str) -> float | None:
    """The largest finite magnitude that counts; None for whole numbers."""
    value = chunk.counted(port, chunk.expected[name])
    if value.dtype.kind != "f":
        return None
    return float(np.abs(value[np.isfinite(value)].astype(np.float64)).max(initial=0.0))


def _most_atol(slots: Mapping[str, Slot], chunks: Sequence[Chunk]) -> float:
    """The largest ``atol`` that :func:`_allowed` takes for every output of every chunk."""
    peaks = [_peak(slots[name].port, chunk, name) for chunk in chunks for name in chunk.expected]
    return min((VOID * peak for peak in peaks if peak), default=math.inf)


def _tolerance(peak: float, dtype: str) -> float:
    return max(_ABSOLUTE, _RELATIVE * peak) if dtype == "float32" else floor(peak, dtype)


def _ways(artifact: str, metadata: Metadata) -> list[tuple[str, Run]]:
    """How a model runs a recording; on a GPU, where streams have graphs of their own, twice."""
    ways: list[tuple[str, Run]] = [("", run_chunks)]
    if artifact not in ON_CPU and metadata.state_mode != "none":
        ways.append((", as a stream", run_stream))
    return ways


def _compare(
    report: VerifyReport,
    artifact: str,
    model: Runnable,
    way: tuple[str, Run],
    slots: Mapping[str, Slot],
    start: Arrays,
    judged: Sequence[tuple[Chunk, Mapping[str, float]]],
) -> None:
    """Run the chunks one after the other, states carried by hand, and compare what was recorded."""
    states, (suffix, run) = start, way
    for chunk, allowed in judged:
        feed, case = chunk.feed | states, f"{chunk.label}{suffix}"
        steps = [time_of(model.metadata, feed)]
        misfit = outside_in_chunks(model, feed, steps)
        if misfit is not None:  # nor is there a state for the chunks behind it
            rest = "" if chunk is judged[-1][0] else " and the chunks after it"
            report.missing[f"{artifact}, {case}{rest}"] = misfit
            return
        answer = run(model, feed, steps)
        states = {name: answer[state_after(name)] for name in states}
        got = {
            name: part
            for whole, value in answer.items()
            for name, part in slots[whole].parts(value).items()
        }
        for name, right in chunk.expected.items():
            mine, port = got[name], slots[name].port
            if mine.shape == right.shape:
                mine, right = chunk.counted(port, mine), chunk.counted(port, right)
            report.comparisons.append(compare(artifact, case, name, mine, right, allowed[name]))


def _not_recorded(metadata: Metadata, chunks: Sequence[Chunk]) -> dict[str, str]:
    """Outputs that no array answers, chunk by chunk; states that none does in any chunk."""
    missing = {
        f"{port.name}{chunk.suffix}": "not recorded"
        for port in metadata.outputs
        for chunk in chunks
        if port.name not in chunk.expected
    }
    for state in metadata.states:
        if not any(state.output in chunk.expected for chunk in chunks):
            missing[state.output] = "not recorded"
    return missing
