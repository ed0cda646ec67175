"""Streams of a model with a delay: what is valid, the flush, saved states, the command line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qrnn_deploy
from qrnn_deploy import Session, StreamingSession, frames, verify
from qrnn_deploy.cli import main
from qrnn_deploy.errors import ExportError, InputError
from qrnn_deploy.nn import QRNN
from qrnn_deploy.nn.delayed import Delayed

DELAY = 3
EXAMPLE = (torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)),)


class Net(nn.Module):
    """A layer and a linear map, batch first."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0])


def net(*, padding: float | None = 0.25, ragged: bool = False, gru: bool = False) -> nn.Module:
    torch.manual_seed(2)
    layer = nn.GRU(5, 7, batch_first=True) if gru else QRNN(5, 7, window=2, batch_first=True)
    delayed = Delayed(layer, DELAY, padding=padding)
    return delayed if ragged else Net(delayed)


def exported(model: nn.Module, path, **options) -> Session:
    qrnn_deploy.export(model, path, EXAMPLE, golden=False, **options)
    return Session(path)


def fed(stream: StreamingSession, x: Tensor, *cuts: int) -> list[np.ndarray]:
    """The valid outputs of the chunks between the cuts."""
    parts = []
    for a, b in zip((0, *cuts), (*cuts, x.shape[1]), strict=True):
        y = stream.step(x[:, a:b].numpy())
        parts.append(y[:, stream.invalid.max() :])
    return parts


@pytest.mark.parametrize("gru", [False, True])
@pytest.mark.parametrize("states", ["separate", "packed"])
@pytest.mark.parametrize("cuts", [(), (1, 2, 3, 4), (2, 8)])
def test_valid_outputs_and_flush_are_the_whole(states, cuts, gru, tmp_path):
    model = net(gru=gru)
    session = exported(model, tmp_path / "m.onnx", states=states)
    assert (session.metadata.delay, session.metadata.padding) == (DELAY, 0.25)
    x = torch.randn(2, 9, 5)
    stream = StreamingSession(session, 2)
    assert stream.delay == DELAY
    got = np.concatenate([*fed(stream, x, *cuts), stream.flush()], axis=1)
    np.testing.assert_allclose(got, model(x).detach().numpy(), atol=1e-6)


def test_the_first_outputs_are_reported_as_not_valid(tmp_path):
    stream = StreamingSession(exported(net(), tmp_path / "m.onnx"), 2)
    found = []
    for size in (2, 0, 3, 4):
        stream.step(np.zeros((2, size, 5), np.float32))
        found.append(stream.invalid.tolist())
    assert found == [[2, 2], [0, 0], [1, 1], [0, 0]]


def test_a_sequence_shorter_than_the_delay(tmp_path):
    model = net()
    stream = StreamingSession(exported(model, tmp_path / "m.onnx"), 2)
    x = torch.randn(2, 2, 5)
    stream.step(x.numpy())
    late = stream.flush()
    assert stream.invalid.tolist() == [1, 1]
    np.testing.assert_allclose(late[:, 1:], model(x).detach().numpy(), atol=1e-6)


def test_ended_streams_need_a_reset_each(tmp_path):
    stream = StreamingSession(exported(net(), tmp_path / "m.onnx"), 2)
    x = np.ones((2, 5, 5), np.float32)
    first = stream.step(x)
    stream.flush()
    for again in (lambda: stream.step(x), stream.flush):
        with pytest.raises(InputError, match="stream 0 has ended by flush"):
            again()
    stream.reset(0)
    with pytest.raises(InputError, match="stream 1 has ended by flush"):
        stream.step(x)
    stream.reset(1)
    np.testing.assert_array_equal(stream.step(x), first)


def test_rows_are_reset_alone(tmp_path):
    stream = StreamingSession(exported(net(), tmp_path / "m.onnx"), 3)
    stream.step(np.ones((3, 2, 5), np.float32))
    stream.reset([1])
    stream.step(np.ones((3, 2, 5), np.float32))
    assert stream.invalid.tolist() == [1, 2, 1]


def test_a_saved_state_knows_how_far_the_stream_is(tmp_path):
    model = net()
    session = exported(model, tmp_path / "m.onnx")
    x = torch.randn(1, 9, 5)
    stream, other = StreamingSession(session), StreamingSession(session)
    parts = fed(stream, x[:, :2])
    other.load_state(stream.save_state())
    parts += fed(other, x[:, 2:])
    parts.append(other.flush())
    got = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(got, model(x).detach().numpy(), atol=1e-6)
    ended = other.save_state()
    other.reset()
    other.load_state(ended)
    with pytest.raises(InputError, match="has ended"):
        other.step(x.numpy())


@pytest.mark.parametrize("value", [-1.0, 0.5, DELAY + 1.0, float("nan")])
def test_a_damaged_state_is_refused(value, tmp_path):
    from qrnn_deploy.runtime import lateness, state_bytes

    session = exported(net(), tmp_path / "m.onnx")
    stream = StreamingSession(session)
    arrays = stream._current(None)
    arrays[lateness.STATE] = np.array([[value, 0]], np.float32)
    data = state_bytes.pack(arrays, state_bytes.fingerprint(session.metadata))
    with pytest.raises(InputError, match="lateness holds no number of steps"):
        stream.load_state(data)


def test_inputs_that_follow_are_given_where_there_is_no_padding(tmp_path):
    model = net(padding=None)
    stream = StreamingSession(exported(model, tmp_path / "m.onnx"), 2)
    x = torch.randn(2, 9 + DELAY, 5)
    parts = fed(stream, x[:, :9], 4)
    with pytest.raises(InputError, match="no padding of its own: give flush"):
        stream.flush()
    with pytest.raises(InputError, match=r"flush\(\) got 2 steps, expected 3"):
        stream.flush(x[:, -2:].numpy())
    parts.append(stream.flush(x[:, 9:].numpy()))
    got = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(got, model(x).detach().numpy(), atol=1e-6)


def test_ragged_chunks_are_counted_row_by_row(tmp_path):
    model = net(ragged=True)
    stream = StreamingSession(exported(model, tmp_path / "m.onnx", lengths=True), 2)
    x = torch.randn(2, 6, 5)
    stream.step(x.numpy(), lengths=[6, 1])
    assert stream.invalid.tolist() == [3, 1]
    late = stream.flush()
    assert stream.invalid.tolist() == [0, 2]
    whole = model(x, lengths=torch.tensor([6, 1]))[0].detach().numpy()
    np.testing.assert_allclose(late[0], whole[0, 3:], atol=1e-6)
    np.testing.assert_allclose(late[1, 2:], whole[1, :1], atol=1e-6)


def test_no_delay_no_flush(tmp_path):
    torch.manual_seed(0)
    qrnn_deploy.export(QRNN(5, 6, batch_first=True), tmp_path / "m.onnx", EXAMPLE)
    stream = StreamingSession(tmp_path / "m.onnx")
    stream.step(np.zeros((1, 2, 5), np.float32))
    assert stream.delay == 0 and stream.invalid.tolist() == [0]
    with pytest.raises(InputError, match="has no delay"):
        stream.flush()


def test_whole_sequences_have_the_delay_in_the_graph(tmp_path):
    model = net()
    session = exported(model, tmp_path / "m.onnx", states="none")
    assert session.metadata.delay == 0
    x = torch.randn(3, 8, 5)
    np.testing.assert_allclose(session.run(x.numpy())["y"], model(x).detach().numpy(), atol=1e-6)


def test_lengths_of_whole_sequences_are_refused(tmp_path):
    """Each row would have to be longer than its length in the layer, and is not in the graph."""
    with pytest.raises(ExportError, match=r"has a delay.*expected lengths=False with states"):
        exported(net(ragged=True), tmp_path / "m.onnx", states="none", lengths=True)


def test_frames_of_a_known_future_need_no_flush(tmp_path):
    model = net(padding=None)
    session = exported(model, tmp_path / "m.onnx")
    x = torch.randn(2, 9 + DELAY, 5)
    parts = list(frames.stream(session, frames.split(x.numpy(), 4)))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(x).detach().numpy(), atol=1e-6)


def test_verify_runs_the_stream_to_its_end(tmp_path):
    for number, options in enumerate(({}, {"padding": None}, {"gru": True})):
        model, path = net(**options), tmp_path / f"{number}.onnx"
        exported(model, path)
        report = verify(path, module=model, args=EXAMPLE)
        late = [item for item in report.comparisons if "then flushed" in item.case]
        ran = {item.artifact for item in report.comparisons}
        assert report.passed and {item.artifact for item in late} == ran, report.to_json()


def test_a_delay_in_front_of_something_that_is_not_late_is_refused(tmp_path):
    class Beside(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x[:, :, :3]

    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.rest = nn.Linear(5, 5), net()

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(self.before(x))

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Delayed(QRNN(5, 5, batch_first=True), 1)
            self.second = Delayed(QRNN(5, 5, batch_first=True), 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)[0])[0]

    for model, message in (
        (Beside(Delayed(QRNN(5, 7, batch_first=True), 2)), "cannot stream with its delay"),
        (Embedded(), "cannot stream with its delay"),
        (Two(), "has a second delay"),
    ):
        with pytest.raises(ExportError, match=message):
            qrnn_deploy.export(model, tmp_path / "m.onnx", EXAMPLE, states="separate")
        qrnn_deploy.export(model, tmp_path / "m.onnx", EXAMPLE, states="none", golden=False)


def test_the_command_line_gives_valid_outputs_only(tmp_path):
    model = net()
    session = exported(model, tmp_path / "m.onnx")
    x = torch.randn(2, 9, 5)
    expected = model(x).detach().numpy()
    parts = list(frames.stream(session, frames.split(x.numpy(), 2)))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=1e-6)
    np.save(tmp_path / "x.npy", x.numpy())
    arguments = ["run", tmp_path / "m.onnx", tmp_path / "x.npy", "-o", tmp_path / "y.npy"]
    with pytest.raises(SystemExit) as done:
        main([*map(str, arguments), "--chunk", "4"])
    assert not done.value.code
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-6)
