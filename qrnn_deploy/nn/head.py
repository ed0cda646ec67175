"""The head of the classifier: blocks of batch norm, dropout and a linear map, ReLU between them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Batch normalisation of [B, C] (Ioffe and Szegedy 2015, arXiv:1502.03167).

    As nn.BatchNorm1d with its defaults, but without the counter of batches, the one whole number
    among the weights of a model.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        width: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(width, device=device, dtype=dtype))
        self.register_buffer("running_mean", torch.empty(width, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.empty(width, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """No effect on inputs of mean 0 and variance 1."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        self.running_mean.zero_()
        self.running_var.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C], in training by its own mean and variance (B >= 2)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training
        )


class Block(nn.Module):
    """Batch norm, dropout, a linear map, and ReLU unless it is the last: [B, in] to [B, out].

    Args:
        width: in.
        out: of the linear map.
        bias: of the linear map.
        dropout: between the two, in training.
        last: whether no ReLU follows.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        width: int,
        out: int,
        *,
        bias: bool,
        dropout: float,
        last: bool,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.last = last
        self.norm = BatchNorm(width, device, dtype)
        self.linear = nn.Linear(width, out, bias=bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Fresh weights."""
        self.norm.reset_parameters()
        self.linear.reset_parameters()

    def extra_repr(self) -> str:
        """Arguments that the parts do not show, for ``print(module)``."""
        return f"dropout={self.dropout}, relu={not self.last}"

    def forward(self, x: Tensor) -> Tensor:
        """The block on x [B, in]."""
        y: Tensor = self.linear(F.dropout(self.norm(x), self.dropout, self.training))
        return y if self.last else F.relu(y)
