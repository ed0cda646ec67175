"""Which CUDA stream and device the work of engines goes to, on a stand-in for ``torch.cuda``.

The stand-in keeps the order of what is done on which stream; tensors are torch's, on the host.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from qrnn_deploy.engines.gpu import Card  # noqa: E402
from qrnn_deploy.errors import EngineError  # noqa: E402
from qrnn_deploy.runtime import engine_device  # noqa: E402
from qrnn_deploy.runtime.engine_device import CudaDevice  # noqa: E402


class Stream:
    """A stream; ``log`` of the machine says who waits for whom."""

    def __init__(self, machine, device, name=None):
        self.machine, self.device = machine, device
        self.cuda_stream = name or f"own {len(machine.streams)}"
        machine.streams.append(self)

    def wait_stream(self, other):
        self.machine.log.append((self.cuda_stream, "waits for", other.cuda_stream))


class Machine:
    """Two cards, of which one is current, and the caller's stream on each."""

    def __init__(self):
        self.log, self.streams = [], []
        self.current_device = 0
        self.callers = [Stream(self, torch.device("cuda", n), f"caller {n}") for n in (0, 1)]
        self.here = []
        self.torch = SimpleNamespace(
            version=SimpleNamespace(cuda="13.0"),
            device=torch.device,
            Tensor=torch.Tensor,
            float32=torch.float32,
            zeros=self._zeros,
            empty_like=self._empty_like,
            cuda=SimpleNamespace(
                current_device=lambda: self.current_device,
                Stream=lambda device: Stream(self, device),
                current_stream=self._current_stream,
                stream=self._stream,
                get_device_name=lambda device: f"Card {device.index}",
                get_device_capability=lambda device: (8, (6, 9)[device.index]),
            ),
        )

    def _current_stream(self, device):
        return self.here[-1] if self.here else self.callers[device.index]

    @contextmanager
    def _stream(self, stream):
        self.here.append(stream)
        try:
            yield
        finally:
            self.here.pop()

    def _note(self, what, device):
        self.log.append((self._current_stream(device).cuda_stream, what, f"on {device.index}"))

    def _zeros(self, shape, dtype, device):
        self._note("zeros", device)
        return torch.zeros(shape, dtype=dtype)

    def _empty_like(self, tensor):
        self._note("allocates", torch.device("cuda", self.current_device))
        return torch.empty_like(tensor)


@pytest.fixture
def machine(monkeypatch):
    made = Machine()
    monkeypatch.setattr(engine_device, "require", lambda name, why: made.torch)
    return made


def test_another_is_the_same_device(machine):
    """Also where the thread has turned to another card meanwhile."""
    machine.current_device = 1
    device = CudaDevice()
    machine.current_device = 0
    other = device.another()
    assert device.card == other.card == Card("Card 1", "sm89")
    assert CudaDevice().card == CudaDevice(0).card == Card("Card 0", "sm86")
    first, second = machine.streams[2:4]
    assert first.device == second.device == torch.device("cuda", 1)
    assert first.cuda_stream != second.cuda_stream


def test_buffers_belong_to_the_devices_stream(machine):
    """Zeros of another stream might come after the first step has written there."""
    CudaDevice().buffer((2,), "float32")
    assert machine.log == [("own 2", "zeros", "on 0")]


def test_an_error_leaves_the_streams_in_order(machine):
    device = CudaDevice()
    with pytest.raises(EngineError), device.working():
        raise EngineError("a step fails")
    assert machine.log == [
        ("own 2", "waits for", "caller 0"),
        ("caller 0", "waits for", "own 2"),
    ]
    assert not machine.here
    with device.working():  # and may be used again
        pass


def test_what_is_returned_belongs_to_the_callers_stream(machine, monkeypatch):
    """record_stream is not used: after a failed capture such memory may never be freed."""
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: pytest.fail("is marked"))
    device = CudaDevice()
    buffer = device.buffer((3,), "float32")
    buffer.tensor[:] = 5
    machine.log.clear()
    with device.working():
        copy = device.returned(buffer)
    assert copy.tolist() == [5, 5, 5] and copy.data_ptr() != buffer.tensor.data_ptr()
    assert machine.log == [
        ("own 2", "waits for", "caller 0"),
        ("caller 0", "allocates", "on 0"),
        ("own 2", "waits for", "caller 0"),
        ("caller 0", "waits for", "own 2"),
    ]
