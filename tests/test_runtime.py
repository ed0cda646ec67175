"""Session and StreamingSession: any cut gives the whole; bad input is named; state is safe."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import needs
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
import torch
from models import build
from torch import Tensor, nn

from qrnn_deploy.errors import InputError, KernelLibraryError, ModelError
from qrnn_deploy.exporter import export
from qrnn_deploy.metadata import FORMAT, KEY, Metadata
from qrnn_deploy.nn import QRNN, QRNNLayer
from qrnn_deploy.runtime import (
    EngineSession,
    KernelFallbackWarning,
    Session,
    StreamingSession,
    open_model,
)
from qrnn_deploy.runtime.library import ENVIRONMENT

CHUNKINGS = ([70], [1] * 70, [2] * 35, [7] * 10, [64, 6], [0, 30, 0, 40])


class TwoRates(nn.Module):
    """Two inputs, each with a time axis of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = QRNNLayer(5, 6, batch_first=True)
        self.second = QRNNLayer(3, 4, batch_first=True)

    def forward(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        return {"y": self.first(x)[0], "z": self.second(c)[0]}


@pytest.fixture(scope="module")
def two_rates(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "m.onnx"
    torch.manual_seed(0)
    example = (torch.randn(2, 7, 5), torch.randn(2, 4, 3))
    export(TwoRates().eval(), path, example, golden=False)
    return path


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
    other, same = build("fo"), QRNN(5, 6, 2, window=2, activation="relu", batch_first=True).eval()
    same.load_state_dict(other.state_dict())
    with torch.no_grad():
        next(other.parameters()).add_(1)
    for name, module in (("other weights", other), ("other activation", same)):
        paths[name] = folder / f"{name}.onnx"
        export(module, paths[name], golden=False)
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
    monkeypatch.setattr("qrnn_deploy.runtime.loading.load_library", lambda: None)
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
    ({"x": None}, r"'x' is missing \(got none\): expected float32"),
    (None, r"'x' is missing \(got none\): expected float32"),
    ({"x": X, "q": X}, r"unknown input 'q': expected x"),
]


@pytest.mark.parametrize(("feed", "message"), BAD_FEEDS)
def test_bad_input_is_named(files, feed, message):
    session = Session(files["separate"], kernel="off")
    for call in (session.run, StreamingSession(session, 2).step):
        with pytest.raises(InputError, match=message) as caught:
            call(feed)
        assert "\n" not in str(caught.value)


def test_an_input_that_is_none_is_one_that_is_not_given(files):
    ragged = Session(files["ragged"], kernel="off")
    given = ragged.run({"x": X, "lengths": None, "state_00_c_in": None})
    assert np.array_equal(given["y"], ragged.run(X)["y"])
    with pytest.raises(InputError, match="'x' is missing"):
        StreamingSession(ragged, 2).step({"x": None})


@pytest.mark.parametrize("call", [Session, StreamingSession, EngineSession, open_model])
def test_what_is_no_path_is_named(call):
    for value in (None, 3, b"model.onnx"):
        with pytest.raises(InputError, match=f"is {value!r}, expected the path of a file") as error:
            call(value)
        assert "\n" not in str(error.value)


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
    with pytest.raises(InputError, match="as many rows"):
        stream.load_state(stream.save_state(rows=0))


@pytest.mark.parametrize("other", ["packed", "zoneout", "other weights", "other activation"])
def test_state_of_another_model_is_refused(files, other):
    stream = StreamingSession(Session(files["separate"], kernel="off"), 2)
    foreign = StreamingSession(Session(files[other], kernel="off"), 2)
    with pytest.raises(InputError, match="belongs to another model"):
        stream.load_state(foreign.save_state())


def rewritten(state, change):
    """A saved state whose header went through ``change``."""
    size = int.from_bytes(state[:8], "little")
    header = json.loads(state[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + state[8 + size :]


def test_made_up_state_headers(files):
    stream = StreamingSession(Session(files["separate"], kernel="off"), 2)
    good = stream.save_state()
    stream.load_state(rewritten(good, lambda header: None))
    deep = b"[" * 100_000
    extra = {"dtype": "F8_E4M3", "shape": [0], "data_offsets": [0, 0]}
    names = "state_00_c"
    for data, message in (
        (rewritten(good, lambda h: h[names].update(dtype="F8_E4M3")), "damaged.*not float32"),
        (rewritten(good, lambda h: h[names].update(dtype="BF16")), "damaged.*not float32"),
        (rewritten(good, lambda h: h[names].update(dtype=["F32"])), "damaged.*not float32"),
        (rewritten(good, lambda h: h.update(more=extra)), "damaged.*names 5 tensors"),
        (rewritten(good, lambda h: h.update({names: 3})), "damaged.*not float32"),
        (rewritten(good, lambda h: h.pop(names)), "damaged.*names 3 tensors"),
        (rewritten(good, lambda h: h[names].update(shape=[2, 2**62])), "as many rows"),
        (rewritten(good, lambda h: h[names].update(data_offsets=[0, 2**63])), "damaged"),
        (rewritten(good, lambda h: h[names].update(data_offsets="x")), "damaged"),
        (rewritten(good, lambda h: h.update(__metadata__=[1])), "another model"),
        (len(deep).to_bytes(8, "little") + deep, "damaged.*RecursionError"),
        (safetensors.numpy.save({"a": np.zeros(1)}), "another model"),
        ("text", "is a str, expected bytes"),
        (None, "is a NoneType, expected bytes"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            stream.load_state(data)
        assert "\n" not in str(caught.value)
    assert stream.save_state() == good


def test_fingerprint_is_compared_before_tensors_are_read(files, monkeypatch):
    stream = StreamingSession(Session(files["separate"], kernel="off"), 2)
    foreign = StreamingSession(Session(files["packed"], kernel="off"), 2).save_state()

    def load(data):
        raise AssertionError("tensors of a foreign state were read")

    monkeypatch.setattr(safetensors.numpy, "load", load)
    with pytest.raises(InputError, match="belongs to another model"):
        stream.load_state(foreign)


def test_rows_and_batch_size_are_whole_numbers(files):
    session = Session(files["separate"], kernel="off")
    stream = StreamingSession(session, 3)
    good = stream.save_state(rows=1)
    for rows in (1.5, "1", ["1"], [0.5], np.array(1.5), [[0], [1]], True, [True], object()):
        for call in (stream.reset, stream.save_state, lambda rows: stream.load_state(good, rows)):
            with pytest.raises(InputError, match=r"rows is .*expected a row number or a list"):
                call(rows)
    for rows in (-1, 3, [0, 3], np.array(3), 2**64 - 1):
        with pytest.raises(InputError, match="is outside the batch"):
            stream.reset(rows)
    for rows in (1, np.int32(1), np.array(1), [1], (1,), np.array([1]), range(1, 2)):
        stream.load_state(good, rows)
        assert stream.save_state(rows) == good
    assert stream.save_state([]) == stream.save_state(range(0))
    for batch_size in (1.5, True, "2", None, -1, np.array([2])):
        with pytest.raises(InputError, match=r"batch_size is .*expected a whole number"):
            StreamingSession(session, batch_size)
    with pytest.raises(InputError, match="no memory for states"):
        StreamingSession(session, 2**62)
    assert StreamingSession(session, np.int64(2)).step(X).shape == (2, 70, 6)


def test_damaged_and_foreign_files(files, tmp_path):
    good = files["separate"].read_bytes()
    for name, content, message in (
        ("empty", b"", "is empty"),
        ("half", good[: len(good) // 2], "not a whole ONNX file"),
        ("text", b"hello, world", "looks like a text file: expected an ONNX file"),
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
        (
            lambda text: text.replace(f'"format": {FORMAT}', '"format": 99'),
            "metadata format 99.*upgrade",
        ),
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


def test_byte_order_of_another_machine(files, kernel):
    """ONNX Runtime reads the bytes as they are, so they are turned before."""
    for name in ("separate", "ragged"):
        session = Session(files[name], kernel=kernel)
        x = sequence(2, 6)
        expected = session.run(x)
        turned = session.run(x.astype(">f4"))["y"]
        np.testing.assert_array_equal(turned, expected["y"])
        for order in ((">f4", "<f4"), ("<f4", ">f4")):
            stream = StreamingSession(session, 2)
            parts = [stream.step(x[:, 3 * i :][:, :3].astype(t)) for i, t in enumerate(order)]
            np.testing.assert_allclose(np.concatenate(parts, 1), expected["y"], rtol=0, atol=1e-6)
        state = {"state_00_c_in": np.full((2, 6), 0.5, np.float32)}
        big = {key: value.astype(">f4") for key, value in state.items()}
        np.testing.assert_array_equal(
            session.run({"x": x} | big)["y"], session.run({"x": x} | state)["y"]
        )
    lengths = np.array([6, 2])
    np.testing.assert_array_equal(
        session.run({"x": x, "lengths": lengths.astype(">i4")})["y"],
        session.run({"x": x, "lengths": lengths})["y"],
    )


def test_what_is_no_array_is_named(files):
    session = Session(files["separate"], kernel="off")
    for feed in ([[1.0], [2.0, 3.0]], torch.zeros(2, 3, 5, requires_grad=True)):
        for call in (session.run, StreamingSession(session, 2).step):
            with pytest.raises(InputError, match="'x' is no array"):
                call(feed)
            with pytest.raises(InputError, match="'x' is no array"):
                call({"x": feed})


def test_two_time_axes(two_rates, kernel):
    """Chunks of each input have sizes of their own, in any order of the names."""
    session = Session(two_rates, kernel=kernel)
    x, c = sequence(2, 9), sequence(2, 6, seed=1)[..., :3]
    whole = session.run({"x": x, "c": c})
    stream = StreamingSession(session, 2)
    parts = [
        stream.step({"x": x[:, :3], "c": c[:, :2]}),
        stream.step({"c": c[:, 2:4], "x": x[:, 3:6]}),
        stream.step({"x": x[:, 6:], "c": c[:, 4:]}),
    ]
    assert len(stream._plans) == 1
    for name in ("y", "z"):
        joined = np.concatenate([part[name] for part in parts], 1)
        np.testing.assert_allclose(joined, whole[name], rtol=0, atol=1e-6)


def test_zero_steps_of_two_time_axes(two_rates, kernel):
    session = Session(two_rates, kernel=kernel)
    stream = StreamingSession(session, 2)
    x, c = sequence(2, 3), sequence(2, 2)[..., :3]
    for call in (session.run, stream.step):
        result = call({"c": c[:, :0], "x": x[:, :0]})
        assert result["y"].shape == (2, 0, 6) and result["z"].shape == (2, 0, 4)
        with pytest.raises(InputError, match=r"'c' has 0 time steps and 'x' has 3"):
            call({"x": x, "c": c[:, :0]})
        with pytest.raises(InputError, match=r"'x' has 0 time steps and 'c' has 2"):
            call({"x": x[:, :0], "c": c})


def test_zero_steps_return_a_state_of_their_own(files):
    session = Session(files["separate"], kernel="off")
    given = np.ones((2, 6), np.float32)
    result = session.run({"x": sequence(2, 0), "state_00_c_in": given})["state_00_c_out"]
    np.testing.assert_array_equal(result, given)
    assert not np.shares_memory(result, given)


def test_lengths_among_the_named_arrays(files):
    session = Session(files["ragged"], kernel="off")
    x = sequence(2, 5)
    beside = StreamingSession(session, 2).step({"x": x}, lengths=[5, 2])
    stream = StreamingSession(session, 2)
    np.testing.assert_array_equal(stream.step({"lengths": [5, 2], "x": x}), beside)
    with pytest.raises(InputError, match="lengths is given twice"):
        stream.step({"x": x, "lengths": [5, 2]}, lengths=[5, 2])
    with pytest.raises(InputError, match=r"spans 2\.\.6"):
        stream.step({"x": x, "lengths": [6, 2]})
    with pytest.raises(InputError, match="unknown input 'lengths'"):
        StreamingSession(files["separate"], 2, kernel="off").step({"x": x, "lengths": [5, 2]})


def test_busiest_chunk_size_keeps_its_plan(files):
    stream = StreamingSession(Session(files["separate"], kernel="off"), 1)
    x = sequence(1, 40)
    stream.step(x[:, :1])
    plan = stream._plans[1, 1, 5]
    for size in range(2, 40):
        stream.step(x[:, :size])
        stream.step(x[:, :1])
    assert stream._plans[1, 1, 5] is plan


def test_options_serve_several_sessions(files):
    needs.kernel_library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    first = Session(files["separate"], kernel="require", session_options=options, threads=2)
    second = Session(files["packed"], kernel="require", session_options=options)
    assert set(first.implementation.values()) == set(second.implementation.values()) == {"kernel"}
    assert options.intra_op_num_threads == 1
    np.testing.assert_array_equal(first.run(X)["y"], second.run(X)["y"])
    with pytest.raises(InputError, match=r"already has .* registered, expected no kernel library"):
        Session(files["separate"], kernel="off", session_options=options)


def test_options_with_the_library_already_in_them(files):
    library = needs.kernel_library()
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(getattr(library, "path", library)))
    with pytest.raises(ModelError, match="registered already: leave that to Session"):
        Session(files["separate"], session_options=options)


def test_threads_is_a_whole_number(files):
    for threads in (1.5, -1, True, "2", 2**40):
        with pytest.raises(InputError, match=r"threads=.*expected a whole number"):
            Session(files["separate"], kernel="off", threads=threads)
    assert Session(files["separate"], kernel="off", threads=0).run(X)["y"].shape == (2, 70, 6)


def test_running_imports_neither_torch_nor_onnx(files):
    code = (
        "import sys, numpy, warnings; warnings.simplefilter('ignore')\n"
        "from qrnn_deploy import StreamingSession\n"
        f"s = StreamingSession({str(files['separate'])!r}, 2)\n"
        "s.step(numpy.zeros((2, 3, 5), 'float32')); s.load_state(s.save_state())\n"
        "assert not {'torch', 'onnx'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
