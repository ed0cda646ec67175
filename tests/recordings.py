"""Recordings as users of upstream code make them, for tests of `verify --reference`."""

from __future__ import annotations

import copy
import io
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import torch
from models import build

import qrnn_deploy
from qrnn_deploy.cli import main
from qrnn_deploy.exporter import export
from qrnn_deploy.nn import LayerState

ROWS, STEPS = 3, 11

EXPORTS = {
    "separate": {},
    "packed": {"states": "packed"},
    "none": {"states": "none"},
    "ragged": {"lengths": True},
    "half": {"dtype": "float16"},
}


class Exports:
    """Exports of the model `fo` in a folder, each made when it is first used."""

    def __init__(self, folder):
        self.folder = folder

    def __getitem__(self, name):
        path = self.folder / f"{name}.onnx"
        if not path.exists():
            export(build("fo"), path, golden=False, **EXPORTS[name])
        return path

    def compare(self, record, name="separate", **options):
        """The report on the arrays of a recording."""
        np.savez(self.folder / "r.npz", **record)
        return qrnn_deploy.verify(self[name], reference=self.folder / "r.npz", **options)

    def refusal(self, record, name="separate"):
        """The one line that a recording, arrays or the bytes of a file, ends with."""
        path = self.folder / "r.npz"
        if isinstance(record, bytes):
            path.write_bytes(record)
        else:
            np.savez(path, **record)
        code, out, err = run_cli(self[name], "--reference", path)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith("error: ") and str(path) in err, err
        return err.replace(str(path), "r.npz").removeprefix("error: ").rstrip("\n")


def upstream(module, x, state=None, lengths=None):
    """(answer, states) in float64, as whoever records would run it; ``state`` is (c, x) pairs."""
    exact = copy.deepcopy(module).double()
    value = torch.as_tensor(x)
    value = value.double() if value.is_floating_point() else value
    before = state and [
        LayerState(*(None if part is None else torch.as_tensor(part).double() for part in pair))
        for pair in state
    ]
    with torch.no_grad():
        y, after = exact(
            value, before, lengths if lengths is None else torch.as_tensor(lengths).long()
        )
    return y.numpy(), [(s.c.numpy(), None if s.x is None else s.x.numpy()) for s in after]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def good(seed=0):
    """A recording of the model `fo`, batch-major, with everything in it."""
    x = noise(ROWS, STEPS, 5, seed=seed)
    before = [(noise(ROWS, 6, seed=1), noise(ROWS, 1, 5)), (noise(ROWS, 6), noise(ROWS, 1, 6))]
    y, after = upstream(build("fo"), x, before)
    record = {"x": x, "y": y}
    for n in range(2):
        record |= {f"state_0{n}_c_in": before[n][0], f"state_0{n}_x_in": before[n][1]}
        record |= {f"state_0{n}_c_out": after[n][0], f"state_0{n}_x_out": after[n][1]}
    return record


def run_cli(*arguments):
    """(exit status, stdout, stderr) of `qrnn-deploy verify ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main(["verify", *map(str, arguments)])
    return end.value.code, out.getvalue(), err.getvalue()


def failed(report):
    return {(c.case.split(",")[0], c.output) for c in report.comparisons if not c.passed}


def in_chunks(sizes=(4, 1, 6), **options):
    """A recording in chunks, with the stacked states after each."""
    x, module, state, start, record = noise(ROWS, STEPS, 5), build("fo"), None, 0, {}
    for number, size in enumerate(sizes):
        piece = x[:, start : start + size]
        y, state = upstream(module, piece, state)
        record |= {f"x.{number}": piece, f"y.{number}": y}
        record[f"c_out.{number}"] = np.stack([c for c, _ in state])
        start += size
    return record


def time_major(record):
    turned = {k: v.swapaxes(0, 1) for k, v in record.items() if k in "xy" or "_x_" in k}
    return record | turned
