"""Frames in and out of a model: shapes, cuts, and what is refused."""

from __future__ import annotations

import dataclasses
import io
import re
import struct
import warnings
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


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"{'descr': '<f4', (", "its header is damaged"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 8)}", "its header is damaged"),
        (b"{'descr': '<,4', 'fortran_order': False, 'shape': (2, 3)}", "its header is damaged"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", "it is cut off"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}", "it holds Python objects"),
        (b"{" + b" " * 20_000 + b"}", "its header is too long"),
        (b"(" * 5_000, "its header is damaged"),
    ],
)
def test_damaged_npy_header(header, reason):
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    data += bytes(32 if b"True" in header else 8)
    with pytest.raises(InputError, match=r"not a readable \.npy array") as caught:
        frames.read_npy(io.BytesIO(data), PORT)
    line = str(caught.value)
    assert f"({reason}" in line
    for advice in ("max_header_size", "allow_pickle", "literal_eval"):
        assert advice not in line


def port(dtype: str) -> PortInfo:
    return PortInfo("x", dtype, ["batch", "time", 3])


@pytest.mark.parametrize(
    ("value", "given", "model", "shown"),
    [
        (1e6, "float32", "float16", r"1000000\.0 \(float32\)"),
        (-1e300, "float64", "float32", r"-1e\+300 \(float64\)"),
        (100_000, "int64", "float16", r"100000 \(int64\)"),
        (2**40, "int64", "int32", r"1099511627776 \(int64\)"),
        (2**63 + 1, "uint64", "int64", r"9223372036854775809 \(uint64\)"),
    ],
)
def test_values_that_the_model_cannot_hold_are_named(value, given, model, shown):
    array = np.zeros((2, 4, 3), given)
    array[1, 2, 0] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            frames.converted(array, port(model), 10)
    pattern = rf"input 'x' holds {shown} at sequence 1, step 12, element \[0\], .* {model}"
    assert re.match(pattern, str(caught.value))


def test_values_that_the_model_can_hold():
    given = np.array([[[1e-9, np.inf, np.nan], [65504.0, -np.inf, 0.1]]])
    np.testing.assert_array_equal(
        frames.converted(given, port("float16")), given.astype(np.float16)
    )
    whole = np.array([[[1, -(2**31), 2**31 - 1]]])
    np.testing.assert_array_equal(frames.converted(whole, port("int32")), whole)
    np.testing.assert_array_equal(frames.converted(whole, port("float32")), whole.astype("f4"))


def test_a_stream_counts_its_steps_to_the_bad_value(session):
    x = np.zeros((1, 9, 3))
    x[0, 7, 2] = 1e300
    with pytest.raises(InputError, match=r"1e\+300 .* step 7, element \[2\]"):
        list(frames.stream(session, frames.split(x, 4)))


HEADS = {
    ".npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'",
    "zip": b"PK\x03\x04\x14\x00\x00\x00\x00\x00",
    "safetensors": struct.pack("<Q", 600) + b'{"__metadata__":{',
    "ONNX": (SELFTEST / "model.onnx").read_bytes()[:100],
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(9),
    ".wav": b"RIFF\x24\x08\x00\x00WAVEfmt ",
}


@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("kind", HEADS)
def test_files_of_other_kinds_are_no_raw_frames(kind, size):
    """Whatever the size of a frame: the head may be longer than the first chunk."""
    data = HEADS[kind] + bytes(-len(HEADS[kind]) % (4 * size))
    with pytest.raises(InputError, match=f"looks like an? .*{re.escape(kind)}.*, not like raw"):
        list(frames.read_raw(io.BytesIO(data), (size,), 1))


@pytest.mark.parametrize("first", [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-0.0, 0.0]])
def test_frames_are_answered_before_the_next_is_read(first):
    """The look at the head must not wait for more than a frame, in silence neither."""
    reads = []

    class Pipe:
        def read(self, size: int = -1, /) -> bytes:
            reads.append(size)
            return np.array(first[len(reads) - 1 : len(reads)], "<f4").tobytes()

    pieces = frames.read_raw(Pipe(), (1,), 1)
    assert next(pieces) == first[0] and len(reads) == 1
    assert next(pieces) == first[1] and len(reads) == 2


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
