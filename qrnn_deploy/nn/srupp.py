"""SRU++: SRU layers whose gates come from attention.

Source: Lei 2021, "When Attention Meets Fast Recurrence", arXiv:2102.12459; branch 3.0.0-dev of
asappresearch/sru, ``SRUpp``. What the layers compute stands in :mod:`.sru_core` and
:mod:`.sru_entry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch

from . import config as check
from .sru_core import SRUCore
from .sru_entry import SRUAttention
from .sru_levels import SRUStack


class SRUppLayer(SRUCore):
    """One direction of one level of :class:`SRUpp`, which makes it: its checks have been made."""

    entry: SRUAttention

    @property
    def streams(self) -> bool:
        """See :attr:`RecurrentLayer.streams`: attention looks at the whole sequence."""
        return not self.reverse and self.entry.key_value is None

    def reset_parameters(self) -> None:
        """See :meth:`SRUCore.reset_parameters`; the weight is Xavier-uniform instead."""
        super().reset_parameters()
        torch.nn.init.xavier_uniform_(self.weight)
        self.weight.detach().mul_((1 - self.entry.dropout) ** 0.5)


class SRUpp(SRUStack):
    """A stack of SRU++ layers. It answers whole sequences: with attention nothing streams.

    Args:
        input_size: features of x.
        hidden_size: channels H of every layer.
        projection_size: features P in which attention happens.
        num_layers: levels.
        attention: whether a level has attention; one answer for all, or one for each.
        num_heads: parts into which P is cut.
        causal: whether a step attends to itself and earlier ones only.
        bidirectional: every level's recurrence walks both ways.
        attention_norm: whether what comes from attention is normalised.
        layer_norm: none, before or after.
        rescale: whether the highway's input is scaled.
        input_to_hidden: x goes through a linear map to the width of the levels first.
        highway_bias: initial b_r.
        weight_c_init: bound of the initial ``weight_c``.
        dropout: probability in training that an element between attention and gates is zeroed, and
            (but in the last level) that a channel carries nothing but the highway.
        attention_dropout: probability in training that an attention weight is zeroed.
        batch_first: x and y are [B, T, *] instead of [T, B, *].
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        projection_size: int,
        num_layers: int = 1,
        *,
        attention: bool | Sequence[bool] = True,
        num_heads: int = 1,
        causal: bool = False,
        bidirectional: bool = False,
        attention_norm: bool = True,
        layer_norm: str = "none",
        rescale: bool = False,
        input_to_hidden: bool = False,
        highway_bias: float = -2.0,
        weight_c_init: float | None = 1.0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            input_to_hidden=input_to_hidden,
            layer_norm=layer_norm,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )
        self.projection_size = check.size("projection_size", projection_size)
        self.attention = _flags("attention", attention, self.num_layers)
        self.num_heads = check.size("num_heads", num_heads)
        self.causal = check.flag("causal", causal)
        self.attention_norm = check.flag("attention_norm", attention_norm)
        self.dropout = check.probability("dropout", dropout)
        self.attention_dropout = check.probability("attention_dropout", attention_dropout)

        def layer(level: int, width: int, **place: Any) -> SRUppLayer:
            entry = SRUAttention(
                width,
                self.projection_size,
                attention=self.attention[level],
                num_heads=self.num_heads,
                causal=self.causal,
                outer_norm=self.layer_norm == "before",
                norm=self.attention_norm,
                dropout=self.dropout,
                attention_dropout=self.attention_dropout,
                device=device,
                dtype=dtype,
            )
            made = SRUppLayer(
                width,
                self.hidden_size,
                entry,
                rescale=rescale,
                activation="identity",
                highway_bias=highway_bias,
                v1=False,
                weight_c_init=weight_c_init,
                dropout=self.dropout if level + 1 < self.num_layers else 0.0,
                gain=1.0,
                batch_first=False,
                device=device,
                dtype=dtype,
                **place,
            )
            made.reset_parameters()
            return made

        self._build(layer, True)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        first = cast(SRUppLayer, self.layers[0])
        return {
            "architecture": "SRUpp",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "projection_size": self.projection_size,
            "num_layers": self.num_layers,
            "attention": list(self.attention),
            "num_heads": self.num_heads,
            "causal": self.causal,
            "bidirectional": self.bidirectional,
            "attention_norm": self.attention_norm,
            "layer_norm": self.layer_norm,
            "rescale": first.rescale,
            "input_to_hidden": self.input_map is not None,
            "highway_bias": first.highway_bias,
            "weight_c_init": first.weight_c_init,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "batch_first": self.batch_first,
        }


def _flags(name: str, value: Any, count: int) -> list[bool]:
    """One truth value for all of ``count`` levels, or one for each."""
    if not check.is_sequence(value):
        return [check.flag(name, value)] * count
    if len(value) != count:
        raise check.ConfigError(
            f"{name} has {len(value)} entries, expected one value or {count} of them"
        )
    return [check.flag(f"{name}[{n}]", entry) for n, entry in enumerate(value)]
