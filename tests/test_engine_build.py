"""Engines of TensorRT for RTX, really built: it needs no GPU for that, only to open them."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import onnx
import pytest
import torch
from models import FrontedModel, build, files_under
from needs import tensorrt_rtx
from onnx import TensorProto, helper

import qrnn_deploy
from qrnn_deploy.cli import main
from qrnn_deploy.engines import build_engine, describe, native, read_manifest
from qrnn_deploy.engines.backends import BACKENDS
from qrnn_deploy.engines.gpu import find_cards
from qrnn_deploy.engines.manifest import manifest_path
from qrnn_deploy.engines.model import read_source
from qrnn_deploy.engines.plugin import find_plugin
from qrnn_deploy.engines.proof import check_network
from qrnn_deploy.engines.watch import log_reader
from qrnn_deploy.errors import EngineError, ModelError, QrnnDeployError

try:
    import tensorrt_rtx_bindings as rtx
except ImportError:  # the fixture below says so, test by test
    rtx = None

CHARLM = Path(__file__).parent.parent / "examples" / "charlm" / "model.safetensors"
ARCHITECTURES = ("sm80", "sm86", "sm89", "sm120")
RTX = "tensorrt-rtx"


@pytest.fixture(scope="module", autouse=True)
def needs_rtx() -> None:
    tensorrt_rtx()


@pytest.fixture(scope="module")
def charlm(tmp_path_factory) -> Path:
    """The trained character model, exported with golden vectors."""
    from qrnn_deploy.exporter import export_checkpoint

    path = tmp_path_factory.mktemp("charlm") / "charlm.onnx"
    export_checkpoint(CHARLM, path)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """Two small layers that stream."""
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    qrnn_deploy.export(build("fo"), path, golden=False)
    return path


def open_engine(path: Path):
    """The engine in a Runtime, or None where only a driver is missing, with the log's errors."""
    reader = log_reader(rtx)
    engine = rtx.Runtime(reader.tensorrt_logger).deserialize_cuda_engine(path.read_bytes())
    return engine, reader.notes.errors


def check_opened(path: Path) -> None:
    """Compare the engine's own inputs, outputs and profiles with the manifest.

    Without a driver TensorRT for RTX reads the header and stops where it wants a CUDA stream; that
    it comes so far, and that a damaged header does not, is what can be tested then.
    """
    manifest = read_manifest(path)
    engine, errors = open_engine(path)
    if engine is None:
        cards = find_cards().cards
        if cards and cards[0].capability in manifest.architectures:
            pytest.fail(f"not opened: {errors}")
        if not cards:
            assert "Cuda Runtime" in errors[0] and "Serialization" not in errors[0]
        return
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert names == [port.name for port in (*manifest.inputs, *manifest.outputs)]
    assert engine.num_optimization_profiles == len(manifest.profiles)
    for index, profile in enumerate(manifest.profiles):
        for name, sizes in profile.inputs.items():
            bounds = engine.get_tensor_profile_shape(name, index)
            assert [tuple(bound) for bound in bounds] == [sizes.min, sizes.opt, sizes.max]


def error_of(*arguments: str, capfd) -> str:
    """The one line of a command that is refused."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    out, err = capfd.readouterr()
    assert stop.value.code == 2, err
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1, err
    return err


def test_trained_model_for_four_architectures_in_one_engine(charlm, tmp_path):
    target = tmp_path / "charlm.engine"
    report = build_engine(charlm, target, backend=RTX)
    assert files_under(tmp_path) == ["charlm.engine", "charlm.engine.json"]
    manifest = read_manifest(target)
    assert manifest == report.manifest
    assert manifest.architectures == list(ARCHITECTURES)
    assert (manifest.backend, manifest.form) == (RTX, "function")
    assert manifest.tensorrt_version == rtx.__version__
    assert manifest.precision == "float32" and manifest.libraries == []
    assert manifest.engine_sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert manifest.model == {"charlm.onnx": hashlib.sha256(charlm.read_bytes()).hexdigest()}
    assert manifest.golden == "charlm.golden" and "network" in manifest.proof
    assert [layer.node for layer in manifest.metadata.layers] == [
        f"layer_{index:02}_pool" for index in range(3)
    ]
    assert [port.name for port in manifest.inputs] == manifest.metadata.input_names()
    assert [port.name for port in manifest.outputs] == manifest.metadata.output_names()
    assert [profile.name for profile in manifest.profiles] == ["sequence", "step"]
    sequence, step = (profile.inputs for profile in manifest.profiles)
    assert sequence["tokens"].min == (1, 1) and sequence["tokens"].max == (32, 512)
    assert sequence["state_02_x_in"].opt == (8, 1, 320)
    assert (step["tokens"].min, step["tokens"].max) == ((1, 1), (32, 1))
    assert step["state_00_c_in"] == sequence["state_00_c_in"]
    check_opened(target)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_one_architecture(arch, charlm, tmp_path):
    target = tmp_path / "one.engine"
    build_engine(charlm, target, backend=RTX, arch=[arch], maximum={"T": 16})
    manifest = read_manifest(target)
    assert manifest.architectures == [arch]
    check_opened(target)


def test_damaged_engine_is_told_from_one_that_only_lacks_a_driver(small, tmp_path):
    target = tmp_path / "small.engine"
    build_engine(small, target, backend=RTX, arch=["sm86"])
    data = target.read_bytes()
    for damaged in (b"x" * 1000, data[:1000]):
        target.write_bytes(damaged)
        engine, errors = open_engine(target)
        assert engine is None and "Serialization" in errors[0]
    validity, reasons = rtx.Runtime(log_reader(rtx).tensorrt_logger).get_engine_validity(data)
    malformed = 1 << int(rtx.EngineInvalidityDiagnostics.MALFORMED_ENGINE)
    assert not int(reasons) & malformed
    version = 1 << int(rtx.EngineInvalidityDiagnostics.VERSION_MISMATCH)
    assert not int(reasons) & version
    assert validity == rtx.EngineValidity.INVALID or find_cards().cards


def test_bidirectional_offline_model(tmp_path):
    source, target = tmp_path / "both.onnx", tmp_path / "both.engine"
    qrnn_deploy.export(build("bidirectional"), source, states="none", lengths=True, golden=False)
    manifest = build_engine(source, target, backend=RTX, arch=["sm86", "sm120"]).manifest
    assert [layer.direction for layer in manifest.metadata.layers] == [1, -1, 1, -1]
    assert [profile.name for profile in manifest.profiles] == ["sequence"]
    assert manifest.profiles[0].inputs["lengths"].max == (32,)
    assert manifest.golden is None
    check_opened(target)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types(dtype, tmp_path):
    source, target = tmp_path / "narrow.onnx", tmp_path / "narrow.engine"
    qrnn_deploy.export(build("lm"), source, dtype=dtype, golden=False)
    manifest = build_engine(source, target, backend=RTX, arch=["sm89"]).manifest
    assert manifest.precision == dtype
    assert {port.dtype for port in manifest.inputs if "_c_" in port.name} == {"float32"}
    assert {port.dtype for port in manifest.inputs if "_x_" in port.name} == {dtype}
    check_opened(target)


def test_packed_state_and_weights_in_another_file(tmp_path):
    source, target = tmp_path / "big.onnx", tmp_path / "big.engine"
    qrnn_deploy.export(
        build("ifo"), source, states="packed", lengths=True, external_data=True, golden=False
    )
    manifest = build_engine(source, target, backend=RTX, arch=["sm86"]).manifest
    data = tmp_path / "big.onnx.data"
    assert manifest.model["big.onnx.data"] == hashlib.sha256(data.read_bytes()).hexdigest()
    columns = manifest.metadata.packed_size
    assert manifest.profiles[0].inputs["state_in"].opt == (8, columns)
    data.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"big\.onnx\.data is missing"):
        build_engine(source, tmp_path / "again.engine", backend=RTX)


def test_fixed_sizes_of_the_model_stay(small, tmp_path):
    model = onnx.load(str(small))
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == "batch":
                dimension.dim_value = 4
    source, target = tmp_path / "fixed.onnx", tmp_path / "fixed.engine"
    onnx.save(model, str(source))
    manifest = build_engine(source, target, backend=RTX, arch=["sm86"], maximum={"T": 32}).manifest
    assert manifest == read_manifest(target)
    assert manifest.inputs[0].shape == [4, "time", 5]
    assert list(manifest.profiles[0].inputs) == ["x"]  # nothing else varies
    assert manifest.profiles[0].inputs["x"].max == (4, 32, 5)
    with pytest.raises(EngineError, match="got --max B: this model has it fixed at 4"):
        build_engine(source, target, backend=RTX, maximum={"B": 8})


def test_inputs_with_a_time_of_their_own(tmp_path):
    torch.manual_seed(0)
    source, target = tmp_path / "two.onnx", tmp_path / "two.engine"
    qrnn_deploy.export(
        FrontedFree().eval(),
        source,
        (torch.randn(2, 9, 4), torch.randn(2, 6, 3)),
        states="none",
        golden=False,
        input_names=["audio", "control"],
    )
    manifest = build_engine(
        source, target, backend=RTX, arch=["sm86"], maximum={"T": 64, "time_control": 16}
    ).manifest
    assert manifest.profiles[0].inputs["audio"].max == (32, 64, 4)
    assert manifest.profiles[0].inputs["control"].max == (32, 16, 3)


class FrontedFree(FrontedModel):
    """Its two inputs may differ in length: they do not meet."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, audio, control):
        x = self.conv(audio.transpose(1, 2)).transpose(1, 2)
        y, _ = self.first(x)
        z, _ = self.second(control)
        return {"score": z, "hidden": y}


def parsed(model: onnx.ModelProto):
    """The network that the parser makes of a model as it is."""
    logger = log_reader(rtx).tensorrt_logger
    builder = rtx.Builder(logger)
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString())
    return builder, parser, network


def test_proof_counts_the_loops_of_the_nodes_by_name(small):
    pools = read_source(small).pools
    *_kept, network = parsed(onnx.load(str(small)))
    check_network(network, rtx, pools, "function", "it")
    with pytest.raises(EngineError, match="made a plugin layer for 0 of 2 pooling nodes"):
        check_network(network, rtx, pools, "plugin", "it")


def test_proof_fails_for_a_node_that_became_something_else(small):
    """A function of the same name that holds no loop: the parser takes it without a word."""
    pools = read_source(small).pools
    model = onnx.load(str(small))
    function = model.functions[0]
    del function.node[:]
    constant = helper.make_tensor("at", TensorProto.INT64, [1], [0])
    function.node.extend(
        [
            helper.make_node("Constant", [], ["parts"], value_int=0),
            helper.make_node("Split", ["gates"], ["h", "b", "c"], axis=-1, num_outputs=3),
            helper.make_node("Constant", [], ["where"], value=constant),
            helper.make_node("Identity", ["c0"], ["c_T"]),
        ]
    )
    *_kept, network = parsed(model)
    with pytest.raises(EngineError, match=r"for 0 of 2 pooling nodes.*nothing was written"):
        check_network(network, rtx, pools, "function", "it")


def test_a_plugin_library_in_the_process_does_not_change_the_function_form(small, tmp_path):
    """TensorRT for RTX would abort if its parser tried to add the plugin."""
    try:
        find_plugin()
    except EngineError as error:
        pytest.skip(str(error))
    program = (
        "import sys, tensorrt_rtx_bindings as rtx, qrnn_deploy.engines as e\n"
        "from qrnn_deploy.engines import plugin, watch\n"
        "watch.log_reader(rtx)\n"
        "assert rtx.get_plugin_registry().load_library(str(plugin.find_plugin()))\n"
        "plugin.register_plugin(rtx, plugin.find_plugin())\n"
        "plugin.register_plugin(rtx, plugin.find_plugin())\n"
        "print(e.build_engine(sys.argv[1], sys.argv[2], arch=['sm86']).manifest.form)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(small), str(tmp_path / "m.engine")],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "function\n"), done.stderr[-2000:]


def test_interrupt_cancels_and_leaves_nothing(small, tmp_path):
    phases = []
    arrived = threading.Event()

    def interrupt(share: float, phase: str) -> None:
        if not phases:
            os.kill(os.getpid(), signal.SIGINT)
            assert arrived.wait(30)
            time.sleep(0.2)  # from the signal's arrival to the request to cancel
        phases.append(phase)

    def handler(number: int, frame: object) -> None:
        arrived.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(small, tmp_path / "m.engine", backend=RTX, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert files_under(tmp_path) == []
    assert not [t for t in threading.enumerate() if t.name == "qrnn-deploy-build"]
    assert len(phases) < 20  # of some hundred: it did not run to the end
    assert build_engine(small, tmp_path / "m.engine", backend=RTX, arch=["sm86"]).warnings == []


def test_failure_in_the_callers_progress_reaches_the_caller(small, tmp_path):
    def broken(share: float, phase: str) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        build_engine(small, tmp_path / "m.engine", backend=RTX, progress=broken)
    assert files_under(tmp_path) == []


def test_progress_grows_from_nothing_to_the_whole(small, tmp_path):
    shares = []
    build_engine(
        small, tmp_path / "m.engine", backend=RTX, progress=lambda share, _: shares.append(share)
    )
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert len(set(shares)) > 20


def test_an_earlier_engine_is_replaced_and_anything_else_is_not(small, tmp_path):
    target = tmp_path / "m.engine"
    build_engine(small, target, backend=RTX, arch=["sm86"])
    first = read_manifest(target)
    build_engine(small, target, backend=RTX, arch=["sm89"])
    assert read_manifest(target).architectures == ["sm89"] != first.architectures
    assert files_under(tmp_path) == ["m.engine", "m.engine.json"]
    target.chmod(0o600)
    build_engine(small, target, backend=RTX, arch=["sm86"])
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (target, manifest_path(target))]
    assert modes[0] == 0o600 != modes[1]
    mine = tmp_path / "mine"
    mine.write_text("my own")
    with pytest.raises(EngineError, match="mine is in the way"):
        build_engine(small, mine, backend=RTX)
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(EngineError, match=r"notes\.json is in the way"):
        build_engine(small, tmp_path / "notes", backend=RTX)
    assert mine.read_text() == "my own" and (tmp_path / "notes.json").read_text() == "{}"
    with pytest.raises(EngineError, match="is the same file as"):
        build_engine(small, small, backend=RTX)


def test_a_name_as_long_as_names_may_be(small, tmp_path):
    target = tmp_path / ("m" * (255 - len(".engine.json")) + ".engine")
    build_engine(small, target, backend=RTX, arch=["sm86"])
    assert files_under(tmp_path) == [target.name, manifest_path(target).name]


def test_earlier_pair_survives_a_failure_at_any_move(small, tmp_path, monkeypatch):
    target = tmp_path / "m.engine"
    build_engine(small, target, backend=RTX, arch=["sm86"])
    earlier = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    replace = os.replace
    for failing in range(4):
        moves = []

        def move(source, destination, failing=failing, moves=moves):
            moves.append(destination)
            if len(moves) == failing + 1:
                raise OSError(28, "No space left on device")
            replace(source, destination)

        monkeypatch.setattr(os, "replace", move)
        with pytest.raises(EngineError, match="No space left on device; nothing was written"):
            build_engine(small, target, backend=RTX, arch=["sm89"])
        monkeypatch.undo()
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == earlier


def test_command_line(small, tmp_path, capfd):
    target = tmp_path / "m.engine"
    arguments = ["build", str(small), "-o", str(target), "--arch", "sm86", "--max", "T=32"]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    out, err = capfd.readouterr()
    assert (stop.value.code, err) == (0, "")
    assert "Recurrence: 2 of 2 layers are loops of the standard-ONNX function" in out
    assert "Backend tensorrt-rtx: " in out
    assert "Profile 0, sequence: B 1 to 32 (best 8), T 1 to 32" in out
    assert "Profile 1, step: B 1 to 32 (best 8), T 1\n" in out
    with pytest.raises(SystemExit):
        main([*arguments, "--json", "--verbose"])
    out, err = capfd.readouterr()
    assert json.loads(out)["architectures"] == ["sm86"]
    assert "TensorRT: INFO: " in err


def test_inspect_shows_an_engine(charlm, tmp_path, capfd):
    target = charlm.with_name("shown.engine")
    build_engine(charlm, target, backend=RTX, maximum={"T": 32})

    def shown(*options: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["inspect", str(target), *options])
        out, err = capfd.readouterr()
        assert (stop.value.code, err) == (0, "")
        return out

    text = shown()
    assert f"tensorrt-rtx {rtx.__version__}, float32, for sm80, sm86, sm89, sm120" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["input", "tokens", "int64", "[batch,", "time]"] in rows
    assert ["state", "output", "state_02_c_out", "float32", "[batch,", "128]"] in rows
    assert "Profile 0, sequence: B 1 to 32 (best 8), T 1 to 32 (best 32)" in text
    assert "Recurrence: 3 of 3 layers are loops of the standard-ONNX function" in text
    assert "Test vectors beside it: yes" in text
    assert "Runs here: " in text
    facts = json.loads(shown("--json"))
    assert facts["manifest"]["metadata"]["states"][0]["name"] == "state_00_c"
    assert facts["golden_is_here"] is True and facts["runs_here"] is (facts["obstacles"] == [])
    line = error_of("inspect", str(target), "--kernel", "off", capfd=capfd)
    assert "--kernel is for ONNX files" in line
    target.with_name("shown.engine.json").unlink()
    assert "shown.engine.json is missing" in error_of("inspect", str(target), capfd=capfd)


def test_progress_bar_on_a_terminal(small, tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "qrnn_deploy",
            "build",
            str(small),
            "-o",
            str(tmp_path / "m.engine"),
        ],
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # what a terminal says at its end
        pass
    os.close(ours)
    assert process.stdout is not None
    assert b"Recurrence: 2 of 2" in process.stdout.read()
    assert process.wait() == 0
    assert b"building small.onnx" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--arch", "sm13"], "builds for sm75, sm80, sm86, sm89, sm120"),
        (["--arch", ""], "got --arch : TensorRT for RTX"),
        (["--min", "B=5", "--max", "B=3"], "1 <= min <= opt <= max"),
        (["--max", "B=0"], "got --max B=0: expected 1 to 2147483647"),
        (["--opt", "B"], "expected the form B=8,T=64"),
        (["--max", "Q=3"], "got --max Q: this model has B, T"),
        (["--max", "B=2000000000,T=2000000000"], "dimensions have overflown"),
        (["--workspace", "1"], "expected a number with a unit"),
        (["--workspace", "999999999999GiB"], "expected at most 262144GiB"),
        (["-o", ""], "the name is empty"),
        (["-o", "."], "output '.' is a folder"),
        (["--workspace", "1KiB"], "no tactics to implement the operation within workspace limit"),
        (["--timing-cache", "cache"], "keeps no timing cache"),
        (["--version-compatible"], "run on the version that built them only"),
    ],
)
def test_what_cannot_be_built_is_one_line_and_nothing_is_left(
    arguments, expected, small, tmp_path, capfd
):
    target = tmp_path / "m.engine"
    command = ["build", str(small), "-o", str(target), "--backend", RTX, *arguments]
    assert expected in error_of(*command, capfd=capfd)
    assert files_under(tmp_path) == []


def test_files_that_cannot_be_built_are_one_line(small, tmp_path, capfd):
    def line(path: Path) -> str:
        return error_of("build", str(path), "-o", str(tmp_path / "m.engine"), capfd=capfd)

    assert "does not exist" in line(tmp_path / "none.onnx")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(small.read_bytes()[:5000])
    assert "may be truncated" in line(cut)
    foreign = tmp_path / "foreign.onnx"
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [value])
    onnx.save(helper.make_model(graph), str(foreign))
    assert "has no qrnn-deploy metadata" in line(foreign)
    inlined = tmp_path / "inlined.onnx"
    qrnn_deploy.export(build("fo"), inlined, inline=True, golden=False)
    assert "holds no pooling node" in line(inlined)
    bare = tmp_path / "bare.onnx"
    model = onnx.load(str(small))
    del model.functions[:]
    onnx.save(model, str(bare))
    assert "lacks the function of its node" in line(bare)
    renamed = tmp_path / "renamed.onnx"
    model = onnx.load(str(small))
    model.graph.input[0].name = "other"
    for node in model.graph.node:
        node.input[:] = ["other" if name == "x" else name for name in node.input]
    onnx.save(model, str(renamed))
    assert "contradicts its metadata" in line(renamed)
    other = tmp_path / "other.onnx"
    model = onnx.load(str(small))
    next(node for node in model.graph.node if node.name == "layer_01_pool").name = "pool_of_mine"
    onnx.save(model, str(other))
    assert "are not those of the layers that the metadata list" in line(other)
    calling = tmp_path / "calling.onnx"
    model = onnx.load(str(small))
    function = model.functions[0]
    again = helper.make_node(function.name, function.input, ["h1", "c1"], domain=function.domain)
    function.node.append(again)
    onnx.save(model, str(calling))
    assert "has a function that calls itself" in line(calling)
    assert [name for name in files_under(tmp_path) if "engine" in name] == []


def test_engine_that_streams_takes_no_memory_while_it_runs(small, tmp_path, monkeypatch):
    """What NVIDIA demands of engines whose runs are recorded in CUDA graphs."""
    configs, configure = [], native._configure
    monkeypatch.setattr(
        native, "_configure", lambda job, *rest: (configs.append(rest[0]), configure(job, *rest))
    )
    flag = rtx.BuilderFlag.REQUIRE_USER_ALLOCATION
    build_engine(small, tmp_path / "m.engine", backend=RTX, arch=["sm86"])
    assert configs[-1].get_flag(flag)
    offline = tmp_path / "offline.onnx"
    qrnn_deploy.export(build("fo"), offline, states="none", golden=False)
    build_engine(offline, tmp_path / "o.engine", backend=RTX, arch=["sm86"])
    assert len(configs) == 2 and not configs[-1].get_flag(flag)


@pytest.mark.parametrize("suffix", [".json", ".onnxtxt", ".pbtxt"])
def test_name_of_the_model_says_nothing_of_its_format(suffix, small, tmp_path):
    source = tmp_path / f"m{suffix}"
    source.write_bytes(small.read_bytes())
    assert read_source(source).pools == read_source(small).pools
    source.write_text("{}")
    with pytest.raises(ModelError, match="looks like a JSON document: expected an ONNX file"):
        read_source(source)


def test_weights_outside_the_folder_are_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    source = folder / "m.onnx"
    qrnn_deploy.export(build("fo"), source, external_data=True, golden=False)
    (folder / "m.onnx.data").rename(tmp_path / "m.onnx.data")
    model = onnx.load(str(source), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../m.onnx.data"
    source.write_bytes(model.SerializeToString())
    with pytest.raises(QrnnDeployError, match="outside its folder"):
        build_engine(source, folder / "m.engine", backend=RTX)


@pytest.mark.skipif(bool(find_cards().cards), reason="there is a GPU here")
def test_without_a_gpu(small, tmp_path, capfd):
    command = ["build", str(small), "-o", str(tmp_path / "m.engine"), "--backend"]
    assert "--backend tensorrt needs a GPU" in error_of(*command, "tensorrt", capfd=capfd)
    assert "--refit needs a GPU" in error_of(*command, RTX, "--refit", capfd=capfd)
    build_engine(small, tmp_path / "m.engine", backend=RTX, arch=["sm86"])
    found = describe(tmp_path / "m.engine")
    assert len(found.obstacles) == 1 and "needs a GPU of sm86" in found.obstacles[0]
    assert found.to_dict()["runs_here"] is False


def test_backends_name_the_extras_that_exist():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    for backend in BACKENDS.values():
        assert f"\n{backend.name} = [" in text
