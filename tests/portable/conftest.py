"""Collected only where this folder is named; ends with one line per runtime."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    start = config.invocation_params.dir
    named = [(start / arg.split("::")[0]).resolve() for arg in config.args]
    return None if any(path.is_relative_to(FOLDER) for path in named) else True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Per runtime: its version, and the largest error per file, from the tests' properties."""
    errors: dict[str, dict[str, float]] = defaultdict(dict)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            found = dict(report.user_properties)
            if report.when == "call" and "runtime" in found:
                errors[str(found["runtime"])][str(found["file"])] = float(str(found["error"]))
    if errors:
        terminalreporter.section("max |runtime - float64 oracle|, states included")
    for runtime, by_file in errors.items():
        each = ", ".join(f"{name} {error:.1e}" for name, error in by_file.items())
        terminalreporter.write_line(f"{runtime}: {max(by_file.values()):.1e}  ({each})")
