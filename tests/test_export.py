"""Export: what is in the file, that it computes what PyTorch does, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from models import (
    BUILDERS,
    OFFLINE,
    FrontedModel,
    Twice,
    arguments,
    build,
    files_under,
    torch_run,
)
from onnx.reference import ReferenceEvaluator
from torch import nn

from qrnn_deploy.errors import ExportError, InputError
from qrnn_deploy.exporter import export, export_checkpoint
from qrnn_deploy.exporter.graph import pool_nodes
from qrnn_deploy.metadata import KEY, Metadata
from qrnn_deploy.nn import QRNN, QRNNLayer
from qrnn_deploy.runtime import Session

SIZES = ((3, 9), (1, 1), (2, 30))


def ort_run(path, feed):
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def assert_equals_torch(module, report, atol=2e-6):
    for batch, time in SIZES:
        feed, expected = torch_run(module, report.metadata, batch=batch, time=time)
        got = ort_run(report.path, feed)
        assert list(got) == list(expected)
        for name, value in expected.items():
            assert got[name].dtype == value.dtype, name
            np.testing.assert_allclose(got[name], value, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", BUILDERS)
def test_streaming_export_equals_torch(name, tmp_path):
    module = build(name)
    report = export(module, tmp_path / "m.onnx", arguments(module), golden=False)
    assert_equals_torch(module, report)


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize("lengths", [False, True])
def test_offline_export_equals_torch(name, lengths, tmp_path):
    module = build(name)
    report = export(module, tmp_path / "m.onnx", states="none", lengths=lengths, golden=False)
    assert report.metadata.states == []
    assert_equals_torch(module, report)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fo", {"states": "packed"}),
        ("zoneout", {"lengths": True}),
        ("ifo", {"lengths": True, "states": "packed"}),
        ("fo", {"inline": True}),
        ("fo", {"external_data": True}),
    ],
)
def test_options_equal_torch(name, options, tmp_path):
    module = build(name)
    report = export(module, tmp_path / "m.onnx", golden=False, **options)
    assert_equals_torch(module, report)


@pytest.mark.parametrize("states", ["separate", "packed"])
def test_float16_keeps_pooling_states_in_float32(states, tmp_path):
    module = build("fo")
    report = export(module, tmp_path / "m.onnx", states=states, dtype="float16", golden=False)
    assert next(module.parameters()).dtype == torch.float32
    assert_equals_torch(module, report, atol=2e-3)
    kinds = {s.kind: s.dtype for s in report.metadata.states}
    assert kinds == {"c": "float32", "x": "float16"}


def test_what_is_no_module_and_no_path_is_named(tmp_path):
    for call, message in (
        (lambda: export("m.pt", tmp_path / "m.onnx"), "module is 'm.pt'.*export_checkpoint"),
        (lambda: export(build("fo"), None), "path is None, expected the path of a file"),
        (lambda: export_checkpoint(None, "m.onnx"), "checkpoint is None, expected the path of a"),
        (lambda: export_checkpoint("m.pt", None), "path is None, expected the path of a file"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_bfloat16_exports_and_says_where_it_cannot_run(tmp_path):
    report = export(build("fo"), tmp_path / "m.onnx", dtype="bfloat16")
    model = onnx.load(report.path)
    onnx.checker.check_model(model, full_check=True)
    assert any("bfloat16" in note for note in report.notes)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented):
        onnxruntime.InferenceSession(str(report.path))


def test_file_layout(tmp_path):
    """Borders, names, functions and metadata are those of the contract; nothing of torch stays."""
    module = build("zoneout")
    report = export(module, tmp_path / "m.onnx")
    model = onnx.load(report.path)
    ports = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert ports == {
        "x": ["batch", "time", 5],
        "state_00_c_in": ["batch", 6],
        "state_00_x_in": ["batch", 1, 5],
        "state_01_c_in": ["batch", 6],
        "state_01_x_in": ["batch", 1, 6],
        "y": ["batch", "time", 6],
        "state_00_c_out": ["batch", 6],
        "state_00_x_out": ["batch", 1, 5],
        "state_01_c_out": ["batch", 6],
        "state_01_x_out": ["batch", 1, 6],
    }
    nodes = pool_nodes(model.graph)
    assert [node.name for node in nodes] == ["layer_00_pool", "layer_01_pool"]
    scales = [a.f for node in nodes for a in node.attribute if a.name == "zoneout_scale"]
    assert scales == pytest.approx([0.7, 0.7])
    assert [(f.name, f.overload) for f in model.functions] == [("QRNNPoolFO", "")]
    assert files_under(tmp_path) == ["m.golden", "m.onnx"]
    raw = report.path.read_bytes()
    assert os.fsencode(os.getcwd()) not in raw and b"torch" not in raw
    stored = {item.key: item.value for item in model.metadata_props}[KEY]
    assert Metadata.from_properties({KEY: stored}, "m.onnx") == report.metadata
    assert report.metadata.config == module.config()


def test_export_is_reproducible(tmp_path):
    a = export(build("fo"), tmp_path / "a.onnx", golden=False).path.read_bytes()
    b = export(build("fo"), tmp_path / "b.onnx", golden=False).path.read_bytes()
    assert a == b


def test_runs_in_onnx_reference(tmp_path):
    """One function body serves both directions, since onnx.reference ignores overloads."""
    module = build("bidirectional")
    report = export(module, tmp_path / "m.onnx", states="none", golden=False)
    feed, expected = torch_run(module, report.metadata, batch=2, time=5)
    (y,) = ReferenceEvaluator(str(report.path)).run(None, feed)
    np.testing.assert_allclose(y, expected["y"], rtol=0, atol=2e-6)


def test_mixed_activations_become_overloads(tmp_path):
    module = nn.Sequential()
    tanh, relu = QRNNLayer(5, 6), QRNNLayer(6, 4, activation="relu")

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.tanh, self.relu = tanh, relu

        def forward(self, x):
            return self.relu(self.tanh(x.transpose(0, 1))[0])[0].transpose(0, 1)

    module = Mixed()
    x = torch.randn(2, 7, 5)
    report = export(module, tmp_path / "m.onnx", (x,), golden=False)
    model = onnx.load(report.path)
    assert [f.overload for f in model.functions] == ["", "relu_float"]
    session = onnxruntime.InferenceSession(str(report.path))
    feed = {"x": x.numpy()} | {
        s.input: np.zeros((2, *s.shape), np.float32) for s in report.metadata.states
    }
    with torch.no_grad():
        np.testing.assert_allclose(
            session.run(["y"], feed)[0], module(x).numpy(), rtol=0, atol=2e-6
        )


def test_any_module_with_two_inputs_and_a_convolution_in_front(tmp_path):
    """Offline it exports; streaming is refused, since the padded convolution looks ahead."""
    torch.manual_seed(0)
    module = FrontedModel(padding=1).eval()
    args = (torch.randn(2, 7, 4), torch.randn(2, 7, 3))
    with pytest.raises(ExportError, match=r"cannot stream: in chunks the values of output 'score'"):
        export(module, tmp_path / "m.onnx", args)
    assert files_under(tmp_path) == []
    report = export(module, tmp_path / "m.onnx", args, states="none")
    assert [port.name for port in report.metadata.inputs] == ["audio", "control"]
    a, c = torch.randn(3, 11, 4), torch.randn(3, 11, 3)
    got = ort_run(report.path, {"audio": a.numpy(), "control": c.numpy()})
    with torch.no_grad():
        expected = module(a, c)
    for name in ("score", "hidden"):
        np.testing.assert_allclose(got[name], expected[name].numpy(), rtol=0, atol=2e-6)


def test_module_is_left_as_it_was(tmp_path):
    module = build("zoneout").train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    export(module, tmp_path / "m.onnx", golden=False)
    assert module.training and all(part.training for part in module.modules())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


class OwnState(Twice):
    def forward(self, x):
        return self.layer(x, self.layer.initial_state(x.shape[0]))[0]


class Decides(Twice):
    """Takes another way for the example's batch size than for others."""

    def forward(self, x):
        y = self.layer(x)[0]
        return 2 * y if x.shape[0] == 2 else y


class Returns(Twice):
    def forward(self, x):
        return self.layer(x)[0], "text"


class NoLayer(Twice):
    def forward(self, x):
        return x * 2


X = (torch.zeros(2, 7, 5),)


@pytest.mark.parametrize(
    ("module", "args", "options", "message"),
    [
        (
            build("reverse"),
            None,
            {"states": "separate"},
            r"layer 'layers.0' runs in reverse.*states='none'",
        ),
        (Twice(), X, {}, r"layer 'layer' is called twice.*expected once"),
        (OwnState(), X, {}, r"passes a state to layer 'layer' itself: expected None"),
        (Decides(), X, {}, r"the model fixes 'batch' of input 'x' to the example's 2"),
        (Returns(), X, {}, r"returns a str: expected tensors"),
        (NoLayer(), X, {}, r"NoLayer runs no recurrent layer"),
        (Twice(), None, {}, r"expected `args`"),
        (Twice(), (torch.zeros(1, 7, 5),), {}, r"batch size 1.*expected >= 2"),
        (Twice(), (torch.zeros(2, 1, 5),), {}, r"time size 1.*expected >= 2"),
        (build("fo"), None, {"states": "all"}, r"states='all': expected 'separate'"),
        (build("fo"), None, {"dtype": "int8"}, r"dtype='int8': expected one of float32"),
        (build("fo"), None, {"input_names": ["a", "b"]}, r"input names.*one distinct name each"),
        (build("fo"), None, {"time_axes": {"q": 2}}, r"time_axes names \['q'\]"),
    ],
)
def test_refusals_write_nothing(module, args, options, message, tmp_path):
    with pytest.raises(ExportError, match=message) as caught:
        export(module, tmp_path / "m.onnx", args, **options)
    assert "\n" not in str(caught.value)
    assert files_under(tmp_path) == []


def test_bad_targets(tmp_path):
    module = build("fo")
    with pytest.raises(ExportError, match=r"does not end in \.onnx"):
        export(module, tmp_path / "m.bin")
    with pytest.raises(ExportError, match=r"output folder .* does not exist"):
        export(module, tmp_path / "no" / "m.onnx")
    (tmp_path / "d.onnx").mkdir()
    with pytest.raises(ExportError, match=r"is a folder"):
        export(module, tmp_path / "d.onnx")


def test_nan_weights_are_named(tmp_path):
    module = build("fo")
    with torch.no_grad():
        module.layers[1].weight[0, 0] = float("nan")
    with pytest.raises(ExportError, match=r"weight 'layers\.1\.weight' holds NaN"):
        export(module, tmp_path / "m.onnx")
    export(module, tmp_path / "m.onnx", allow_non_finite=True, golden=False)


def test_interrupt_leaves_the_earlier_file(tmp_path):
    target = tmp_path / "m.onnx"
    export(build("fo"), target)
    before = target.read_bytes()

    def interrupt(stage):
        if stage == "writing golden vectors":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(build("zoneout"), target, progress=interrupt)
    assert target.read_bytes() == before
    assert files_under(tmp_path) == ["m.golden", "m.onnx"]


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """A limit on file size makes the write fail half-way, as a full disk does."""
    code = (
        "import resource, signal, sys; sys.path.insert(0, 'tests')\n"
        "from models import build\n"
        "from qrnn_deploy.errors import ExportError\n"
        "from qrnn_deploy.exporter import export\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try: export(build('fo'), sys.argv[1])\n"
        "except ExportError as error: print(error)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.onnx")],
        capture_output=True, text=True, cwd=root, check=False,
    )  # fmt: skip
    assert "cannot write" in done.stdout and "nothing was written" in done.stdout, done
    assert files_under(tmp_path) == []


def test_bidirectional_stack_shares_one_body(tmp_path):
    report = export(QRNN(5, 6, 1, bidirectional=True), tmp_path / "m.onnx", states="none")
    assert len(onnx.load(report.path).functions) == 1
    assert [layer.direction for layer in report.metadata.layers] == [1, -1]


def test_float16_of_two_directions_loads(tmp_path):
    """Both directions read one Transpose by way of an Identity: ONNX Runtime crashed there."""
    module = QRNN(6, 16, 2, bidirectional=True, batch_first=True)
    export(module, tmp_path / "m.onnx", dtype="float16", states="none", golden=False)
    for kernel in ("off", "auto"):
        session = Session(tmp_path / "m.onnx", kernel=kernel)
        assert session.run(np.zeros((1, 3, 6), np.float16))["y"].shape == (1, 3, 32)
