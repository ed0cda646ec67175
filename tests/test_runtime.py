"""Session and StreamingSession: any cut gives the whole; bad input is named; state is safe."""

from __future__ import annotations

import subprocess
import sys
import warnings

import needs
import numpy as np
import onnx
import pytest
from models import build

from qrnn_deploy.errors import InputError, KernelLibraryError, ModelError
from qrnn_deploy.exporter import export
from qrnn_deploy.metadata import KEY, Metadata
from qrnn_deploy.runtime import KernelFallbackWarning, Session, StreamingSession
from qrnn_deploy.runtime.library import ENVIRONMENT

CHUNKINGS = ([70], [1] * 70, [2] * 35, [7] * 10, [64, 6], [0, 30, 0, 40])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same weights: separate and packed states, ragged, and without states."""
    folder = tmp_path_factory.mktemp("runtime")
    options = {
        "separate": {},
        "packed": {"states": "packed"},
        "ragged": {"lengths": True},
        "none": {"states": "none"},
        "zoneout": {},
    }
    paths = {}
    for name, extra in options.items():
        path = folder / f"{name}.onnx"
        export(build("zoneout" if name == "zoneout" else "fo"), path, golden=False, **extra)
        paths[name] = path
    return paths


@pytest.fixture(params=["kernel", "function"])
def kernel(request):
    if request.param == "kernel":
        needs.kernel_library()
    return {"kernel": "require", "function": "off"}[request.param]


def sequence(batch=2, time=70, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, time, 5)).astype(np.float32)


@pytest.mark.parametrize("name", ["separate", "packed", "ragged"])
def test_any_cut_gives_the_whole(files, name, kernel):
    session = Session(files[name], kernel=kernel)
    x = sequence()
    whole = session.run(x)["y"]
    stream = StreamingSession(session, 2)
    for chunks in CHUNKINGS:
        stream.reset()
        start, parts = 0, []
        for size in chunks:
            parts.append(stream.step(x[:, start : start + size]))
            start += size
        np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=0, atol=1e-6)


def test_implementation_is_counted(files):
    function = Session(files["separate"], kernel="off")
    assert set(function.implementation.values()) == {"function"}
    needs.kernel_library()
    kernel = Session(files["separate"])
    assert kernel.implementation == {"layer_00_pool": "kernel", "layer_01_pool": "kernel"}


def test_missing_library_warns_once_and_runs(files, monkeypatch):
    monkeypatch.setattr("qrnn_deploy.runtime.session.load_library", lambda: None)
    with pytest.warns(KernelFallbackWarning, match="function body") as caught:
        session = Session(files["separate"])
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert set(session.implementation.values()) == {"function"}
    with pytest.raises(KernelLibraryError, match="is not installed: reinstall"):
        Session(files["separate"], kernel="require")


def test_library_that_is_not_ours(files, monkeypatch, tmp_path):
    fake = tmp_path / "lib.so"
    fake.write_bytes(b"not a library")
    monkeypatch.setenv(ENVIRONMENT, str(fake))
    with pytest.raises(KernelLibraryError, match="cannot be used"):
        Session(files["separate"])
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "absent.so"))
    with pytest.raises(KernelLibraryError, match="is not a file"):
        Session(files["separate"])


def test_rows_are_streams_of_their_own(files, kernel):
    """Resetting, saving and loading one row leaves its neighbours alone, bit for bit."""
    session = Session(files["separate"], kernel=kernel)
    x = sequence(3, 20)
    stream = StreamingSession(session, 3)
    stream.step(x[:, :10])
    saved = stream.save_state(rows=1)
    expected = stream.step(x[:, 10:])

    stream.reset(rows=[0, 2])
    stream.load_state(saved, rows=1)
    again = stream.step(x[:, 10:])
    np.testing.assert_array_equal(again[1], expected[1])
    fresh = StreamingSession(session, 3).step(x[:, 10:])
    np.testing.assert_array_equal(again[[0, 2]], fresh[[0, 2]])
    assert not np.array_equal(again[0], expected[0])


def test_state_moves_between_sessions(files, kernel):
    x = sequence(2, 30)
    first = StreamingSession(files["packed"], 2, kernel=kernel)
    first.step(x[:, :13])
    second = StreamingSession(files["packed"], 2, kernel=kernel)
    second.load_state(first.save_state())
    np.testing.assert_array_equal(second.step(x[:, 13:]), first.step(x[:, 13:]))


def test_results_are_the_callers_own(files):
    stream = StreamingSession(Session(files["separate"], kernel="off"), 2)
    x = sequence(2, 4)
    first = stream.step(x)
    kept = first.copy()
    stream.step(x)
    np.testing.assert_array_equal(first, kept)


def test_ragged_chunks_rest_the_other_streams(files, kernel):
    """A row with length 0 keeps its state; each row's result is that of its own sequence."""
    session = Session(files["ragged"], kernel=kernel)
    x = sequence(2, 12)
    stream = StreamingSession(session, 2)
    a = stream.step(x, lengths=[12, 5])
    b = stream.step(x[:, 5:], lengths=[0, 7])
    whole = session.run(x)["y"]
    np.testing.assert_allclose(a[0], whole[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([a[1, :5], b[1]]), whole[1], rtol=0, atol=1e-6)
    assert not b[0].any() and not a[1, 5:].any()


def test_zero_steps_and_zero_rows(files, kernel):
    session = Session(files["separate"], kernel=kernel)
    result = session.run(sequence(2, 0))
    assert result["y"].shape == (2, 0, 6) and result["state_01_c_out"].shape == (2, 6)
    assert StreamingSession(session, 0).step(sequence(0, 3)).shape == (0, 3, 6)
    stream = StreamingSession(session, 2)
    stream.step(sequence(2, 3))
    before = stream.save_state()
    assert stream.step(sequence(2, 0)).shape == (2, 0, 6)
    assert stream.save_state() == before


X = sequence()
BAD_FEEDS = [
    (X.astype(np.float64), r"'x' has dtype float64, expected float32.*astype"),
    (X[0], r"'x' has shape \[70, 5\], expected rank 3: \[batch, time, 5\]"),
    (X[..., :4], r"'x' has shape \[2, 70, 4\], expected 5 along axis 2"),
    ({"q": X}, r"'x' is missing \(got q\)"),
    ({"x": X, "q": X}, r"unknown input 'q': expected x"),
]


@pytest.mark.parametrize(("feed", "message"), BAD_FEEDS)
def test_bad_input_is_named(files, feed, message):
    session = Session(files["separate"], kernel="off")
    for call in (session.run, StreamingSession(session, 2).step):
        with pytest.raises(InputError, match=message) as caught:
            call(feed)
        assert "\n" not in str(caught.value)


def test_bad_states_and_lengths_are_named(files):
    session = Session(files["separate"], kernel="off")
    with pytest.raises(InputError, match=r"state 'state_00_c_in' is float32 \[2, 7\], expected"):
        session.run({"x": X, "state_00_c_in": np.zeros((2, 7), np.float32)})
    ragged = Session(files["ragged"], kernel="off")
    for lengths, message in (
        ([70, 71], r"spans 70\.\.71, expected values in 0\.\.70"),
        ([-1, 3], r"spans -1\.\.3"),
        ([1.5, 2.0], r"lengths is float64 \[2\], expected int64 \[2\]"),
        ([1], r"lengths is int64 \[1\], expected int64 \[2\]"),
    ):
        with pytest.raises(InputError, match=message):
            ragged.run({"x": X, "lengths": np.array(lengths)})
        with pytest.raises(InputError, match=message):
            StreamingSession(ragged, 2).step(X, lengths=lengths)
    with pytest.raises(InputError, match="takes no lengths"):
        StreamingSession(session, 2).step(X, lengths=[1, 1])
    with pytest.raises(InputError, match="has 2 rows, expected 3"):
        StreamingSession(session, 3).step(X)
    with pytest.raises(InputError, match="row 2 is outside"):
        StreamingSession(session, 2).reset(rows=2)
    with pytest.raises(InputError, match="carries no state"):
        StreamingSession(files["none"], kernel="off")


def test_refused_chunk_leaves_the_stream(files):
    stream = StreamingSession(Session(files["separate"], kernel="off"), 2)
    stream.step(X)
    before = stream.save_state()
    with pytest.raises(InputError):
        stream.step(X[..., :4])
    assert stream.save_state() == before


def test_foreign_and_damaged_states_are_refused(files):
    stream = StreamingSession(Session(files["separate"], kernel="off"), 2)
    good = stream.save_state()
    listed = good[:8] + b"[]" + good[10:]
    for damaged in (b"", b"hello", good[:20], good[:-3], b"\xff" * 64, listed):
        with pytest.raises(InputError, match="damaged"):
            stream.load_state(damaged)
    for other in ("packed", "zoneout"):
        foreign = StreamingSession(Session(files[other], kernel="off"), 2).save_state()
        if other == "packed" or foreign != good:
            with pytest.raises(InputError, match="belongs to another model"):
                stream.load_state(foreign)
    with pytest.raises(InputError, match="as many rows"):
        stream.load_state(stream.save_state(rows=0))


def test_damaged_and_foreign_files(files, tmp_path):
    good = files["separate"].read_bytes()
    for name, content, message in (
        ("empty", b"", "is empty"),
        ("half", good[: len(good) // 2], "cannot be loaded"),
        ("text", b"hello, world", "cannot be loaded"),
    ):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        for choice in ("off", "auto"):
            with warnings.catch_warnings(), pytest.raises(ModelError, match=message) as caught:
                warnings.simplefilter("ignore")
                Session(path, kernel=choice)
            assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="does not exist"):
        Session(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        Session(tmp_path)


def with_metadata(source, target, change):
    """A copy of an exported file whose metadata text went through ``change``."""
    model = onnx.load(source)
    for item in model.metadata_props:
        if item.key == KEY:
            item.value = change(item.value)
    onnx.save(model, target)
    return target


def test_damaged_and_newer_metadata(files, tmp_path):
    source = files["separate"]
    for change, message in (
        (lambda text: text[:50], "damaged qrnn-deploy metadata"),
        (lambda text: "{}", "damaged qrnn-deploy metadata"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "metadata format 99.*upgrade"),
    ):
        path = with_metadata(source, tmp_path / "m.onnx", change)
        with pytest.raises(ModelError, match=message):
            Session(path, kernel="off")
    model = onnx.load(source)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="has no qrnn-deploy metadata"):
        Session(tmp_path / "m.onnx", kernel="off")


def test_newer_operator_needs_a_newer_library(files, tmp_path):
    needs.kernel_library()
    path = with_metadata(
        files["separate"],
        tmp_path / "m.onnx",
        lambda text: text.replace('"op_domain_version": 1', '"op_domain_version": 7'),
    )
    with pytest.raises(KernelLibraryError, match=r"needs version 7 of the pooling operator.*has 1"):
        Session(path)
    assert Session(path, kernel="off").run(X)["y"].shape == (2, 70, 6)


def test_metadata_of_one_file_round_trips(files):
    meta = Session(files["packed"], kernel="off").metadata
    assert Metadata.from_properties({KEY: meta.to_json()}, "x") == meta
    assert meta.packed_size == sum(state.size for state in meta.states) == 6 + 5 + 6 + 6


def test_running_imports_neither_torch_nor_onnx(files):
    code = (
        "import sys, numpy, warnings; warnings.simplefilter('ignore')\n"
        "from qrnn_deploy import StreamingSession\n"
        f"s = StreamingSession({str(files['separate'])!r}, 2)\n"
        "s.step(numpy.zeros((2, 3, 5), 'float32')); s.load_state(s.save_state())\n"
        "assert not {'torch', 'onnx'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
