"""Sessions on devices: what is asked for, what is refused, and streams in a device's memory.

There is no GPU here. ONNX Runtime's device memory is stood in for by memory of its own on the CPU,
which it copies from and to in the same way, and sessions that record CUDA graphs by sessions of
the same fixed shapes. What only a GPU can show is in tests/gpu.
"""

from __future__ import annotations

import sys
import types
import warnings

import fake_tensorrt
import needs
import numpy as np
import onnx
import onnxruntime
import pytest
from models import BUILDERS, arguments, build

from qrnn_deploy.cli import main
from qrnn_deploy.errors import (
    DeviceError,
    InputError,
    KernelLibraryError,
    MissingDependencyError,
    ModelError,
    QrnnDeployError,
)
from qrnn_deploy.exporter import export
from qrnn_deploy.runtime import (
    CudaGraphWarning,
    KernelFallbackWarning,
    Session,
    StreamingSession,
    loading,
    provider_probe,
    providers,
)
from qrnn_deploy.runtime import session as session_module
from qrnn_deploy.runtime.library import KernelLibrary
from qrnn_deploy.runtime.provider_probe import check_starts
from qrnn_deploy.runtime.providers import CPU, CUDA, RTX, Placement, place

ON_DEVICE = Placement(memory=("cpu", 0))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    paths = {}
    for name in BUILDERS:
        paths[name] = folder / f"{name}.onnx"
        export(build(name), paths[name], arguments(build(name)), golden=False)
    for name, options in (("packed", {"states": "packed"}), ("ragged", {"lengths": True})):
        paths[name] = folder / f"{name}.onnx"
        export(build("fo"), paths[name], golden=False, **options)
    return paths


@pytest.fixture
def kernel():
    needs.kernel_library()
    return "require"


def on_device(path, cuda_graph="off", **options):
    session = Session(path, **options)
    session.placement, session.cuda_graph = ON_DEVICE, cuda_graph
    return session


def sequence(session, batch=3, time=30, seed=0):
    port = session.metadata.inputs[0]
    rng = np.random.default_rng(seed)
    if port.dtype == "int64":
        return rng.integers(0, 11, (batch, time))
    return rng.standard_normal((batch, time, port.shape[-1])).astype(port.dtype)


# ------------------------------------------------------------------------------- what is asked for


def test_devices_and_providers():
    assert place(None, None) == place("cpu", None) == place(None, []) == Placement()
    assert place("cuda", None) == place(None, [CUDA]) == place(None, [CUDA, CPU])
    second = place("cuda:1", None)
    assert second.memory == ("cuda", 1)
    assert second.providers == ((CUDA, {"use_tf32": "0", "device_id": "1"}), (CPU, {}))
    own = place(None, [(CUDA, {"device_id": 2, "use_tf32": 1})])
    assert own.memory == ("cuda", 2)
    assert own.providers[0] == (CUDA, {"use_tf32": "1", "device_id": "2"})
    assert place("rtx", None).providers == ((RTX, {}), (CPU, {}))
    assert not place("rtx", None).takes_kernels and second.takes_kernels
    recording = second.capturing()
    assert recording.providers[0][1]["enable_cuda_graph"] == "1"
    assert recording.providers[1] == (CPU, {}) and recording.memory == second.memory


@pytest.mark.parametrize(
    ("device", "given", "message"),
    [
        ("gpu", None, "device='gpu': expected 'cpu', 'cuda', 'cuda:N' or 'rtx'"),
        ("cuda:", None, "device='cuda:'"),
        ("cpu:0", None, "device='cpu:0'"),
        (0, None, "device=0"),
        ("cuda", [CUDA], "both given"),
        (None, CUDA, "expected a list of names"),
        (None, [(CUDA,)], "expected a name, or a pair"),
        (None, [CUDA, 3], "expected a name, or a pair"),
    ],
)
def test_what_is_no_device(exported, device, given, message):
    with pytest.raises(InputError, match=message) as caught:
        Session(exported["fo"], device=device, providers=given)
    assert "\n" not in str(caught.value)


def test_graphs_that_cannot_be(exported):
    with pytest.raises(InputError, match="cuda_graph=True: expected"):
        Session(exported["fo"], cuda_graph=True)
    with pytest.raises(InputError, match="cuda_graph='require' is for a GPU"):
        Session(exported["fo"], cuda_graph="require")
    with pytest.raises(InputError, match="session_options do not go with cuda_graph"):
        Session(exported["fo"], cuda_graph="auto", session_options=onnxruntime.SessionOptions())
    with pytest.raises(InputError, match="'require' with NvTensorRTRTXExecutionProvider"):
        loading._library_for("require", place("rtx", None))


# -------------------------------------------------------------------------------- what is not here


@pytest.fixture
def no_cuda():
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")


def test_a_build_without_the_provider_says_which_to_install(exported, no_cuda):
    for options in ({"device": "cuda"}, {"providers": [CUDA]}, {"device": "cuda:3"}):
        for opened in (Session, StreamingSession):
            with pytest.raises(MissingDependencyError, match=r"onnxruntime-gpu\[cuda") as caught:
                opened(exported["fo"], **options)
            assert "\n" not in str(caught.value) and onnxruntime.__version__ in str(caught.value)


def test_run_on_a_device_that_is_not_here(exported, no_cuda, capsys):
    for device, expected in (("cuda", "'onnxruntime-gpu[cuda,cudnn]>="), ("gpu", "'cuda:N'")):
        with pytest.raises(SystemExit) as caught:
            main(["run", str(exported["fo"]), "--device", device])
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert expected in said and len(said.splitlines()) == 1


def test_no_silent_way_to_the_cpu(exported, no_cuda, monkeypatch):
    """ONNX Runtime itself only warns, and the model runs on the CPU."""
    monkeypatch.setattr(loading, "check_available", lambda placement: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DeviceError, match=f"could not start {CUDA}"):
            Session(exported["fo"], device="cuda", kernel="off")


def test_no_driver(monkeypatch):
    if sys.platform != "linux":
        pytest.skip("drivers are looked for on Linux")

    def refuse(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(providers.ctypes, "CDLL", refuse)
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    with pytest.raises(DeviceError, match=r"no driver of one .libcuda.so.1: cannot open"):
        providers.check_available(place("cuda", None))


def test_providers_that_run_nothing(monkeypatch):
    """An addition tells a provider that does not work from a model that does not."""
    check_starts(place("cpu", None))
    monkeypatch.setattr(provider_probe, "check_available", lambda placement: None)
    if CUDA not in onnxruntime.get_available_providers():
        with warnings.catch_warnings(), pytest.raises(DeviceError, match=f"could not start {CUDA}"):
            warnings.simplefilter("ignore")
            check_starts(place("cuda", None))

    def session(run):
        return lambda *a, **k: types.SimpleNamespace(get_providers=lambda: [CPU], run=run)

    def fail(*arguments):
        raise RuntimeError("no kernel image is available\nlong story")

    monkeypatch.setattr(onnxruntime, "InferenceSession", session(fail))
    with pytest.raises(
        DeviceError, match=r"not run an addition here \(no kernel image is av[^\n]*$"
    ):
        check_starts(place("cpu", None))
    zeros = session(lambda *a: [np.zeros(4, np.float32)])
    monkeypatch.setattr(onnxruntime, "InferenceSession", zeros)
    with pytest.raises(DeviceError, match="expected a GPU and a driver that work"):
        check_starts(place("cpu", None))


def test_library_without_cuda_kernels(kernel, monkeypatch):
    monkeypatch.setattr(KernelLibrary, "cuda", None)
    placement = place("cuda", None)
    with pytest.warns(KernelFallbackWarning, match="pooling runs on the CPU"):
        assert loading._library_for("auto", placement) is not None
    with pytest.raises(KernelLibraryError, match="without a CUDA compiler: build it where nvcc"):
        loading._library_for("require", placement)
    assert loading._library_for("off", placement) is None


def test_rtx_needs_its_package(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, providers._RTX_MODULE, None)
    with pytest.raises(MissingDependencyError, match=f"pip install {providers.RTX_PACKAGE}"):
        Session(exported["fo"], device="rtx")


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    """A package like that of TensorRT for RTX, whose library is none."""
    module = types.ModuleType(providers._RTX_MODULE)
    module.__spec__ = types.SimpleNamespace()
    library = tmp_path / "libplugin.so"
    library.write_bytes(b"not a library")
    module.get_ep_name = lambda: RTX
    module.get_library_path = lambda: str(library)
    monkeypatch.setitem(sys.modules, providers._RTX_MODULE, module)
    monkeypatch.setattr(providers, "_require_driver", lambda provider: None)
    return module


def test_rtx_that_does_not_load(exported, plugin):
    with pytest.raises(DeviceError, match=f"{RTX} does not load .*reinstall it") as caught:
        Session(exported["fo"], device="rtx")
    assert "\n" not in str(caught.value)


def test_rtx_without_a_gpu_it_supports(exported, plugin, monkeypatch):
    registered = []
    monkeypatch.setattr(
        onnxruntime, "register_execution_provider_library", lambda *both: registered.append(both)
    )
    with pytest.raises(DeviceError, match="finds no GPU that it supports"):
        Session(exported["fo"], device="rtx")
    assert registered == [(RTX, plugin.get_library_path())]


def test_plugin_devices_go_into_the_options(exported, plugin, monkeypatch):
    """ONNX Runtime's own CPU device stands in for the GPU; the kernel library stays out."""
    (cpu, *_) = onnxruntime.get_ep_devices()
    monkeypatch.setattr(plugin, "get_ep_name", lambda: cpu.ep_name)
    monkeypatch.setattr(loading, "check_used", lambda placement, session: None)
    session = Session(exported["fo"], device="rtx")
    assert session.onnxruntime_session.get_providers() == [CPU]
    assert set(session.implementation.values()) == {"function"}
    assert session.kernel_devices == {}
    expected = Session(exported["fo"], kernel="off").run(sequence(session))
    np.testing.assert_array_equal(session.run(sequence(session))["y"], expected["y"])


def test_run_takes_engines(exported, tmp_path, monkeypatch):
    """On a stand-in for TensorRT; options of ONNX files are refused."""
    fake_tensorrt.install(monkeypatch)
    engine = tmp_path / "m.engine"
    fake_tensorrt.write_engine(exported["fo"], engine)
    np.save(tmp_path / "x.npy", sequence(Session(exported["fo"], kernel="off"), 2, 9))
    for model in (engine, exported["fo"]):
        with pytest.raises(SystemExit) as caught:
            main(["run", str(model), f"{tmp_path}/x.npy", "-o", f"{tmp_path}/{model.stem}.npy"])
        assert caught.value.code == 0
    np.testing.assert_allclose(
        np.load(tmp_path / "m.npy"), np.load(tmp_path / "fo.npy"), rtol=0, atol=1e-5
    )
    with pytest.raises(SystemExit) as caught:
        main(["run", str(engine), f"{tmp_path}/x.npy", "--device", "cuda"])
    assert caught.value.code == 2


# ------------------------------------------------------------------------ streams in device memory


@pytest.mark.parametrize("name", ["fo", "packed", "ragged", "lm", "headed"])
def test_any_cut_gives_the_whole(exported, name, kernel):
    session = on_device(exported[name], kernel=kernel)
    assert set(session.kernel_devices.values()) == {"cpu"}
    x = sequence(session)
    whole = session.run(x)[session.metadata.outputs[0].name]
    stream = StreamingSession(session, 3)
    for chunks in ([30], [1] * 30, [7, 0, 1, 22]):
        stream.reset()
        start, parts = 0, []
        for size in chunks:
            parts.append(stream.step(x[:, start : start + size]))
            start += size
        np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=0, atol=1e-6)


def test_states_are_those_of_the_host(exported, kernel):
    """The same bytes, bit for bit, whole and by rows."""
    x = sequence(Session(exported["fo"], kernel=kernel))
    host = StreamingSession(exported["fo"], 3, kernel=kernel)
    device = StreamingSession(on_device(exported["fo"], kernel=kernel), 3)
    for stream in (host, device):
        stream.step(x[:, :10])
    saved = host.save_state()
    assert device.save_state() == saved
    for stream in (host, device):
        stream.step(x[:, 10:20])
        stream.load_state(saved)
        stream.reset(rows=1)
    assert device.save_state(rows=[2, 0]) == host.save_state(rows=[2, 0])
    np.testing.assert_array_equal(device.step(x[:, 20:]), host.step(x[:, 20:]))


def test_results_are_the_callers_own(exported):
    stream = StreamingSession(on_device(exported["fo"], kernel="off"), 2)
    x = sequence(stream.session, 2, 4)
    first = stream.step(x)
    kept = first.copy()
    stream.step(x)
    np.testing.assert_array_equal(first, kept)
    assert StreamingSession(stream.session, 0).step(x[:0]).shape == (0, 4, 6)


# ------------------------------------------------------------------------------- steps as a graph


@pytest.mark.parametrize("name", [*BUILDERS, "packed", "ragged"])
def test_nothing_of_a_fixed_step_depends_on_shapes(exported, name, kernel, tmp_path):
    """Such nodes run on the CPU, and ONNX Runtime records no graph with copies to and from it."""
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(needs.kernel_library().path))
    for dimension, size in (("batch", 4), ("time", 1)):
        options.add_free_dimension_override_by_name(dimension, size)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3  # that the optimised file is for this machine
    onnxruntime.InferenceSession(str(exported[name]), options, providers=[CPU])
    found = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    pools = {op for op in found if op.startswith("QRNNPool")}
    moves = {"Transpose", "Concat", "Slice", "Split", "Reshape", "Squeeze", "Unsqueeze", "Gather"}
    works = {"MatMul", "Gemm", "FusedMatMul", "Add", "Mul", "Cast"}
    ragged = {"Expand", "GatherElements"}
    assert pools
    assert found - pools - moves - works <= (ragged if name == "ragged" else set())


@pytest.mark.parametrize("name", ["fo", "packed", "ragged", "lm"])
def test_fixed_steps_are_the_steps(exported, name, kernel, monkeypatch):
    """Steps of one go to a session of fixed sizes, a graph for each side; the rest do not."""
    session = on_device(exported[name], "require", kernel=kernel)
    runs = []
    opened = session.capturing

    def capturing(sizes):
        fixed = opened(sizes)
        shape = fixed.get_inputs()[0].shape
        assert shape[:2] == [3, 1]
        run = fixed.run_with_iobinding
        monkeypatch.setattr(
            fixed,
            "run_with_iobinding",
            lambda binding, options: (
                runs.append(options.get_run_config_entry("gpu_graph_id")),
                run(binding, options),
            ),
        )
        return fixed

    monkeypatch.setattr(session, "capturing", capturing)
    x = sequence(session)
    stream, plain = StreamingSession(session, 3), StreamingSession(exported[name], 3, kernel=kernel)
    at = 0
    for size in [1, 1, 1, 5, 1, 1, 20]:
        chunk = x[:, at : at + size]
        np.testing.assert_allclose(stream.step(chunk), plain.step(chunk), rtol=0, atol=1e-6)
        at += size
    assert runs == ["1", "2", "1", "1", "2"]  # the chunk of five turned the sides as well


@pytest.mark.parametrize("where", ["opening", "running"])
def test_steps_without_a_graph(exported, where, monkeypatch):
    """auto warns once and goes on with the right state; require fails and keeps the state."""
    path = exported["fo"]
    plain = StreamingSession(path, 2, kernel="off")
    x = sequence(plain.session, 2, 4)
    expected = [plain.step(x[:, t : t + 1]) for t in range(4)]

    def stream(choice):
        session = on_device(path, choice, kernel="off")
        opened = session.capturing

        def capturing(sizes):
            if where == "opening":
                raise ModelError("it has a loop")
            fixed = opened(sizes)

            def fail(binding, options):
                raise RuntimeError("capture failed\nlong story")

            monkeypatch.setattr(fixed, "run_with_iobinding", fail)
            return fixed

        monkeypatch.setattr(session, "capturing", capturing)
        return StreamingSession(session, 2)

    auto = stream("auto")
    with pytest.warns(CudaGraphWarning, match="no CUDA graph for one step") as caught:
        got = [auto.step(x[:, t : t + 1]) for t in range(4)]
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    required = stream("require")
    before = required.save_state()
    with pytest.raises(QrnnDeployError, match=r"it has a loop|capture failed") as error:
        required.step(x[:, :1])
    assert "\n" not in str(error.value)
    assert required.save_state() == before


@pytest.mark.parametrize("device", [None, "cpu", "rtx"])
def test_no_graph_without_cuda(exported, device, request, monkeypatch):
    """auto says so, and opens no second session; the CPU's own device stands in for that of rtx."""
    if device == "rtx":
        plugin = request.getfixturevalue("plugin")
        (cpu, *_) = onnxruntime.get_ep_devices()
        monkeypatch.setattr(plugin, "get_ep_name", lambda: cpu.ep_name)
        monkeypatch.setattr(loading, "check_used", lambda placement, session: None)
    kernel = "off" if device != "rtx" else "auto"
    stream = StreamingSession(exported["fo"], 1, device=device, kernel=kernel, cuda_graph="auto")
    x = sequence(stream.session, 1, 3)
    plain = Session(exported["fo"], kernel="off").run(x)["y"]
    monkeypatch.setattr(session_module, "open_session", lambda *a, **k: pytest.fail("opened again"))
    where = RTX if device == "rtx" else CPU
    with pytest.warns(CudaGraphWarning, match=rf"is for device='cuda', .* is on {where}") as caught:
        got = [stream.step(x[:, t : t + 1]) for t in range(3)]
    assert len(caught) == 1 and caught[0].filename == __file__
    np.testing.assert_allclose(np.concatenate(got, 1), plain, rtol=0, atol=1e-6)


def test_graphs_need_our_kernel_on_the_gpu(exported, monkeypatch):
    session = Session(exported["fo"], kernel="off")
    monkeypatch.setattr(session, "placement", place("cuda", None))
    with pytest.raises(ModelError, match="not all done by our CUDA kernel"):
        session.capturing({"batch": 1, "time": 1})
