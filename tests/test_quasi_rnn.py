"""Checkpoints of santi-pdp/quasi-rnn: upstream's equations, TensorFlow's answers, every mistake."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qrnn_deploy.checkpoints.npz_file import read_npz
from qrnn_deploy.checkpoints.quasi_rnn import recognise, translate
from qrnn_deploy.checkpoints.tensorflow_file import read_tensorflow
from qrnn_deploy.errors import CheckpointError, ConfigError
from qrnn_deploy.nn import QRNNLanguageModel, from_config

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data" / "quasi_rnn"
EXAMPLE = ROOT / "examples" / "wordlm"
Arrays = dict[str, NDArray[Any]]


def variables(
    pooling: str = "fo",
    k: int = 2,
    *,
    bias: bool = False,
    layers: int = 2,
    dtype: Any = np.float64,
    decoder_bias: bool = True,
) -> Arrays:
    """Random variables under upstream's names; every size is another."""
    vocabulary, width, sizes = 7, 3, (5, 4, 6)[:layers]
    rng = np.random.default_rng(k)
    made: Arrays = {"QRNN_LM/word_W": rng.standard_normal((vocabulary, width))}
    for number, size in enumerate(sizes):
        for gate in f"z{pooling}":
            scope = f"QRNN_LM/QRNN_layer{number}/convolutions"
            made[f"{scope}/W{gate}"] = rng.standard_normal((k, width, size))
            if bias:
                made[f"{scope}/b{gate}"] = rng.standard_normal(size)
        width = size
    made["QRNN_LM/output_softmax/weights"] = rng.standard_normal((width, vocabulary))
    if decoder_bias:
        made["QRNN_LM/output_softmax/biases"] = rng.standard_normal(vocabulary)
    made["Variable"] = np.array(0.25)
    return {name: np.asarray(value, dtype) for name, value in made.items()}


def upstream(arrays: Mapping[str, NDArray[Any]], pooling: str, tokens: Any) -> NDArray[np.float64]:
    """Logits [B, T, V] before their ReLU, by the equations that upstream's source has."""

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    x = arrays["QRNN_LM/word_W"][tokens].astype(np.float64)
    layers = sum(name.endswith("/Wz") for name in arrays)
    for number in range(layers):
        scope = f"QRNN_LM/QRNN_layer{number}/convolutions"
        k = arrays[f"{scope}/Wz"].shape[0]
        padded = np.concatenate([np.zeros((len(x), k - 1, x.shape[2])), x], axis=1)
        gates = {}
        for gate in f"z{pooling}":
            filters = arrays[f"{scope}/W{gate}"]
            gates[gate] = np.zeros((*x.shape[:2], filters.shape[2]))
            for t in range(x.shape[1]):
                for tap in range(k):
                    gates[gate][:, t] += padded[:, t + tap] @ filters[tap]
            gates[gate] += arrays.get(f"{scope}/b{gate}", 0.0)
        z, f = np.tanh(gates["z"]), sigmoid(gates["f"])
        c, outputs = np.zeros_like(z[:, 0]), []
        for t in range(x.shape[1]):
            entering = sigmoid(gates["i"])[:, t] if "i" in pooling else 1 - f[:, t]
            c = f[:, t] * c + entering * z[:, t]
            outputs.append(sigmoid(gates["o"])[:, t] * c if "o" in pooling else c)
        x = np.stack(outputs, axis=1)
    biases = arrays.get("QRNN_LM/output_softmax/biases", 0.0)
    return x @ arrays["QRNN_LM/output_softmax/weights"] + biases


def tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def imported(arrays: Mapping[str, torch.Tensor]) -> QRNNLanguageModel:
    config, state, _, _ = translate(arrays)
    module = from_config(json.loads(json.dumps(config)), dtype=state["embedding.weight"].dtype)
    assert isinstance(module, QRNNLanguageModel)
    module.load_state_dict(state, assign=True)
    assert all(weight.is_contiguous() for weight in state.values())
    return module.eval()


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("pooling", ["f", "fo", "ifo"])
@torch.no_grad()
def test_equal_to_the_equations_of_upstream(pooling: str, k: int, bias: bool) -> None:
    arrays = variables(pooling, k, bias=bias, layers=3)
    tokens = np.random.default_rng(1).integers(0, 7, (2, 11))
    logits, _ = imported(tensors(arrays))(torch.from_numpy(tokens))
    wanted = np.maximum(upstream(arrays, pooling, tokens), 0)
    assert np.abs(logits.numpy() - wanted).max() < 1e-12


@pytest.mark.parametrize("case", ["f", "fo", "ifo"])
@pytest.mark.parametrize("route", ["npz", "index"])
@torch.no_grad()
def test_equal_to_the_answers_of_tensorflow(case: str, route: str) -> None:
    """TensorFlow wrote the checkpoint and computed the logits (tests/data/quasi_rnn/make.py)."""
    if route == "npz":
        arrays = read_npz(DATA / f"{case}.npz")
    else:
        arrays = read_tensorflow(DATA / case / "model.ckpt-1200.index")
    answers = np.load(DATA / f"{case}_answers.npz")
    assert (answers["before"] < 0).any(), "the ReLU would not show"
    logits, _ = imported(arrays)(torch.from_numpy(answers["tokens"]))
    assert np.abs(logits.numpy() - answers["logits"]).max() < 1e-6
    # The independent equations agree with TensorFlow too, so they may judge the other cases.
    plain = {name: value.numpy() for name, value in arrays.items()}
    assert np.abs(upstream(plain, case, answers["tokens"]) - answers["before"]).max() < 1e-6


@torch.no_grad()
def test_variants_of_one_model() -> None:
    tokens = torch.arange(7)[None]
    arrays = tensors(variables())
    wanted, _ = imported(arrays)(tokens)
    ended = {f"{name}:0": value for name, value in arrays.items()}
    assert torch.equal(imported(ended)(tokens)[0], wanted)
    strided = {
        n: v.transpose(0, -1).contiguous().transpose(0, -1) for n, v in arrays.items() if v.dim()
    }
    assert torch.equal(imported(strided)(tokens)[0], wanted)
    halved = {name: value.to(torch.bfloat16) for name, value in arrays.items()}
    assert imported(halved)(tokens)[0].dtype == torch.bfloat16

    # Taps and sizes may differ from layer to layer, and only one of them may have biases.
    mixed = variables(k=3, bias=True)
    other = variables(k=1)
    for gate in "zfo":
        name = f"QRNN_LM/QRNN_layer1/convolutions/W{gate}"
        mixed[name] = other[name]
        del mixed[f"QRNN_LM/QRNN_layer1/convolutions/b{gate}"]
    del mixed["QRNN_LM/output_softmax/biases"]
    module = imported(tensors(mixed))
    assert module.config()["window"] == [3, 1] and module.config()["hidden_size"] == [5, 4]
    expected = np.maximum(upstream(mixed, "fo", tokens.numpy()), 0)
    assert np.abs(module(tokens)[0].numpy() - expected).max() < 1e-12


def test_what_is_read_and_what_is_assumed() -> None:
    config, _, facts, assumptions = translate(read_npz(DATA / "ifo.npz"))
    assert config["architecture"] == "QRNNLanguageModel" and config["pooling"] == "ifo"
    assert config["window"] == [3, 3] and config["bias"] is True and config["tied"] is False
    assert "vocabulary 6, embedding 3" in facts[0].lower() and "ifo" in facts[0]
    assert any("0.735" in fact for fact in facts)
    assert any("41 variables" in fact and "Adam" in fact for fact in facts)
    for subject in ("tanh", "ReLU", "Zoneout", "k-1", "vocabulary"):
        assert sum(subject in sentence for sentence in assumptions) == 1, subject
    for sentence in (*facts, *assumptions):
        assert sentence[0].isupper() and sentence.endswith(".") and "\n" not in sentence

    _, _, facts, _ = translate(tensors(variables(decoder_bias=False)))
    assert any("biases" in fact for fact in facts)


def test_recognised_by_names() -> None:
    assert recognise(variables())
    assert recognise([f"{name}:0" for name in variables()])
    assert recognise(["QRNN_LM/QRNN_layer3/convolutions/Wf"])
    for names in ([], ["embedding.weight"], ["QRNN_LM/other"], ["x/QRNN_LM/word_W"], ["model/W"]):
        assert not recognise(names)


W0 = "QRNN_LM/QRNN_layer0/convolutions/W"
W1 = "QRNN_LM/QRNN_layer1/convolutions/W"


def gone(*names: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def edit(arrays: dict[str, torch.Tensor]) -> None:
        for name in names:
            del arrays[name]

    return edit


def put(name: str, value: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda arrays: arrays.__setitem__(name, value)


def renamed(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda arrays: arrays.__setitem__(new, arrays.pop(old))


def zeros(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.zeros(*shape, dtype=dtype)


@pytest.mark.parametrize(
    "edit, words",
    [
        (gone("QRNN_LM/word_W"), "lacks variable QRNN_LM/word_W"),
        (
            renamed("QRNN_LM/word_W", "word_W"),
            "lacks variable QRNN_LM/word_W (nearest: 'word_W'): save every",
        ),
        (gone("QRNN_LM/output_softmax/weights"), "(nearest: 'QRNN_LM/output_softmax/biases')"),
        (gone(f"{W0}f"), f"lacks variable {W0}f (nearest: "),
        (gone(f"{W1}z"), f"lacks variable {W1}z"),
        (gone(*(f"{W0}{g}" for g in "zfo")), f"lacks variable {W0}f"),
        (gone(*(f"{w}{g}" for w in (W0, W1) for g in "zfo")), f"lacks variable {W0}z"),
        (put(f"{W0[:-1]}bf", zeros(5)), "QRNN_layer0/convolutions/bo (nearest"),
        (put(f"{W0}f:0", zeros(2, 3, 5)), f"holds both '{W0}f' and '{W0}f:0'"),
        (put("QRNN_LM/attention/W", zeros(2)), "unknown variable 'QRNN_LM/attention/W'"),
        (put(f"{W0}q", zeros(2, 3, 5)), f"unknown variable '{W0}q' (nearest: "),
        (put("QRNN_LM/QRNN_layer01/convolutions/Wz", zeros(2)), "unknown variable"),
        (put("QRNN_LM/word_W", zeros(7, 3, 1)), "[7, 3, 1], expected [vocabulary, embedding]"),
        (put("QRNN_LM/word_W", zeros(0, 3)), "[0, 3], expected [vocabulary, embedding]"),
        (put(f"{W0}z", zeros(3, 5)), "[3, 5], expected [window, input, size]"),
        (put(f"{W0}z", zeros(2, 4, 5)), "[2, 4, 5], expected [2, 3, 5]"),
        (put(f"{W0}f", zeros(3, 3, 5)), "[3, 3, 5], expected [2, 3, 5]"),
        (put(f"{W1}o", zeros(2, 5, 5)), "[2, 5, 5], expected [2, 5, 4]"),
        (put(f"{W1}o", zeros(*[1] * 20)), "of 20 axes, expected [2, 5, 4]"),
        (put("QRNN_LM/output_softmax/weights", zeros(7, 4)), "[7, 4], expected [4, 7]"),
        (put("QRNN_LM/output_softmax/biases", zeros(4)), "[4], expected [7]"),
        (put(f"{W0}f", zeros(2, 3, 5, dtype=torch.int64)), "torch.int64, expected torch.float32"),
        (put(f"{W0}f", zeros(2, 3, 5, dtype=torch.float32)), "expected one type for all"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes(edit: Callable[[dict[str, torch.Tensor]], None], words: str) -> None:
    arrays = tensors(variables())
    edit(arrays)
    with pytest.raises(CheckpointError) as caught:
        translate(arrays)
    message = str(caught.value)
    assert words in message and "\n" not in message and len(message) < 400


def test_gates_that_no_model_has() -> None:
    arrays = tensors(variables("ifo"))
    for number in (0, 1):
        del arrays[f"QRNN_LM/QRNN_layer{number}/convolutions/Wo"]
    with pytest.raises(ConfigError, match="layer 0 has the gates z, i, f, expected z, f or"):
        translate(arrays)
    arrays = tensors(variables("fo"))
    del arrays[f"{W1}o"]
    with pytest.raises(ConfigError, match="the layers have f and fo pooling, expected one"):
        translate(arrays)


def test_names_of_a_stranger_make_one_short_line() -> None:
    for name in ("QRNN_LM/\n\x1b[31m", "QRNN_LM/" + "a" * 10**6, "QRNN_LM/" + "é\u2028" * 200):
        arrays = tensors(variables())
        arrays[name] = zeros(1)
        with pytest.raises(CheckpointError) as caught:
            translate(arrays)
        message = str(caught.value)
        assert len(message) < 400 and message.isprintable()
    many = {f"QRNN_LM/QRNN_layer{n}/convolutions/Wz": zeros(1, 1, 1) for n in range(5000)}
    with pytest.raises(CheckpointError, match="lacks variable QRNN_LM/QRNN_layer0/convolutions/Wf"):
        translate(many)
    layers = {
        f"{W0[:-1]}{p}".replace("layer0", f"layer{n}"): zeros(1, 1, 1)
        for n in range(1025)
        for p in ("Wz", "Wf")
    }
    ends = {"QRNN_LM/word_W": zeros(2, 1), "QRNN_LM/output_softmax/weights": zeros(1, 2)}
    with pytest.raises(ConfigError, match="1025"):
        translate({**layers, **ends})


@pytest.fixture(scope="module")
def data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wordlm_data", EXAMPLE / "data.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_words_of_the_example(data: ModuleType) -> None:
    text = "It\u2019s x = Foo(12), don't_panic.\n\n\n\nThe end"
    assert data.words(text) == [
        *("it\u2019s", "x", "=", "foo", "(", "12", ")", ",", "don't", "_", "panic", ".", "<eos>"),
        *("the", "end", "<eos>"),
    ]
    known = data.vocabulary(["b", "a", "b", "a", "c", "<eos>", "c", "c", "d"])
    assert known == ["<unk>", "<eos>", "c", "a", "b"]
    assert data.encode(["a", "d", "<eos>"], known).tolist() == [3, 0, 1]


def test_the_committed_model_in_pytorch_and_onnx_runtime(data: ModuleType) -> None:
    """quasi-rnn's recipe: imported from its checkpoint form, one perplexity on every way."""
    log = json.loads((EXAMPLE / "training-log.json").read_text())
    model = (EXAMPLE / "model.npz").read_bytes()
    assert len(model) == log["checkpoint"]["bytes"] <= 2_500_000
    assert hashlib.sha256(model).hexdigest() == log["checkpoint"]["sha256"]
    assert log["recipe"]["epochs"] == 30 and log["model"]["zoneout"] == 0.1
    config, _, _, _ = translate(read_npz(EXAMPLE / "model.npz"))
    assert config["vocab_size"] == log["vocabulary"] == len(data.saved_vocabulary())
    assert config["window"] == [2, 2] and config["pooling"] == "fo" and not config["bias"]

    command = [sys.executable, str(EXAMPLE / "score.py"), "recipe"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)["recipe"]["heldout"]
    assert len(found) == 5
    for way, value in found.items():
        assert abs(value / found["PyTorch"] - 1) < 1e-4, way
    # The text depends on the Python version: the score must agree where the text is the same.
    same = data.sha256(data.parts()["heldout"]) == log["text"]["heldout"]["sha256"]
    wanted = log["perplexity"]["heldout"]
    assert abs(found["PyTorch"] / wanted - 1) < (1e-3 if same else 0.3)


def test_a_short_training_writes_what_can_be_imported(data: ModuleType, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "train.py"), "--epochs", "1", "--chunks", "2"]
    subprocess.run([*command, "--output", str(tmp_path)], check=True, capture_output=True)
    log = json.loads((tmp_path / "training-log.json").read_text())
    words = data.saved_vocabulary(tmp_path / "vocabulary.txt")
    assert len(words) == len(set(words)) == log["vocabulary"]
    _, _, facts, _ = translate(read_npz(tmp_path / "model.npz"))
    assert "The learning rate had come to 4." in facts
    # Two steps teach nothing much: near the size of the vocabulary.
    assert 0.5 < log["perplexity"]["heldout"] / log["vocabulary"] < 2
