"""Engines on a GPU: built, run, streamed and captured by each TensorRT that is here.

Needs an NVIDIA GPU and torch with CUDA; skips with the reason without them, and for each TensorRT
package that is not installed or has no engine for the card.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for needed in ("onnxruntime", "onnxscript"):
    pytest.importorskip(needed)

from models import BUILDERS, OFFLINE, arguments, build  # noqa: E402

from qrnn_deploy.engines import build_engine  # noqa: E402
from qrnn_deploy.engines.backends import BACKENDS, Backend, is_installed  # noqa: E402
from qrnn_deploy.engines.gpu import find_cards  # noqa: E402
from qrnn_deploy.errors import EngineError, InputError, QrnnDeployError  # noqa: E402
from qrnn_deploy.exporter import export  # noqa: E402
from qrnn_deploy.runtime import EngineSession, Session, StreamingSession  # noqa: E402
from qrnn_deploy.runtime.engine_device import CudaDevice  # noqa: E402
from qrnn_deploy.verifier import verify  # noqa: E402

VARIANTS = {
    **{name: {} for name in BUILDERS},
    **{name: {"states": "none"} for name in OFFLINE},
    "fo ragged": {"lengths": True},
    "fo packed": {"states": "packed"},
    "ifo float16": {"dtype": "float16"},
    "fo bfloat16": {"dtype": "bfloat16"},
}
"""Name of a builder, after a blank what is special -> options of the export."""


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    cards = find_cards()
    if not cards.cards:
        pytest.skip(cards.obstacle)
    try:
        return CudaDevice()
    except QrnnDeployError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, device: CudaDevice) -> Backend:
    found = BACKENDS[request.param]
    if not is_installed(found):
        pytest.skip(f"{found.title} is not installed")
    return found


@pytest.fixture(scope="module")
def files(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A streaming model and its engine."""
    folder = tmp_path_factory.mktemp("engine")
    model, engine = folder / "m.onnx", folder / "m.engine"
    export(build("fo"), model)
    build_for_this_card(model, engine, backend)
    return model, engine


def build_for_this_card(model: Path, engine: Path, backend: Backend) -> None:
    """Skips where TensorRT for RTX does not know the card; anything else is a failure."""
    capability = find_cards().cards[0].capability
    try:
        arch = None if backend.needs_gpu else [capability]
        build_engine(model, engine, backend=backend.name, arch=arch)
    except EngineError as error:
        if f"got --arch {capability}:" in str(error):
            pytest.skip(str(error))
        raise


def sequence(batch: int, time: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((batch, time, 5)).astype(np.float32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_model_equals_pytorch(
    variant: str, backend: Backend, files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Whole, in chunks, as a stream with graphs, against PyTorch in float64."""
    module = build(variant.partition(" ")[0])
    export(module, tmp_path / "m.onnx", arguments(module), **VARIANTS[variant])
    args = arguments(module)
    report = verify(tmp_path / "m.onnx", module=module, args=args, only=[backend.name])
    assert report.passed, report.to_json()
    build_for_this_card(tmp_path / "m.onnx", tmp_path / "m.engine", backend)
    report = verify(tmp_path / "m.engine")
    assert report.passed and not report.missing, report.to_json()


def test_one_step_runs_as_a_graph(backend: Backend, files: tuple[Path, Path]) -> None:
    """The plugin form must be captured; of the function form TensorRT decides, and says so."""
    model, engine = files
    choice = "require" if backend.form == "plugin" else "auto"
    x = sequence(2, 60)
    wanted = Session(model, kernel="off").run(x)["y"]
    stream = StreamingSession(EngineSession(engine, cuda_graph=choice), 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = [stream.step(x[:, t : t + 1]) for t in range(20)]
        got += [stream.step(x[:, 20:33]), *(stream.step(x[:, t : t + 1]) for t in range(33, 60))]
    np.testing.assert_allclose(np.concatenate(got, 1), wanted, rtol=0, atol=1e-5)
    captured = all(stream._plans[2, 1, 5].graphs)
    assert captured != bool(caught), [str(item.message) for item in caught]


def test_tensors_stay_on_the_gpu(files: tuple[Path, Path]) -> None:
    model, engine = files
    x = sequence(3, 20)
    session = EngineSession(engine)
    arrays, tensors = StreamingSession(session, 3), StreamingSession(session, 3)
    for start, stop in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 11), (11, 20)):
        given = torch.from_numpy(x[:, start:stop]).cuda() * 1.0  # work that is still running
        got = tensors.step(given)
        given.zero_()  # what comes later must not reach the step
        assert got.device == given.device
        np.testing.assert_array_equal(got.cpu().numpy(), arrays.step(x[:, start:stop]))
    assert tensors.save_state() == arrays.save_state()
    whole = session.run(torch.from_numpy(x).cuda())["y"]
    assert whole.is_cuda
    wanted = Session(model, kernel="off").run(x)["y"]
    np.testing.assert_allclose(whole.cpu().numpy(), wanted, rtol=0, atol=1e-5)


def test_streams_continue_across_runtimes(files: tuple[Path, Path]) -> None:
    model, engine = files
    x = sequence(3, 30)
    here, there = StreamingSession(model, 3, kernel="off"), StreamingSession(engine, 3)
    here.step(x[:, :9])
    there.load_state(here.save_state())
    got = there.step(x[:, 9:10])
    np.testing.assert_allclose(got, here.step(x[:, 9:10]), rtol=0, atol=1e-5)
    here.load_state(there.save_state([2, 0]), rows=[0, 1])
    there.reset(1)
    got = there.step(x[[2, 1, 0], 10:])
    np.testing.assert_allclose(got[[2, 0]], here.step(x[[0, 2, 1], 10:])[:2], rtol=0, atol=1e-5)
    fresh = StreamingSession(model, 1, kernel="off").step(x[1:2, 10:])
    np.testing.assert_allclose(got[1:2], fresh, rtol=0, atol=1e-5)


def test_shapes_outside_the_profiles(files: tuple[Path, Path]) -> None:
    session = EngineSession(files[1])
    with pytest.raises(InputError, match="this engine takes 1 to"):
        session.run(sequence(1, 513))
    assert session.run(sequence(1, 512))["y"].shape == (1, 512, 6)
    assert session.run(sequence(1, 0))["y"].shape == (1, 0, 6)


def test_threads_have_streams_of_their_own(files: tuple[Path, Path]) -> None:
    """Streams of one session in several threads give what each gives alone."""
    from concurrent.futures import ThreadPoolExecutor

    session = EngineSession(files[1])
    x = sequence(4, 50)

    def alone(row: int) -> np.ndarray:
        stream = StreamingSession(session, 1)
        steps = [stream.step(x[row : row + 1, t : t + 1]) for t in range(50)]
        return np.concatenate(steps, 1)

    wanted = [alone(row) for row in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for got, right in zip(pool.map(alone, range(4)), wanted, strict=True):
            np.testing.assert_array_equal(got, right)
