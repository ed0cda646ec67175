"""ONNX Runtime's CUDA provider with our kernels, end to end. Skips with the reason without one.

Needs onnxruntime-gpu, a kernel library built where a CUDA compiler was, and an NVIDIA GPU.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
for needed in ("ml_dtypes", "onnxscript"):
    pytest.importorskip(needed)

import cases  # noqa: E402
import gpu_reference  # noqa: E402
from models import BUILDERS, OFFLINE, arguments, build  # noqa: E402
from test_kernel import NUMPY, make_model  # noqa: E402

from qrnn_deploy.errors import QrnnDeployError  # noqa: E402
from qrnn_deploy.exporter import export  # noqa: E402
from qrnn_deploy.runtime import CudaGraphWarning, Session, StreamingSession  # noqa: E402
from qrnn_deploy.runtime.library import KernelLibrary, load_library  # noqa: E402
from qrnn_deploy.runtime.providers import check_available, place, use  # noqa: E402

STEPS = 40
CHUNKINGS = ([STEPS], [1] * STEPS, [7, 1, 1, 12, 19])


def missing() -> str | None:
    """Why nothing here can run, or None."""
    library = load_library()
    if library is None or library.cuda is None:
        return "the kernel library is not built with CUDA kernels here"
    try:
        check_available(place("cuda", None))
    except QrnnDeployError as error:
        return str(error)
    return None


reason = missing()
if reason is not None:
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="module")
def library() -> KernelLibrary:
    held = load_library()
    assert held is not None
    return held


@pytest.fixture(scope="module")
def exported(library: KernelLibrary, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cuda")
    paths = {}
    for name in (*BUILDERS, *OFFLINE):
        module = build(name)
        paths[name] = folder / f"{name}.onnx"
        options: dict[str, Any] = {"states": "none"} if name in OFFLINE else {}
        export(module, paths[name], arguments(module), golden=False, **options)
    for name, options in (("packed", {"states": "packed"}), ("ragged", {"lengths": True})):
        paths[name] = folder / f"{name}.onnx"
        export(build("fo"), paths[name], golden=False, **options)
    paths["float16"] = folder / "float16.onnx"
    export(build("fo"), paths["float16"], golden=False, dtype="float16")
    return paths


def sequence(session: Session, batch: int = 3, time: int = STEPS, seed: int = 0) -> np.ndarray:
    port = session.metadata.inputs[0]
    rng = np.random.default_rng(seed)
    if port.dtype == "int64":
        return rng.integers(0, 11, (batch, time))
    return rng.standard_normal((batch, time, port.shape[-1])).astype(port.dtype)


def check_close(got: np.ndarray, expected: np.ndarray) -> None:
    allowed = 4e-3 if expected.dtype == np.float16 else 5e-6
    size = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(
        got.astype(float), expected.astype(float), rtol=0, atol=allowed * size
    )


# ------------------------------------------------------------------------------- the kernels alone


def cuda_session(library: KernelLibrary, model: Any) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(library.path))
    options.log_severity_level = 4
    providers = use(place("cuda", None), options)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=providers)
    assert "CUDAExecutionProvider" in session.get_providers()
    return session


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("case", cases.POOL_CASES, ids=str)
def test_kernel_agrees_with_the_oracle(
    library: KernelLibrary, case: cases.PoolCase, dtype: str
) -> None:
    gates, c0, lengths = case.inputs(NUMPY[dtype])
    library.drain_created()
    session = cuda_session(library, make_model(case.pooling, dtype, **case.attributes()))
    assert library.drain_created() == {"the_node": "cuda"}
    feed = {"gates": gates.astype(np.float32), "c0": c0, "lengths": lengths}
    h, c_T = session.run(["h", "c_T"], feed)
    h_expected, c_expected = case.expected(gates, c0, lengths)
    h_allowed, c_allowed = gpu_reference.allowed(
        case, dtype, gates, c0, lengths, h_expected, c_expected
    )
    assert np.all(np.abs(c_T - c_expected) <= c_allowed)
    assert np.all(np.abs(h - h_expected) <= h_allowed)


def test_lengths_outside_are_clamped(library: KernelLibrary) -> None:
    """On the CPU they are an error; to check them here would be to wait for the GPU."""
    case = cases.PoolCase("fo", T=6, B=4, H=33)
    gates, c0, _ = case.inputs(np.float32)
    session = cuda_session(library, make_model("fo"))
    run = lambda lengths: session.run(  # noqa: E731
        ["h", "c_T"], {"gates": gates, "c0": c0, "lengths": np.array(lengths, np.int64)}
    )
    wild, tame = run([-3, 7, 2**62, -(2**63)]), run([0, 6, 6, 0])
    for got, expected in zip(wild, tame, strict=True):
        np.testing.assert_array_equal(got, expected)


# ---------------------------------------------------------------------------------- whole sessions


@pytest.mark.parametrize("name", [*BUILDERS, *OFFLINE, "packed", "float16"])
def test_session_agrees_with_the_cpu(exported: dict[str, Path], name: str) -> None:
    cpu = Session(exported[name], kernel="require")
    cuda = Session(exported[name], kernel="require", device="cuda")
    assert set(cuda.implementation.values()) == {"kernel"}
    assert set(cuda.kernel_devices.values()) == {"cuda"}
    assert set(cpu.kernel_devices.values()) == {"cpu"}
    x = sequence(cpu)
    expected = cpu.run(x)
    for output, value in cuda.run(x).items():
        check_close(value, expected[output])


def test_function_body_runs_too(exported: dict[str, Path]) -> None:
    cpu = Session(exported["fo"], kernel="off")
    cuda = Session(exported["fo"], kernel="off", device="cuda")
    assert set(cuda.implementation.values()) == {"function"}
    assert cuda.kernel_devices == {}
    x = sequence(cpu)
    check_close(cuda.run(x)["y"], cpu.run(x)["y"])


@pytest.mark.parametrize("name", ["fo", "packed", "ragged", "lm", "headed", "float16"])
def test_any_cut_gives_the_whole(exported: dict[str, Path], name: str) -> None:
    session = Session(exported[name], kernel="require", device="cuda")
    x = sequence(session)
    whole = session.run(x)[session.metadata.outputs[0].name]
    stream = StreamingSession(session, 3)
    for chunks in CHUNKINGS:
        stream.reset()
        start, parts = 0, []
        for size in chunks:
            parts.append(stream.step(x[:, start : start + size]))
            start += size
        check_close(np.concatenate(parts, 1), whole)


def test_states_are_read_and_written_row_by_row(exported: dict[str, Path]) -> None:
    x = sequence(Session(exported["fo"], kernel="require"), 3, 20)
    on_gpu = StreamingSession(exported["fo"], 3, kernel="require", device="cuda")
    on_cpu = StreamingSession(exported["fo"], 3, kernel="require")
    on_gpu.step(x[:, :10])
    saved = on_gpu.save_state()
    on_cpu.load_state(saved)
    expected = on_gpu.step(x[:, 10:])
    check_close(on_cpu.step(x[:, 10:]), expected)
    on_gpu.load_state(saved)
    on_gpu.reset(rows=1)
    again = on_gpu.step(x[:, 10:])
    np.testing.assert_array_equal(again[[0, 2]], expected[[0, 2]])
    assert not np.array_equal(again[1], expected[1])


def test_zero_rows_and_zero_steps(exported: dict[str, Path]) -> None:
    session = Session(exported["fo"], kernel="require", device="cuda")
    assert StreamingSession(session, 2).step(sequence(session, 2, 0)).shape == (2, 0, 6)
    assert session.run(sequence(session, 0, 4))["y"].shape == (0, 4, 6)


# ------------------------------------------------------------------------------------- CUDA graphs


@pytest.mark.parametrize("name", ["fo", "f", "ifo", "packed", "ragged", "lm", "headed", "float16"])
def test_captured_steps_are_the_steps(exported: dict[str, Path], name: str) -> None:
    """Replayed steps mixed with chunks that are not, a reset and a loaded state among them."""
    session = Session(exported[name], kernel="require", device="cuda", cuda_graph="require")
    plain = Session(exported[name], kernel="require", device="cuda")
    captured, eager = StreamingSession(session, 3), StreamingSession(plain, 3)
    x = sequence(plain, time=200)
    at = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", CudaGraphWarning)
        for size in [1] * 9 + [7] + [1] * 24 + [3, 1, 1, 64] + [1] * 11:
            chunk = x[:, at : at + size]
            check_close(captured.step(chunk), eager.step(chunk))
            at += size
            if at == 30:
                captured.reset(rows=[1])
                eager.reset(rows=[1])
            if at == 40:
                state = eager.save_state()
                captured.load_state(state)
    assert at > 100


def test_streams_have_graphs_of_their_own(exported: dict[str, Path]) -> None:
    session = Session(exported["fo"], kernel="require", device="cuda", cuda_graph="require")
    first, second = StreamingSession(session, 2), StreamingSession(session, 2)
    plain = StreamingSession(Session(exported["fo"], kernel="require", device="cuda"), 2)
    x, other = sequence(session, 2, seed=1), sequence(session, 2, seed=2)
    expected = [plain.step(x[:, t : t + 1]) for t in range(STEPS)]
    for t in range(STEPS):
        check_close(first.step(x[:, t : t + 1]), expected[t])
        second.step(other[:, t : t + 1])


def test_function_body_takes_no_graph(exported: dict[str, Path]) -> None:
    """Scan is a loop that ONNX Runtime does not capture; the stream goes on without."""
    session = Session(exported["fo"], kernel="off", device="cuda", cuda_graph="auto")
    stream = StreamingSession(session, 2)
    x = sequence(session, 2, 4)
    with pytest.warns(CudaGraphWarning, match="no CUDA graph"):
        first = stream.step(x[:, :1])
    check_close(first, StreamingSession(exported["fo"], 2, kernel="off").step(x[:, :1]))
