"""Checkpoints that are nearly right, or something else: one line that says what and what to do."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from upstream_cases import CASES

from qrnn_deploy.checkpoints import Given, load_checkpoint, recognise_checkpoint, registry
from qrnn_deploy.checkpoints.candidate import Candidate
from qrnn_deploy.checkpoints.pickle_names import Shell
from qrnn_deploy.checkpoints.tables import InMemory, find_tables
from qrnn_deploy.checkpoints.vocabulary import read_vocabulary
from qrnn_deploy.errors import CheckpointError

Tensors = dict[str, Any]


def refuse(path: Path, given: Given | None = None) -> str:
    """Load, and return the one line that the file was refused with, without its name."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, given=given)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert len(message) - len(str(path)) < 700, message
    return message.removeprefix(f"{path}: ")


def edited(name: str, folder: Path, edit: Callable[[Tensors], Any]) -> Path:
    """A recorded checkpoint's state dict after ``edit``."""
    found = recognise_checkpoint(CASES[name].path, CASES[name].given)
    assert found.table is not None
    tensors = {key: value.load() for key, value in found.table.tensors.items()}
    edit(tensors)
    path = folder / "edited.pth"
    torch.save(tensors, path)
    return path


def rename(old: str, new: str) -> Callable[[Tensors], Any]:
    return lambda t: t.update({new: t.pop(old)})


@pytest.mark.parametrize(
    ("name", "edit", "parts"),
    [
        (
            "fa1_lm_model_opt",
            rename("0.rnns.2.layers.0.linear.module.bias", "0.rnns.2.layers.0.linear.module.bais"),
            ["lacks tensor 0.rnns.2.layers.0.linear.module.bias", "nearest name in it is", "bais"],
        ),
        (
            "fa1_lm_model_opt",
            lambda t: t.update({"0.rnns.1.layers.0.linear.weight_rw": torch.zeros(2)}),
            [
                "has tensor 0.rnns.1.layers.0.linear.weight_rw",
                "nearest that it has",
                "weight_raw): leave it out of the file, or, if it belongs to a network of your own",
            ],
        ),
        (
            "fa1_lm_model_opt",
            lambda t: t.pop("0.encoder.weight") is t.pop("0.encoder_dp.emb.weight"),
            ["lacks tensor 0.encoder.weight of the format fastai1"],
        ),
        (
            "fa1_lm_model_opt",
            lambda t: [t.pop(k) for k in list(t) if k.startswith("0.rnns.1.")],
            ["lacks tensor 0.rnns.1.layers.0.linear.weight_raw"],
        ),
        (
            "fa1_lm_model_opt",
            lambda t: t.update({"1.decoder.bias": torch.zeros(40)}),
            ["tensor 1.decoder.bias has shape [40], expected [41]"],
        ),
        (
            "fa2_lm",
            lambda t: t.update({"1.decoder.bias": t["1.decoder.bias"].half()}),
            ["tensor decoder_bias is torch.float16", "torch.float32, expected one type for all"],
        ),
        (
            "fa2_lm",
            lambda t: t.update({"0.encoder.weight": t.pop("0.encoder_dp.emb.weight").int()}),
            ["tensor embedding.weight is torch.int32, expected float32"],
        ),
        (
            "fa2_lm",
            lambda t: t["0.rnns.0.layers.0.linear.weight_raw"].fill_(float("nan")),
            ["holds NaN or infinity", "--allow-non-finite"],
        ),
        (
            "fa1_classifier",
            lambda t: t.pop("1.layers.4.running_var"),
            ["lacks tensor 1.layers.4.running_var", "nearest name in it is"],
        ),
        (
            "fa1_classifier",
            lambda t: [t.pop(k) for k in list(t) if k.startswith("1.layers.4.")],
            ["has a head whose 1.layers.6 has no batch norm before it"],
        ),
        (
            "awd_qrnn_tied_wd5_sd",
            lambda t: [t.pop(k) for k in ("decoder.weight", "decoder.bias")],
            ["lacks tensor decoder.weight of the format awd-lstm-lm"],
        ),
        (
            "pase_wavefe_small",
            lambda t: t.update({"W.weight": torch.zeros(10, 12, 3)}),
            ["tensor W.weight has shape [10, 12, 3], expected [embedding, 12, 1]"],
        ),
        (
            "pase_wavefe_small",
            lambda t: t.update({"rnn.layers.1.linear.weight": torch.zeros(36, 12)}),
            ["which are no QRNN of pase with window 2 in every layer"],
        ),
        (
            "sf_qrnn_prevx_chunks",
            lambda t: t.update({"layers.1.linear.weight": torch.zeros(60, 80)}),
            ["has a layer of window 4", "knows windows up to 2"],
        ),
        (
            "sf_qrnn_prevx_chunks",
            lambda t: t.update({"layers.1.linear.weight": torch.zeros(60, 41)}),
            ["has layers of shapes [60, 24], [60, 41], which are no QRNN of torchqrnn"],
        ),
        (
            "sf_qrnn_prevx_chunks",
            lambda t: t.update({"layers.1.linear.bias": torch.zeros(3, 20)}),
            ["tensor layers.1.linear.bias has shape [3, 20], expected [60]"],
        ),
        (
            "sf_qrnn_prevx_chunks",
            lambda t: t.update({"layers.0.linear.weight": torch.zeros(60)}),
            ["tensor layers.0.linear.weight has shape [60], expected 2 sizes above 0"],
        ),
        (
            "fa1_qrnn_1",
            lambda t: t.pop("layers_bwd.1.linear.bias"),
            ["lacks tensor layers_bwd.1.linear.bias of the format fastai-qrnn"],
        ),
    ],
)
def test_nearly_right(
    name: str, edit: Callable[[Tensors], Any], parts: list[str], tmp_path: Path
) -> None:
    message = refuse(edited(name, tmp_path, edit), CASES[name].given)
    for part in parts:
        assert part in message, message


def _lstm(kind: type[torch.nn.RNNBase]) -> Tensors:
    return {f"rnn.{k}": v for k, v in kind(4, 6).state_dict().items()}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (_lstm(torch.nn.LSTM), "an LSTM checkpoint (rnn.weight_hh_l0 [24, 6]), not a QRNN"),
        (_lstm(torch.nn.GRU), "a GRU checkpoint (rnn.weight_hh_l0 [18, 6])"),
        ({"0.rnns.0.weight_hh_l0_raw": torch.zeros(16, 4)}, "an LSTM checkpoint"),
        (
            {"fc1.weight": torch.zeros(9, 4), "fc1.bias": torch.zeros(9)},
            "a feed-forward network of linear layers; many projects named qrnn are quantile",
        ),
        (
            {"quantile_head.weight": torch.zeros(9, 4)},
            "a quantile-regression network, which has no quasi-recurrent layer",
        ),
        ({"conv1.weight": torch.zeros(9, 4, 3, 3)}, "a convolutional network"),
        ({"rnn_lst.0.weight": torch.zeros(4, 12)}, "an SRU of a version before 2.0"),
        (
            {
                "embedding.weight": torch.zeros(9, 12),
                "rnn.cells.0.input_lin.weight": torch.zeros(4, 12),
            },
            "a network with a recurrent highway network inside, which has no format",
        ),
        (
            {
                "cnn.weight": torch.zeros(4, 1, 3),
                "rnn.layers.0.linear.weight": torch.zeros(12, 4),
                "rnn.layers.0.linear.bias": torch.zeros(12),
                "out.weight": torch.zeros(2, 4),
                "out.bias": torch.zeros(2),
            },
            "a network with layers of torchqrnn's kind inside, which has no format: build it with "
            "its own code, load the weights, and export qrnn_deploy.convert(model)",
        ),
    ],
)
def test_other_networks_are_named(content: Tensors, part: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    assert f"it looks like {part}" in refuse(tmp_path / "other.pt")


def test_attributes_below_a_prefix(tmp_path: Path) -> None:
    """A whole module around one layer: its recorded facts count as without the wrapper."""
    inner = {
        **{"window": 1, "zoneout": 0.3, "output_gate": True, "hidden_size": 4, "input_size": 6},
        "_modules": {"linear": oracle_linear(12, 6)},
    }
    layer = Shell("torchqrnn.qrnn.QRNNLayer", inner)
    for content in (
        layer,
        Shell("torch.nn.modules.container.Sequential", {"_modules": {"0": layer}}),
    ):
        (table,) = find_tables(content)
        candidate = Candidate(tmp_path / "m.pt", "", "pytorch", {}, content, [table])
        reading = registry._recognise(candidate, Given()).reading
        assert reading.config["zoneout"] == 0.3 and reading.config["window"] == 1
        assert reading.config["zoneout_eval"] == "expectation" and reading.assumed == ()


def oracle_linear(rows: int, columns: int) -> Shell:
    parameters = {
        "weight": InMemory(torch.randn(rows, columns)),
        "bias": InMemory(torch.randn(rows)),
    }
    return Shell("torch.nn.modules.linear.Linear", {"_parameters": parameters, "_modules": {}})


def test_zoneout_of_a_pickled_language_model(tmp_path: Path) -> None:
    """awd-lstm-lm sets it to 0; where a pickled layer records another, it counts."""
    found = recognise_checkpoint(CASES["awd_qrnn_untied_wd0"].path)
    assert found.table is not None and found.reading.config["zoneout"] == 0
    attributes = {
        path: {**values, "zoneout": 0.3} if "zoneout" in values else values
        for path, values in found.table.attributes.items()
    }
    table = replace(found.table, attributes=attributes)
    candidate = replace(found.candidate, tables=[table])
    config = registry._recognise(candidate, Given()).reading.config
    assert (config["zoneout"], config["zoneout_eval"]) == (0.3, "expectation")
    assert (
        "zoneout 0.3, as the file records"
        in registry._recognise(candidate, Given()).reading.inferred
    )
    assert not any("zoneout" in text for text in found.reading.inferred)


@pytest.mark.parametrize(("rows", "columns"), [(3, 7), (9, 5)])
def test_any_linear_map_is_not_taken_for_a_layer(rows: int, columns: int, tmp_path: Path) -> None:
    path = tmp_path / "linear.pt"
    tensors = {"linear.weight": torch.randn(rows, columns), "linear.bias": torch.randn(rows)}
    torch.save(tensors, path)
    assert "weight and bias of any linear map" in refuse(path)
    assert load_checkpoint(path, given=Given(format="torchqrnn")).format == "torchqrnn"


def test_one_window_for_all_layers_is_said(tmp_path: Path) -> None:
    """What --zoneout, which fastai has no use for, leaves open is an assumption."""
    path = tmp_path / "stack.pt"
    tensors = {
        "layers.0.linear.weight": torch.randn(24, 20),
        "layers.1.linear.weight": torch.randn(24, 8),
        **{f"layers.{n}.linear.bias": torch.randn(24) for n in range(2)},
    }
    torch.save(tensors, path)
    assert "can be read in 2 ways" in refuse(path)
    loaded = load_checkpoint(path, given=Given(zoneout=0.1))
    assert any("one window for all layers" in text for text in loaded.assumptions)
    two = load_checkpoint(path, given=Given(zoneout=0.1, window=(2, 1)))
    assert two.config["input_size"] == 10 and two.assumptions == ()


def test_what_else_is_in_a_file_is_said(tmp_path: Path) -> None:
    tensors = torch.load(CASES["sf_qrnn_prevx_chunks"].path, weights_only=True)
    path = tmp_path / "more.pt"
    head = {"head.weight": torch.zeros(2, 20)}
    state = {"state": {0: {"exp_avg": torch.zeros(2)}}}
    torch.save({"encoder": tensors, "head": head, "optimizer": state}, path)
    assert load_checkpoint(path).notes == ("Also in the file, and not read: head (1 tensors).",)
    awd = torch.load(CASES["awd_qrnn_tied_wd5_sd"].path, weights_only=True)
    torch.save([awd, {"tail_vectors": torch.zeros(2, 6), "tail_bias": torch.zeros(2)}, {}], path)
    (note,) = load_checkpoint(path).notes
    assert "splits the softmax" in note


def test_shared_tensors_of_safetensors(tmp_path: Path) -> None:
    """save_model() keeps one name of a tied weight and tells the other in its metadata."""

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.values = torch.load(CASES["awd_qrnn_tied_wd5_sd"].path, weights_only=True)
            self.values["decoder.weight"] = self.values["encoder.weight"]

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return dict(self.values)

    path = tmp_path / "tied.safetensors"
    safetensors.torch.save_model(Tied(), str(path))
    with safetensors.safe_open(path, "pt") as archive:
        assert len({"encoder.weight", "decoder.weight"} & set(archive.keys())) == 1
    assert load_checkpoint(path).config["tied"]


def test_a_second_embedding_must_be_the_same(tmp_path: Path) -> None:
    def edit(tensors: Tensors) -> None:
        tensors["0.encoder_dp.emb.weight"] = tensors["0.encoder.weight"] + 1

    path = edited("fa2_lm", tmp_path, edit)
    assert "other numbers in 0.encoder_dp.emb.weight than in 0.encoder.weight" in refuse(path)


def test_a_loaded_model_does_not_depend_on_its_file(tmp_path: Path) -> None:
    """A large weight, which an export maps: saving over the file leaves the model as it is."""
    path = tmp_path / "large.pt"
    tensors = {"linear.weight": torch.randn(3072, 1025), "linear.bias": torch.randn(3072)}
    torch.save(tensors, path)
    given = Given(format="torchqrnn", output_gate=True)
    module: Any = load_checkpoint(path, given=given).module
    before = module.weight.detach().clone()
    path.write_bytes(b"")
    assert torch.equal(module.weight, before)
    torch.save(tensors, path)
    mapped: Any = load_checkpoint(path, given=given, mapped=True).module
    assert torch.equal(mapped.weight, before)


def test_two_models_in_one_file(tmp_path: Path) -> None:
    tensors = torch.load(CASES["fa2_lm"].path, weights_only=True)["model"]
    other = {key: value + 1 for key, value in tensors.items()}
    path = tmp_path / "two.pt"
    torch.save({"model": tensors, "model_ema": other}, path)
    message = refuse(path)
    assert "holds a model in 2 places, model, model_ema" in message and "--key" in message
    first = load_checkpoint(path, given=Given(key="model"))
    second = load_checkpoint(path, given=Given(key="model_ema"))
    weight = "embedding.weight"
    assert torch.equal(second.module.state_dict()[weight], other["0.encoder.weight"])
    assert torch.equal(first.module.state_dict()[weight], tensors["0.encoder.weight"])
    wrong = refuse(path, Given(key="ema"))
    assert wrong == "has no weights under the key ema, expected one of: model, model_ema"
    torch.save(tensors, path)
    bare = refuse(path, Given(key="model"))
    assert bare == "has no weights under the key model, and no other: leave out --key"


def test_windows_that_the_shapes_leave_open(tmp_path: Path) -> None:
    """The table of docs/checkpoints.md, by what can be read of stacks of each kind."""

    def ways(columns: int, *inner: int, rows: int = 12) -> int:
        """Readings of a stack of hidden size 4: 0 for one, as nothing is asked then."""
        weights = [(rows, columns), *((12, 4 * window) for window in inner)]
        tensors = {}
        for number, (r, c) in enumerate(weights):
            tensors[f"layers.{number}.linear.weight"] = torch.randn(r, c)
            tensors[f"layers.{number}.linear.bias"] = torch.randn(r)
        torch.save(tensors, tmp_path / "stack.pt")
        try:
            recognise_checkpoint(tmp_path / "stack.pt")
        except CheckpointError as error:
            return int(str(error).split("can be read in ")[1].split()[0])
        return 0

    assert ways(7, 1) == ways(7, 2) == ways(7, 1, 2) == 0
    assert ways(10, 2) == ways(10, 2, 2) == 0
    assert ways(10, 1) == ways(10, 1, 1) == 2
    assert ways(10, 1, 2) == ways(10, 2, 1) == 2
    assert ways(10) == 4 and ways(10, rows=9) == 2 and ways(7) == 2
    assert ways(7, rows=9) == 0


@pytest.mark.parametrize("container", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_file_that_is_not_whole_is_to_be_copied_again(
    container: dict[str, bool], tmp_path: Path
) -> None:
    path = tmp_path / "half.pt"
    torch.save(
        {"linear.weight": torch.zeros(12, 40), "linear.bias": torch.zeros(12)}, path, **container
    )
    path.write_bytes(path.read_bytes()[:-600])
    assert re.match(
        r"is a truncated or damaged (zip archive|PyTorch file), copy it again: ", refuse(path)
    )


@pytest.mark.parametrize("name", ["layers.0.linear.weight", "layers.1.linear.bias"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int32])
def test_weights_that_are_no_floats(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Of bool none can be negated, and f is."""
    path = edited("sf_qrnn_prevx_chunks", tmp_path, lambda t: t.update({name: t[name].to(dtype)}))
    assert f"tensor {name} is {dtype}, expected float32" in refuse(path)


@pytest.mark.parametrize(
    ("name", "given", "part"),
    [
        ("fa2_lm", Given(window=2), "a fastai2 checkpoint, to which --window does not apply"),
        ("fa2_lm", Given(bptt=7), "is no classifier, and --bptt is for one"),
        ("fa2_lm", Given(format="pase"), "is no pase checkpoint; it is recognised as fastai2"),
        ("fa2_lm", Given(format="fastai"), "--format fastai is no format, expected one of native"),
        ("sf_qrnn_prevx_chunks", Given(window=3), "which are no QRNN of torchqrnn with window 3"),
        ("sf_qrnn_prevx_chunks", Given(window=(2, 2, 2)), "--window has 3 numbers"),
        (
            "sf_qrnn_prevx_chunks",
            Given(input_size=7),
            "no QRNN of torchqrnn with input_size 7: these would fit, --input-size 12 --window 2 "
            "--output-gate; or --input-size 24 --window 1,2 --output-gate",
        ),
        (
            "fa1_qrnn_1",
            Given(window=3),
            "no QRNN of fastai-qrnn with window 3: these would fit, --input-size ",
        ),
        ("fa2_lm", Given(classes=("a", "b")), "is no classifier, and --classes is for one"),
        ("sf_qrnn_prevx_chunks", Given(output_gate=False), "with output_gate False"),
        ("fa1_qrnn_1", Given(direction="reverse"), "layers of both directions: leave out --direc"),
        ("fa1_classifier", Given(classes=("a", "b")), "has 3 classes, and --classes names 2"),
        ("fa1_classifier", Given(bptt=70, max_len=70), "expected more than one chunk"),
        ("fa1_classifier", Given(direction="reverse"), "is a classifier, whose chunks and last"),
        ("fa2_classifier", Given(bptt=9, max_len=8), "expected more than one chunk"),
        ("fa1_classifier", Given(pad_token=41), "pad_token is 41, expected"),
    ],
)
def test_options_that_do_not_fit(name: str, given: Given, part: str) -> None:
    assert part in refuse(CASES[name].path, given)


def test_options_of_our_own_format(tmp_path: Path) -> None:
    from qrnn_deploy.checkpoints import save_checkpoint
    from qrnn_deploy.nn import QRNN

    save_checkpoint(QRNN(3, 4), tmp_path / "ours.pt")
    message = refuse(tmp_path / "ours.pt", Given(window=2))
    assert message == "records everything itself: leave out --window"


@pytest.mark.parametrize(
    "values",
    [
        *({"window": 0}, {"input_size": -1}, {"zoneout": 1.0}, {"direction": "up"}),
        *({"pad_token": -1}, {"classes": ("a", "a")}, {"classes": ("",)}, {"window": True}),
        {"output_gate": "yes"},
    ],
)
def test_impossible_facts(values: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        Given(**values)


def test_facts_survive_json() -> None:
    given = Given(format="torchqrnn", window=(2, 1), zoneout=0.1, classes=("a", "b"))
    assert Given.from_json(json.loads(json.dumps(given.to_json()))) == given
    assert Given.from_json(None) == Given.from_json({"nonsense": 1}) == Given()
    assert Given(vocabulary="itos.pkl").to_json() == {}


def test_half_written_files(tmp_path: Path) -> None:
    data = CASES["fa1_lm_model_opt"].path.read_bytes()
    legacy = tmp_path / "legacy.pth"
    content = torch.load(CASES["fa1_lm_model_opt"].path, weights_only=True)
    torch.save(content, legacy, _use_new_zipfile_serialization=False)
    path = tmp_path / "half.pth"
    for whole in (data, legacy.read_bytes()):
        for share in (0.1, 0.5, 0.9, 0.999):
            path.write_bytes(whole[: int(len(whole) * share)])
            assert "truncated or damaged" in refuse(path)


def test_a_pickled_module_records_what_a_state_dict_does_not() -> None:
    """awd-lstm-lm's [model, criterion, optimizer]: windows and zoneout are attributes in it."""
    found = recognise_checkpoint(CASES["awd_qrnn_untied_wd0"].path)
    assert found.table is not None and found.table.where == "0"
    assert found.table.attribute("rnns.0", "window") == 2
    assert found.table.attribute("rnns.0", "class") == "torchqrnn.qrnn.QRNNLayer"
    assert "rnns.0.prevX" not in found.table.tensors  # a stale window is no weight


@pytest.mark.parametrize("kind", ["pkl", "json", "json numbers", "txt"])
def test_vocabularies(kind: str, tmp_path: Path) -> None:
    tokens = ["xxunk", "xxpad", "the", "cat", "xxfake", "xxfake"]
    path = tmp_path / f"itos.{kind.split()[0]}"
    if kind == "pkl":
        path.write_bytes(pickle.dumps(tokens))
    elif kind == "json":
        path.write_text(json.dumps(tokens))
    elif kind == "json numbers":
        tokens = [*tokens[:4], "xxfake", "other"]
        path.write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    else:
        path.write_text("\n".join(tokens) + "\n")
    assert read_vocabulary(str(path), 6) == tokens
    with pytest.raises(CheckpointError, match=r"has 6 tokens, expected 7, the rows of the model"):
        read_vocabulary(str(path), 7)


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("a.json", b"{", "is damaged or no vocabulary"),
        ("a.json", b"[1, 2]", "holds no list of strings"),
        ("a.json", b'{"a": 5}', "holds no list of strings"),
        ("a.txt", b"\xff\xfe", "is no text in UTF-8 (byte 0), expected itos.pkl, a .json list, or"),
        ("a.json", b'["\xff"]', "is no text in UTF-8 (byte 2)"),
        ("a.pkl", pickle.dumps({"a": [1]}), "holds no list of strings"),
        ("a.pkl", pickle.dumps(np.zeros(2)), "asks for numpy"),
        ("a.pkl", pickle.dumps(print), "asks for builtins.print, expected a plain list"),
        ("a.pkl", pickle.dumps(["a"])[:-1], "is damaged or no vocabulary"),
    ],
)
def test_files_that_are_no_vocabulary(name: str, data: bytes, part: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_vocabulary(str(path), 2)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_vocabularies_that_are_not_there(tmp_path: Path) -> None:
    for path, part in ((tmp_path / "absent.pkl", "no such file"), (tmp_path, "is no file")):
        with pytest.raises(CheckpointError, match=part):
            read_vocabulary(str(path), 2)
