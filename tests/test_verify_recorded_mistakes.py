"""Recordings that do not fit their model, or prove nothing: one line that says what to do."""

from __future__ import annotations

import numpy as np
import pytest
from models import build
from recordings import Exports, noise, upstream


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return Exports(tmp_path_factory.mktemp("mistakes"))


@pytest.fixture(scope="module")
def good():
    """x [3, 11, 5] and its answer."""
    x = noise(3, 11, 5)
    y, after = upstream(build("fo"), x)
    return {"x": x, "y": y, "c_out": np.stack([c for c, _ in after])}


def without(*names):
    return lambda r: {k: v for k, v in r.items() if k not in names}


def renamed(**names):
    return lambda r: {names.get(k, k): v for k, v in r.items()}


def having(**arrays):
    return lambda r: r | arrays


def changed(name, change):
    return lambda r: r | {name: change(r[name])}


def chunked(**arrays):
    """The arrays in one chunk, and more."""
    return lambda r: (
        {f"{k}.0": v for k, v in r.items()} | {k.replace("__", "."): v for k, v in arrays.items()}
    )


def nan(y):
    return np.where(np.arange(y.size).reshape(y.shape) == 3, np.nan, y)


ANY = np.ones(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # Names.
        (
            renamed(y="Y"),
            "r.npz holds 'Y', did you mean 'y'? expected names of the model: x, y, c_in",
        ),
        (renamed(c_out="c_outt"), "holds 'c_outt', did you mean 'c_out'?"),
        (renamed(x="x.00"), "holds 'x.00'"),
        (having(targets=ANY), "holds 'targets', expected names of the model: "),
        (having(arr_0=ANY), "holds 'arr_0', an array without a name: write numpy.savez(FILE, NAME"),
        (having(lengths=ANY), "and the model takes no lengths: leave it out, or export with --len"),
        (having(state_in=ANY), "holds 'state_in', did you mean 'state_0"),
        (having(layuot="time-major"), "holds 'layuot', did you mean 'layout'?"),
        (having(layout="TBC"), "the text 'layout' is 'TBC', expected batch-major or time-major"),
        (having(layout=""), "the text 'layout' is '', expected batch-major or time-major"),
        (without("x"), "holds no 'x': expected the inputs x"),
        (without("y"), "holds no output: expected at least one of y"),
        (
            having(state_01_c_out=noise(3, 6)),
            "twice, in 'c_out' and 'state_01_c_out': leave one out",
        ),
        # Shapes.
        (
            changed("y", lambda y: y.swapaxes(0, 1)),
            "'y' has shape [11, 3, 6], expected [batch (3), time (11), 6]: transposed, "
            ".transpose(1, 0, 2), it fits",
        ),
        (changed("x", lambda x: x.swapaxes(1, 2)), ": transposed, .transpose(0, 2, 1), it fits"),
        (
            changed("y", lambda y: y.reshape(33, 6)),
            "'y' has shape [33, 6], expected [batch (3), time (11), 6]: it has as many values; was "
            "it flattened? .reshape(3, 11, 6)",
        ),
        (
            changed("c_out", lambda c: c.swapaxes(0, 1)),
            "'c_out' has shape [3, 2, 6], expected [2, batch (3), 6]: transposed, .transpose(1, 0",
        ),
        (changed("c_out", lambda c: c[0]), "'c_out' has shape [3, 6], expected [2, batch (3), 6]"),
        (changed("c_out", lambda c: c[:, :2]), "has shape [2, 2, 6], expected [2, batch (3), 6]"),
        (changed("y", lambda y: y[:, :-1]), "has shape [3, 10, 6], expected [batch (3), time (11)"),
        (changed("x", lambda x: x[0]), "'x' has shape [11, 5], expected [batch, time, 5]"),
        (
            lambda r: r | {k: r[k].swapaxes(0, 1) for k in "xy"},
            "'c_out' has shape [2, 3, 6], expected [2, batch (11), 6]: it fits if all arrays are "
            "time-major; then say --reference-layout time-major",
        ),
        (having(layout="time-major"), "it fits if all arrays are batch-major; then say --refer"),
        # Types and values.
        (
            changed("x", lambda x: x.astype(int)),
            "'x' holds int64, expected float32: record it with",
        ),
        (changed("y", lambda y: y.astype(complex)), "'y' holds complex128, expected float32"),
        (changed("y", lambda y: y.astype("V8")), "'y' holds |V8, expected float32"),
        (having(state_00_c_in="zeros"), "'state_00_c_in' has shape [], expected [batch (3), 6]"),
        (
            changed("x", lambda x: x.astype(np.float64) * 1e300),
            "more than the model's float32 takes",
        ),
        (changed("x", nan), "'x' holds NaN, expected numbers"),
        (changed("y", nan), "'y' holds NaN, expected numbers: mend the recording"),
        (changed("c_out", nan), "'state_00_c_out' holds NaN"),
        (changed("y", np.zeros_like), "'y' holds one value only, 0, which proves nothing: record"),
        (changed("y", lambda y: np.full_like(y, 0.5)), "'y' holds one value only, 0.5, which"),
        (lambda r: {k: v[:0] for k, v in r.items() if k in "xy"}, "'y' holds no value that counts"),
        # Chunks.
        (chunked(x=ANY), "holds 'x' beside inputs in chunks (NAME.0, NAME.1, ...): expected all"),
        (renamed(y="y.0"), "holds 'y.0', and its inputs are not in chunks: name them NAME.0"),
        (renamed(x="x.0"), "holds 'y', and its inputs are in chunks: name it 'y.0', ..., after"),
        (
            chunked(y__1=ANY),
            "holds 'y.1', and the last input belongs to chunk 0: record the inputs",
        ),
        (chunked(x__2=noise(3, 2, 5)), "holds no 'x.1': expected the inputs x of every chunk"),
        (chunked(x__1=noise(2, 2, 5)), "'x.1' has shape [2, 2, 5], expected [batch (3), time, 5]"),
        (
            chunked(x__1=noise(3, 2, 5), c_in__1=noise(2, 3, 6)),
            "holds 'c_in.1': expected a state before chunk 0 only, since each chunk goes on",
        ),
    ],
)
def test_recordings_that_do_not_fit(good, exports, change, message):
    assert message in exports.refusal(change(dict(good)))


def test_recordings_of_a_model_without_states(good, exports):
    assert "holds 'c_out', and the model carries no state: leave it out, or" in exports.refusal(
        good, "none"
    )
    chunks = {"x.0": good["x"], "x.1": good["x"], "y.0": good["y"]}
    assert "holds 2 chunks, and the model carries no state from one to the" in exports.refusal(
        chunks, "none"
    )
