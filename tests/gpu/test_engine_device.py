"""What engines need of torch on a GPU, without an engine: buffers, copies, order, graphs."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from qrnn_deploy.engines.gpu import find_cards  # noqa: E402
from qrnn_deploy.errors import InputError, QrnnDeployError  # noqa: E402
from qrnn_deploy.runtime.engine_device import CudaDevice  # noqa: E402


@pytest.fixture
def device() -> CudaDevice:
    cards = find_cards()
    if not cards.cards:
        pytest.skip(cards.obstacle)
    try:
        return CudaDevice()
    except QrnnDeployError as error:
        pytest.skip(str(error))


def test_buffers_and_graphs(device: CudaDevice) -> None:
    read, written = device.buffer((3, 2), "float32"), device.buffer((3, 2), "float32")
    values = np.arange(6, dtype=np.float32).reshape(3, 2)

    def work() -> None:
        written.tensor.copy_(read.tensor * 2)

    with device.working() as stream:
        assert stream == torch.cuda.current_stream().cuda_stream
        read.upload(values)
        work()
        replay = device.capture(work)
        written.download()
        device.wait()
    np.testing.assert_array_equal(written.array(), values * 2)
    given = torch.full((3, 2), 5.0, device="cuda")
    with device.working():
        read.upload(given)
        replay()
        copy = device.returned(written)
    assert device.keeps(copy) and not device.keeps(values) and not device.keeps(given.cpu())
    assert copy.tolist() == [[10.0, 10.0]] * 3
    with device.working():
        read.write_rows([0, 2], values[:2])
        read.write_rows([1], None)
        read.download()
        device.wait()
    np.testing.assert_array_equal(read.array(), [[0, 1], [0, 0], [2, 3]])
    with pytest.raises(InputError, match="no GPU memory for float32"):
        device.buffer((2**50,), "float32")
