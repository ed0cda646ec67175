"""Checkpoints of recurrent highway networks: upstream's answers, its equations, every mistake."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rhn_oracle as oracle
import safetensors.torch
import test_tensorflow_file as bundle
import torch
from numpy.typing import NDArray
from torch import Tensor

from qrnn_deploy.checkpoints import Given, load_checkpoint, recognise_checkpoint
from qrnn_deploy.errors import CheckpointError
from qrnn_deploy.exporter import ExportOptions, export_checkpoint
from qrnn_deploy.nn import RHN, RHNLanguageModel, RHNState
from qrnn_deploy.runtime import Session
from qrnn_deploy.verifier import verify

FOLDER = Path(__file__).parent / "data" / "upstream"
LABML, JIT = "rhn_labml_d3_L2", "rhn_vermajit_d2"
TOLERANCE = 1e-5
Array = NDArray[Any]
Tensors = dict[str, Tensor]


def recorded(name: str) -> dict[str, Array]:
    """What upstream answered, batch first; states [L, B, H]."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        found = dict(arrays)
    if name == JIT:
        return {"x": found["x"], "y": found["y"], "s0": found["s0"][None]}
    turned = {key: found[key].swapaxes(0, 1) for key in ("x", "y", "y_nos0")}
    return turned | {key: found[key] for key in ("s0", "s", "s_nos0")}


def close(got: Any, wanted: Array) -> None:
    """Equal within the tolerance, and the tolerance says something."""
    assert np.abs(wanted).max() > 1e4 * TOLERANCE
    np.testing.assert_allclose(np.asarray(got), wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("pieces", [[11], [1, 7, 3]], ids=["whole", "chunks"])
@pytest.mark.parametrize(("name", "kind"), [(LABML, "rhn-labml"), (JIT, "rhn-jit")])
@torch.no_grad()
def test_pytorch_gives_what_upstream_gave(name: str, kind: str, pieces: list[int]) -> None:
    loaded = load_checkpoint(FOLDER / f"{name}.pt")
    module: Any = loaded.module
    assert loaded.format == kind and isinstance(module, RHN)
    answers = recorded(name)
    for y_name, s_name in (("y", "s"), ("y_nos0", "s_nos0")):
        if y_name not in answers:
            continue
        state = [RHNState(s) for s in torch.from_numpy(answers["s0"])] if y_name == "y" else None
        x = torch.from_numpy(answers["x"])
        outputs = []
        for chunk in x.split(pieces, dim=1):
            y, state = module(chunk if module.batch_first else chunk.transpose(0, 1), state)
            outputs.append(y if module.batch_first else y.transpose(0, 1))
        close(torch.cat(outputs, dim=1), answers[y_name])
        assert state is not None
        if s_name in answers:
            close(torch.stack([after.s for after in state]), answers[s_name])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Export a recorded checkpoint, once."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def export(name: str) -> Path:
        export_checkpoint(FOLDER / f"{name}.pt", folder / f"{name}.onnx")
        return folder / f"{name}.onnx"

    return export


@pytest.mark.parametrize("pieces", [[11], [1, 7, 3]], ids=["whole", "chunks"])
@pytest.mark.parametrize("name", [LABML, JIT])
def test_onnx_runtime_gives_what_upstream_gave(
    name: str, pieces: list[int], exported: Callable[[str], Path]
) -> None:
    session = Session(exported(name))
    meta, answers = session.metadata, recorded(name)
    assert set(session.implementation.values()) == {"function"}
    assert [layer.family for layer in meta.layers] == ["RHN"] * len(answers["s0"])
    assert [layer.depth for layer in meta.layers] == ([3, 3] if name == LABML else [2])
    for y_name, s_name in (("y", "s"), ("y_nos0", "s_nos0")):
        if y_name not in answers:
            continue
        start = answers["s0"] if y_name == "y" else np.zeros_like(answers["s0"])
        states = {entry.input: start[entry.layer] for entry in meta.states}
        outputs, begin = [], 0
        for count in pieces:
            x = np.ascontiguousarray(answers["x"][:, begin : begin + count])
            got = session.run({meta.inputs[0].name: x} | states)
            outputs.append(got[meta.outputs[0].name])
            states = {entry.input: got[entry.output] for entry in meta.states}
            begin += count
        close(np.concatenate(outputs, axis=1), answers[y_name])
        if s_name in answers:
            close(np.stack([states[entry.input] for entry in meta.states]), answers[s_name])


def test_verified(exported: Callable[[str], Path]) -> None:
    report = verify(exported(LABML), checkpoint=FOLDER / f"{LABML}.pt", per_layer=True)
    assert report.passed and [layer.name for layer in report.layers] == ["layers.0", "layers.1"]
    assert verify(exported(JIT)).passed


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"states": "packed"}, {"lengths": True}])
def test_other_exports(options: dict[str, Any], tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    export_checkpoint(FOLDER / f"{LABML}.pt", model, ExportOptions(**options))
    assert verify(model).passed


@pytest.mark.parametrize("name", [LABML, JIT])
@pytest.mark.parametrize("container", ["safetensors", "legacy", "nested", "parallel", "prefix"])
def test_every_container_reads_alike(name: str, container: str, tmp_path: Path) -> None:
    before = load_checkpoint(FOLDER / f"{name}.pt")
    tensors = torch.load(FOLDER / f"{name}.pt", weights_only=True)
    path = tmp_path / "again.pt"
    if container == "safetensors":
        safetensors.torch.save_file(tensors, path)
    elif container == "nested":
        torch.save({"epoch": 3, "model": tensors, "optimizer": {"state": {}}}, path)
    elif container in ("parallel", "prefix"):
        start = "module." if container == "parallel" else "net.rnn."
        torch.save({f"{start}{key}": value for key, value in tensors.items()}, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    again = load_checkpoint(path)
    assert (again.config, again.format) == (before.config, before.format)
    for key, value in again.module.state_dict().items():
        assert torch.equal(value, before.module.state_dict()[key])


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    return {name: draw.normal(size=shape) for name, shape in shapes.items()}


def labml_shapes(width: int, hidden: int, depth: int, layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for cell in range(layers):
        read = hidden if cell else width
        shapes[f"cells.{cell}.input_lin.weight"] = (2 * hidden, read)
        for d in range(depth):
            shapes[f"cells.{cell}.hidden_lin.{d}.weight"] = (2 * hidden, hidden)
            shapes[f"cells.{cell}.hidden_lin.{d}.bias"] = (2 * hidden,)
    return shapes


def jit_shapes(width: int, hidden: int, depth: int) -> dict[str, tuple[int, ...]]:
    maps = {"input_fc": width, "first_fc_layer": hidden}
    maps |= {f"fc_layers.{n}": hidden for n in range(depth - 1)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, read in maps.items():
        shapes[f"rhncell.{name}.weight"] = (2 * hidden, read)
        shapes[f"rhncell.{name}.bias"] = (2 * hidden,)
    return shapes | {"output_fc.weight": (hidden, hidden), "output_fc.bias": (hidden,)}


def saved(path: Path, weights: dict[str, Array]) -> Path:
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, path)
    return path


@pytest.mark.parametrize(
    ("width", "hidden", "depth", "layers"), [(5, 3, 1, 1), (3, 5, 4, 3), (4, 4, 11, 2)]
)
@torch.no_grad()
def test_labml_of_other_sizes(
    width: int, hidden: int, depth: int, layers: int, tmp_path: Path
) -> None:
    """A number of two digits shows that the order is not that of the names."""
    weights = drawn(labml_shapes(width, hidden, depth, layers))
    loaded = load_checkpoint(saved(tmp_path / "m.pt", weights), given=Given(batch_first=False))
    x = np.random.default_rng(1).normal(size=(6, 2, width))
    y, state = loaded.module(torch.from_numpy(x))
    wanted, s_T = oracle.labml(weights, x)
    np.testing.assert_allclose(y, wanted, atol=1e-12)
    np.testing.assert_allclose(torch.stack([after.s for after in state]), s_T, atol=1e-12)
    assert loaded.assumptions == () and loaded.config["depth"] == depth


@torch.no_grad()
def test_one_cell_of_labml(tmp_path: Path) -> None:
    weights = drawn(labml_shapes(5, 3, 2, 1))
    alone = {name.removeprefix("cells.0."): value for name, value in weights.items()}
    loaded = load_checkpoint(saved(tmp_path / "cell.pt", alone))
    x = np.random.default_rng(1).normal(size=(6, 2, 5))
    np.testing.assert_allclose(
        loaded.module(torch.from_numpy(x))[0], oracle.labml(weights, x)[0], atol=1e-12
    )


@pytest.mark.parametrize(("width", "hidden", "depth"), [(5, 3, 1), (3, 5, 12)])
@torch.no_grad()
def test_jit_of_other_sizes(width: int, hidden: int, depth: int, tmp_path: Path) -> None:
    weights = drawn(jit_shapes(width, hidden, depth))
    loaded = load_checkpoint(saved(tmp_path / "m.pt", weights))
    draw = np.random.default_rng(1)
    x, s0 = draw.normal(size=(2, 6, width)), draw.normal(size=(2, hidden))
    y, _ = loaded.module(torch.from_numpy(x), [RHNState(torch.from_numpy(s0))])
    np.testing.assert_allclose(y, oracle.jit(weights, x, s0), atol=1e-12)
    assert any("state of zeros" in text for text in loaded.assumptions)


def tensorflow_shapes(
    vocab: int = 7,
    width: int = 4,
    hidden: int = 4,
    depth: int = 2,
    layers: int = 1,
    tied: bool = True,
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model/embedding": (vocab, width)}
    for layer, gate, i in itertools.product(range(layers), "ht", range(depth)):
        scope = f"model/RHN{layer}/{gate}_{i}/Linear"
        read = (hidden if layer else width) + hidden if i == 0 else hidden
        shapes |= {f"{scope}/Matrix": (read, hidden), f"{scope}/Bias": (hidden,)}
    shapes["model/softmax_b"] = (vocab,)
    return shapes if tied else shapes | {"model/softmax_w": (hidden, vocab)}


def written(folder: Path, weights: dict[str, Array], rate: bool = True) -> Path:
    """A checkpoint of TensorFlow's format V2 with these variables, float32."""
    content, entries = b"", {}
    everything = weights | ({"model/Variable": np.array(0.2)} if rate else {})
    for name in sorted(everything):  # as TensorFlow sorts its table
        data = np.asarray(everything[name], "<f4").tobytes()
        entry = bundle.entry(1, everything[name].shape, 0, len(content), len(data))
        entries[name.encode()] = entry
        content += data
    return bundle.written(folder, entries, content)


TENSORFLOW_CASES: list[dict[str, Any]] = [
    {},
    {"vocab": 3, "width": 3, "hidden": 5, "depth": 3, "tied": False},
    {"vocab": 9, "width": 5, "hidden": 5, "depth": 11, "layers": 2},
]


@pytest.mark.parametrize("route", ["index", "npz", "colon"])
@pytest.mark.parametrize("case", TENSORFLOW_CASES, ids=["tied", "untied", "deep"])
@torch.no_grad()
def test_the_authors_model(case: dict[str, Any], route: str, tmp_path: Path) -> None:
    shapes = tensorflow_shapes(**case)
    weights = {name: value * 0.5 for name, value in drawn(shapes).items()}
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    if route == "index":
        path = written(tmp_path, weights)
    else:
        path = tmp_path / "m.npz"
        suffix = ":0" if route == "colon" else ""
        np.savez(path, **{f"{name}{suffix}": value for name, value in weights.items()})
    loaded = load_checkpoint(path)
    module: Any = loaded.module.double()
    assert loaded.format == "rhn-tensorflow" and isinstance(module, RHNLanguageModel)
    tokens = np.random.default_rng(1).integers(0, shapes["model/embedding"][0], (2, 9))
    wanted, s_T = oracle.tensorflow(weights, tokens)
    logits, state = module(torch.from_numpy(tokens))
    np.testing.assert_allclose(logits, wanted, atol=1e-12)
    for after, s in zip(state, s_T, strict=True):
        np.testing.assert_allclose(after.s, s, atol=1e-12)
    # Upstream hands the state from batch to batch, as a stream does from chunk to chunk.
    first, state = module(torch.from_numpy(tokens[:, :4]))
    rest, _ = module(torch.from_numpy(tokens[:, 4:]), state)
    np.testing.assert_allclose(torch.cat([first, rest], dim=1), wanted, atol=1e-12)
    assert loaded.config["tied"] is case.get("tied", True)
    assert any("vocabulary" in text for text in loaded.assumptions)


def test_the_authors_model_with_a_vocabulary(tmp_path: Path) -> None:
    """From the bundle to an ONNX file that knows its tokens."""
    weights = drawn(tensorflow_shapes(**TENSORFLOW_CASES[2]))
    path, tokens = written(tmp_path, weights), tmp_path / "tokens.txt"
    words = [f"w{n}" for n in range(9)]
    tokens.write_text("\n".join(words) + "\n")
    given = Given(vocabulary=str(tokens), direction="forward")
    assert recognise_checkpoint(path, given).reading.assumed == ()
    model = tmp_path / "lm.onnx"
    export_checkpoint(path, model, given=given)
    session = Session(model)
    assert session.metadata.vocabulary == words
    numbers = np.random.default_rng(1).integers(0, 9, (2, 6))
    states = {s.input: np.zeros((2, *s.shape), s.dtype) for s in session.metadata.states}
    got = session.run({"tokens": numbers} | states)["logits"]
    plain = {name: value.astype(np.float32) for name, value in weights.items()}
    np.testing.assert_allclose(got, oracle.tensorflow(plain, numbers)[0], rtol=0, atol=2e-5)
    assert verify(model).passed


def test_a_scope_of_another_name(tmp_path: Path) -> None:
    weights = drawn(tensorflow_shapes())
    for scope in ("lm/rhn/", ""):
        path = tmp_path / f"{len(scope)}.npz"
        np.savez(path, **{n.replace("model/", scope): v for n, v in weights.items()})
        assert load_checkpoint(path).config["vocab_size"] == 7


Edit = Callable[[dict[str, Array]], None]


def without(*names: str) -> Edit:
    def edit(weights: dict[str, Array]) -> None:
        for name in names:
            del weights[name]

    return edit


def put(name: str, *shape: int, dtype: Any = np.float64) -> Edit:
    return lambda weights: weights.__setitem__(name, np.ones(shape, dtype))


def both(*edits: Edit) -> Edit:
    return lambda weights: [edit(weights) for edit in edits] and None


R0 = "model/RHN0"
LABML_MISTAKES: list[tuple[Edit, str]] = [
    (without("cells.0.input_lin.weight"), "lacks tensor cells.0.input_lin.weight"),
    (without("cells.1.hidden_lin.1.bias"), "lacks tensor cells.1.hidden_lin.1.bias"),
    (
        without("cells.0.hidden_lin.0.weight", "cells.0.hidden_lin.0.bias"),
        "lacks tensor cells.0.hidden_lin.0.weight",
    ),
    (
        both(put("cells.1.hidden_lin.2.weight", 6, 3), put("cells.1.hidden_lin.2.bias", 6)),
        "layer 1 has depth 3 and layer 0 has 2, expected one depth for all",
    ),
    (put("cells.1.input_lin.weight", 6, 5), "layer 1 reads 5 features, expected 3"),
    (put("cells.0.input_lin.weight", 5, 5), "has 5 rows, expected an even number"),
    (put("cells.0.input_lin.weight", 6, 0), "has shape [6, 0], expected 2 sizes above 0"),
    (put("cells.0.hidden_lin.1.weight", 6, 4), "has shape [6, 4], expected [6, 3]"),
    (put("cells.0.hidden_lin.1.bias", 3), "has shape [3], expected [6]"),
    (put("cells.0.input_lin.bias", 6), "has tensor cells.0.input_lin.bias that the format"),
    (put("cells.0.hidden_lin.1.bias", 6, dtype=np.float32), "expected one type for all"),
]
JIT_MISTAKES: list[tuple[Edit, str]] = [
    (without("rhncell.input_fc.bias"), "lacks tensor rhncell.input_fc.bias"),
    (without("rhncell.first_fc_layer.weight"), "lacks tensor rhncell.first_fc_layer.weight"),
    (without("output_fc.weight", "output_fc.bias"), "lacks tensor output_fc.weight"),
    (put("output_fc.weight", 2, 3), "has shape [2, 3], expected [3, 3]"),
    (put("rhncell.input_fc.bias", 3), "has shape [3], expected [6]"),
    (put("rhncell.fc_layers.3.bias", 6), "lacks tensor rhncell.fc_layers.1.weight"),
    (put("head.weight", 2, 3), "has tensor head.weight that the format rhn-jit does not have"),
]
TENSORFLOW_MISTAKES: list[tuple[Edit, str]] = [
    (without("model/embedding"), "lacks tensor model/embedding"),
    (without("model/softmax_b"), "lacks tensor model/softmax_b"),
    (without(f"{R0}/t_1/Linear/Bias"), f"lacks tensor {R0}/t_1/Linear/Bias"),
    (put(f"{R0}/h_0/Linear/Matrix", 7, 4), "has shape [7, 4], expected [8, 4]"),
    (put(f"{R0}/t_1/Linear/Matrix", 8, 4), "has shape [8, 4], expected [4, 4]"),
    (put(f"{R0}/t_1/Linear/Bias", 5), "has shape [5], expected [4]"),
    (put("model/softmax_b", 6), "has shape [6], expected [7]"),
    (put("model/softmax_w", 7, 4), "has shape [7, 4], expected [4, 7]"),
    (put("model/embedding", 7, 3), "has shape [8, 4], expected [7, 4]"),
    (put("model/other", 2), "has tensor model/other that the format"),
    (put("model/embedding:0", 7, 4), "holds a variable with and without :0"),
    (put("model/RHN2/h_0/Linear/Bias", 4), "lacks tensor model/RHN1/h_0/Linear/Matrix"),
    (
        both(
            put("model/embedding", 7, 3),
            *(put(f"{R0}/{gate}_0/Linear/Matrix", 7, 4) for gate in "ht"),
        ),
        "lacks tensor model/softmax_w",
    ),
]


@pytest.mark.parametrize(
    ("shapes", "edit", "part"),
    [
        *((labml_shapes(5, 3, 2, 2), *mistake) for mistake in LABML_MISTAKES),
        *((jit_shapes(5, 3, 2), *mistake) for mistake in JIT_MISTAKES),
        *((tensorflow_shapes(), *mistake) for mistake in TENSORFLOW_MISTAKES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes(
    shapes: dict[str, tuple[int, ...]], edit: Edit, part: str, tmp_path: Path
) -> None:
    weights = drawn(shapes)
    edit(weights)
    if "model/softmax_b" in shapes:
        np.savez(tmp_path / "m.npz", **weights)
    else:
        saved(tmp_path / "m.pt", weights)
    (path,) = tmp_path.iterdir()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert part in message and message.startswith(f"{path}: ") and message.isprintable()


def test_a_depth_that_nobody_has(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", drawn(labml_shapes(2, 1, 257, 1)))
    with pytest.raises(CheckpointError, match=r"depth is 257, expected a whole number in 1\.\.256"):
        load_checkpoint(path)


def test_one_matrix_under_many_names(tmp_path: Path) -> None:
    """A file that would take a hundred times its size in memory."""
    tensors: Tensors = {"input_lin.weight": torch.zeros(2000, 4)}
    weight, bias = torch.zeros(2000, 1000), torch.zeros(2000)
    for d in range(100):
        tensors |= {f"hidden_lin.{d}.weight": weight, f"hidden_lin.{d}.bias": bias}
    torch.save(tensors, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match="its weights are one and the same"):
        load_checkpoint(tmp_path / "bomb.pt")


def test_options_that_do_not_apply() -> None:
    for name, kind in ((LABML, "rhn-labml"), (JIT, "rhn-jit")):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(FOLDER / f"{name}.pt", given=Given(zoneout=0.1))
        assert f"is a {kind} checkpoint, to which --zoneout does not apply" in str(caught.value)


def test_a_network_around_one_is_told_what_to_do(tmp_path: Path) -> None:
    inner = {f"rnn.{n}": v for n, v in drawn(labml_shapes(5, 3, 2, 1)).items()}
    path = saved(tmp_path / "m.pt", inner | drawn({"embedding.weight": (9, 5)}))
    with pytest.raises(CheckpointError, match="save the state dict of that part alone"):
        load_checkpoint(path)
