"""What upstream's layers compute, in plain PyTorch, under upstream's names.

Written from the facts in ``qrnn_deploy/conversion`` and nothing else; ``test_convert_stand_ins.py``
compares them with what upstream itself recorded. Each namespace stands for one upstream module.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = Tensor | None


class Layer(nn.Module):
    """What torchqrnn and fastai share: the linear map of a window of inputs, the gates, prevX."""

    scaled_in_eval = False
    """Whether zoneout scales f in eval mode."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        save_prev_x: bool = False,
        zoneout: float = 0,
        window: int = 1,
        output_gate: bool = True,
    ) -> None:
        super().__init__()
        self.save_prev_x = save_prev_x
        self.zoneout = zoneout
        self.window = window
        self.output_gate = output_gate
        self.linear: nn.Module = nn.Linear(
            window * input_size, (3 if output_gate else 2) * hidden_size
        )
        self.prevX: Tensor | None = None

    def reset(self) -> None:
        self.prevX = None

    def walk(self, x: Tensor, c: State, backward: bool = False) -> tuple[Tensor, Tensor]:
        """Outputs and all c, [T, B, H], of x [T, B, in] from c [B, H]."""
        source = x
        if self.window == 2:
            before = torch.zeros_like(x[:1]) if self.prevX is None else self.prevX
            shifted = [x[1:], before] if backward else [before, x[:-1]]
            source = torch.cat([x, torch.cat(shifted)], dim=2)
        z, f, *o = self.linear(source).chunk(3 if self.output_gate else 2, dim=2)
        z, f = z.tanh(), f.sigmoid()
        if self.zoneout and self.training:
            f = f * torch.empty_like(f).bernoulli_(1 - self.zoneout)
        elif self.zoneout and self.scaled_in_eval:
            f = f * (1 - self.zoneout)
        every = recurrence(z, f, c, backward)
        if self.window == 2 and self.save_prev_x:
            self.prevX = (x[:1] if backward else x[-1:]).detach()
        return (o[0].sigmoid() * every if o else every), every


def recurrence(z: Tensor, f: Tensor, c: State, backward: bool = False) -> Tensor:
    """All c of c = f z + (1 - f) c along the walk, from c [B, H]."""
    steps = range(len(z))
    every = [z[0]] * len(z)
    for t in reversed(steps) if backward else steps:
        c = f[t] * z[t] if c is None else f[t] * z[t] + (1 - f[t]) * c
        every[t] = c
    return torch.stack(every)


class Stack(nn.Module):
    """torchqrnn's stack, and that of early fastai."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0,
        layers: Any = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = len(self.layers)
        self.bias = True
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = False

    def reset(self) -> None:
        for layer in self.layers:
            layer.reset()  # type: ignore[operator]

    def forward(self, input: Tensor, hidden: Any = None) -> tuple[Tensor, Tensor]:
        states = []
        for i, layer in enumerate(self.layers):
            input, state = layer(input, None if hidden is None else hidden[i])
            states.append(state)
            if i < len(self.layers) - 1:
                input = F.dropout(input, self.dropout, self.training)
        return input, torch.cat(states)


class torchqrnn:
    """torchqrnn.qrnn"""

    class QRNNLayer(Layer):
        scaled_in_eval = True

        def __init__(
            self, input_size: int, hidden_size: int, use_cuda: bool = True, **options: Any
        ) -> None:
            super().__init__(input_size, hidden_size, **options)
            self.input_size = input_size
            self.hidden_size = hidden_size
            self.use_cuda = use_cuda

        def forward(self, X: Tensor, hidden: State = None) -> tuple[Tensor, Tensor]:
            h, c = self.walk(X, None if hidden is None else hidden.reshape(hidden.shape[-2:]))
            return h, c[-1:]

    class QRNN(Stack):
        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            num_layers: int = 1,
            dropout: float = 0,
            layers: Any = None,
            **options: Any,
        ) -> None:
            sizes = [input_size] + [hidden_size] * (num_layers - 1)
            layers = layers or [torchqrnn.QRNNLayer(n, hidden_size, **options) for n in sizes]
            super().__init__(input_size, hidden_size, dropout=dropout, layers=layers)


class early_fastai:
    """fastai.text.models.qrnn of 1.0.47."""

    class QRNNLayer(Layer):
        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            use_cuda: bool = True,
            batch_first: bool = True,
            **options: Any,
        ) -> None:
            super().__init__(input_size, hidden_size, **options)
            self.input_size = input_size
            self.hidden_size = hidden_size
            self.use_cuda = use_cuda
            self.batch_first = batch_first

        def forward(self, X: Tensor, hidden: State = None) -> tuple[Tensor, Tensor]:
            h, c = self.walk(
                X.transpose(0, 1) if self.batch_first else X,
                None if hidden is None else hidden.reshape(hidden.shape[-2:]),
            )
            return (h.transpose(0, 1) if self.batch_first else h), c[-1:]

    class QRNN(Stack):
        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            num_layers: int = 1,
            batch_first: bool = True,
            **options: Any,
        ) -> None:
            sizes = [input_size] + [hidden_size] * (num_layers - 1)
            layers = [
                early_fastai.QRNNLayer(n, hidden_size, batch_first=batch_first, **options)
                for n in sizes
            ]
            super().__init__(input_size, hidden_size, batch_first=batch_first, layers=layers)


class fastai:
    """fastai.text.models.qrnn of 1.0.61; in 2.x prevX is cut or filled up to the batch."""

    class QRNNLayer(Layer):
        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            batch_first: bool = True,
            backward: bool = False,
            **options: Any,
        ) -> None:
            super().__init__(input_size, hidden_size, **options)
            self.batch_first = batch_first
            self.backward = backward

        def forward(self, inp: Tensor, hid: State = None) -> tuple[Tensor, Tensor]:
            x = inp.transpose(0, 1) if self.batch_first else inp
            if self.prevX is not None and self.prevX.shape[1] != x.shape[1]:
                kept = torch.zeros_like(x[:1])
                rows = min(self.prevX.shape[1], x.shape[1])
                kept[:, :rows] = self.prevX[:, :rows]
                self.prevX = kept
            h, c = self.walk(x, hid, self.backward)
            last = c[0 if self.backward else -1]
            return (h.transpose(0, 1) if self.batch_first else h), last

    class QRNN(nn.Module):
        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            n_layers: int = 1,
            batch_first: bool = True,
            dropout: float = 0,
            bidirectional: bool = False,
            window: int | None = None,
            **options: Any,
        ) -> None:
            super().__init__()

            def layers(backward: bool) -> nn.ModuleList:
                return nn.ModuleList(
                    fastai.QRNNLayer(
                        hidden_size if level else input_size,
                        hidden_size,
                        batch_first=batch_first,
                        backward=backward,
                        window=window or (1 if level else 2),
                        **options,
                    )
                    for level in range(n_layers)
                )

            self.layers = layers(False)
            if bidirectional:
                self.layers_bwd = layers(True)
            self.n_layers = n_layers
            self.batch_first = batch_first
            self.dropout = dropout
            self.bidirectional = bidirectional

        def reset(self) -> None:
            for layer in [*self.layers, *getattr(self, "layers_bwd", [])]:
                layer.reset()

        def forward(self, inp: Tensor, hid: Any = None) -> tuple[Tensor, Tensor]:
            ways = [self.layers, self.layers_bwd] if self.bidirectional else [self.layers]
            outputs, states = [], [None] * len(ways) * self.n_layers
            for way, layers in enumerate(ways):
                x = inp
                for level, layer in enumerate(layers):
                    at = level * len(ways) + way
                    x, states[at] = layer(x, None if hid is None else hid[at])
                outputs.append(x)
            return torch.cat(outputs, dim=2), torch.stack(states)  # type: ignore[arg-type]

    class WeightDropout(nn.Module):
        """Drops weights in training; ``module.weight`` is what the last pass used."""

        def __init__(self, module: nn.Linear, weight_p: float) -> None:
            super().__init__()
            self.module = module
            self.weight_p = weight_p
            self.weight_raw = nn.Parameter(module.weight.detach())
            stale = torch.full_like(module.weight, 7.0)
            self.module._parameters["weight"] = stale  # type: ignore[assignment]

        def forward(self, x: Tensor) -> Tensor:
            dropped = F.dropout(self.weight_raw, self.weight_p, self.training)
            self.module._parameters["weight"] = dropped  # type: ignore[assignment]
            result: Tensor = self.module(x)
            return result


class awd_lstm_lm:
    """weight_drop of awd-lstm-lm."""

    class WeightDrop(nn.Module):
        """As fastai's, with the trained weight in the wrapped module."""

        def __init__(self, module: nn.Linear, dropout: float) -> None:
            super().__init__()
            self.module = module
            self.dropout = dropout
            weight = module._parameters.pop("weight")
            assert weight is not None
            module.register_parameter("weight_raw", nn.Parameter(weight.detach()))

        def forward(self, x: Tensor) -> Tensor:
            weight = F.dropout(self.module.weight_raw, self.dropout, self.training)
            self.module.weight = weight
            result: Tensor = self.module(x)
            return result


class speechbrain:
    """speechbrain.nnet.RNN of 1.1.2."""

    class QuasiRNNLayer(nn.Module):
        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            bidirectional: bool,
            zoneout: float = 0.0,
            output_gate: bool = True,
        ) -> None:
            super().__init__()
            self.hidden_size = hidden_size
            self.zoneout = zoneout
            self.output_gate = output_gate
            self.bidirectional = bidirectional
            self.w = nn.Linear(input_size, (3 if output_gate else 2) * hidden_size)

        def forward(self, x: Tensor, hidden: State = None) -> tuple[Tensor, Tensor]:
            x = x.flatten(2).transpose(0, 1)
            if self.bidirectional:
                x = torch.cat([x, x.flip(0)], dim=1)
            z, f, *o = self.w(x).chunk(3 if self.output_gate else 2, dim=2)
            z, f = z.tanh(), f.sigmoid()
            if self.zoneout and self.training:
                f = f * torch.empty_like(f).bernoulli_(1 - self.zoneout)
            elif self.zoneout:
                f = f * (1 - self.zoneout)
            c = recurrence(z, f, hidden)
            joined = []
            for every in (o[0].sigmoid() * c if o else c, c):
                every = every.transpose(0, 1)
                if self.bidirectional:
                    forward, backward = every.chunk(2)
                    every = torch.cat([forward, backward.flip(1)], dim=2)
                joined.append(every)
            return joined[0], joined[1][-1]

    class QuasiRNN(nn.Module):
        def __init__(
            self,
            hidden_size: int,
            input_size: int,
            num_layers: int = 1,
            dropout: float = 0,
            bidirectional: bool = False,
            **options: Any,
        ) -> None:
            super().__init__()
            width = hidden_size * (2 if bidirectional else 1)
            self.hidden_size = hidden_size
            self.num_layers = num_layers
            self.bidirectional = bidirectional
            self.dropout = nn.Dropout(dropout) if dropout else None
            self.qrnn = nn.ModuleList(
                speechbrain.QuasiRNNLayer(
                    width if level else input_size, hidden_size, bidirectional, **options
                )
                for level in range(num_layers)
            )

        def forward(self, x: Tensor, hidden: Any = None) -> tuple[Tensor, Tensor]:
            states = []
            for level, layer in enumerate(self.qrnn):
                x, state = layer(x, None if hidden is None else hidden[level])
                states.append(state)
                if self.dropout is not None and level < len(self.qrnn) - 1:
                    x = self.dropout(x)
            return x, torch.stack(states)
