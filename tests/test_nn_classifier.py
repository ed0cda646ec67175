"""QRNNClassifier against fastai's answers, against a loop over its chunks, alone, exported."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import needs
import numpy as np
import onnx
import oracle
import pytest
import torch
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy.errors import ExportError, InputError
from qrnn_deploy.nn import ConfigError, QRNNClassifier, from_config
from qrnn_deploy.runtime import Session

UPSTREAM = Path(__file__).parent / "data" / "upstream"
PAD = 1
LENGTHS = (1, 2, 5, 6, 7, 11, 12, 13, 17, 18, 19, 25)
"""Of the longest text, around the seams of chunks of 6."""


def classifier(**options: Any) -> QRNNClassifier:
    torch.manual_seed(4)
    settings: dict[str, Any] = {"window": [2, 1], "num_classes": 3, "head_sizes": [7], "bptt": 6}
    model = QRNNClassifier(17, 5, [8, 6], **{**settings, **options}).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.uniform_(*((0.5, 2) if "running_var" in name else (-0.8, 0.8)))
    return model


def texts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 17, (n,), generator=generator).tolist() for n in lengths]


def padded(rows: list[list[int]], padding: str, bptt: int = 6, time: int = 0) -> Tensor:
    """A batch as the readers of fastai make it; ``after`` is what everybody else does."""
    time = time or max(map(len, rows))
    batch = []
    for row in rows:
        spare = time - len(row)
        first = {"before": spare, "after": 0, "chunks": spare // bptt * bptt}[padding]
        batch.append([PAD] * first + row + [PAD] * (spare - first))
    return torch.tensor(batch)


def layers(model: QRNNClassifier, tokens: np.ndarray, states: list[Any] | None) -> Any:
    """Features [t, D] of one chunk of one row, and the states after it."""
    weights = {name: t.detach().double().numpy() for name, t in model.state_dict().items()}
    x = weights["embedding.weight"][tokens][:, None]
    after = []
    for n, layer in enumerate(model.stack.layers):
        c0, x0 = states[n] if states else (None, None)
        name = f"stack.layers.{n}."
        x, c, kept = oracle.layer(
            x,
            weights[name + "weight"],
            weights[name + "bias"],
            window=layer.window,
            pooling=layer.pooling,
            c0=c0,
            x0=x0,
        )
        after.append((c, kept))
    return x[:, 0], after


def head(model: QRNNClassifier, x: np.ndarray) -> np.ndarray:
    weights = {name: t.detach().double().numpy() for name, t in model.state_dict().items()}
    for n in range(len(model.head)):
        of = {name.removeprefix(f"head.{n}."): t for name, t in weights.items()}
        spread = np.sqrt(of["norm.running_var"] + 1e-5)
        x = (x - of["norm.running_mean"]) / spread * of["norm.weight"] + of["norm.bias"]
        x = of["linear.weight"] @ x + of.get("linear.bias", 0.0)
        if n < len(model.head) - 1:
            x = np.maximum(x, 0.0)
    return x


def by_hand(model: QRNNClassifier, tokens: Tensor, max_len: int | None) -> np.ndarray:
    """The equations of fastai 1 (``before``) or 2 (``chunks``), row by row and chunk by chunk."""
    first = model.padding == "before"
    bptt, answers = model.bptt, []
    for row in tokens.numpy():
        total, states = len(row), None
        features, kept, masks = [], [], []
        for start in range(0, total, bptt):
            chunk = row[start : start + bptt]
            if first or chunk[0] != PAD:
                y, states = layers(model, chunk, states)
            else:
                y, states = np.zeros((len(chunk), model.output_size)), None
            near = max_len is None or (
                start > total - max_len if first else total - start <= max_len
            )
            if near:
                kept.append(y)
                masks.append(chunk == PAD)
        features, mask = np.concatenate(kept), np.concatenate(masks)
        last = -1 if first else -int(mask[-bptt:].sum()) - 1
        real = features[~mask]
        answers.append(head(model, np.concatenate([features[last], real.max(0), real.mean(0)])))
    return np.array(answers)


@pytest.mark.parametrize("padding", ["before", "chunks"])
@pytest.mark.parametrize("max_len", [None, 12, 15])
def test_parity_with_a_loop_over_chunks(padding: str, max_len: int | None) -> None:
    """``max_len`` 12 is the end of a chunk, where the two versions differ; 15 is inside one."""
    pooled = max_len if max_len is None or padding == "chunks" else max_len - 1
    model = classifier(padding=padding, pooled_steps=pooled).double()
    for longest in LENGTHS:
        lengths = [longest, *sorted((max(1, longest * k // 5) for k in (4, 2, 1)), reverse=True)]
        tokens = padded(texts(lengths, seed=longest), padding)
        expected = by_hand(model, tokens, max_len)
        with torch.no_grad():
            np.testing.assert_allclose(model(tokens), expected, atol=1e-12, err_msg=f"{lengths}")


def test_a_text_that_starts_within_a_chunk_as_fastai_2_has_it() -> None:
    model = classifier(padding="chunks").double()
    tokens = padded(texts([15, 11, 6, 1]), "before")
    with torch.no_grad():
        np.testing.assert_allclose(model(tokens), by_hand(model, tokens, None), atol=1e-12)


@pytest.mark.parametrize("pooled", [None, 6, 14])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
def test_padding_after_a_text_changes_nothing(bidirectional: bool, pooled: int | None) -> None:
    model = classifier(bidirectional=bidirectional, pooled_steps=pooled).double()
    rows = texts([25, 1, 13, 19])
    with torch.no_grad():
        answer = model(padded(rows, "after", time=40))
        for row, text in zip(answer, rows, strict=True):
            torch.testing.assert_close(row, model(torch.tensor([text]))[0])


def test_a_text_alone_is_the_same_whatever_the_padding() -> None:
    models = [classifier(padding=way, pooled_steps=8) for way in ("after", "before", "chunks")]
    tokens = torch.tensor(texts([23]))
    answers = [model(tokens) for model in models]
    torch.testing.assert_close(answers[1], answers[0])
    torch.testing.assert_close(answers[2], answers[0])


def upstream_classifier() -> QRNNClassifier:
    """The checkpoint of fastai 1.0.61, translated by hand."""
    record = json.loads((UPSTREAM / "fa1_classifier.json").read_text())["ctor"]
    given = torch.load(UPSTREAM / "fa1_classifier.pt", weights_only=True)
    model = QRNNClassifier(
        record["vocab_sz"],
        record["config"]["emb_sz"],
        [24, 24, 24, 16],
        window=[2, 1, 1, 1],
        num_classes=record["n_class"],
        head_sizes=[50],
        pad_token=record["config"]["pad_token"],
        padding="before",
        bptt=record["bptt"],
        pooled_steps=record["max_len"] - 1,
    )
    tensors = {"embedding.weight": given["0.module.encoder.weight"]}
    for n, layer in enumerate(model.stack.layers):
        name = f"0.module.rnns.{n}.layers.0.linear."
        weight, bias = given[name + "weight_raw"].clone(), given[name + "module.bias"].clone()
        forget = slice(layer.hidden_size, 2 * layer.hidden_size)
        weight[forget] *= -1
        bias[forget] *= -1
        newest, *older = weight.chunk(layer.window, dim=1)
        tensors[f"stack.layers.{n}.weight"] = torch.cat([*older, newest], dim=1)
        tensors[f"stack.layers.{n}.bias"] = bias
    for n, (norm, linear) in enumerate(((0, 2), (4, 6))):
        for what in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"head.{n}.norm.{what}"] = given[f"1.layers.{norm}.{what}"]
        for what in ("weight", "bias"):
            tensors[f"head.{n}.linear.{what}"] = given[f"1.layers.{linear}.{what}"]
    model.load_state_dict(tensors)
    return model.eval()


@pytest.mark.parametrize("case", ["", "_pad"])
def test_the_answers_of_fastai_1(case: str) -> None:
    data = np.load(UPSTREAM / "fa1_classifier.npz")
    with torch.no_grad():
        got = upstream_classifier()(torch.from_numpy(data[f"tokens{case}"])).numpy()
    np.testing.assert_allclose(got, data[f"out{case}"], rtol=5e-6)


def test_batch_first() -> None:
    tokens = padded(texts([9, 4]), "after")
    torch.testing.assert_close(classifier(batch_first=False)(tokens.T), classifier()(tokens))


@pytest.mark.parametrize("padding", ["after", "before", "chunks"])
def test_gradients(padding: str) -> None:
    model = classifier(padding=padding, pooled_steps=8).double()
    tokens = padded(texts([14, 8, 3]), padding)
    parameters = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}

    def answer(*values: Tensor) -> Tensor:
        given = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(model, given, (tokens,))

    assert torch.autograd.gradcheck(answer, tuple(parameters.values()))


def test_it_learns_and_keeps_statistics() -> None:
    torch.manual_seed(0)
    model = QRNNClassifier(
        12, 6, 10, num_classes=2, head_sizes=[8], dropout=0.1, head_dropout=[0.2, 0.1]
    )
    tokens = torch.randint(2, 11, (32, 15))
    answers = torch.arange(32) % 2
    tokens[answers == 1, 7] = 11  # one token in the middle makes the difference
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(tokens), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert nn.functional.cross_entropy(model.eval()(tokens), answers).item() < 0.2
    assert not torch.equal(model.head[0].norm.running_mean, torch.zeros(30))


@pytest.mark.parametrize("padding", ["after", "before", "chunks"])
def test_exported_with_kernel_and_function(padding: str, tmp_path: Path) -> None:
    needs.kernel_library()
    model = classifier(padding=padding, pooled_steps=8, classes=["bad", "so-so", "good"])
    path = tmp_path / "classifier.onnx"
    report = qrnn_deploy.export(model, path, states="none")
    assert [port.name for port in report.metadata.outputs] == ["logits"]
    assert report.metadata.outputs[0].shape == ["batch", 3]
    assert report.metadata.classes == ["bad", "so-so", "good"]
    assert report.metadata.vocabulary is None
    for choice in ("require", "off"):
        session = Session(path, kernel=choice)
        for lengths in ([1], [2, 1], [6, 3], [7, 5, 2], [25, 19, 12, 4]):
            tokens = padded(texts(lengths), padding)
            with torch.no_grad():
                expected = model(tokens)
            got = session.run({"tokens": tokens.numpy()})["logits"]
            np.testing.assert_allclose(got, expected, atol=3e-6)
    assert qrnn_deploy.verify(path, module=model).passed
    assert qrnn_deploy.verify(path).passed  # by the golden vectors

    stored = onnx.load_tensor(path.with_suffix(".golden") / "test_data_set_0" / "input_0.pb")
    tokens = torch.from_numpy(onnx.numpy_helper.to_array(stored).copy())
    rows = [[int(token) for token in row if token != PAD] for row in tokens]
    assert len(rows[0]) == tokens.shape[1] and min(map(len, rows)) < tokens.shape[1]
    assert torch.equal(tokens, padded(rows, padding))


def test_exported_in_float16(tmp_path: Path) -> None:
    model = classifier()
    qrnn_deploy.export(model, tmp_path / "half.onnx", states="none", dtype="float16")
    assert qrnn_deploy.verify(tmp_path / "half.onnx", module=model.half()).passed


def test_what_no_classifier_can_be_exported_with(tmp_path: Path) -> None:
    model = classifier(padding="before")
    assert not model.streams
    with pytest.raises(ExportError, match=r"cannot stream.*--states none"):
        qrnn_deploy.export(model, tmp_path / "m.onnx", states="separate")
    with pytest.raises(ExportError, match="finds the end of each text by its padding"):
        qrnn_deploy.export(model, tmp_path / "m.onnx", states="none", lengths=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 1}, r"vocab_size is 1, expected a whole number in 2\.\."),
        ({"pad_token": 17}, r"pad_token is 17, expected a whole number in 0\.\.16"),
        ({"pad_token": None}, "pad_token is None"),
        ({"padding": "left"}, "padding is 'left', expected one of after, before, chunks"),
        ({"bptt": 0}, "bptt is 0"),
        ({"pooled_steps": 5}, r"pooled_steps is 5, expected a whole number in 6\.\."),
        ({"num_classes": True}, "num_classes is True"),
        ({"classes": ["a", "b"]}, "classes has 2 entries, expected num_classes = 3"),
        ({"classes": "abc"}, "classes is 'abc', expected 3 strings or null"),
        ({"head_sizes": 50}, "head_sizes is 50, expected a list of up to 63 numbers"),
        ({"head_sizes": [50, 0]}, r"head_sizes\[1\] is 0"),
        (
            {"head_sizes": [2**24] * 2, "head_dropout": 0.0},
            r"head.1.linear.weight of shape .* would",
        ),
        ({"head_dropout": [0.1]}, "head_dropout has 1 entries, expected one number or 2 of them"),
        ({"head_dropout": [0.1, 1.5]}, r"head_dropout\[1\] is 1.5"),
        ({"head_bias": 0}, "head_bias is 0, expected true or false"),
    ],
)
def test_refused_configurations(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_config({**classifier().config(), **change})
    assert "\n" not in str(caught.value)


def test_refused_tokens() -> None:
    model = classifier()
    with pytest.raises(InputError, match=r"QRNNClassifier: tokens is torch.float32 of rank 2"):
        model(torch.zeros(2, 3))
    with pytest.raises(InputError, match="has no time steps"):
        model(torch.zeros(2, 0, dtype=torch.int64))
    nothing = model(torch.full((1, 4), PAD))
    assert nothing.shape == (1, 3) and all(math.isnan(value) for value in nothing[0].tolist())
