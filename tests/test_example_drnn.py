"""examples/drnn: its tasks, its training script, its figures, the demo of its README."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qrnn_deploy.checkpoints import load_checkpoint

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "drnn"
RECORD = json.loads((EXAMPLE / "results.json").read_text())


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the example by name, importable as they import each other."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    for name in ("plot", "tasks", "train"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import plot  # type: ignore[import-not-found]
    import tasks  # type: ignore[import-not-found]
    import train  # type: ignore[import-not-found]

    threads = torch.get_num_threads()
    yield {"plot": plot, "tasks": tasks, "train": train}
    torch.set_num_threads(threads)
    for name in ("plot", "tasks", "train"):
        sys.modules.pop(name, None)


def test_reversal(example: Any) -> None:
    tasks = example["tasks"]
    x, y = tasks.reversal(50, torch.Generator().manual_seed(0))
    assert x.shape == (50, tasks.LENGTH, tasks.CLASSES) and x.sum() == 50 * tasks.LENGTH
    for t in range(tasks.LENGTH):
        assert torch.equal(x[:, tasks.LENGTH - 1 - t].argmax(1), y[:, t])
    # With delay 1 the first two of six answers are guesses, right one time in four.
    assert tasks.least_reversal_error(1) == pytest.approx(2 / 6 * 3 / 4)
    assert tasks.least_reversal_error(4) > tasks.least_reversal_error(5) == 0


def test_sine(example: Any) -> None:
    """Against the sum written out, and the best error where the filter's reach says it."""
    tasks = example["tasks"]
    x, y = tasks.sine(3, torch.Generator().manual_seed(0))
    taps = tasks.taps().numpy().astype(np.float64)
    values = x[:, :, 0].numpy().astype(np.float64)
    for row in range(3):
        for t in range(tasks.STEPS):
            total = 0.0
            for k, tap in enumerate(taps):
                at = t + k - (tasks.CAUSAL - 1)
                total += tap * values[row, at] if 0 <= at < tasks.STEPS else 0.0
            assert abs(np.sin(tasks.SCALE * total) - float(y[row, t, 0])) < 1e-6
    # A small angle: the variance is that of the uniform numbers that the unseen taps weigh.
    unseen = [taps[tasks.CAUSAL :][: tasks.STEPS - 1 - t] for t in range(tasks.STEPS)]
    linear = np.mean([(tasks.SCALE * u) ** 2 @ np.ones(len(u)) / 12 for u in unseen])
    assert tasks.least_sine_error(0, 40, 60) == pytest.approx(linear, rel=0.15)
    assert tasks.least_sine_error(tasks.ACAUSAL, 5, 10) < 1e-12


def test_the_script_trains_and_records(
    example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = example["train"]
    options = train.MODELS["LSTM"]
    result = train.run((*train.KEPT[:2], options, train.KEPT[2], 30, str(tmp_path)))
    assert json.loads(capsys.readouterr().out) == result
    untrained = train.run(("reversal", "LSTM", options, 5, 1, str(tmp_path)))
    assert result["error"] < untrained["error"] < 0.8
    assert load_checkpoint(tmp_path / "reversal.safetensors").config["delay"] == 5
    sine = train.run(("sine", "QRNN", train.MODELS["QRNN"], 2, 2, str(tmp_path)))
    assert sine["error"] < 1


def test_the_record_is_of_these_settings(example: Any) -> None:
    """The committed numbers belong to the committed code and checkpoint."""
    train, tasks = example["train"], example["tasks"]
    assert RECORD["settings"] == json.loads(json.dumps(train.settings(None)))
    for delay, error in RECORD["least_error"]["reversal"].items():
        assert error == tasks.least_reversal_error(int(delay))
    kept = dict(zip(("task", "model", "delay"), train.KEPT, strict=True))
    (recorded,) = (run for run in RECORD["runs"] if kept.items() <= run.items())
    module: Any = load_checkpoint(EXAMPLE / "reversal.safetensors").module
    assert train.error_of(module, "reversal") == pytest.approx(recorded["error"], abs=1e-3)


def test_the_curves_have_the_shape_of_the_papers() -> None:
    """With the delay that a task needs the error of the LSTM is gone; with less it is not."""
    for task, need in (("reversal", 5), ("sine", 5)):
        error = {
            run["delay"]: run["error"]
            for run in RECORD["runs"]
            if run["task"] == task and run["model"] == "LSTM"
        }
        least = {int(d): e for d, e in RECORD["least_error"][task].items()}
        assert all(error[d] >= 0.95 * least[d] for d in error)
        assert all(error[d] < 0.02 * error[0] for d in error if d >= need)
        assert all(error[d] > 0.2 * error[0] for d in error if d < need)


def test_figures(
    example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    plot = example["plot"]
    if importlib.util.find_spec("matplotlib") is not None:
        written = plot.draw(RECORD, tmp_path)
        assert [path.name for path in written] == ["reversal.png", "sine.png"]
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
        capsys.readouterr()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert plot.draw(RECORD, tmp_path) == []
    assert "pip install 'qrnn-deploy[examples]'" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["examples/drnn/README.md", "docs/delayed.md"])
def test_the_code_in_the_text_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert blocks
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    if page.startswith("examples"):
        printed = re.search(r"^```text\n(.*?)^```$", text, re.M | re.S)
        assert printed is not None and capsys.readouterr().out == printed[1]
    else:
        whole, (late, last) = names["y"].detach().numpy(), (names["late"], names["last"])
        assert names["stream"].delay == 3 and names["state"].h.shape == (2, 1, 16)
        np.testing.assert_allclose(np.concatenate([late, last], 1), whole[:, 3:], atol=1e-5)
