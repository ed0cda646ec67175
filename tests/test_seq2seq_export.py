"""An encoder-decoder as two files: what they hold, what they answer, what is refused."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import needs
import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

import qrnn_deploy
from qrnn_deploy.errors import ExportError, InputError, ModelError
from qrnn_deploy.metadata import KEY
from qrnn_deploy.nn import EncoderMemory, QRNNEncoderDecoder
from qrnn_deploy.pair import PairFacts
from qrnn_deploy.runtime import Seq2Seq, Session
from qrnn_deploy.runtime.ort_buffers import HostBuffer
from qrnn_deploy.runtime.search import beam_search

SOURCES, TARGETS = 11, 9
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ifo": {"pooling": "ifo", "encoder_window": [3, 1], "decoder_window": [1, 3]},
    "reverse": {"reverse": True, "hidden_size": [7, 4], "activation": "relu"},
    "one": {"bias": False, "hidden_size": 5, "dropout": 0.3},
}
BATCH = [[3, 4, 5, 1], [7], [], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]


def model_of(seed: int = 0, **options: Any) -> QRNNEncoderDecoder:
    torch.manual_seed(seed)
    arguments: dict[str, Any] = {"hidden_size": [6, 5], **options}
    model = QRNNEncoderDecoder(SOURCES, TARGETS, 4, **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1.5, 1.5)
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, QRNNEncoderDecoder]:
    return {name: model_of(**options) for name, options in FORMS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, models: dict[str, QRNNEncoderDecoder]) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for number, (name, model) in enumerate(models.items()):
        states: Any = ("separate", "packed")[number % 2]
        report = qrnn_deploy.export(model, folder / f"{name}.onnx", states=states)
        assert report.path == folder / f"{name}.onnx"
        assert {Path(file).name for file in report.files} == {
            f"{name}.{part}.{what}"
            for part in ("encoder", "decoder")
            for what in ("onnx", "golden")
        }
    return folder


@pytest.fixture(scope="module", params=["off", "require"])
def kernel(request: pytest.FixtureRequest) -> Any:
    if request.param == "require":
        needs.kernel_library()
    return request.param


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """The plain pair, to be damaged."""
    for part in ("encoder", "decoder"):
        shutil.copy(folder / f"plain.{part}.onnx", tmp_path / f"model.{part}.onnx")
    return tmp_path / "model.onnx"


def padded(sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(source) for source in sources])
    tokens = torch.zeros(len(sources), max(1, int(lengths.max())), dtype=torch.int64)
    for row, source in zip(tokens, sources, strict=True):
        row[: len(source)] = torch.tensor(source)
    return tokens, lengths


def memory_of(model: QRNNEncoderDecoder, sources: Sequence[Sequence[int]]) -> EncoderMemory:
    with torch.no_grad():
        return model.encode(*padded(sources))


KNOWN: WeakKeyDictionary[QRNNEncoderDecoder, dict[Any, list[float]]] = WeakKeyDictionary()
"""What PyTorch answered before: the same prefixes are asked for by many tests."""


def log_probabilities(
    model: QRNNEncoderDecoder, source: Sequence[int], prefix: Sequence[int]
) -> list[float]:
    """Of the token after ``prefix``, from the start of the target each time."""
    known = KNOWN.setdefault(model, {})
    place = (tuple(source), tuple(prefix))
    if place not in known:
        with torch.no_grad():
            tokens = torch.tensor([[model.bos_token, *prefix]])
            logits, _ = model.decode(tokens, memory_of(model, [source]))
            known[place] = logits[0, -1].double().log_softmax(-1).tolist()
    return known[place]


def reference_search(
    model: QRNNEncoderDecoder, source: Sequence[int], beam: int, power: float, limit: int
) -> tuple[tuple[int, ...], float, bool]:
    """Beam search as a person would write it down: tokens, score, whether it ended."""
    alive: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    ended: list[tuple[tuple[int, ...], float]] = []
    for _ in range(limit):
        options = []
        for prefix, total in alive:
            for token, value in enumerate(log_probabilities(model, source, prefix)):
                if token not in (model.pad_token, model.bos_token):
                    options.append((prefix, token, total + value))
        options.sort(key=lambda option: -option[2])
        alive = []
        for rank, (prefix, token, total) in enumerate(options[: 2 * beam]):
            if token == model.eos_token:
                if rank < beam:
                    ended.append((prefix, total / (len(prefix) + 1) ** power))
            elif len(alive) < beam:
                alive.append(((*prefix, token), total))
        if len(ended) >= beam:
            break
    if ended:
        return *max(ended, key=lambda one: one[1]), True
    tokens, total = max(alive, key=lambda one: one[1])
    return tokens, total / len(tokens) ** power, False


def test_what_the_files_take_and_give(folder: Path) -> None:
    encoder, decoder = (
        Session(folder / f"plain.{part}.onnx", kernel="off").metadata
        for part in ("encoder", "decoder")
    )
    assert [(p.name, p.shape) for p in encoder.inputs] == [
        ("source", ["batch", "time"]),
        ("source_lengths", ["batch"]),
    ]
    assert [(p.name, p.shape) for p in encoder.outputs] == [
        ("memory", ["batch", "time", 5]),
        ("context_00", ["batch", 18]),
        ("context_01", ["batch", 15]),
    ]
    assert [(p.name, p.shape, p.time_axis) for p in decoder.inputs] == [
        ("tokens", ["batch", "time"], 1),
        ("memory", ["batch", "time_memory", 5], None),
        ("source_lengths", ["batch"], None),
        ("context_00", ["batch", 18], None),
        ("context_01", ["batch", 15], None),
    ]
    assert [(p.name, p.shape) for p in decoder.outputs] == [("logits", ["batch", "time", TARGETS])]
    assert encoder.state_mode == "none" and decoder.state_mode == "separate"
    assert [state.name for state in decoder.states] == [
        *("state_00_c", "state_00_x", "state_01_c", "state_01_x"),
    ]
    assert encoder.config is not None and decoder.config is not None
    assert (encoder.config.pop("part"), decoder.config.pop("part")) == ("encoder", "decoder")
    assert encoder.config == decoder.config
    names = [tensor.name for tensor in onnx.load(folder / "plain.decoder.onnx").graph.initializer]
    assert {"decoder.layers.0.weight_T", "decoder.layers.1.weight_T"} <= set(names)


@pytest.mark.parametrize("name", FORMS)
def test_encoder_and_decoder_equal_pytorch(
    name: str, folder: Path, models: dict[str, QRNNEncoderDecoder], kernel: Any
) -> None:
    """Whole targets, and targets in chunks with the states handed on, for padded sources."""
    pair = Seq2Seq(folder / f"{name}.encoder.onnx", kernel=kernel)
    assert set(pair.implementation.values()) == {"kernel" if kernel == "require" else "function"}
    model = models[name]
    expected = memory_of(model, BATCH)
    memory = pair.encode(BATCH)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(memory["memory"], expected.values, **close)
    for level, context in enumerate(expected.contexts):
        np.testing.assert_allclose(memory[f"context_{level:02d}"], context, **close)
    target = torch.randint(TARGETS, (len(BATCH), 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model.decode(target, expected)[0].numpy()
    whole = pair.decoder.run({"tokens": target.numpy(), **memory})
    np.testing.assert_allclose(whole["logits"], logits, **close)
    states: dict[str, Any] = {}
    pieces = []
    for piece in target.split([4, 1, 3, 1], dim=1):
        made = pair.decoder.run({"tokens": piece.contiguous().numpy(), **memory, **states})
        pieces.append(made.pop("logits"))
        states = {f"{name.removesuffix('_out')}_in": value for name, value in made.items()}
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), logits, **close)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("beam", [1, 2, 5])
def test_search_equals_a_plain_one(
    name: str, beam: int, folder: Path, models: dict[str, QRNNEncoderDecoder], kernel: Any
) -> None:
    pair = Seq2Seq(folder / f"{name}.onnx", kernel=kernel)
    found = pair.translate(BATCH, beam=beam, max_steps=7)
    for source, one in zip(BATCH, found, strict=True):
        tokens, score, finished = reference_search(models[name], source, beam, 0.6, 7)
        assert (one.tokens, one.finished) == (tokens, finished)
        assert one.score == pytest.approx(score, rel=1e-4)
        total = one.score * (len(tokens) + finished) ** 0.6
        assert one.log_probability == pytest.approx(total, rel=1e-9)


def test_the_sources_are_answered_in_every_way(
    folder: Path, models: dict[str, QRNNEncoderDecoder]
) -> None:
    """What the tests of the search compare: ended and cut-off answers, and a beam that pays."""
    found = {
        beam: [
            one
            for name in FORMS
            for one in Seq2Seq(folder / f"{name}.onnx", kernel="off").translate(
                BATCH, beam=beam, max_steps=7, length_penalty=0
            )
        ]
        for beam in (1, 5)
    }
    assert {one.finished for one in found[1]} == {True, False}
    assert any(a.tokens != b.tokens for a, b in zip(found[1], found[5], strict=True))


@pytest.mark.parametrize("power", [0.0, 0.6, 1.0])
def test_a_wide_beam_finds_the_best_of_all(
    power: float, folder: Path, models: dict[str, QRNNEncoderDecoder]
) -> None:
    """Every target of up to two tokens and an end, scored one by one."""
    model, source = models["plain"], BATCH[0]
    words = [t for t in range(TARGETS) if t not in (0, 1, 2)]
    best, best_score = None, -math.inf
    for length in range(3):
        for tokens in itertools.product(words, repeat=length):
            whole = [*tokens, model.eos_token]
            total = sum(
                log_probabilities(model, source, whole[:place])[token]
                for place, token in enumerate(whole)
            )
            score = total / len(whole) ** power
            if score > best_score:
                best, best_score = tokens, score
    pair = Seq2Seq(folder / "plain.onnx", kernel="off")
    (found,) = pair.translate([source], beam=400, length_penalty=power, max_steps=3)
    assert (found.tokens, found.finished) == (best, True)
    assert found.score == pytest.approx(best_score, rel=1e-4)


@pytest.mark.parametrize("beam", [1, 4])
def test_a_batch_is_answered_as_its_sources_alone(beam: int, folder: Path, kernel: Any) -> None:
    pair = Seq2Seq(folder / "ifo.onnx", kernel=kernel)
    together = pair.translate(BATCH, beam=beam)
    for source, one in zip(BATCH, together, strict=True):
        (alone,) = pair.translate([source], beam=beam)
        assert (alone.tokens, alone.finished) == (one.tokens, one.finished)
        assert alone.score == pytest.approx(one.score, rel=1e-5)
    assert pair.translate([]) == []


def test_a_stream_gives_each_token_when_it_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qrnn_deploy.runtime import seq2seq

    steps = []
    real = seq2seq.OrtDecoding.step
    monkeypatch.setattr(
        seq2seq.OrtDecoding, "step", lambda self, t: [steps.append(t), real(self, t)][1]
    )
    pair = Seq2Seq(folder / "plain.onnx", kernel="off")
    for source in BATCH:
        (whole,) = pair.translate([source], max_steps=6)
        steps.clear()
        stream = pair.stream(source, max_steps=6)
        assert not steps
        for number, token in enumerate(stream):
            assert len(steps) == number + 1
            assert token == whole.tokens[number]
        assert len(steps) == len(whole.tokens) + whole.finished
    assert isinstance(stream, Iterator)


def test_the_memory_is_copied_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, ...]] = []
    real = HostBuffer.write
    monkeypatch.setattr(
        HostBuffer, "write", lambda self, array: [written.append(array.shape), real(self, array)][1]
    )
    pair = Seq2Seq(folder / "plain.onnx", kernel="off")
    found = pair.translate([BATCH[0]], beam=3, max_steps=6)
    assert len(found[0].tokens) >= 1
    assert written.count((3, 4, 5)) == 1  # the memory of 4 steps
    assert written.count((3, 18)) == written.count((3, 15)) == 1  # the contexts
    assert written.count((3, 1)) > 1  # tokens


class Scripted:
    """A decoder whose answer to each prefix is written down."""

    def __init__(self, rows: int, answers: Any) -> None:
        self.prefixes: list[tuple[int, ...]] = [()] * rows
        self.answers = answers

    def step(self, tokens: Any) -> Any:
        self.prefixes = [(*p, int(t)) for p, t in zip(self.prefixes, tokens, strict=True)]
        return np.array([self.answers(prefix[1:]) for prefix in self.prefixes])

    def reorder(self, rows: Any) -> None:
        self.prefixes = [self.prefixes[row] for row in rows]


def scripted(answers: Any, beam: int, power: float = 0.0, limit: int = 4) -> Any:
    from qrnn_deploy.pair import PairFacts
    from qrnn_deploy.runtime.search import beam_search

    facts = PairFacts(6, 6, 0, 1, 2, None, None)
    return beam_search(Scripted(2 * beam, answers), facts, [limit, 1], beam, power)


@pytest.mark.parametrize("beam", [1, 2, 3, 50])
def test_equal_scores_have_one_answer(beam: int) -> None:
    """All tokens are equally likely: the end, which has the lowest number, ranks first."""
    longer, shorter = scripted(lambda prefix: np.zeros(6), beam)
    assert longer.tokens == shorter.tokens == ()
    longer, shorter = scripted(lambda prefix: np.where(np.arange(6) == 2, -9.0, 0.0), beam)
    assert longer.tokens == ((3, 3, 3, 3) if beam < 50 else ())
    assert shorter.tokens == ((3,) if beam < 4 else ())


def test_length_normalisation_prefers_longer_answers() -> None:
    def answers(prefix: tuple[int, ...]) -> Any:
        shares = {(): [0.45, 0.55], (3,): [0.1, 0.5, 0.4], (3, 3): [0.75, 0.25]}
        found = np.full(6, -99.0)
        for token, share in enumerate(shares.get(prefix, [0.8, 0.2]), 2):
            found[token] = math.log(share)
        return found

    assert scripted(answers, 2, power=0.0)[0].tokens == ()
    found = scripted(answers, 2, power=1.0)[0]
    assert found.tokens == (3, 3)
    assert found.log_probability == pytest.approx(math.log(0.55 * 0.5 * 0.75), rel=1e-6)
    assert found.score == pytest.approx(found.log_probability / 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_none_is_an_error(value: float) -> None:
    with pytest.raises(ModelError, match="the decoder answers with"):
        scripted(lambda prefix: np.full(6, value), 2)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"sources": [[11]]}, "sources[0] spans 11..11, expected tokens in 0..10"),
        ({"sources": [[1], [-1, 3]]}, "sources[1] spans -1..3"),
        ({"sources": [[1.5]]}, "sources[0] is float64 [1]"),
        ({"sources": [[[1]]]}, "sources[0] is int64 [1, 1]"),
        ({"sources": ["ab"]}, "sources[0] is <U2 []"),
        ({"sources": [[[1], [1, 2]]]}, "is no array"),
        ({"sources": [[1]], "beam": 0}, "beam is 0"),
        ({"sources": [[1]], "beam": 2.0}, "beam is 2.0"),
        ({"sources": [[1]], "beam": 5000}, "beam is 5000, expected a whole number in 1..1024"),
        ({"sources": [[1]], "max_steps": 0}, "max_steps is 0"),
        ({"sources": [[1]], "length_penalty": -1}, "length_penalty is -1"),
        ({"sources": [[1]], "length_penalty": math.nan}, "length_penalty is nan"),
        ({"sources": [[1]], "length_penalty": "a"}, "length_penalty is 'a'"),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, Any], reason: str, folder: Path) -> None:
    pair = Seq2Seq(folder / "plain.onnx", kernel="off")
    with pytest.raises(InputError) as caught:
        pair.translate(**arguments)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_decoding_takes_what_was_encoded(folder: Path) -> None:
    pair = Seq2Seq(folder / "plain.onnx", kernel="off")
    memory = pair.encode(BATCH)
    decoding = pair.decoding(memory, 2)
    assert decoding.rows == 8
    with pytest.raises(InputError, match=r"tokens is int64 \[3\], expected int64 \[8\]"):
        decoding.step(np.zeros(3, np.int64))
    with pytest.raises(InputError, match="context_01"):
        pair.decoding({**memory, "context_01": memory["context_00"]})


def change_config(path: Path, **changes: Any) -> None:
    model = onnx.load(path)
    (entry,) = (item for item in model.metadata_props if item.key == KEY)
    content = json.loads(entry.value)
    content["config"] = {**content["config"], **changes}
    entry.value = json.dumps(content)
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"part": "encoder"}, "is not the decoder of an encoder-decoder"),
        ({"architecture": "QRNN"}, "is not the decoder"),
        ({"pair_sha256": "0" * 64}, "do not belong together"),
        ({"pair_sha256": None}, "do not belong together"),
        ({"target_vocab_size": 8}, "its output is"),
        ({"target_vocab_size": "9"}, "target_vocab_size is '9'"),
        ({"target_vocab_size": 10**12}, "target_vocab_size is"),
        ({"source_vocab_size": True}, "source_vocab_size is True"),
        ({"pad_token": -1}, "pad_token is -1"),
        ({"bos_token": 9}, "bos_token is 9, expected a whole number in 0..8"),
        ({"eos_token": 1}, "are not three tokens"),
        ({"source_vocabulary": "abc"}, "source_vocabulary is 'abc', expected 11 texts"),
        ({"target_vocabulary": ["a"]}, "expected 9 texts"),
        ({"target_vocabulary": [1] * 9}, "expected 9 texts"),
    ],
    ids=str,
)
def test_metadata_that_cannot_be_are_refused(
    changes: dict[str, Any], reason: str, copied: Path
) -> None:
    change_config(copied.with_name("model.decoder.onnx"), **changes)
    with pytest.raises(ModelError) as caught:
        Seq2Seq(copied, kernel="off")
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_files_of_two_models_are_refused(folder: Path, copied: Path) -> None:
    shutil.copy(folder / "reverse.encoder.onnx", copied.with_name("model.encoder.onnx"))
    with pytest.raises(ModelError, match="do not belong together"):
        Seq2Seq(copied, kernel="off")
    shutil.copy(folder / "plain.decoder.onnx", copied.with_name("model.encoder.onnx"))
    with pytest.raises(ModelError, match="is not the encoder of an encoder-decoder"):
        Seq2Seq(copied, kernel="off")
    copied.with_name("model.encoder.onnx").unlink()
    with pytest.raises(ModelError, match="is missing, the encoder of an encoder-decoder"):
        Seq2Seq(copied.with_name("model.decoder.onnx"), kernel="off")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lengths": True}, "lengths"),
        ({"states": "none"}, "states='none'"),
        ({"time_major": True}, "time_major"),
        ({"input_names": ["a"]}, "input_names"),
        ({"output_names": ["a"]}, "output_names"),
        ({"time_axes": {"a": 1}}, "time_axes"),
        ({"args": torch.zeros(2, 2)}, "args"),
    ],
    ids=str,
)
def test_options_that_do_not_apply(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        qrnn_deploy.export(model_of(), tmp_path / "model.onnx", **options)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qrnn_deploy.exporter import seq2seq

    real = seq2seq.run_export

    def failing(module: Any, path: Path, *args: Any, **options: Any) -> Any:
        if "decoder" in path.name:
            raise ExportError("no")
        return real(module, path, *args, **options)

    monkeypatch.setattr(seq2seq, "run_export", failing)
    with pytest.raises(ExportError, match="no"):
        qrnn_deploy.export(model_of(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_export_replaces_an_earlier_one(copied: Path) -> None:
    folder = copied.parent
    (folder / "model.onnx.data").write_text("the user's own")
    model = model_of(7)
    qrnn_deploy.export(model, copied)
    report = qrnn_deploy.export(model, copied, golden=False, external_data=True)
    assert sorted(report.removed) == [
        f"{folder}/model.decoder.golden/",
        f"{folder}/model.encoder.golden/",
    ]
    assert {path.name for path in folder.iterdir()} == {
        *("model.encoder.onnx", "model.encoder.onnx.data"),
        *("model.decoder.onnx", "model.decoder.onnx.data", "model.onnx.data"),
    }
    pair = Seq2Seq(copied, kernel="off")
    (found,) = pair.translate([BATCH[0]], max_steps=5)
    assert found.tokens == reference_search(model, BATCH[0], 1, 0.6, 5)[0]


def test_the_name_of_both_is_no_file(copied: Path) -> None:
    copied.write_bytes(b"another model")
    with pytest.raises(ExportError, match="expected a name that no file has"):
        qrnn_deploy.export(model_of(), copied)
    assert copied.read_bytes() == b"another model"


def test_a_file_of_the_users_own_stops_the_export(tmp_path: Path) -> None:
    (tmp_path / "model.encoder.golden").write_text("mine")
    with pytest.raises(ExportError, match=r"model\.encoder\.golden is in the way"):
        qrnn_deploy.export(model_of(), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.encoder.golden"]


@pytest.mark.slow
def test_float16(tmp_path: Path, kernel: Any) -> None:
    model = model_of()
    qrnn_deploy.export(model, tmp_path / "model.onnx", dtype="float16")
    pair = Seq2Seq(tmp_path / "model.onnx", kernel=kernel)
    expected = memory_of(model, BATCH)
    memory = pair.encode(BATCH)
    assert memory["memory"].dtype == np.float16
    target = torch.randint(TARGETS, (len(BATCH), 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model.decode(target, expected)[0].numpy()
    got = pair.decoder.run({"tokens": target.numpy(), **memory})["logits"]
    np.testing.assert_allclose(got.astype(np.float32), logits, atol=0.05)
    assert len(pair.translate(BATCH, beam=2, max_steps=4)) == len(BATCH)


def test_what_follows_an_end_cannot_spoil_the_other_answers() -> None:
    facts = PairFacts(5, 5, 0, 1, 2, None, None)

    class Ends:
        """Source 0 ends at once and answers NaN from there on; source 1 ends a step later."""

        steps = 0

        def step(self, tokens: np.ndarray) -> np.ndarray:
            self.steps += 1
            later = [0.0, 0, 9, 0, 0]
            if self.steps == 1:
                return np.array([later, [0.0, 0, 0, 9, 0]])
            return np.array([[np.nan] * 5, later])

        def reorder(self, rows: np.ndarray) -> None:
            raise AssertionError("one hypothesis needs no order")

    answers = beam_search(Ends(), facts, [4, 4], 1, 0.6)
    assert [(list(a.tokens), a.finished) for a in answers] == [([], True), ([3], True)]
