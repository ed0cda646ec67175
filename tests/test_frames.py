"""Frames in and out of a model: shapes, cuts, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from qrnn_deploy import frames
from qrnn_deploy.errors import InputError, ModelError
from qrnn_deploy.metadata import Metadata, PortInfo

PORT = PortInfo("x", "float32", ["batch", "time", 3])


def metadata(*inputs: PortInfo) -> Metadata:
    return Metadata("float32", "separate", False, list(inputs), [PORT], [], [])


class Sum:
    """y_t = x_0 + ... + x_t, whatever the cuts; answers in the form a session may choose."""

    def __init__(self, as_dict: bool = False) -> None:
        self.total = 0.0
        self.as_dict = as_dict

    def step(self, x):
        y = self.total + np.cumsum(x, axis=1)
        if y.shape[1]:
            self.total = y[:, -1:]
        return {"x": y, "other": x} if self.as_dict else y


def npy(array: np.ndarray) -> io.BytesIO:
    handle = io.BytesIO()
    np.save(handle, array)
    handle.seek(0)
    return handle


@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
@pytest.mark.parametrize("as_dict", [False, True])
def test_raw_stream_is_the_same_for_every_cut(chunk, as_dict):
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    pieces = frames.read_raw(io.BytesIO(x.tobytes()), (3,), chunk)
    parts = list(frames.stream_chunks(Sum(as_dict), pieces, metadata(PORT)))
    assert [part.shape[1] for part in parts] == [min(chunk, 10 - i) for i in range(0, 10, chunk)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1)[0], np.cumsum(x, axis=0))


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
