"""What convert refuses, or leaves as it is, and what it says then."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import upstream_stand_ins as up
from torch import Tensor, nn

from qrnn_deploy import convert
from qrnn_deploy.conversion import ConversionError, ConversionWarning
from qrnn_deploy.conversion.adapter import Adapter
from qrnn_deploy.errors import InputError, QrnnDeployError
from qrnn_deploy.nn import QRNN

IN, H = 5, 4


def refused(model: Any, message: str, **options: Any) -> None:
    """Refused in one line."""
    with pytest.raises(ConversionError, match=message) as caught:
        convert(model, **options)
    assert isinstance(caught.value, QrnnDeployError)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


class Renamed(up.torchqrnn.QRNNLayer):
    """A subclass is one too."""


class OtherActivation(up.torchqrnn.QRNNLayer):
    def walk(self, x: Tensor, c: Tensor | None, backward: bool = False) -> tuple[Tensor, Tensor]:
        y, every = super().walk(x, c, backward)
        return y.relu(), every


class OtherReturn(up.torchqrnn.QRNNLayer):
    def forward(self, X: Tensor, hidden: Tensor | None = None) -> Any:
        return super().forward(X, hidden)[0]


class NoForward(up.torchqrnn.QRNNLayer):
    def forward(self, X: Tensor, hidden: Tensor | None = None) -> Any:
        raise RuntimeError("needs a GPU\nand more lines")


def test_refusals() -> None:
    refused(nn.Sequential(nn.Linear(2, 2)), "Sequential has no upstream layer: expected")
    with pytest.raises(InputError, match=r"model is .*, expected a torch\.nn\.Module"):
        convert("model.pt")  # type: ignore[arg-type]
    refused(QRNN(IN, H), "built on layers of qrnn_deploy already")
    refused(convert(nn.Sequential(up.fastai.QRNN(IN, H))), "Sequential is built on layers")
    refused(
        OtherActivation(IN, H), r"the model itself \(QRNNLayer of torchqrnn\): its output differs"
    )
    refused(
        nn.Sequential(OtherReturn(IN, H)),
        r"layer '0' \(.*it returns a Tensor, expected an output and",
    )
    refused(NoForward(IN, H), r"does not run, .*RuntimeError: needs a GPU\): .*check=False")
    assert isinstance(convert(NoForward(IN, H), check=False), Adapter)
    assert isinstance(convert(Renamed(IN, H)), Adapter)


def test_refusals_of_layers_that_have_more_than_ours() -> None:
    def layer(**options: Any) -> Any:
        return up.torchqrnn.QRNNLayer(IN, H, **options)

    normed = layer()
    torch.nn.utils.parametrizations.weight_norm(normed.linear)
    refused(normed, r"has the parameters bias, parametrizations.*expected weight and bias")
    hooked = layer()
    hooked.register_forward_hook(lambda *_: None)
    refused(hooked, "its QRNNLayer has hooks")
    hooked = layer()
    hooked.linear.register_forward_pre_hook(lambda *_: None)
    refused(hooked, "its Linear has hooks")
    more = layer()
    more.norm = nn.LayerNorm(H)
    refused(more, "has the parameters norm.weight, norm.bias besides linear")
    other = layer()
    other.linear = nn.Bilinear(IN, IN, H)
    refused(other, "its linear map is a Bilinear, expected nn.Linear")
    wide = layer(window=2)
    wide.window = 3
    refused(wide, "its window is 3, expected 1 or 2")
    both = layer()
    both.hidden_size = H // 2  # as the copies of torchqrnn that walk both ways in one layer
    refused(both, "its hidden_size is 2 and its weight has 12 rows, expected 3 times")
    odd = layer()
    odd.linear = nn.Linear(IN, 13)
    refused(odd, r"its weight has shape \[13, 5\], expected 3 times")
    refused(layer().to("meta"), "on the meta device")
    refused(layer(zoneout=1.5), "zoneout is 1.5")


def test_lookalikes_are_named() -> None:
    class QRNNLayer(nn.Module):
        """Another project's."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(IN, 3 * H)

    class QRNNBlock(nn.Module):
        pass

    refused(
        nn.Sequential(QRNNLayer()),
        "what it has is '0' \\(a QRNNLayer without window, zoneout, output_gate",
    )
    refused(nn.Sequential(nn.Sequential(QRNNBlock())), r"what it has is '0.0' \(a QRNNBlock\)")
    with pytest.warns(ConversionWarning, match=r"left as they are: '1' \(a QRNNLayer without"):
        converted: Any = convert(nn.Sequential(up.torchqrnn.QRNNLayer(IN, H), QRNNLayer()))
    assert isinstance(converted[0], Adapter) and isinstance(converted[1], QRNNLayer)


def test_a_model_that_cannot_be_copied() -> None:
    model: Any = nn.Sequential(up.torchqrnn.QRNNLayer(IN, H))
    model.loss = model[0].linear.weight.sum()
    refused(model, r"cannot be copied \(RuntimeError: .*torch\.no_grad")
