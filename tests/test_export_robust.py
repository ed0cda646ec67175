"""Export of models that are unlike ours: several inputs, other layouts, and what can go wrong."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from models import Twice, files_under
from torch import nn

from qrnn_deploy.errors import ExportError
from qrnn_deploy.exporter import export
from qrnn_deploy.nn import QRNN, LayerState, QRNNLayer


def run(report, **feed):
    """The model's outputs by name, from zero state."""
    batch = len(next(iter(feed.values())))
    feed = {name: x.numpy() for name, x in feed.items()}
    meta = report.metadata
    if meta.state_mode == "separate":
        for state in meta.states:
            feed[state.input] = np.zeros((batch, *state.shape), state.dtype)
    if meta.state_mode == "packed":
        feed["state_in"] = np.zeros((batch, meta.packed_size), np.float32)
    if meta.ragged:
        feed["lengths"] = np.full(batch, feed[meta.inputs[0].name].shape[1], np.int64)
    session = onnxruntime.InferenceSession(str(report.path))
    names = [port.name for port in meta.outputs]
    return dict(zip(names, session.run(names, feed), strict=True))


def close(got, expected):
    np.testing.assert_allclose(got, expected.detach().numpy(), rtol=0, atol=2e-6)


def shapes(ports):
    return {port.name: (port.shape, port.batch_axis, port.time_axis) for port in ports}


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = QRNNLayer(5, 6, window=2, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0]


class Conditioned(nn.Module):
    """A time-major model with an input that has no time and an output that has none."""

    batch_first = False

    def __init__(self):
        super().__init__()
        self.layer = QRNNLayer(5, 4)
        self.project = nn.Linear(3, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x, c):
        h = self.layer(x)[0] + self.project(c)
        return {"y": h, "last": self.head(h[-1])}


class BatchFirstConditioned(Conditioned):
    batch_first = True

    def forward(self, x, c):
        return self.layer(x.transpose(0, 1))[0].transpose(0, 1) + self.project(c)[:, None]


class TwoTimes(nn.Module):
    """Two inputs with a time of their own each, and outputs that follow one, other or neither."""

    def __init__(self):
        super().__init__()
        self.a = QRNNLayer(4, 6, batch_first=True)
        self.b = QRNNLayer(3, 2, batch_first=True)

    def forward(self, x, c):
        z = self.b(c)[0]
        return {"follows_c": z, "follows_x": self.a(x)[0], "shorter": z[:, 2:], "mean": z.mean(1)}


@pytest.mark.parametrize("batch", [3, 5])
@pytest.mark.parametrize("options", [{}, {"states": "packed"}, {"lengths": True}])
def test_example_batch_of_any_size(batch, options, tmp_path):
    module = Layer().eval()
    x = torch.randn(batch, 7, 5)
    report = export(module, tmp_path / "m.onnx", (x,), golden=False, **options)
    for size in (1, 2, batch):
        x = torch.randn(size, 4, 5)
        close(run(report, x=x)["y"], module(x))


def test_examples_of_different_batches_are_refused(tmp_path):
    args = (torch.randn(3, 7, 4), torch.randn(2, 7, 3))
    with pytest.raises(ExportError, match=r"'x' has batch size 3 and 'c' 2.*expected the same"):
        export(TwoTimes(), tmp_path / "m.onnx", args)


@pytest.mark.parametrize("batch", [3, 7])
def test_only_ports_with_time_are_turned(batch, tmp_path):
    module = Conditioned().eval()
    args = (torch.randn(7, batch, 5), torch.randn(batch, 3))
    report = export(module, tmp_path / "m.onnx", args, time_axes={"c": None})
    assert shapes(report.metadata.inputs) == {
        "x": (["batch", "time", 5], 0, 1),
        "c": (["batch", 3], 0, None),
    }
    assert shapes(report.metadata.outputs) == {
        "y": (["batch", "time", 4], 0, 1),
        "last": (["batch", 3], 0, None),
    }
    x, c = torch.randn(9, 4, 5), torch.randn(4, 3)
    got, expected = run(report, x=x.transpose(0, 1), c=c), module(x, c)
    close(got["y"], expected["y"].transpose(0, 1))
    close(got["last"], expected["last"])


def test_time_major_model_that_returns_batch_first_is_refused(tmp_path):
    class Turned(Conditioned):
        def forward(self, x):
            return self.layer(x)[0].transpose(0, 1)

    with pytest.raises(ExportError, match=r"'y' of a time-major model has time on axis 1"):
        export(Turned(), tmp_path / "m.onnx", (torch.randn(7, 3, 5),))


def test_outputs_are_labelled_by_the_input_they_follow(tmp_path):
    module = TwoTimes().eval()
    args = (torch.randn(2, 7, 4), torch.randn(2, 9, 3))
    report = export(module, tmp_path / "m.onnx", args, states="none")
    assert shapes(report.metadata.inputs) == {
        "x": (["batch", "time", 4], 0, 1),
        "c": (["batch", "time_c", 3], 0, 1),
    }
    assert shapes(report.metadata.outputs) == {
        "follows_c": (["batch", "time_c", 2], 0, 1),
        "follows_x": (["batch", "time", 6], 0, 1),
        "shorter": (["batch", "time_shorter", 2], 0, 1),
        "mean": (["batch", 2], 0, None),
    }
    x, c = torch.randn(3, 12, 4), torch.randn(3, 5, 3)
    expected = module(x, c)
    for name, value in run(report, x=x, c=c).items():
        close(value, expected[name])
    equal = export(module, tmp_path / "m.onnx", (args[0], args[1][:, :7]), states="none")
    assert [port.shape[1] for port in equal.metadata.inputs] == ["time", "time"]


# Weights and types


def test_float16_overflow_is_named(tmp_path):
    module = Layer()
    with torch.no_grad():
        module.layer.weight[0, 0] = -1e6
    with pytest.raises(ExportError, match=r"'layer\.weight' overflows float16: it reaches 1e\+06"):
        export(module, tmp_path / "m.onnx", (torch.randn(2, 7, 5),), dtype="float16")
    assert files_under(tmp_path) == []


def test_float64_needs_a_dtype(tmp_path):
    module = QRNN(5, 6, batch_first=True).double()
    with pytest.raises(ExportError, match=r"float64 is not exported.*dtype='float32'"):
        export(module, tmp_path / "m.onnx")
    report = export(module, tmp_path / "m.onnx", dtype="float32", golden=False)
    assert report.metadata.dtype == "float32"


def test_layers_of_two_types_are_refused(tmp_path):
    class Mixed(TwoTimes):
        def __init__(self):
            super().__init__()
            self.b.to(torch.bfloat16)

        def forward(self, x):
            return self.a(x)[0][..., :2], self.b(x[..., :3].to(torch.bfloat16))[0]

    with pytest.raises(ExportError, match=r"float32 in 'a' and bfloat16 in 'b': expected one type"):
        export(Mixed(), tmp_path / "m.onnx", (torch.randn(2, 7, 4),))


# Names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_names": ["state_00_c_in"]}, r"input 'state_00_c_in' has a name that.*uses itself"),
        ({"input_names": ["layer_00_gates"]}, r"input 'layer_00_gates' .*give input_names"),
        ({"output_names": ["layer_00_h"]}, r"output 'layer_00_h' .*give output_names"),
        ({"output_names": ["state_00_x_out"]}, r"output 'state_00_x_out' has a name"),
        ({"input_names": ["lengths"], "lengths": True}, r"input 'lengths' has a name"),
        ({"input_names": ["state_in"], "states": "packed"}, r"input 'state_in' has a name"),
        ({"output_names": ["x"]}, r"'x' names an input and an output"),
        ({"input_names": [""]}, r"expected one distinct name each"),
        ({"time_axes": {"x": 0}}, r"time_axes gives 0 for input 'x' of shape \(2, 7, 5\)"),
        ({"time_axes": {"x": 3}}, r"time_axes gives 3 .*an axis from 1 to 2"),
    ],
)
def test_names_and_axes_that_cannot_be(options, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export(Layer(), tmp_path / "m.onnx", (torch.randn(2, 7, 5),), **options)
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("name", ["val_0", "linear", "transpose", "time", "layer.weight_T", "a-b"])
def test_any_other_name_works(name, tmp_path):
    """Also one that the tracer gives to a tensor of its own."""
    module = Layer().eval()
    x = torch.randn(2, 7, 5)
    report = export(module, tmp_path / "m.onnx", (x,), golden=False, input_names=[name])
    close(run(report, **{name: x})["y"], module(x))


# What a user hands over


def test_bare_tensor_with_gradient_is_an_example(tmp_path):
    module = Layer().eval()
    x = torch.randn(2, 7, 5, requires_grad=True)
    report = export(module, tmp_path / "m.onnx", x)
    close(run(report, x=x.detach())["y"], module(x))
    assert x.requires_grad


@pytest.mark.parametrize("features", [3, 7])
def test_input_without_time_is_asked_for(features, tmp_path):
    """Also where its size happens to be that of time."""
    module = BatchFirstConditioned()
    module.project = nn.Linear(features, 4)
    args = (torch.randn(2, 7, 5), torch.randn(2, features))
    with pytest.raises(ExportError, match=r"if 'c' has no time axis, give time_axes=\{'c': None\}"):
        export(module, tmp_path / "m.onnx", args)
    report = export(module.eval(), tmp_path / "m.onnx", args, time_axes={"c": None})
    close(run(report, x=args[0], c=args[1])["y"], module(*args))


def test_layer_under_two_names(tmp_path):
    class Aliased(Layer):
        def __init__(self):
            super().__init__()
            self.same = self.layer

        def forward(self, x):
            return self.same(x)[0]

    module = Aliased().eval()
    x = torch.randn(2, 7, 5)
    report = export(module, tmp_path / "m.onnx", (x,))
    assert [layer.name for layer in report.metadata.layers] == ["layer"]
    close(run(report, x=x)["y"], module(x))


def test_layer_in_a_list_is_refused(tmp_path):
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [QRNNLayer(5, 6, batch_first=True)]

        def forward(self, x):
            return self.layers[0](x)[0]

    with pytest.raises(ExportError, match=r"none of its submodules.*nn\.ModuleList"):
        export(Listed(), tmp_path / "m.onnx", (torch.randn(2, 7, 5),))


@pytest.mark.parametrize("config", [lambda self, needed: {}, lambda self: {"x": object()}])
def test_config_of_a_foreign_module_is_its_own(config, tmp_path):
    module = type("Configured", (Layer,), {"config": config})()
    report = export(module, tmp_path / "m.onnx", (torch.randn(2, 7, 5),), golden=False)
    assert report.metadata.config is None


class Failing(Layer):
    """Fails on the call of that number, or at that length of time."""

    def __init__(self, error, at):
        super().__init__()
        self.error, self.at = error, at

    def forward(self, x):
        if x.dtype == torch.float64 if self.at == "double" else x.shape[1] == self.at:
            raise self.error
        return super().forward(x)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (7, r"the model fails on the example inputs"),
        (15, r"the model fails when 'x' are longer in time"),
        ("double", r"(fails|cannot stream)"),
        (13, r"the model fails"),
    ],
)
@pytest.mark.parametrize("error", [OSError(2, "no table"), KeyError("table"), ValueError("a\nb")])
def test_errors_of_the_model_are_told_as_such(error, at, message, tmp_path):
    """Also where it fails while our files are being written (13 steps: the golden vectors)."""
    with pytest.raises(ExportError, match=message) as caught:
        export(Failing(error, at), tmp_path / "m.onnx", (torch.randn(2, 7, 5),))
    text = str(caught.value)
    assert type(error).__name__ in text or at == "double"
    assert "\n" not in text and "cannot write" not in text
    assert files_under(tmp_path) == []


# States of the model's own


def test_offline_the_model_may_pass_its_own_state(tmp_path):
    class OwnState(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = QRNNLayer(5, 6, batch_first=True)

        def forward(self, x, c):
            return self.layer(x, LayerState(c, None))[0]

    module = OwnState().eval()
    args = (torch.randn(2, 7, 5), torch.randn(2, 6))
    axes = {"c": None}
    with pytest.raises(ExportError, match=r"passes a state to layer 'layer' itself.*states='none'"):
        export(module, tmp_path / "m.onnx", args, time_axes=axes)
    report = export(module, tmp_path / "m.onnx", args, time_axes=axes, states="none")
    close(run(report, x=args[0], c=args[1])["y"], module(*args))


def test_offline_a_layer_still_runs_once(tmp_path):
    with pytest.raises(ExportError, match=r"called twice.*one node and one name per tensor"):
        export(Twice(), tmp_path / "m.onnx", (torch.randn(2, 7, 5),), states="none")


def test_weights_beside_a_model_of_another_tool_stay(tmp_path):
    """They are what the ONNX file refers to, but no export of ours wrote either."""
    target = tmp_path / "m.onnx"
    module = QRNN(8, 16, batch_first=True)
    export(module, target, external_data=True, golden=False)
    model = onnx.load(target, load_external_data=False)
    del model.metadata_props[:]
    onnx.save(model, target)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ExportError, match=r"m\.onnx\.data is in the way.* qrnn-deploy wrote"):
        export(module, target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_behind_a_link_stay(tmp_path):
    target = tmp_path / "m.onnx"
    module = QRNN(8, 16, batch_first=True)
    export(module, target, external_data=True, golden=False)
    (tmp_path / "m.onnx.data").rename(tmp_path / "store")
    (tmp_path / "m.onnx.data").symlink_to("store")
    with pytest.raises(ExportError, match=r"m\.onnx\.data is in the way.* is a symbolic link"):
        export(module, target)
    assert files_under(tmp_path) == ["m.onnx", "m.onnx.data", "store"]


def test_layers_may_share_weights(tmp_path):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = QRNNLayer(5, 5, batch_first=True)
            self.b = QRNNLayer(5, 5, batch_first=True)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x)[0])[0]

    module = Shared().eval()
    x = torch.randn(2, 7, 5)
    report = export(module, tmp_path / "m.onnx", (x,))
    close(run(report, x=x)["y"], module(x))
    onnx.checker.check_model(str(report.path), full_check=True)
