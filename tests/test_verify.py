"""Verification passes what is right and, above all, fails what is wrong, naming the layer."""

from __future__ import annotations

import copy
import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import needs
import numpy as np
import onnx
import pytest
import torch
from models import FrontedModel, build
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import nn

from qrnn_deploy.checkpoints import save_checkpoint
from qrnn_deploy.cli import main
from qrnn_deploy.errors import ExportError, InputError, ModelError
from qrnn_deploy.exporter import export, export_checkpoint
from qrnn_deploy.exporter.golden import ragged_lengths
from qrnn_deploy.exporter.graph import pool_nodes
from qrnn_deploy.metadata import FORMAT
from qrnn_deploy.nn import QRNN, LayerState, QRNNLanguageModel, QRNNLayer
from qrnn_deploy.verifier import verify
from qrnn_deploy.verifier.report import Comparison, VerifyReport, compare

HIDDEN = 6


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(checkpoint, model) of a two-layer stack with window 2 and zoneout."""
    folder = tmp_path_factory.mktemp("verify")
    checkpoint, model = folder / "m.safetensors", folder / "m.onnx"
    save_checkpoint(build("zoneout"), checkpoint)
    export_checkpoint(checkpoint, model)
    return checkpoint, model


@dataclass
class Done:
    exit_code: int
    stdout: str
    stderr: str


def run_cli(*arguments):
    """`qrnn-deploy verify ARGUMENTS`, exactly as the installed command runs it."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main(["verify", *map(str, arguments)])
    return Done(end.value.code, out.getvalue(), err.getvalue())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fo", {"lengths": True}),
        ("ifo", {"states": "packed"}),
        ("lm", {}),
        ("f", {"dtype": "float16"}),
        ("bidirectional", {"states": "none", "lengths": True}),
        ("fo", {"inline": True}),
    ],
)
def test_right_models_pass(name, options, tmp_path):
    module = build(name)
    export(module, tmp_path / "m.onnx", **options)
    report = verify(tmp_path / "m.onnx", module=module, per_layer=True)
    assert report.passed, report.to_json()
    assert [layer.index for layer in report.layers] == list(range(len(report.layers))) != []
    assert all(layer.alone and layer.in_model for layer in report.layers)
    assert "function" in {c.artifact for c in report.comparisons}
    assert verify(tmp_path / "m.onnx").passed


def test_users_own_module_passes(tmp_path):
    torch.manual_seed(0)
    module = FrontedModel(padding=1).eval()
    args = (torch.randn(2, 7, 4), torch.randn(2, 7, 3))
    export(module, tmp_path / "m.onnx", args, states="none")
    assert verify(tmp_path / "m.onnx", module=module, args=args, per_layer=True).passed


class OwnState(nn.Module):
    """Passes a state of its own, as an offline model may."""

    def __init__(self):
        super().__init__()
        self.layer = QRNNLayer(5, 6, window=2, batch_first=True)
        self.start = nn.Parameter(torch.linspace(-1, 1, 6))

    def forward(self, x):
        start = self.start.expand(x.shape[0], 6)
        window = x.new_ones(x.shape[0], 1, 5)
        return self.layer(x, LayerState(start, window))[0]


def test_module_with_a_state_of_its_own_passes(tmp_path):
    torch.manual_seed(0)
    module, args = OwnState().eval(), (torch.randn(2, 7, 5),)
    export(module, tmp_path / "m.onnx", args, states="none")
    report = verify(tmp_path / "m.onnx", module=module, args=args, per_layer=True)
    assert report.passed and len(report.layers) == 1, report.to_json()


def test_checkpoint_passes_with_kernel_and_function(pair):
    needs.kernel_library()
    checkpoint, model = pair
    report = verify(model, checkpoint=checkpoint, per_layer=True)
    assert report.passed and not report.notes and not {"kernel", "function"} & set(report.missing)
    assert {c.artifact for c in report.comparisons} >= {"kernel", "function"}
    assert [layer.name for layer in report.layers] == ["layers.0", "layers.1"]
    json.loads(report.to_json())


def weight_of(model: ModelProto, pool: NodeProto) -> onnx.TensorProto:
    """The weight that makes a pooling node's gates, through MatMul and Add."""
    made_by = {out: node for node in model.graph.node for out in node.output}
    add = made_by[pool.input[0]]
    matmul = next(made_by[name] for name in add.input if name in made_by)
    assert (add.op_type, matmul.op_type) == ("Add", "MatMul")
    return next(t for t in model.graph.initializer if t.name == matmul.input[1])


def edit_weight(model: ModelProto, layer: int, change) -> None:
    tensor = weight_of(model, pool_nodes(model.graph)[layer])
    array = numpy_helper.to_array(tensor).copy()
    change(array)  # [k*in, 3*H], columns z, f, o
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def flip_forget_polarity(model, layer):
    def change(w):
        w[:, HIDDEN : 2 * HIDDEN] *= -1

    edit_weight(model, layer, change)


def swap_z_and_f(model, layer):
    def change(w):
        w[:, : 2 * HIDDEN] = np.roll(w[:, : 2 * HIDDEN], HIDDEN, axis=1)

    edit_weight(model, layer, change)


def swap_taps(model, layer):
    def change(w):
        w[:] = np.roll(w, len(w) // 2, axis=0)

    edit_weight(model, layer, change)


def drop_zoneout(model, layer):
    for attribute in pool_nodes(model.graph)[layer].attribute:
        if attribute.name == "zoneout_scale":
            attribute.f = 1.0


def drop(model, name):
    """Make every reader of ``name`` see zeros of the same shape."""
    for node in model.graph.node:
        node.input[:] = [f"{name}_lost" if item == name else item for item in node.input]
    zero = helper.make_tensor("zero_value", onnx.TensorProto.FLOAT, [1], [0.0])
    nodes = [
        helper.make_node("Shape", [name], [f"{name}_shape"]),
        helper.make_node("ConstantOfShape", [f"{name}_shape"], [f"{name}_lost"], value=zero),
    ]
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes + kept)


def drop_carried_state(model, layer):
    drop(model, f"state_{layer:02d}_c_in")


def lose_window_state(model, layer):
    drop(model, f"state_{layer:02d}_x_in")


MUTATIONS = (
    flip_forget_polarity,
    swap_z_and_f,
    swap_taps,
    drop_zoneout,
    drop_carried_state,
    lose_window_state,
)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda f: f.__name__)
def test_every_fault_fails_and_names_its_layer(mutate, layer, pair, tmp_path):
    checkpoint, source = pair
    model = onnx.load(source)
    before = model.SerializeToString()
    mutate(model, layer)
    assert model.SerializeToString() != before
    path = tmp_path / "m.onnx"
    onnx.save(model, path)

    result = run_cli(path, "--checkpoint", checkpoint, "--per-layer", "--json")
    assert result.exit_code == 1, result.stderr
    report = json.loads(result.stdout)
    assert report["passed"] is False
    assert report["first_departure"] == f"layers.{layer}"

    shutil.copytree(source.with_suffix(".golden"), tmp_path / "m.golden")
    assert run_cli(path).exit_code == 1  # the golden vectors catch it too


def test_fault_outside_the_layers_is_told_apart(tmp_path):
    module = build("lm")
    export(module, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    bias = next(t for t in model.graph.initializer if t.name.endswith("decoder_bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(model, tmp_path / "m.onnx")
    report = verify(tmp_path / "m.onnx", module=module)
    assert not report.passed and report.layers and report.first_departure is None
    assert report.would_pass == pytest.approx(1.0, rel=1e-4)


def test_tolerance_can_be_given(pair):
    checkpoint, model = pair
    tight = run_cli(model, "--checkpoint", checkpoint, "--atol", "0")
    assert tight.exit_code == 1 and "would pass" in tight.stdout
    assert run_cli(model, "--checkpoint", checkpoint, "--atol", "0.1").exit_code == 0


def test_another_checkpoint_fails(pair, tmp_path):
    _, model = pair
    other = build("zoneout")
    with torch.no_grad():
        other.layers[1].bias[0] += 0.1
    save_checkpoint(other, tmp_path / "other.safetensors")
    report = verify(model, checkpoint=tmp_path / "other.safetensors")
    assert not report.passed and report.first_departure == "layers.1"
    assert any("sha256 differs" in note for note in report.problems)
    save_checkpoint(build("ifo"), tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="that the PyTorch model lacks"):
        verify(model, checkpoint=tmp_path / "other.safetensors")


def test_golden_vectors_need_no_torch(pair):
    _, model = pair
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from qrnn_deploy import verify\n"
        f"assert verify({str(model)!r}).passed\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def loosened(value):
    """The tolerance of y in the first set becomes ``value``."""
    return edited(lambda raw: raw["sets"][0]["tolerance"].update(y=value))


def edited(change):
    """A damage that changes golden.json and leaves it well-formed."""

    def damage(folder):
        raw = json.loads((folder / "golden.json").read_text())
        change(raw)
        (folder / "golden.json").write_text(json.dumps(raw))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda g: shutil.rmtree(g), "has no golden vectors"),
        (lambda g: (g / "golden.json").write_text("{"), "golden.json is damaged"),
        (lambda g: (g / "test_data_set_0" / "output_0.pb").write_bytes(b"\xff"), "is damaged"),
        (lambda g: shutil.rmtree(g / "test_data_set_1"), "holds other sets than golden.json lists"),
        (
            edited(lambda raw: raw.update(fingerprint="0")),
            "belongs to a model with other weights",
        ),
        (edited(lambda raw: raw.update(sets=[])), "holds other sets"),
        (
            edited(lambda raw: raw["sets"][0].update(tolerance={})),
            "the tolerance of 'y' .* is None",
        ),
        (
            edited(lambda raw: raw["sets"][0]["tolerance"].update(y=1e300)),
            "is 1e.300, expected one",
        ),
        (loosened(float("inf")), "is inf, expected one"),
        (
            edited(lambda raw: raw["sets"][0]["tolerance"].update(y="text")),
            "golden.json is damaged",
        ),
        (lambda g: (g / "golden.json").write_text("[" * 100_000), "golden.json is damaged"),
        (lambda g: (g / "test_data_set_0" / "output_4.pb").unlink(), "output_4.pb is missing"),
        (
            lambda g: shutil.copy(
                g / "test_data_set_0" / "output_0.pb", g / "test_data_set_0" / "output_4.pb"
            ),
            "holds the outputs .* expected",
        ),
    ],
)
def test_bad_golden_vectors(damage, message, pair, tmp_path):
    shutil.copy(pair[1], tmp_path / "m.onnx")
    shutil.copytree(pair[1].with_suffix(".golden"), tmp_path / "m.golden")
    damage(tmp_path / "m.golden")
    with pytest.raises(ModelError, match=message):
        verify(tmp_path / "m.onnx")


def test_contradictory_arguments(pair):
    checkpoint, model = pair
    with pytest.raises(InputError, match="a checkpoint and a module"):
        verify(model, checkpoint=checkpoint, module=build("zoneout"))
    with pytest.raises(InputError, match="per-layer comparison needs the PyTorch model"):
        verify(model, per_layer=True)


class Only(nn.Module):
    """The outputs of a stack without its state."""

    def __init__(self, stack: nn.Module) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stack(x)[0]


def test_arguments_that_are_none_of_the_kinds_are_named(tmp_path):
    path, module = tmp_path / "m.onnx", nn.Sequential(Only(build("fo"))).eval()
    example = torch.randn(2, 7, 5)
    export(module, path, example, golden=False)
    assert verify(path, module=module, args=example, only=["function"]).passed
    for arguments, message in (
        ({"module": module}, "Sequential is not a module of qrnn_deploy.nn: expected `args`"),
        ({"module": "m.pt"}, "module is 'm.pt', expected a torch.nn.Module: .* into checkpoint"),
    ):
        with pytest.raises(InputError, match=message):
            verify(path, only=["function"], **arguments)
    with pytest.raises(InputError, match="model is None, expected the path of a file"):
        verify(None)


def test_comparison_of_odd_values():
    """NaN where the other has a number, infinity and wrong shapes never pass."""
    one = np.ones(3)
    nan = np.array([1.0, np.nan, 1.0])
    inf = np.array([1.0, np.inf, 1.0])
    assert compare("a", "c", "o", one, one, 0.0).passed
    assert compare("a", "c", "o", nan, nan, 0.0).passed
    assert compare("a", "c", "o", inf, inf, 0.0).passed
    for got, exact in ((nan, one), (one, nan), (inf, one), (one, inf), (inf, -inf)):
        assert not compare("a", "c", "o", got, exact, 1e30).passed
    assert not compare("a", "c", "o", one, np.ones(4), 1e30).passed
    assert not VerifyReport("m", "r").passed  # nothing compared is no pass
    assert not Comparison("a", "c", "o", float("nan"), 0.0, 1.0).passed


@pytest.mark.parametrize("tied", [False, True])
def test_every_row_of_an_embedding_is_compared(tied, tmp_path):
    """A row whose token no sample holds is wrong: running cannot show it, the values do."""
    torch.manual_seed(0)
    module = QRNNLanguageModel(5000, 8, [8], tied=tied).eval()
    export(module, tmp_path / "m.onnx")
    assert verify(tmp_path / "m.onnx", module=module).passed
    model = onnx.load(tmp_path / "m.onnx")
    table = next(t for t in model.graph.initializer if t.name == "embedding.weight")
    rows = numpy_helper.to_array(table).copy()
    rows[4321] = 9.0
    table.CopyFrom(numpy_helper.from_array(rows, table.name))
    onnx.save(model, tmp_path / "m.onnx")
    report = verify(tmp_path / "m.onnx", module=module)
    assert not report.passed and "'embedding.weight'" in report.problems[0]
    report = verify(tmp_path / "m.onnx")
    assert not report.passed and "digests differ" in report.problems[0]


class Scaled(nn.Module):
    """A stack whose output is scaled, to be far below or above the floor of a tolerance."""

    def __init__(self, scale):
        super().__init__()
        self.stack, self.root = QRNN(5, 6, 1, batch_first=True), scale**0.5

    def forward(self, x):
        return self.stack(x)[0] * self.root * self.root


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e-6), ("float16", 1e-3)])
def test_small_outputs_are_compared_too(dtype, scale, tmp_path):
    torch.manual_seed(0)
    module, args = Scaled(scale).eval(), (torch.randn(2, 7, 5),)
    export(module, tmp_path / "m.onnx", args, dtype=dtype)
    half = copy.deepcopy(module).to(getattr(torch, dtype))
    assert verify(tmp_path / "m.onnx", module=half, args=args).passed
    model = onnx.load(tmp_path / "m.onnx")
    edit_weight(model, 0, lambda w: w.__imul__(-1))
    onnx.save(model, tmp_path / "m.onnx")
    report = verify(tmp_path / "m.onnx", module=half, args=args)
    assert {c.passed for c in report.comparisons if c.output == "y"} == {False}


def test_overflow_passes_only_where_pytorch_overflows(tmp_path):
    torch.manual_seed(0)
    module, args = Scaled(5e4**2).eval(), (torch.randn(2, 7, 5),)
    export(module, tmp_path / "m.onnx", args, dtype="float16")
    half = copy.deepcopy(module).half()
    report = verify(tmp_path / "m.onnx", module=half, args=args)
    assert report.passed, report.to_json()
    model = onnx.load(tmp_path / "m.onnx")
    edit_weight(model, 0, lambda w: w.__imul__(0))
    onnx.save(model, tmp_path / "m.onnx")
    assert not verify(tmp_path / "m.onnx", module=half, args=args).passed
    assert not verify(tmp_path / "m.onnx").passed


def test_partly_replaced_files_run_as_production_runs_them(tmp_path):
    """One node renamed with its function: ORT mixes kernel and function, and so does verify."""
    needs.kernel_library()
    module = build("zoneout")
    export(module, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    first, second = pool_nodes(model.graph)
    copied = onnx.FunctionProto()
    copied.CopyFrom(model.functions[0])
    copied.name = first.op_type = "Elsewhere"
    model.functions.append(copied)
    for attribute in second.attribute:
        if attribute.name == "zoneout_scale":
            attribute.f = 0.9
    onnx.save(model, tmp_path / "m.onnx")
    report = verify(tmp_path / "m.onnx", module=module)
    assert "mixed" in {c.artifact for c in report.comparisons}
    assert not report.passed and "only 1 of 2" in report.missing["kernel"]


def test_one_valued_examples_are_refused(tmp_path):
    """With them neither chunks nor the checks could be told apart."""

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.stack = nn.Embedding(9, 5), QRNN(5, 6, batch_first=True)

        def forward(self, ids):
            return self.stack(self.embedding(ids))[0]

    with pytest.raises(ExportError, match="'ids' holds one value only"):
        export(Words(), tmp_path / "m.onnx", (torch.zeros(2, 7, dtype=torch.int64),))


def test_deeper_model_is_refused(pair):
    with pytest.raises(ModelError, match=r"the PyTorch model runs \['layers.0'\]"):
        verify(pair[1], module=QRNN(5, 6, 1, window=2))


def test_ragged_grid_has_rows_of_every_kind():
    seen = {
        ("full" if n == time else "none" if n == 0 else "part")
        for seed in range(4)
        for time in (33,)
        for n in ragged_lengths(3, time, seed)
    }
    assert seen == {"full", "none", "part"}
    assert ragged_lengths(1, 33, 5) == [33]


def test_report_is_strict_json():
    report = VerifyReport("m", "r", [compare("a", "c", "o", np.ones(2), np.ones(3), 1.0)])
    assert json.loads(report.to_json(), parse_constant=pytest.fail)["would_pass"] is None
    assert "would pass" not in str(report._verdict())
    small = VerifyReport("m", "r", [Comparison("a", "c", "o", 1.449e-6, 0.0, 1e-9)])
    assert "--atol 1.5e-06 would pass" in str(small._verdict())


VERSIONED = sorted((Path(__file__).parent / "data").glob("v*/*.onnx"))


@pytest.mark.parametrize("path", VERSIONED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_files_of_every_version_still_run(path):
    """The compatibility promise: what an earlier version wrote runs in every later one."""
    report = verify(path)
    assert report.passed, report.to_json()


def test_there_are_files_of_every_version():
    folders = {path.parent.name for path in VERSIONED}
    assert folders == {f"v{number}" for number in range(1, FORMAT + 1)}
