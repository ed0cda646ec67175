"""Engines through the same interface as ONNX files, on a stand-in for TensorRT and the GPU."""

from __future__ import annotations

import io
import json
import sys
import warnings
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import needs
import numpy as np
import pytest
import torch
from fake_tensorrt import CARDS, STREAM, VERSION, HostDevice, install, write_engine
from models import build

from qrnn_deploy.cli import main
from qrnn_deploy.engines import build_engine, description
from qrnn_deploy.engines.gpu import Card, Cards, find_cards
from qrnn_deploy.engines.manifest import Library, manifest_path
from qrnn_deploy.engines.plugin import ENVIRONMENT, plugin_sha256
from qrnn_deploy.errors import EngineError, InputError, ModelError
from qrnn_deploy.exporter import export
from qrnn_deploy.runtime import (
    CudaGraphWarning,
    EngineSession,
    Session,
    StreamingSession,
    feeds,
    open_model,
)
from qrnn_deploy.runtime.engine import Bounds

CHUNKINGS = ([70], [1] * 70, [7] * 10, [1, 30, 7, 30, 1, 1], [0, 30, 0, 40])


@dataclass
class Files:
    """ONNX files and engines of the same weights."""

    folder: Path

    def onnx(self, name: str) -> Path:
        return self.folder / f"{name}.onnx"

    def engine(self, name: str) -> Path:
        return self.folder / f"{name}.engine"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    found = Files(tmp_path_factory.mktemp("engines"))
    options = {
        "separate": {},
        "packed": {"states": "packed"},
        "ragged": {"lengths": True},
        "none": {"states": "none"},
        "float16": {"dtype": "float16"},
    }
    for name, extra in options.items():
        export(build("fo"), found.onnx(name), golden=False, **extra)
        write_engine(found.onnx(name), found.engine(name))
    return found


@pytest.fixture(autouse=True)
def tensorrt(monkeypatch):
    return install(monkeypatch)


def sequence(batch, time, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, time, 5)).astype(dtype)


def cut(stream, x, sizes, axis=1):
    ends = np.cumsum(sizes)
    return np.concatenate(
        [stream.step(x[:, end - size : end]) for size, end in zip(sizes, ends, strict=True)], axis
    )


def run_cli(*arguments):
    """(exit status, stderr) of the command."""
    err = io.StringIO()
    with redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return end.value.code, err.getvalue()


@pytest.mark.parametrize("name", ["separate", "packed"])
@pytest.mark.parametrize("sizes", CHUNKINGS)
def test_any_cut_gives_the_whole(files, name, sizes):
    x = sequence(3, 70)
    whole = Session(files.onnx(name), kernel="off").run(x)["y"]
    got = cut(StreamingSession(files.engine(name), 3), x, sizes)
    np.testing.assert_allclose(got, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["separate", "packed", "none", "float16"])
def test_whole_sequences(files, name):
    """The engine's answer is that of the file, states included; it knows what runs its nodes."""
    x = sequence(2, 9, dtype=np.float16 if name == "float16" else np.float32)
    wanted = Session(files.onnx(name), kernel="off").run(x)
    session = open_model(files.engine(name))
    assert isinstance(session, EngineSession)
    assert set(session.implementation.values()) == {"plugin"}
    for _ in range(2):
        got = session.run(x)
        assert got.keys() == wanted.keys()
        for key, value in wanted.items():
            assert got[key].dtype == value.dtype
            np.testing.assert_array_equal(got[key], value)
    empty = session.run(x[:, :0])
    assert empty["y"].shape == (2, 0, 6) and empty.keys() == wanted.keys()


def test_states_take_turns_and_are_never_copied(files, tensorrt):
    """Each run reads the states from where the run before wrote them; there are two places."""
    stream = StreamingSession(files.engine("separate"), 2)
    x = sequence(2, 12)
    for size in (1, 1, 1, 1, 1, 3, 1, 3):
        stream.step(x[:, :size])
    places = set()
    for before, after in zip(tensorrt.runs, tensorrt.runs[1:], strict=False):
        for state in ("state_00_c", "state_01_x"):
            assert after[f"{state}_in"] == before[f"{state}_out"] != before[f"{state}_in"]
            places |= {(state, after[f"{state}_in"])}
    assert len(places) == 4


def test_one_step_is_a_graph_for_each_side(files, tensorrt):
    stream = StreamingSession(files.engine("separate"), 2)
    x = sequence(2, 30)
    whole = Session(files.onnx("separate"), kernel="off").run(x)["y"]
    got = [stream.step(x[:, t : t + 1]) for t in range(9)]
    assert tensorrt.captures == 2
    assert all(stream._plans[2, 1, 5].graphs)
    # Other chunks in between have contexts of their own and leave the graphs alone.
    got += [stream.step(x[:, 9:16]), *(stream.step(x[:, t : t + 1]) for t in range(16, 30))]
    assert tensorrt.captures == 2 and len(tensorrt.runs) == 9 + 1 + 14
    np.testing.assert_allclose(np.concatenate(got, 1), whole, rtol=0, atol=1e-6)
    profiles = {key: plan._execution._context.profile for key, plan in stream._plans.items()}
    assert profiles == {(2, 1, 5): 1, (2, 7, 5): 0}


def test_a_graph_has_a_context_of_its_own(files, tensorrt, tmp_path):
    """Also where no profile is for one step: a chunk of another size would disturb its context."""
    path = write_engine(files.onnx("separate"), tmp_path / "m.engine", streaming=False)
    stream = StreamingSession(path)
    x = sequence(1, 9)
    cut(stream, x, [1, 3, 1, 3, 1])
    contexts = {key[1]: plan._execution._context for key, plan in stream._plans.items()}
    assert contexts.keys() == {1, 3} and contexts[1] is not contexts[3]
    assert contexts[1].profile == contexts[3].profile == 0 and tensorrt.captures == 1


def test_graphs_record_kernels_for_their_shapes(files, tensorrt, monkeypatch):
    """TensorRT for RTX is told to compile them first; contexts without a graph need not wait."""
    kinds = SimpleNamespace(EAGER="eager")
    monkeypatch.setattr(tensorrt, "DynamicShapesKernelSpecializationStrategy", kinds, raising=False)
    stream = StreamingSession(files.engine("separate"))
    cut(stream, sequence(1, 4), [1, 3])
    config = {key[1]: plan._execution._context.config for key, plan in stream._plans.items()}
    assert not hasattr(config[3], "dynamic_shapes_kernel_specialization_strategy")
    assert config[1].dynamic_shapes_kernel_specialization_strategy == "eager"


def test_contexts_get_memory_for_their_profile(files, tensorrt, tmp_path, monkeypatch):
    """Each of them would else be allocated for the largest; older versions cannot do otherwise."""
    x = sequence(1, 4)
    kinds = SimpleNamespace(EAGER="eager")
    for rtx in (False, True):
        if rtx:
            strategies = "DynamicShapesKernelSpecializationStrategy"
            monkeypatch.setattr(tensorrt, strategies, kinds, raising=False)
        stream = StreamingSession(files.engine("separate"))
        cut(stream, x, [1, 3])
        found = [plan._execution._context.config.allocation for plan in stream._plans.values()]
        assert found == ["by profile"] * 2
    monkeypatch.delattr(tensorrt, "ExecutionContextAllocationStrategy")
    cut(StreamingSession(files.engine("separate")), x, [1, 3])


def test_the_engine_is_read_once(files, tensorrt, tmp_path, monkeypatch):
    """What the manifest is compared with is what TensorRT gets."""
    path = write_engine(files.onnx("separate"), tmp_path / "m.engine")
    reads = []
    for name in ("open", "read_bytes"):  # read_bytes opens: it counts once more
        method = getattr(Path, name)

        def count(self, *arguments, method=method, **options):
            if self == path:
                reads.append(method.__name__)
            return method(self, *arguments, **options)

        monkeypatch.setattr(Path, name, count)
    EngineSession(path)
    assert reads in (["read_bytes", "open"], ["read_bytes"], ["open"])
    assert tensorrt.opened == [json.loads(manifest_path(path).read_text())["engine_sha256"]]


def test_the_card_in_use_is_looked_at(files, tensorrt, monkeypatch):
    """Not the first one of the machine: the session may be on another."""
    other = Card("Another", "sm86")
    with pytest.raises(EngineError, match=r"for sm90, and the device in use, Another, is sm86"):
        EngineSession(files.engine("separate"), device=HostDevice(card=other))
    assert not tensorrt.opened
    monkeypatch.setattr(description, "find_cards", lambda: Cards((other, *CARDS.cards)))
    x = sequence(1, 2)
    assert StreamingSession(files.engine("separate")).step(x).shape == (1, 2, 6)
    monkeypatch.setattr(description, "find_cards", lambda: Cards((other, other)))
    with pytest.raises(EngineError, match=r"is for sm90, and Another is sm86: build"):
        EngineSession(files.engine("separate"))


def test_a_failed_capture_is_not_tried_again(files, tensorrt, tmp_path, monkeypatch):
    """Torch may not survive a second one; other shapes and other streams go without at once."""
    tries = []
    capture = HostDevice.capture

    def counting(self, work):
        tries.append(work)
        return capture(self, work)

    monkeypatch.setattr(HostDevice, "capture", counting)
    path = write_engine(files.onnx("separate"), tmp_path / "m.engine", no_capture=True)
    session = EngineSession(path)
    with pytest.warns(CudaGraphWarning, match="it is not tried again") as caught:
        for batch in (1, 2, 1):
            cut(StreamingSession(session, batch), sequence(batch, 3), [1] * 3)
    assert len(tries) == len(caught) == 1
    strict = EngineSession(path, cuda_graph="require")
    first, second = StreamingSession(strict), StreamingSession(strict)
    before = first.save_state()
    for stream in (first, first, second):
        with pytest.raises(EngineError, match="leave cuda_graph at 'auto'"):
            stream.step(sequence(1, 1))
        assert stream.save_state() == before
    assert len(tries) == 2


def test_graphs_are_optional(files, tensorrt, tmp_path):
    x = sequence(1, 4)
    off = EngineSession(files.engine("separate"), cuda_graph="off")
    wanted = cut(StreamingSession(off), x, [1] * 4)
    assert tensorrt.captures == 0
    path = write_engine(files.onnx("separate"), tmp_path / "m.engine", no_capture=True)
    with pytest.warns(CudaGraphWarning, match=r"no CUDA graph .*not permitted when") as caught:
        got = cut(StreamingSession(path), x, [1] * 4)
    assert len(caught) == 1
    np.testing.assert_array_equal(got, wanted)
    strict = StreamingSession(EngineSession(path, cuda_graph="require"))
    with pytest.raises(EngineError, match="leave cuda_graph at 'auto'"):
        strict.step(x[:, :1])
    with pytest.raises(InputError, match="expected 'auto', 'require' or 'off'"):
        EngineSession(path, cuda_graph="on")


def test_tensors_come_back_for_tensors(files):
    session = EngineSession(files.engine("ragged"), device=HostDevice(takes_tensors=True))
    x = sequence(2, 5)
    arrays = StreamingSession(files.engine("ragged"), 2)
    tensors = StreamingSession(session, 2)
    assert isinstance(session.run(torch.from_numpy(x))["y"], torch.Tensor)
    for lengths in ([5, 2], None):
        given = None if lengths is None else torch.tensor(lengths)
        got = tensors.step(torch.from_numpy(x), lengths=given)
        assert isinstance(got, torch.Tensor)
        np.testing.assert_array_equal(got.numpy(), arrays.step(x, lengths=lengths))
    assert tensors.save_state() == arrays.save_state()
    nothing = tensors.step(torch.from_numpy(x[:, :0]))
    assert isinstance(nothing, torch.Tensor) and nothing.shape == (2, 0, 6)
    beyond = tensors.step(torch.from_numpy(x), lengths=torch.tensor([9, -1]))
    np.testing.assert_array_equal(beyond.numpy(), arrays.step(x, lengths=[5, 0]))
    tensors.step(torch.from_numpy(x).requires_grad_())
    assert not any(b.tensor.requires_grad for b in tensors._plans[(2, 5, 5), (2,)]._inputs.values())
    with pytest.raises(InputError, match=r"dtype float64, expected float32: .*\.to\(torch\.float"):
        tensors.step(torch.zeros(2, 3, 5, dtype=torch.float64))
    with pytest.raises(InputError, match=r"lengths is float32 \[2\], expected int64"):
        tensors.step(torch.from_numpy(x), lengths=torch.zeros(2))


@pytest.mark.parametrize("name", ["separate", "packed", "float16"])
def test_saved_states_cross_between_runtimes(files, name):
    """A stream that ONNX Runtime began goes on in an engine, and back."""
    x = sequence(3, 20, dtype=np.float16 if name == "float16" else np.float32)
    ort = StreamingSession(files.onnx(name), 3, kernel="off")
    trt = StreamingSession(files.engine(name), 3)
    ort.step(x[:, :7])
    trt.load_state(ort.save_state())
    assert trt.save_state() == ort.save_state()
    np.testing.assert_array_equal(trt.step(x[:, 7:8]), ort.step(x[:, 7:8]))
    ort.load_state(trt.save_state([2, 0]), rows=[0, 1])
    trt.load_state(ort.save_state([0]), rows=2)
    trt.reset(1)
    kept = trt.save_state()
    fresh = StreamingSession(files.engine(name), 3)
    fresh.load_state(kept)
    np.testing.assert_array_equal(fresh.step(x[:, 8:]), trt.step(x[:, 8:]))
    trt.load_state(kept)
    one = StreamingSession(files.engine(name), 1)
    np.testing.assert_array_equal(trt.step(x[:, 8:])[1:2], one.step(x[1:2, 8:]))
    trt.reset([])
    trt.reset()
    assert trt.save_state() == StreamingSession(files.onnx(name), 3, kernel="off").save_state()
    with pytest.raises(InputError, match="another model"):
        other = "separate" if name == "packed" else "packed"
        trt.load_state(StreamingSession(files.engine(other), 3).save_state())


def test_shapes_outside_the_profiles(files):
    session = EngineSession(files.engine("separate"))
    with pytest.raises(InputError, match=r"'x' has size 5 .*\(B\): this engine takes 1 to 4"):
        session.run(sequence(5, 3))
    with pytest.raises(InputError, match=r"'x' has size 81 .*\(T\): this engine takes 1 to 80"):
        session.run(sequence(1, 81))
    stream = StreamingSession(session, 2)
    before = stream.save_state()
    with pytest.raises(InputError, match="this engine takes 1 to 80"):
        stream.step(sequence(2, 81))
    with pytest.raises(InputError, match="expected rank 3"):
        stream.step(sequence(2, 3)[0])
    assert stream.save_state() == before
    with pytest.raises(InputError, match="this engine takes 1 to 4"):
        StreamingSession(session, 5).step(sequence(5, 1))


def test_run_cuts_what_a_profile_does_not_take(files, tmp_path):
    """The command's own chunks are no longer than the engine takes; the user's are told."""
    engine = write_engine(files.onnx("separate"), tmp_path / "m.engine", maximum={"T": 9})
    x = sequence(1, 200)[0]
    np.save(tmp_path / "x.npy", x)
    paths = [f"{tmp_path}/x.npy", "-o", f"{tmp_path}/y.npy"]
    assert run_cli("run", engine, *paths) == (0, "")
    wanted = Session(files.onnx("separate"), kernel="off").run(x[None])["y"][0]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, rtol=0, atol=1e-6)
    code, error = run_cli("run", engine, *paths, "--chunk", 10)
    assert code == 2 and "size 10 along axis 1 (T): this engine takes 1 to 9" in error
    manifest = manifest_path(engine)
    code, error = run_cli("run", engine, paths[0], "--format", "npy", "-o", manifest)
    assert code == 2 and "is the same file as the manifest of MODEL" in error
    assert EngineSession(engine).bounds == Bounds((1, 32), (1, 9))


def test_engines_that_fail(files, tmp_path):
    """What TensorRT says is told in one line, and a failed step leaves the streams alone."""
    path = write_engine(files.onnx("separate"), tmp_path / "m.engine", refuses_to_run=True)
    stream = StreamingSession(path)
    stream.load_state(StreamingSession(files.onnx("separate"), kernel="off").save_state())
    before = stream.save_state()
    for size in (1, 3):
        with pytest.raises(EngineError, match=r"TensorRT .* cannot run it: .*no kernel image"):
            stream.step(sequence(1, size))
    assert stream.save_state() == before
    host = write_engine(files.onnx("ragged"), tmp_path / "h.engine", on_host="lengths")
    with pytest.raises(EngineError, match="takes 'lengths' in host memory"):
        EngineSession(host)
    other = write_engine(files.onnx("packed"), tmp_path / "o.engine", says=files.onnx("separate"))
    with pytest.raises(EngineError, match="contradicts its manifest: the graph has inputs x, st"):
        EngineSession(other)


def test_files_that_are_no_engines(files, tmp_path):
    path = write_engine(files.onnx("separate"), tmp_path / "m.engine")
    manifest = json.loads(manifest_path(path).read_text())

    def lie(**changes):
        manifest_path(path).write_text(json.dumps(manifest | changes))

    junk = b"x" * path.stat().st_size
    cases = [
        ({"tensorrt_version": "11.5.0.0"}, f"it is for TensorRT 11.5.0.0, here is {VERSION}"),
        ({"architectures": ["sm86"]}, "it is for sm86, and Stand-in is sm90"),
        ({"engine_sha256": "0" * 64}, "is not the engine that m.engine.json describes"),
        ({"profiles": manifest["profiles"][:1]}, "has 2 profiles, its manifest says 1"),
    ]
    for changes, message in cases:
        lie(**changes)
        with pytest.raises(EngineError, match=message):
            StreamingSession(path)
    path.write_bytes(junk)
    lie(engine_sha256=plugin_sha256(path))
    with pytest.raises(EngineError, match="cannot open it: magicTag does not match"):
        StreamingSession(path)
    manifest_path(path).unlink()
    with pytest.raises(EngineError, match=r"m\.engine\.json is missing"):
        StreamingSession(path)
    with pytest.raises(EngineError, match="is no file: expected an engine"):
        StreamingSession(tmp_path / "absent.engine")
    with pytest.raises(InputError, match="kernel='off' is for ONNX files"):
        StreamingSession(path, kernel="off")
    with pytest.raises(InputError, match="carries no state"):
        StreamingSession(files.engine("none"))
    with pytest.raises(ModelError, match=r"is named like an engine .*open_model and Streaming"):
        Session(path)


def test_plugin_library_is_loaded_first(files, tensorrt, tmp_path, monkeypatch):
    library = tmp_path / "libqrnn_deploy_tensorrt.so"
    library.write_bytes(b"plugin")
    needed = [Library(library.name, plugin_sha256(library))]
    path = write_engine(files.onnx("separate"), tmp_path / "m.engine", libraries=needed)
    monkeypatch.setenv(ENVIRONMENT, str(library))
    EngineSession(path)
    assert tensorrt.loaded == [str(library)]
    library.write_bytes(b"another")
    with pytest.raises(EngineError, match=r"is not the libqrnn_deploy_tensorrt\.so that it was"):
        EngineSession(path)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "absent.so"))
    with pytest.raises(EngineError, match=r"is not a file: expected libqrnn_deploy_tensorrt\.so"):
        EngineSession(path)


def test_names_of_any_length_make_short_messages(files):
    """A file may call its ports as it likes."""
    session = EngineSession(files.engine("separate"))
    name = "x" * 5000
    (port,) = session.metadata.inputs
    metadata = replace(session.metadata, inputs=[replace(port, name=name)])
    two = replace(metadata, inputs=[*metadata.inputs, replace(port, shape=["n" * 5000, 1, 5])])
    x = sequence(1, 3)
    for meta, given in [
        (metadata, {}),
        (metadata, {name: x[0]}),
        (metadata, {name: x[..., :4]}),
        (metadata, {name: x.astype(np.int64)}),
        (metadata, {name: [[1], [1, 2]]}),
        (metadata, {name: x, name * 2: x}),
        (two, x),
        (two, {name: x, "x": x[0]}),
    ]:
        with pytest.raises(InputError) as caught:
            feeds.complete(meta, feeds.as_named(meta, given))
        assert len(str(caught.value)) < 500
    execution = session.opened.execution(0, STREAM)
    for refuse in (lambda: execution.set_address(name, 8), lambda: session.opened.error("fails")):
        with pytest.raises(EngineError) as told:
            raise refuse()
        assert len(str(told.value)) < 500


def test_torch_without_cuda_is_told(files, monkeypatch):
    from qrnn_deploy.runtime.engine_device import CudaDevice

    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(EngineError, match="needs torch with CUDA, here is"):
        CudaDevice()


def test_no_warnings_in_normal_use(files):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream = StreamingSession(files.engine("separate"))
        cut(stream, sequence(1, 6)[:, ::-1], [1, 2, 3])


def test_stand_in_module_is_the_one_used(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="9.0"))
    with pytest.raises(EngineError, match=r"TensorRT 9\.0 is installed: expected 10\.0"):
        EngineSession(files.engine("separate"))


def test_real_engine_without_a_gpu_is_one_line(files, tmp_path, monkeypatch):
    """TensorRT for RTX builds here; opening what it built names what is missing."""
    needs.tensorrt_rtx()
    monkeypatch.undo()
    path = tmp_path / "m.engine"
    build_engine(files.onnx("separate"), path, backend="tensorrt-rtx", arch=["sm86"])
    cards = find_cards()
    if cards.cards:
        pytest.skip(f"this machine has a GPU: {cards.cards[0].name}")
    with pytest.raises(EngineError) as caught:
        StreamingSession(path)
    line = f"{path} does not run here: it needs a GPU of sm86, and {cards.obstacle}"
    assert str(caught.value) == line
    assert run_cli("run", path, tmp_path / "x.npy") == (2, f"error: {line}\n")
