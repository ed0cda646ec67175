"""SRU language models: equations, chunks, dropout, configuration, and the way to text in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sru_oracle
import torch
from numpy.typing import NDArray
from torch import Tensor

import qrnn_deploy
from qrnn_deploy.cli import main
from qrnn_deploy.errors import ConfigError
from qrnn_deploy.nn import LanguageModel, RHNLanguageModel, SRULanguageModel, from_config

TOKENS = torch.arange(14).reshape(2, 7) * 3 % 5
OPTIONS: list[dict[str, Any]] = [
    {"hidden_size": 6, "num_layers": 3},
    {"hidden_size": 4, "num_layers": 2, "tied": True, "layer_norm": "after", "rescale": True},
    {"hidden_size": 6, "num_layers": 2, "projection_size": 3, "activation": "tanh"},
    {"hidden_size": 6, "highway": False, "decoder_activation": "relu", "input_to_hidden": True},
]
IDS = ["plain", "tied", "projection", "no highway"]


def model_of(**options: Any) -> Any:
    """In float64 and eval mode, with every weight drawn anew."""
    model = SRULanguageModel(5, 4, **options, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.6)
    return model.eval()


def oracle_of(model: Any, tokens: Tensor) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Logits [B, T, V] and the last states, from the weights alone."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    x = weights["embedding.weight"][tokens.numpy().T]
    stack = sru_oracle.below(weights, "stack.")
    y, states = sru_oracle.stack(x, stack, model.stack.config())
    decoder = weights.get("decoder_weight", weights["embedding.weight"])
    logits = y @ decoder.T + weights["decoder_bias"]
    if model.decoder_activation == "relu":
        logits = np.maximum(logits, 0)
    return logits.transpose(1, 0, 2), states


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
@torch.no_grad()
def test_a_model_is_its_equations(options: dict[str, Any]) -> None:
    model = model_of(**options)
    logits, states = model(TOKENS)
    wanted, after = oracle_of(model, TOKENS)
    np.testing.assert_allclose(logits, wanted, rtol=1e-9, atol=1e-9)
    assert len(states) == len(after) == model.stack.num_layers
    for state, c in zip(states, after, strict=True):
        np.testing.assert_allclose(state.c, c, rtol=1e-9, atol=1e-9)
    pieces, state = [], model.initial_state(2)
    for chunk in TOKENS.split([1, 4, 2], dim=1):
        piece, state = model(chunk, state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, dim=1), logits)
    assert isinstance(model, LanguageModel) and model.streams


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
def test_configurations(options: dict[str, Any]) -> None:
    model = SRULanguageModel(
        *(5, 4),
        **options,
        **{"dropout": 0.25, "input_dropout": 0.1, "highway_bias": -1.0, "weight_c_init": 0.5},
        vocabulary=list("abcde"),
        batch_first=False,
    )
    config = json.loads(json.dumps(model.config()))
    again = from_config(config)
    assert type(again) is SRULanguageModel and again.config() == config
    assert again.stack.config() == model.stack.config() and "dropout=0.25" in repr(again)
    again.load_state_dict(model.state_dict())
    del config["highway_bias"]
    with pytest.raises(ConfigError, match="configuration of SRULanguageModel lacks 'highway_bias'"):
        from_config(config)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"tied": True}, "tied needs a last level of embedding_size = 4 features, got 6"),
        ({"dropout": 1}, "dropout is 1, expected a number in 0 <= p < 1"),
        ({"hidden_size": 2**24, "num_layers": 2}, "expected at most"),
        ({"layer_norm": "both"}, "layer_norm is 'both', expected one of"),
        ({"vocabulary": ["a"]}, "vocabulary has 1 entries"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], part: str) -> None:
    config = {**SRULanguageModel(5, 4, 6).config(), **options}
    with pytest.raises(ConfigError) as caught:
        from_config(config)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_dropout_has_its_places() -> None:
    model = SRULanguageModel(5, 8, 8, 2, dropout=0.5)
    kept = [layer.dropout for layer in model.stack.layers]  # type: ignore[union-attr]
    assert kept == [0.5, 0.0]
    tokens = torch.zeros(40, 3, dtype=torch.int64)
    x, y = model.train().embed(tokens), model.before_decoder(torch.ones(40, 3, 8))
    dropped = (x == 0).float().mean()
    assert 0.3 < dropped < 0.7
    torch.testing.assert_close(x[x != 0], (2 * model.embedding(tokens))[x != 0])
    assert set(y.unique().tolist()) == {0.0, 2.0}
    model.eval()
    assert torch.equal(model.embed(tokens), model.embedding(tokens))
    assert torch.equal(model.before_decoder(y), y)


def test_a_model_can_learn_to_remember() -> None:
    """The first of two symbols, said again after some steps: a plain map of the input cannot."""
    torch.manual_seed(0)
    model = SRULanguageModel(4, 8, 16, 2, dropout=0.05)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(80):
        first = torch.randint(2, (32, 1))
        tokens = torch.cat([first, torch.full((32, 4), 2)], dim=1)
        loss = torch.nn.functional.cross_entropy(model(tokens)[0][:, -1], first[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.5 and losses[-1] < 0.2  # chance is 0.69


@pytest.mark.parametrize("family", ["SRU", "RHN"])
def test_text_through_the_command_line(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoint, file, answers: the score is what PyTorch gives, whole and line by line."""
    words = ["<unk>", "<eos>", "an", "be", "cat"]
    if family == "SRU":
        model: Any = model_of(hidden_size=4, num_layers=2, tied=True, vocabulary=words)
    else:
        model = RHNLanguageModel(5, 4, 6, depth=2, vocabulary=words)
    model = model.float().eval()
    checkpoint, file = str(tmp_path / "m.safetensors"), str(tmp_path / "m.onnx")
    qrnn_deploy.save_checkpoint(model, checkpoint)
    (tmp_path / "text.txt").write_text("an be cat an\nbe be zoo cat an\n")
    text = str(tmp_path / "text.txt")

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        return capsys.readouterr().out

    def nats(numbers: list[int]) -> float:
        logits = model(torch.tensor([numbers[:-1]]))[0][0]
        targets = torch.tensor(numbers[1:])
        return torch.nn.functional.cross_entropy(logits, targets).item()

    said("export", checkpoint, "-o", file)
    for kernel in ("auto", "off"):
        whole = json.loads(said("run", file, "--score", text, "--json", "--kernel", kernel))
        tokens = [2, 3, 4, 2, 1, 3, 3, 0, 4, 2, 1]
        assert whole["perplexity_per_token"] == pytest.approx(np.exp(nats(tokens)), rel=1e-5)
        answers = said("run", file, "--text", text, "--json", "--kernel", kernel).splitlines()
        for answer, line in zip(answers, ([2, 3, 4, 2], [3, 3, 0, 4, 2]), strict=True):
            expected = np.exp(nats(line))
            assert json.loads(answer)["perplexity"] == pytest.approx(expected, rel=1e-5)
