"""``--backend tensorrt`` against a stand-in: the decisions are ours and tested, TensorRT is not."""

from __future__ import annotations

import _ctypes
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from fake_tensorrt_builder import Fake, Severity
from models import build, files_under

import qrnn_deploy
from qrnn_deploy.engines import backends, build_engine, native, read_manifest
from qrnn_deploy.engines import build as build_module
from qrnn_deploy.engines.backends import BACKENDS, choose_backend, load_backend
from qrnn_deploy.engines.gpu import Card, Cards
from qrnn_deploy.engines.model import Pool
from qrnn_deploy.engines.proof import check_engine
from qrnn_deploy.errors import EngineError, MissingDependencyError, ProofError

POOLS = {"layer_00_pool", "layer_01_pool"}
NO_CARDS = Cards((), "this machine has no NVIDIA driver")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    qrnn_deploy.export(build("fo"), path, golden=False)
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Install a TensorRT of the given version, a card and a plugin library."""
    library = tmp_path / "lib" / "libqrnn_deploy_tensorrt.so"
    library.parent.mkdir()
    library.write_bytes(b"a library")
    monkeypatch.setenv("QRNN_DEPLOY_TENSORRT_LIBRARY", str(library))
    cards = Cards((Card("A card", "sm90"),))
    for module in (backends, build_module):
        monkeypatch.setattr(module, "find_cards", lambda: cards)

    def install(version: str = "10.14.1.48") -> Fake:
        module = Fake(version)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr(backends, "is_installed", lambda backend: True)
        return module

    return install


def engine(folder: Path) -> Path:
    (folder / "out").mkdir(exist_ok=True)
    return folder / "out" / "m.engine"


def refused(small: Path, tmp_path: Path, **options) -> str:
    """The error of a build that leaves nothing behind."""
    target = engine(tmp_path)
    with pytest.raises(EngineError) as error:
        build_engine(small, target, backend="tensorrt", **options)
    assert files_under(target.parent) == []
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("version", "flags"), [("10.0.0.6", 0b10), ("10.14.1.48", 0b10), ("11.4.0.106", 0)]
)
def test_both_majors_are_strongly_typed(version, flags, fake, small, tmp_path):
    """11 has nothing else, and 10's flag is looked up by name: its value moved."""
    trt = fake(version)
    report = build_engine(small, engine(tmp_path), backend="tensorrt")
    assert trt.network_flags == flags
    assert report.manifest.tensorrt_version == version


def test_plugin_engine_and_its_manifest(fake, small, tmp_path):
    trt = fake()
    report = build_engine(small, engine(tmp_path), workspace=1 << 20, refit=True)
    assert report.backend_reason == "TensorRT is installed and there is A card"
    manifest = read_manifest(engine(tmp_path))
    assert (manifest.backend, manifest.form) == ("tensorrt", "plugin")
    assert manifest.proof == ["network", "engine"]
    assert manifest.architectures == ["sm90"]
    (library,) = manifest.libraries
    assert library.name == "libqrnn_deploy_tensorrt.so" and not library.embedded
    assert library.sha256 == hashlib.sha256(b"a library").hexdigest()
    assert trt.loaded == [str(tmp_path / "lib" / library.name)]
    assert trt.config.set_flags == ["REFIT"] and manifest.refit
    assert trt.config.pools == {"WORKSPACE": 1 << 20}
    assert trt.config.profiling_verbosity.name == "DETAILED"
    assert [profile.shapes["x"] for profile in trt.config.profiles] == [
        ((1, 1, 5), (8, 64, 5), (32, 512, 5)),
        ((1, 1, 5), (8, 1, 5), (32, 1, 5)),
    ]


def test_functions_are_stripped_and_the_plugin_attributes_stay(fake, small, tmp_path):
    trt = fake()
    build_engine(small, engine(tmp_path), backend="tensorrt")
    assert not trt.parsed.functions
    nodes = [node for node in trt.parsed.graph.node if node.domain]
    assert {node.name for node in nodes} == POOLS
    for node in nodes:
        attributes = {item.name: item.s for item in node.attribute}
        assert attributes["plugin_namespace"] == b"qrnn_deploy"
        assert attributes["plugin_version"] == b"1"


def test_parser_that_takes_the_function_is_found_out(fake, small, tmp_path, monkeypatch):
    """What happens without the stripping: TensorRT says nothing, the proof does."""
    fake()
    monkeypatch.setattr(
        native, "prepared_bytes", lambda source, form: source.model.SerializeToString()
    )
    message = refused(small, tmp_path)
    assert "made a plugin layer for 0 of 2 pooling nodes, not for 'layer_00_pool'" in message
    assert "as its network says" in message


def test_engine_without_the_plugin_layer_is_found_out(fake, small, tmp_path):
    fake().optimised_away = {"layer_01_pool"}
    message = refused(small, tmp_path)
    assert "holds a plugin layer for 1 of 2 pooling nodes, not for 'layer_01_pool'" in message
    assert "as its engine says" in message


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"Layers": ["names", "only"]}', "{}"])
def test_inspector_that_shows_nothing_proves_nothing(text, fake, small, tmp_path):
    fake().inspects = text
    assert "0 of 2 pooling nodes" in (message := refused(small, tmp_path)) or (
        "nothing was proven" in message
    )


def test_version_compatible_engine_carries_the_plugin(fake, small, tmp_path):
    trt = fake()
    build_engine(small, engine(tmp_path), backend="tensorrt", version_compatible=True)
    manifest = read_manifest(engine(tmp_path))
    assert trt.config.set_flags == ["VERSION_COMPATIBLE"]
    assert trt.config.plugins_to_serialize == trt.loaded
    assert manifest.version_compatible and manifest.libraries[0].embedded
    assert trt.runtime is not None and trt.runtime.engine_host_code_allowed


def test_timing_cache_is_read_and_written(fake, small, tmp_path):
    fake()
    cache = tmp_path / "cache"
    for _ in range(2):
        build_engine(small, engine(tmp_path), backend="tensorrt", timing_cache=cache)
        assert cache.read_bytes() == b"cache of "


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x" * 99, "is damaged, or of another version of TensorRT: remove it"),
        (b"cache of another card", "is of another card"),
        (b"", "is empty: remove it"),
    ],
)
def test_timing_cache_that_cannot_be_used_is_left_alone(data, expected, fake, small, tmp_path):
    fake()
    cache = tmp_path / "cache"
    cache.write_bytes(data)
    assert expected in refused(small, tmp_path, timing_cache=cache)
    assert cache.read_bytes() == data


def test_timing_cache_that_could_not_be_written(fake, small, tmp_path):
    fake()
    target = engine(tmp_path)
    for name in (target, target.with_name("m.engine.json")):
        assert "has the name of an output" in refused(small, tmp_path, timing_cache=name)
    for name in (tmp_path, tmp_path / "none" / "cache"):
        assert "is a folder or in none" in refused(small, tmp_path, timing_cache=name)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"starts": False}, "does not start: CUDA initialization failure with error: 35"),
        ({"loads": False}, "TensorRT cannot load"),
        ({"creators": ["QRNNPoolF"]}, "brings no plugin for QRNNPoolFO, QRNNPoolIF"),
        ({"opens": False}, "cannot open the engine that it has built: Error Code 6: cannot open"),
        ({"refuses_profiles": True}, "does not take the profile 'sequence'"),
        (
            {"says": [(Severity.ERROR, "first\ncause"), (Severity.ERROR, "then this")]},
            "cannot build the engine: first cause",
        ),
        (
            {"says": [(Severity.WARNING, "Profile kMAX values are not self-consistent. x: big")]},
            "cannot run all sizes from --min to --max: Profile kMAX values",
        ),
    ],
)
def test_failures_of_tensorrt_are_one_line(fault, expected, fake, small, tmp_path):
    trt = fake()
    for name, value in fault.items():
        setattr(trt, name, value)
    assert expected in refused(small, tmp_path)


def test_warnings_are_collected_without_the_known_harmless(fake, small, tmp_path):
    trt = fake()
    trt.says = [
        (Severity.WARNING, "A node named pool already exists, the output tensors ..."),
        (Severity.WARNING, "Something  to\nknow In build at /_src/a.cpp:12"),
        (Severity.WARNING, "Something to know"),
        (Severity.VERBOSE, "chatter"),
    ]
    report = build_engine(small, engine(tmp_path), backend="tensorrt")
    assert report.warnings == ["Something to know"]


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0"])
def test_old_tensorrt_is_refused(version, fake, small, tmp_path):
    fake(version)
    assert f"TensorRT {version} is installed: expected 10.0 or later" in refused(small, tmp_path)


def test_options_of_the_other_backend_and_missing_library(fake, small, tmp_path, monkeypatch):
    fake()
    assert "--arch is for --backend tensorrt-rtx" in refused(small, tmp_path, arch=["sm86"])
    monkeypatch.setenv("QRNN_DEPLOY_TENSORRT_LIBRARY", str(tmp_path / "none.so"))
    assert "none.so is not a file" in refused(small, tmp_path)


def test_package_that_is_there_and_does_not_load(small, tmp_path, fake, monkeypatch):
    fake()
    monkeypatch.delitem(sys.modules, "tensorrt")
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open')")
    monkeypatch.syspath_prepend(str(tmp_path))
    message = refused(small, tmp_path)
    assert "tensorrt is installed but does not load (libnvinfer.so.10: cannot open)" in message


@pytest.mark.parametrize(
    ("installed", "cards", "expected", "reason"),
    [
        ({"tensorrt", "tensorrt-rtx"}, True, "tensorrt", "there is A card"),
        ({"tensorrt", "tensorrt-rtx"}, False, "tensorrt-rtx", "it needs no GPU, and this machine"),
        ({"tensorrt"}, False, "tensorrt", "the only one installed"),
        ({"tensorrt-rtx"}, True, "tensorrt-rtx", "the only one installed"),
    ],
)
def test_backend_that_is_used_unless_one_is_named(installed, cards, expected, reason, monkeypatch):
    monkeypatch.setattr(backends, "is_installed", lambda backend: backend.name in installed)
    some = Cards((Card("A card", "sm90"),))
    monkeypatch.setattr(backends, "find_cards", lambda: some if cards else NO_CARDS)
    choice = choose_backend(None)
    assert choice.backend.name == expected and reason in choice.reason


def test_no_tensorrt_at_all_names_what_to_install(monkeypatch):
    monkeypatch.setattr(backends, "is_installed", lambda backend: False)
    with pytest.raises(MissingDependencyError, match=r"tensorrt-rtx-cu13-libs>.*'tensorrt>="):
        choose_backend(None)
    with pytest.raises(EngineError, match="got backend 'trt': expected tensorrt or tensorrt-rtx"):
        choose_backend("trt")


def test_plugin_library_that_the_caller_has_loaded(fake, small, tmp_path, monkeypatch):
    """TensorRT takes no creators twice, so that loading ours once more would fail."""
    trt = fake()
    ours = Path(_ctypes.__file__).resolve()  # any library that this process has loaded
    monkeypatch.setenv("QRNN_DEPLOY_TENSORRT_LIBRARY", str(ours))
    trt.get_plugin_registry().load_library(str(ours))
    report = build_engine(small, engine(tmp_path), backend="tensorrt")
    assert trt.loaded == [str(ours)]
    assert report.manifest.libraries[0].sha256 == hashlib.sha256(ours.read_bytes()).hexdigest()


def test_other_plugin_library_that_the_caller_has_loaded(fake, small, tmp_path):
    trt = fake()
    trt.get_plugin_registry().load_library("another.so")
    message = refused(small, tmp_path)
    assert "registered in this process already, and not by" in message
    assert trt.loaded == ["another.so"]


@pytest.mark.parametrize("size", [-1, 0, 2**48 + 1, 2**64, True, 1.5, "1GiB"])
def test_workspace_out_of_range(size, fake, small, tmp_path):
    fake()
    assert "expected 1 to 281474976710656 bytes" in refused(small, tmp_path, workspace=size)


@pytest.mark.parametrize("name", ["", ".", "/", ".."])
def test_output_that_has_no_name(name, fake, small):
    fake()
    with pytest.raises(EngineError, match="is a folder: expected a name such as"):
        build_engine(small, name, backend="tensorrt")


def test_timing_cache_that_is_a_pipe(fake, small, tmp_path):
    fake()
    os.mkfifo(tmp_path / "cache")
    assert "is not a regular file" in refused(small, tmp_path, timing_cache=tmp_path / "cache")


def test_terminated_while_the_module_starts(tmp_path, monkeypatch):
    """What the handler raises in there would come out as a module that does not load."""
    (tmp_path / "tensorrt.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.05)\n"
        "except BaseException:\n"
        "    raise ImportError('initialization failed')\n"
        "__version__ = '10.14.1.48'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)

    def stop(signum, frame):
        sys.exit(128 + signum)

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(SystemExit) as exit:
            load_backend(BACKENDS["tensorrt"])
        assert exit.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, earlier)
        sys.modules.pop("tensorrt", None)


NODES = (Pool("a/layer_00_pool", "QRNNPoolFO"), Pool("layer_01_pool", "QRNNPoolIFO"))
FIRST = {"Name": "a/layer_00_pool", "LayerType": "PluginV3", "PluginType": "QRNNPoolFO"}
SECOND = {"Name": "layer_01_pool", "LayerType": "PluginV3"}
OTHER = {"Name": "Reformat to layer_01_pool", "LayerType": "Reformat"}


def check(form: str, *layers: object) -> None:
    check_engine(json.dumps({"Layers": layers}), NODES, form, "it")


def test_engine_with_one_plugin_layer_for_each_node_and_profile():
    check("plugin", FIRST, OTHER, SECOND)
    again = [item | {"Name": f"{item['Name']} [profile 1]"} for item in (FIRST, SECOND)]
    check("plugin", FIRST, SECOND, *again)
    check("function", OTHER)


@pytest.mark.parametrize(
    "layers",
    [
        [FIRST],
        [FIRST, SECOND, SECOND],
        [FIRST, SECOND | {"Name": "layer_01_pool.copy"}],
        [SECOND | {"Name": "a/layer_00_pool + layer_01_pool"}],
        [FIRST | {"Name": "layer_00_pool"}, SECOND],
        [FIRST | {"PluginType": "QRNNPoolIFO"}, SECOND],
        [FIRST | {"PluginNamespace": ""}, SECOND],
        [FIRST, SECOND, FIRST | {"Name": "a/layer_00_pool [profile 1]"}],
        [FIRST, OTHER | {"Name": "layer_01_pool"}],
    ],
)
def test_engine_with_other_plugin_layers_proves_nothing(layers):
    with pytest.raises(ProofError, match=r"holds a plugin layer for . of 2 pooling nodes"):
        check("plugin", *layers)


@pytest.mark.parametrize("form", ["plugin", "function"])
@pytest.mark.parametrize("layers", [[], ["a", "b"], [OTHER, {"Name": "b"}], [{"LayerType": 3}]])
def test_engine_whose_layers_are_not_shown_proves_nothing(form, layers):
    with pytest.raises(ProofError, match="nothing was proven"):
        check(form, *layers)


def test_function_form_with_any_plugin_is_refused():
    """A fused layer of another name may hold ours."""
    with pytest.raises(ProofError, match="holds a plugin, 'fused', where the function was wanted"):
        check("function", OTHER, {"Name": "fused", "LayerType": "PluginV3"})


def test_engine_that_cannot_be_opened_again_is_a_failed_proof(fake, small, tmp_path):
    fake().opens = False
    with pytest.raises(ProofError, match="cannot open the engine that it has built"):
        build_engine(small, engine(tmp_path), backend="tensorrt")
