"""One exported file, many runtimes: each gives the answer of the float64 oracle.

`make test-portable` runs this; docs/portability.md has the results. A runtime that is absent is
skipped by name, or fails where QRNN_DEPLOY_TESTS_REQUIRE names it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from files import FILES, File
from runtimes import RUNTIMES, Runtime

pytestmark = pytest.mark.portable

TOLERANCE = 1e-5

OVERLOADS_IN_REFERENCE = pytest.mark.xfail(
    reason="onnx.reference finds functions by domain and name and ignores the overload",
    strict=True,
    raises=AssertionError,
)

Prepared = Callable[[str], tuple[File, Callable[[bool], Path]]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Builds each file once, with its expected values; exports each form once, when asked."""
    folder = tmp_path_factory.mktemp("files")
    files: dict[str, File] = {}

    def get(name: str) -> tuple[File, Callable[[bool], Path]]:
        if name not in files:
            torch.manual_seed(5)
            files[name] = FILES[name](folder)

        def path(inline: bool) -> Path:
            target = folder / f"{name}{'.inlined' if inline else ''}.onnx"
            if not target.exists():
                files[name].export(target, inline)
            return target

        return files[name], path

    return get


def _combinations() -> list[object]:
    return [
        pytest.param(
            *(runtime, name),
            id=f"{runtime}-{name}",
            marks=OVERLOADS_IN_REFERENCE
            if (runtime.name, name) == ("onnx.reference", "activations")
            else (),
        )
        for runtime in RUNTIMES
        for name in FILES
    ]


@pytest.mark.parametrize(("runtime", "name"), _combinations())
def test_runtime_gives_the_oracles_answer(
    runtime: Runtime,
    name: str,
    prepared: Prepared,
    record_property: Callable[[str, object], None],
) -> None:
    file, path = prepared(name)
    opened = runtime.open(path(runtime.form == "inlined"))
    outputs: dict[str, np.ndarray] = {}
    errors: dict[str, float] = {}
    for number, call in enumerate(file.calls):
        carried = {port: outputs[source] for port, source in call.carried.items()}
        outputs = opened.run({**call.feed, **carried})
        assert set(outputs) == set(call.expected)
        for port, expected in call.expected.items():
            got = outputs[port]
            assert got.dtype == np.float32 and got.shape == expected.shape, port
            errors[f"call {number}, {port}"] = float(np.max(np.abs(got - expected)))
    worst = float(np.max(list(errors.values())))  # NaN where one of them is NaN
    record_property("runtime", f"{runtime.name} {opened.version} ({runtime.form})")
    record_property("file", name)
    record_property("error", worst)
    too_large = {where: error for where, error in errors.items() if not error <= TOLERANCE}
    assert not too_large, f"above {TOLERANCE}: {too_large}"
