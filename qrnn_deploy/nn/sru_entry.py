"""What stands between the input of an SRU level and its gates.

SRU: a layer norm and a factor of the weight, both optional. Source: Lei et al. 2018,
arXiv:1709.02755; asappresearch/sru 2.6, ``SRUCell``.

SRU++: attention over the whole sequence in a narrow space,

    q = W1 x, (k, v) = W2 q, a = softmax(q k^T / sqrt(P / heads)) v, out = norm(q + alpha a)

Source: Lei 2021, arXiv:2102.12459, section 3; branch 3.0.0-dev of asappresearch/sru.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import config as check


class SRUEntry(nn.Module):
    """Layer norm, dropout and projection of a level's input, each where it is wanted.

    Both directions of a level may hold the same entry.

    Args:
        input_size: features of x.
        projection_size: features of the result, or 0 for no projection.
        layer_norm: whether x is normalised first.
        dropout: probability in training that a feature of a row is zeroed for the whole sequence.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        output_size: features of the result.
    """

    def __init__(
        self,
        input_size: int,
        *,
        projection_size: int = 0,
        layer_norm: bool = False,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.output_size = projection_size or input_size
        self.norm = nn.LayerNorm(input_size, device=device, dtype=dtype) if layer_norm else None
        self.projection: nn.Linear | None = None
        if projection_size:
            check.elements("projection.weight", projection_size, input_size)
            self.projection = nn.Linear(
                input_size, projection_size, bias=False, device=device, dtype=dtype
            )

    def reset_parameters(self) -> None:
        """Fresh weights: the projection's outputs vary as its inputs do."""
        if self.norm is not None:
            self.norm.reset_parameters()
        if self.projection is not None:
            bound = math.sqrt(3 / self.projection.in_features)
            nn.init.uniform_(self.projection.weight, -bound, bound)

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """What the gates read.

        Args:
            x: [T, B, input_size].
            past: [T, B] bool or None, steps that do not count; each step stands alone here.

        Returns:
            [T, B, output_size].
        """
        if self.norm is not None:
            x = self.norm(x)
        if self.training and self.dropout > 0:
            x = x * F.dropout(x.new_ones(x.shape[1:]), self.dropout)
        return x if self.projection is None else self.projection(x)


class SRUAttention(nn.Module):
    """Attention of SRU++, or where ``attention`` is off what is left of it: a projection, normed.

    Args:
        input_size: features of x.
        projection_size: features P of queries, keys, values and of the result.
        attention: whether steps look at each other.
        num_heads: parts into which P is cut; each attends on its own.
        causal: whether a step looks at itself and earlier ones only.
        outer_norm: whether x is normalised before all else.
        norm: whether the result is normalised.
        dropout: probability in training that an element of the result is zeroed.
        attention_dropout: the same for an attention weight.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        output_size: ``projection_size``.
    """

    def __init__(
        self,
        input_size: int,
        projection_size: int,
        *,
        attention: bool = True,
        num_heads: int = 1,
        causal: bool = False,
        outer_norm: bool = False,
        norm: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if projection_size % num_heads:
            raise check.ConfigError(
                f"projection_size is {projection_size} with num_heads {num_heads}, expected a "
                "multiple of it"
            )
        self.output_size = projection_size
        self.num_heads, self.causal = num_heads, causal
        self.dropout, self.attention_dropout = dropout, attention_dropout
        check.elements("query.weight", projection_size, input_size)
        check.elements("key_value.weight", 2 * projection_size, projection_size)
        self.outer_norm = (
            nn.LayerNorm(input_size, device=device, dtype=dtype) if outer_norm else None
        )
        self.query = nn.Linear(input_size, projection_size, bias=False, device=device, dtype=dtype)
        self.key_value: nn.Linear | None = None
        self.alpha: nn.Parameter | None = None
        if attention:
            self.key_value = nn.Linear(
                projection_size, 2 * projection_size, bias=False, device=device, dtype=dtype
            )
            self.alpha = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.norm = nn.LayerNorm(projection_size, device=device, dtype=dtype) if norm else None

    def reset_parameters(self) -> None:
        """Xavier-uniform maps, values of zero, and alpha 0: it begins without attention."""
        for norm in (self.outer_norm, self.norm):
            if norm is not None:
                norm.reset_parameters()
        nn.init.xavier_uniform_(self.query.weight)
        if self.key_value is not None and self.alpha is not None:
            nn.init.xavier_uniform_(self.key_value.weight)
            nn.init.zeros_(self.key_value.weight[self.output_size :])
            nn.init.zeros_(self.alpha)

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """What the gates read.

        Args:
            x: [T, B, input_size].
            past: [T, B] bool or None, steps that no other step may look at.

        Returns:
            [T, B, P]; anything at the steps of ``past``.
        """
        if past is not None:
            x = x.masked_fill(past[:, :, None], 0.0)  # a weight of 0 does not silence a NaN
        if self.outer_norm is not None:
            x = self.outer_norm(x)
        q = self.query(x)
        out = q
        if self.key_value is not None and self.alpha is not None:
            out = q + self.alpha * self._attend(q, self.key_value(q), past)
        if self.norm is not None:
            out = self.norm(out)
        return F.dropout(out, self.dropout, self.training)

    def _attend(self, q: Tensor, keys_values: Tensor, past: Tensor | None) -> Tensor:
        """[T, B, P] from queries [T, B, P] and keys beside values [T, B, 2P]."""
        steps, batch, width = q.shape
        keys, values = keys_values.chunk(2, dim=-1)
        query, key, value = (
            part.reshape(steps, batch, self.num_heads, width // self.num_heads).permute(1, 2, 0, 3)
            for part in (q, keys, values)
        )
        scores = (query * (width // self.num_heads) ** -0.5) @ key.transpose(2, 3)
        lowest = torch.finfo(scores.dtype).min  # infinity would make NaN where all is hidden
        if self.causal:
            t = torch.arange(steps, device=q.device)
            scores = scores.masked_fill(t[None, :] > t[:, None], lowest)
        if past is not None:
            scores = scores.masked_fill(past.t()[:, None, None, :], lowest)
        weights = F.dropout(scores.softmax(dim=-1), self.attention_dropout, self.training)
        return (weights @ value).permute(2, 0, 1, 3).reshape(steps, batch, width)
