"""Frames in and out of a model: shapes, cuts, and what is refused."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest

import qrnn_deploy
from qrnn_deploy import frames
from qrnn_deploy.errors import InputError, ModelError
from qrnn_deploy.metadata import Metadata, PortInfo
from qrnn_deploy.runtime import Session

SELFTEST = Path(qrnn_deploy.__file__).parent / "selftest"
PORT = PortInfo("x", "float32", ["batch", "time", 3])


def metadata(*inputs: PortInfo) -> Metadata:
    return Metadata("float32", "separate", False, list(inputs), [PORT], [], [])


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(SELFTEST / "model.onnx", kernel="off")


@pytest.fixture(scope="module")
def case() -> dict[str, np.ndarray]:
    return dict(np.load(SELFTEST / "case.npz"))


def npy(array: np.ndarray) -> io.BytesIO:
    handle = io.BytesIO()
    np.save(handle, array)
    handle.seek(0)
    return handle


@pytest.mark.parametrize("chunk", [1, 2, 7, 100, frames.WHOLE])
def test_raw_stream_is_the_same_for_every_cut(session, case, chunk):
    x, y = case["in_x"][0], case["out_y"][0]
    pieces = frames.read_raw(io.BytesIO(x.astype("<f4").tobytes()), (3,), chunk)
    parts = list(frames.stream(session, pieces))
    assert [part.shape[1] for part in parts] == [min(chunk, 9 - i) for i in range(0, 9, chunk)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1)[0], y, atol=1e-6)


def test_batch_of_sequences_keeps_its_rows_apart(session, case):
    parts = list(frames.stream(session, frames.split(case["in_x"], 4)))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), case["out_y"], atol=1e-6)


def test_models_that_cannot_be_cut():
    fixed = dataclasses.replace(metadata(PORT), state_mode="none")
    assert frames.chunk_size(fixed, None) == frames.WHOLE
    with pytest.raises(InputError, match=r"chunks of 5 steps, since .* \(--states none\)"):
        frames.chunk_size(fixed, 5)
    single = PortInfo("label", "float32", ["batch", 2], time_axis=None)
    whole = dataclasses.replace(metadata(PORT), outputs=[single])
    assert frames.chunk_size(whole, None) == frames.WHOLE
    with pytest.raises(InputError, match=r"'label' .* is one answer to the whole sequence"):
        frames.chunk_size(whole, 5)
    assert frames.chunk_size(metadata(PORT), 5) == 5


def test_raw_stream_that_ends_within_a_frame():
    pieces = frames.read_raw(io.BytesIO(bytes(12 * 4 + 5)), (3,), 2)
    with pytest.raises(InputError, match="5 bytes into a frame: expected a multiple of 12 bytes"):
        list(pieces)


def test_npy_with_and_without_batch():
    x = np.ones((4, 3), np.float32)
    array, unbatched = frames.read_npy(npy(x), PORT)
    assert array.shape == (1, 4, 3) and unbatched
    array, unbatched = frames.read_npy(npy(np.ones((2, 4, 3))), PORT)
    assert array.shape == (2, 4, 3) and not unbatched


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((4, 5), np.float32), r"shape \[4, 5\], expected \['batch', 'time', 3\]"),
        (np.ones(3, np.float32), r"shape \[3\]"),
        (np.ones((4, 3), complex), "holds complex128, expected float32"),
    ],
)
def test_npy_of_the_wrong_form(array, message):
    with pytest.raises(InputError, match=message):
        frames.read_npy(npy(array), PORT)


def test_integers_are_no_tokens_when_they_are_floats():
    port = PortInfo("tokens", "int64", ["batch", "time"])
    assert frames.read_npy(npy(np.arange(5)), port)[0].shape == (1, 5)
    with pytest.raises(InputError, match="holds float64, expected int64"):
        frames.read_npy(npy(np.ones(5)), port)


def test_npy_with_python_objects_is_refused_unread():
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was run",))

    handle = io.BytesIO()
    np.save(handle, np.array([Trap()], object), allow_pickle=True)
    handle.seek(0)
    with pytest.raises(InputError, match=r"not a readable \.npy array"):
        frames.read_npy(handle, PORT)


@pytest.mark.parametrize("data", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_file_that_is_no_npy(data):
    with pytest.raises(InputError, match=r"not a readable \.npy array"):
        frames.read_npy(io.BytesIO(data), PORT)


def test_no_steps_give_one_empty_piece():
    assert [part.shape for part in frames.split(np.ones((2, 0, 3)), 4)] == [(2, 0, 3)]
    assert [part.shape for part in frames.split(np.ones((2, 5, 3)), 4)] == [(2, 4, 3), (2, 1, 3)]


def test_models_that_no_single_stream_can_feed():
    with pytest.raises(ModelError, match="expected one input"):
        frames.single_input(metadata(PORT, PortInfo("z", "float32", ["batch", "time", 2])))
    with pytest.raises(ModelError, match="expected one input"):
        frames.single_input(metadata(PortInfo("x", "float32", ["batch", 3], time_axis=None)))
    with pytest.raises(ModelError, match="no fixed size"):
        frames.frame_shape(PortInfo("x", "float32", ["batch", "time", "width"]))
    with pytest.raises(ModelError, match="bfloat16"):
        frames.model_dtype(PortInfo("x", "bfloat16", ["batch", "time", 3]))
