"""The figures of results.json: error against delay.

    python examples/drnn/plot.py

Needs matplotlib: ``pip install 'qrnn-deploy[examples]'``. Without it train.py writes the numbers
and says that it has drawn nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

Plain = argparse.RawDescriptionHelpFormatter
HERE = Path(__file__).parent
TITLES = {
    "reversal": ("Sequence reversal: 6 steps, 4 classes", "wrong classes"),
    "sine": ("Sine of a filter that looks 5 steps ahead", "mean squared error"),
}
STYLES = {"LSTM": "o-", "QRNN": "s-", "QRNN, 2 layers": "^-", "QRNN, window 8": "D"}


def draw(record: dict[str, Any], folder: Path) -> list[Path]:
    """Write one PNG for each task, or say what is missing and write none."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no figures: they need matplotlib, pip install 'qrnn-deploy[examples]'")
        return []
    from matplotlib.figure import Figure

    written = []
    for task, (title, what) in TITLES.items():
        figure = Figure(figsize=(5.6, 3.6), dpi=100, layout="constrained")
        axes = figure.subplots()
        runs = [run for run in record["runs"] if run["task"] == task]
        for model, style in STYLES.items():
            points = sorted((r["delay"], r["error"]) for r in runs if r["model"] == model)
            if points:
                axes.plot(*zip(*points, strict=True), style, label=model, markersize=5)
        (both,) = (run["error"] for run in runs if run["model"] == "LSTM, both ways")
        axes.axhline(both, color="tab:gray", linestyle="--", label="LSTM, both ways")
        least = sorted((int(d), e) for d, e in record["least_error"][task].items())
        axes.plot(*zip(*least, strict=True), "k:", label="least possible")
        axes.set(title=title, xlabel="delay in steps", ylabel=what)
        axes.set_ylim(bottom=0)
        axes.legend()
        path = folder / f"{task}.png"
        figure.savefig(path, metadata={"Software": None})
        written.append(path)
        print("wrote", path)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Plain)
    parser.add_argument("--folder", type=Path, default=HERE, help="where results.json is")
    where = parser.parse_args().folder
    draw(json.loads((where / "results.json").read_text()), where)
