"""Checkpoints of SRU and SRU++: upstream's answers, what is left open, and every mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from qrnn_deploy.checkpoints import Given, load_checkpoint, recognise_checkpoint
from qrnn_deploy.errors import CheckpointError
from qrnn_deploy.exporter import ExportOptions, export_checkpoint
from qrnn_deploy.nn import SRU, SRUState
from qrnn_deploy.runtime import Session
from qrnn_deploy.verifier import verify

FOLDER = Path(__file__).parent / "data" / "upstream"
Array = NDArray[Any]
Tensors = dict[str, Tensor]

ONE = Given(bidirectional=False)
CASES: dict[str, Given] = {
    "sru_v1": ONE,
    "sru_v2_basic": ONE,
    "sru_v2_bidir": Given(bidirectional=True),
    "sru_v2_postln": ONE,
    "sru_v2_proj": ONE,
}
PLUS = "srupp_basic"
WHOLE, CAUSAL = Given(bidirectional=False, causal=False), Given(bidirectional=False, causal=True)


def recorded(name: str) -> dict[str, Array]:
    """What upstream answered: x, y [T, B, *]; states [L, B, D]."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def close(got: Any, wanted: Array) -> None:
    """Equal to 1e-5, or 2e-6 of the largest value, and the tolerance says something."""
    wanted = np.asarray(wanted)
    got = np.asarray(got)
    assert got.shape == wanted.shape and np.abs(wanted).max() > 0.1
    allowed = max(1e-5, 2e-6 * float(np.abs(wanted).max()))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=allowed)


def given_state(c0: Array, ways: int) -> list[SRUState]:
    return [
        SRUState(torch.from_numpy(np.ascontiguousarray(c)))
        for level in c0
        for c in np.split(level, ways, axis=-1)
    ]


def joined(states: list[SRUState], ways: int) -> Array:
    """[L, B, D] from the states of all layers."""
    levels = [states[i : i + ways] for i in range(0, len(states), ways)]
    return np.stack([np.concatenate([s.c.numpy() for s in level], axis=-1) for level in levels])


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_pytorch_gives_what_upstream_gave(name: str) -> None:
    loaded = load_checkpoint(FOLDER / f"{name}.pt", given=CASES[name])
    module: Any = loaded.module
    assert loaded.format == "sru" and isinstance(module, SRU)
    facts = json.loads((FOLDER / f"{name}.json").read_text())["ctor"]
    assert loaded.config["v1"] == facts.get("v1", False)
    assert loaded.config["num_layers"] == facts["num_layers"]
    a, ways = recorded(name), len(module.layers) // module.num_layers
    x = torch.from_numpy(a["x"])
    start = given_state(a["c0"], ways)
    hold = torch.from_numpy(a["mask_pad"]) != 0
    assert hold.any()
    for state, kept, suffix in ((None, None, "_noc0"), (start, None, ""), (start, hold, "_mask")):
        y, after = module(x, state, hold=kept)
        close(y, a[f"y{suffix}"])
        close(joined(after, ways), a[f"c{suffix}"])
    lengths = torch.tensor([11, 7, 3])
    until = torch.arange(11)[:, None] >= lengths
    for ours, held in zip(module(x, start, lengths), module(x, start, hold=until), strict=True):
        torch.testing.assert_close(ours, held)


@pytest.mark.parametrize("name", [name for name in CASES if name != "sru_v2_bidir"])
@torch.no_grad()
def test_pytorch_in_chunks(name: str) -> None:
    module: Any = load_checkpoint(FOLDER / f"{name}.pt", given=CASES[name]).module
    a = recorded(name)
    for start, suffix in ((None, "_noc0"), (given_state(a["c0"], 1), "")):
        parts, state = [], start
        for chunk in torch.from_numpy(a["x"]).split([4, 1, 6]):
            y, state = module(chunk, state)
            parts.append(y)
        close(torch.cat(parts), a[f"y{suffix}"])
        close(joined(state, 1), a[f"c{suffix}"])


@torch.no_grad()
def test_pytorch_gives_what_attention_gave() -> None:
    a = recorded(PLUS)
    x = torch.from_numpy(a["x"])
    whole: Any = load_checkpoint(FOLDER / f"{PLUS}.pt", given=WHOLE)
    assert whole.format == "srupp" and not whole.module.streams
    y, after = whole.module(x)
    close(y, a["y_noc0"])
    close(joined(after, 1), a["c_noc0"])
    causal: Any = load_checkpoint(FOLDER / f"{PLUS}.pt", given=CAUSAL).module
    y, after = causal(x, given_state(a["c0"], 1))
    close(y, a["y"])
    close(joined(after, 1), a["c"])
    assert np.abs(a["y"] - a["y_noc0"]).max() > 0.1


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Export a checkpoint as an ONNX file, once."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def export(name: str, given: Given, lengths: bool = False) -> Path:
        path = folder / f"{name}-{given.causal}-{lengths}.onnx"
        export_checkpoint(FOLDER / f"{name}.pt", path, ExportOptions(lengths=lengths), given=given)
        return path

    return export


@pytest.mark.parametrize("kernel", ["require", "off"])
@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_gives_what_upstream_gave(
    name: str, kernel: Any, exported: Callable[..., Path]
) -> None:
    session = Session(exported(name, CASES[name]), kernel=kernel)
    how = "kernel" if kernel == "require" else "function"
    assert set(session.implementation.values()) == {how}
    a, meta = recorded(name), session.metadata
    (x,), (y,) = meta.inputs, meta.outputs
    assert (meta.state_mode == "none") == (name == "sru_v2_bidir")
    assert {layer.family for layer in meta.layers} == {"SRU"}
    turned = np.ascontiguousarray(a["x"].swapaxes(0, 1))
    for start, suffix in ((np.zeros_like(a["c0"]), "_noc0"), (a["c0"], "")):
        if meta.state_mode == "none" and suffix == "":
            continue  # such a file starts at zero by its contract
        for sizes in ([11], [4, 1, 6]) if meta.states else ([11],):
            states = {s.input: start[s.layer] for s in meta.states}
            parts, begin = [], 0
            for size in sizes:
                got = session.run({x.name: turned[:, begin : begin + size], **states})
                parts.append(got[y.name])
                states = {s.input: got[s.output] for s in meta.states}
                begin += size
            close(np.concatenate(parts, axis=1).swapaxes(0, 1), a[f"y{suffix}"])
            for entry in meta.states:
                close(states[entry.input], a[f"c{suffix}"][entry.layer])


@pytest.mark.parametrize(("given", "kernel"), [(WHOLE, "require"), (CAUSAL, "off")])
@torch.no_grad()
def test_attention_in_onnx_runtime(
    given: Given, kernel: Any, exported: Callable[..., Path]
) -> None:
    """Offline, and with rows of their own lengths, whose padding may be anything."""
    a = recorded(PLUS)
    module: Any = load_checkpoint(FOLDER / f"{PLUS}.pt", given=given).module
    expected, _ = module(torch.from_numpy(a["x"]))
    session = Session(exported(PLUS, given), kernel=kernel)
    assert session.metadata.state_mode == "none"
    turned = np.ascontiguousarray(a["x"].swapaxes(0, 1))
    got = session.run({"x": turned})["y"].swapaxes(0, 1)
    close(got, expected.numpy())
    if not given.causal:
        close(got, a["y_noc0"])
    lengths = np.array([9, 4, 1])
    expected, _ = module(torch.from_numpy(a["x"]), None, torch.from_numpy(lengths))
    turned[1, 4:] = np.nan
    session = Session(exported(PLUS, given, True), kernel=kernel)
    got = session.run({"x": turned, "lengths": lengths})["y"].swapaxes(0, 1)
    close(got, expected.numpy())


@pytest.mark.parametrize("name", ["sru_v1", "sru_v2_proj", PLUS])
def test_verify(name: str, exported: Callable[..., Path]) -> None:
    """Against the checkpoint, which is read again with what was said, and layer by layer."""
    given = CASES.get(name, WHOLE)
    report = verify(exported(name, given), checkpoint=FOLDER / f"{name}.pt", per_layer=True)
    assert report.passed, report.to_json()


def stored(name: str) -> Tensors:
    found: Tensors = torch.load(FOLDER / f"{name}.pt", weights_only=True)
    return found


@pytest.mark.parametrize("container", ["safetensors", "legacy", "nested", "parallel", "mine"])
@pytest.mark.parametrize("name", [*CASES, PLUS])
def test_every_container_reads_alike(name: str, container: str, tmp_path: Path) -> None:
    given = CASES.get(name, WHOLE)
    expected = load_checkpoint(FOLDER / f"{name}.pt", given=given)
    tensors, path = stored(name), tmp_path / "again.pt"
    if container == "safetensors":
        path = tmp_path / "again.safetensors"
        safetensors.torch.save_file(tensors, path)
    elif container == "nested":
        torch.save({"epoch": 3, "model": tensors, "opt": {"state": {}}}, path)
    elif container == "parallel":
        torch.save({f"module.{key}": value for key, value in tensors.items()}, path)
    elif container == "mine":
        inside = {f"encoder.rnn.{key}": value for key, value in tensors.items()}
        torch.save({"embed.weight": torch.ones(9, 12), **inside, "out.bias": torch.ones(2)}, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    again = load_checkpoint(path, given=given)
    assert (again.config, again.format) == (expected.config, expected.format)
    assert again.assumptions == expected.assumptions
    before = expected.module.state_dict()
    for key, value in again.module.state_dict().items():
        assert torch.equal(value, before[key])
    if container == "mine":
        (note,) = again.notes
        assert note.startswith("Only the SRU at encoder.rnn was read; left out: embed, out.")
    else:
        assert again.notes == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_types(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.save({k: v.to(dtype) for k, v in stored("sru_v1").items()}, tmp_path / "m.pt")
    module = load_checkpoint(tmp_path / "m.pt", given=ONE).module
    assert {value.dtype for value in module.state_dict().values()} == {dtype}


@pytest.mark.parametrize(
    ("name", "given", "ways"),
    [
        ("sru_v2_basic", Given(), 2),
        ("sru_v2_bidir", Given(input_size=12), 2),
        (PLUS, Given(), 4),
        (PLUS, Given(causal=True), 2),
        (PLUS, Given(bidirectional=True), 2),
    ],
)
def test_what_a_file_leaves_open_is_an_error(name: str, given: Given, ways: int) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(FOLDER / f"{name}.pt", given=given)
    text = str(caught.value)
    assert f"can be read in {ways} ways" in text and text.count("--format sru") == ways
    assert "--bidirectional (hidden size" in text and "\n" not in text


def test_an_odd_width_has_one_direction(tmp_path: Path) -> None:
    torch.save(cell(input_size=4, output=5), tmp_path / "m.pt")
    loaded = load_checkpoint(tmp_path / "m.pt")
    assert loaded.config["hidden_size"] == 5 and not loaded.config["bidirectional"]
    with pytest.raises(CheckpointError, match="give 5 features, an odd number"):
        load_checkpoint(tmp_path / "m.pt", given=Given(bidirectional=True))


def cell(input_size: int = 5, output: int = 5, scale: float = 1.0, gates: int = 0) -> Tensors:
    """The state dict of a lone SRUCell."""
    gates = gates or (3 if input_size == output else 4)
    return {
        "weight": torch.randn(input_size, output * gates),
        "weight_c": torch.randn(2 * output),
        "bias": torch.randn(2 * output),
        "scale_x": torch.tensor([scale]),
    }


def norm(size: int) -> Tensors:
    return {"layer_norm.weight": torch.ones(size), "layer_norm.bias": torch.zeros(size)}


@pytest.mark.parametrize(
    ("tensors", "given", "expected", "assumed"),
    [
        (cell(), Given(), {"highway": True, "rescale": False}, ["--no-highway", "--activation"]),
        (cell(), Given(highway=False), {"highway": False}, ["--activation"]),
        (cell(scale=1.7), Given(), {"highway": True, "rescale": True}, ["--no-rescale", "--act"]),
        (cell(scale=1.7), Given(rescale=False), {"rescale": False}, ["--activation"]),
        (cell(4, scale=1.7), Given(), {"highway": True, "rescale": True}, ["--activation"]),
        (cell(4, gates=3), Given(), {"highway": False}, ["--activation"]),
        (cell(4), Given(activation="tanh"), {"activation": "tanh"}, []),
        (cell() | norm(5), Given(), {"layer_norm": "before"}, ["--no-h", "--layer-norm", "--act"]),
        (cell() | norm(5), Given(layer_norm="after"), {"layer_norm": "after"}, ["--no-h", "--act"]),
        (cell(4) | norm(5), Given(), {"layer_norm": "after"}, ["--activation"]),
        (cell(4) | norm(4), Given(), {"layer_norm": "before"}, ["--activation"]),
    ],
)
def test_what_is_assumed_of_one_cell(
    tensors: Tensors, given: Given, expected: dict[str, Any], assumed: list[str], tmp_path: Path
) -> None:
    torch.save(tensors, tmp_path / "m.pt")
    loaded = load_checkpoint(tmp_path / "m.pt", given=given)
    assert {key: loaded.config[key] for key in expected} == expected
    assert len(loaded.assumptions) == len(assumed)
    for text, part in zip(loaded.assumptions, assumed, strict=True):
        assert part in text
    scale = tensors["scale_x"]
    found = [v for k, v in loaded.module.state_dict().items() if k.endswith("skip_scale")]
    wanted = loaded.config["rescale"] and loaded.config["highway"]
    assert len(found) == (wanted and tensors["weight"].shape[0] == 5)
    assert all(torch.equal(value, scale) for value in found)


def test_flags_change_the_numbers(tmp_path: Path) -> None:
    """Every option of a cell that leaves all of them open."""
    torch.save(cell(scale=1.7) | norm(5), tmp_path / "m.pt")
    x = torch.randn(4, 2, 5)
    answers = [
        load_checkpoint(tmp_path / "m.pt", given=given).module(x)[0]
        for given in (
            *(Given(), Given(highway=False), Given(rescale=False)),
            *(Given(activation="tanh"), Given(activation="relu"), Given(layer_norm="after")),
        )
    ]
    for index, answer in enumerate(answers):
        for other in answers[:index]:
            assert (answer - other).abs().max() > 1e-3


def edited(name: str, path: Path, edit: Callable[[Tensors], Any]) -> Path:
    tensors = stored(name)
    edit(tensors)
    torch.save(tensors, path / "edited.pt")
    return path / "edited.pt"


def put(name: str, *shape: int) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({name: torch.ones(shape)})


@pytest.mark.parametrize(
    ("name", "edit", "given", "part"),
    [
        ("sru_v2_basic", lambda t: t.pop("rnn_lst.0.bias"), ONE, "lacks tensor rnn_lst.0.bias"),
        ("sru_v2_basic", lambda t: t.pop("rnn_lst.0.weight"), ONE, "lacks tensor rnn_lst.0.weight"),
        ("sru_v2_basic", put("rnn_lst.1.weight_d", 3), ONE, "rnn_lst.1.weight_d that the format"),
        ("sru_v2_basic", put("rnn_lst.0.bias", 31), ONE, "has shape [31], expected [32]"),
        ("sru_v2_basic", put("rnn_lst.0.weight_c", 31), ONE, "has 31 elements, expected 2 times D"),
        ("sru_v2_basic", put("rnn_lst.0.weight", 12, 60), ONE, "have 60 columns, expected 3 or 4"),
        ("sru_v2_basic", put("rnn_lst.1.weight", 16, 64), ONE, "have 64 columns, expected 3 times"),
        ("sru_v2_basic", put("rnn_lst.1.weight", 15, 48), ONE, "[15, 48], expected [16, 48]"),
        ("sru_v2_basic", put("rnn_lst.0.scale_x", 2), ONE, "scale_x has shape [2]"),
        ("sru_v2_basic", put("rnn_lst.3.weight_c", 32), ONE, "lacks tensor rnn_lst.2.weight"),
        ("sru_v2_basic", put("rnn_lst.0.custom_m.weight", 3), ONE, "module of its own (custom_m)"),
        ("sru_v2_basic", put("other.rnn_lst.0.weight_c", 8), ONE, "SRU stacks in 2 places"),
        ("sru_v2_basic", put("input_to_hidden.weight", 16, 9), ONE, "and the first cell reads 12"),
        (
            "sru_v2_basic",
            lambda t: t.update({"rnn_lst.0.weight": torch.ones(12, 48)}),
            Given(bidirectional=False, highway=True),
            "expected 4 where input and output differ and there is a highway",
        ),
        ("sru_v2_basic", lambda t: None, Given(highway=False), "its cells have 4, 3 blocks"),
        ("sru_v2_basic", lambda t: None, Given(layer_norm="after"), "has no layer_norm"),
        ("sru_v2_basic", lambda t: None, Given(input_size=13), "its input size is 12, and 13"),
        ("sru_v2_basic", lambda t: None, Given(window=2), "--window does not apply"),
        ("sru_v2_basic", lambda t: None, Given(causal=True), "--causal/--no-causal does not"),
        ("sru_v2_postln", lambda t: None, Given(layer_norm="before"), "other sizes than those"),
        ("sru_v2_postln", put("rnn_lst.0.layer_norm.weight", 9), ONE, "expected [9]"),
        (
            "sru_v2_postln",
            lambda t: [t.pop(f"rnn_lst.1.layer_norm.{kind}") for kind in ("weight", "bias")],
            ONE,
            "some of its cells have a layer_norm",
        ),
        (
            "sru_v2_proj",
            lambda t: t.pop("rnn_lst.1.weight_proj"),
            ONE,
            "[6, 48], expected [16, 48]",
        ),
        ("sru_v2_proj", put("rnn_lst.2.weight_proj", 16, 5), ONE, "expected [16, 6]"),
        (PLUS, lambda t: t.pop("rnn_lst.0.transform_module.linear2.weight"), WHOLE, "linear2"),
        (PLUS, put("rnn_lst.1.transform_module.linear2.weight", 8, 8), WHOLE, "expected [16, 8]"),
        (PLUS, put("rnn_lst.0.transform_module.alpha", 2), WHOLE, "alpha has shape [2]"),
        (PLUS, put("rnn_lst.0.transform_module.linear4.weight", 2), WHOLE, "linear4.weight that"),
        (PLUS, put("rnn_lst.1.transform_module.linear1.weight", 8, 9), WHOLE, "expected [8, 16]"),
        (PLUS, lambda t: None, Given(heads=3, causal=True, bidirectional=False), "num_heads 3"),
    ],
)
def test_mistakes(
    name: str, edit: Callable[[Tensors], Any], given: Given, part: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(edited(name, tmp_path, edit), given=given)
    assert part in str(caught.value) and "\n" not in str(caught.value), str(caught.value)


@pytest.mark.parametrize("name", [PLUS])
def test_attention_without_alpha_adds_it_whole(name: str, tmp_path: Path) -> None:
    """Later commits of the branch dropped alpha."""

    def with_ones(tensors: Tensors) -> None:
        for level in range(2):
            tensors[f"rnn_lst.{level}.transform_module.alpha"].fill_(1.0)

    def without(tensors: Tensors) -> None:
        for level in range(2):
            del tensors[f"rnn_lst.{level}.transform_module.alpha"]

    x = torch.randn(5, 2, 12)
    expected = load_checkpoint(edited(name, tmp_path, with_ones), given=WHOLE).module(x)
    got = load_checkpoint(edited(name, tmp_path, without), given=WHOLE).module(x)
    torch.testing.assert_close(got, expected)


def test_a_level_without_attention(tmp_path: Path) -> None:
    """attention_every_n_layers=2: the first level projects only."""

    def edit(tensors: Tensors) -> None:
        path = "rnn_lst.0.transform_module."
        tensors[f"{path}linear2.weight"] = tensors.pop(f"{path}linear3.weight")
        del tensors[f"{path}alpha"]

    path = edited(PLUS, tmp_path, edit)
    loaded: Any = load_checkpoint(path, given=CAUSAL)
    assert loaded.config["attention"] == [False, True]
    tensors = torch.load(path, weights_only=True)
    first = loaded.module.layers[0]
    x = torch.randn(1, 1, 12)
    q = x @ tensors["rnn_lst.0.transform_module.linear1.weight"].T
    norm = [tensors[f"rnn_lst.0.transform_module.layer_norm.{k}"] for k in ("weight", "bias")]
    q = torch.nn.functional.layer_norm(q, (8,), *norm)
    u = q @ tensors["rnn_lst.0.transform_module.linear2.weight"].T
    _, state = first(x)
    columns = u.reshape(16, 4)
    forget = torch.sigmoid(columns[:, 1] + tensors["rnn_lst.0.bias"][:16])
    torch.testing.assert_close(state.c[0], (1 - forget) * columns[:, 0])
    assert recognise_checkpoint(path, CAUSAL).reading.notes == ()
