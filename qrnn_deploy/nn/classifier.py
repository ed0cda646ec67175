"""A classifier of texts: embedding, QRNN stack, concat pooling over time, a small head.

Source: Howard and Ruder 2018 (ULMFiT), arXiv:1801.06146, section 3.3, as fastai 1.0 and 2.0 to 2.3
build it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from . import config as check
from .concat_pooling import PADDINGS, align, concat_pool
from .encoder import QRNNEncoder
from .head import Block

MAX_BLOCKS = 64
"""Largest number of blocks in a head."""


class QRNNClassifier(QRNNEncoder):
    """One answer for a whole text.

    The features of the last token, their maximum and their mean over time go side by side through
    the head: blocks of batch norm, dropout and a linear map, with ReLU between them.

    Texts of a batch are made equally long with ``pad_token``, which nothing but padding may hold.
    Where the padding lies, and what it does, is one of

    ``after``
        It follows the text and influences nothing: a row is answered as it would be alone.
    ``before``
        As fastai 1 has it: it comes first and goes through the layers like any token; the maximum
        and the mean leave it out. So a padded row is not answered quite as it would be alone.
    ``chunks``
        As fastai 2 has it: as many whole chunks of ``bptt`` steps as fit come first, which are
        skipped, and the rest follows the text. Two effects of fastai 2 are kept, since its
        numbers hold them: a text that starts in the middle of a chunk counts from the next chunk
        on (a zero for each earlier step); and "the last token" is as many steps before the end as
        the last ``bptt`` steps hold padding, which is no token of a text that fits into the last,
        shorter chunk, and then its features are 0. (Where fastai 2 walks both ways, it does so
        within each chunk; here ``bidirectional`` is the same for texts of one chunk alone.) Not
        kept: in a batch where a text ends before the last chunk begins, fastai 2 runs that row
        in place of the last one, whose last chunk becomes 0. Here no row depends on another.

    Args:
        vocab_size: as in :class:`QRNNEncoder`, at least 2.
        embedding_size: as in :class:`QRNNEncoder`.
        hidden_size: as in :class:`QRNNEncoder`.
        num_layers: as in :class:`QRNNEncoder`.
        num_classes: logits C of a text.
        head_sizes: width of each block's output, the last block's excepted; may be empty.
        head_bias: whether the linear maps have a bias (fastai 1: yes; fastai 2: no).
        head_dropout: one probability per block, or one for all.
        classes: names of the C classes.
        pad_token: number of the token that pads.
        padding: after, before or chunks.
        bptt: steps of a chunk.
        pooled_steps: the pooling takes in only chunks that start at most so many steps before the
            end, which fastai 2 calls ``max_len``; in fastai 1 it is ``max_len`` - 1. At least
            ``bptt``, or None for all. With padding ``after`` the end is that of the row's text.
        window: as in :class:`QRNNEncoder`.
        pooling: as in :class:`QRNNEncoder`; the recurrence, not the pooling over time.
        activation: as in :class:`QRNNEncoder`.
        bidirectional: as in :class:`QRNNEncoder`.
        reverse: as in :class:`QRNNEncoder`.
        dense: as in :class:`QRNNEncoder`.
        bias: whether the gates have a bias.
        dropout: on the embedding's output and between levels.
        zoneout: as in :class:`QRNNEncoder`.
        zoneout_eval: as in :class:`QRNNEncoder`.
        forget_bias: as in :class:`QRNNEncoder`.
        vocabulary: as in :class:`QRNNEncoder`.
        batch_first: tokens are [B, T] (the default here) instead of [T, B].
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        *,
        num_classes: int,
        head_sizes: Sequence[int] = (50,),
        head_bias: bool = True,
        head_dropout: float | Sequence[float] = 0.0,
        classes: Sequence[str] | None = None,
        pad_token: int = 1,
        padding: str = "after",
        bptt: int = 72,
        pooled_steps: int | None = None,
        window: int | Sequence[int] = 1,
        pooling: str = "fo",
        activation: str = "tanh",
        bidirectional: bool = False,
        reverse: bool = False,
        dense: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_eval: str = "identity",
        forget_bias: float = 0.0,
        vocabulary: Sequence[str] | None = None,
        batch_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            vocab_size,
            embedding_size,
            hidden_size,
            num_layers,
            window=window,
            pooling=pooling,
            activation=activation,
            bidirectional=bidirectional,
            reverse=reverse,
            dense=dense,
            bias=bias,
            dropout=dropout,
            zoneout=zoneout,
            zoneout_eval=zoneout_eval,
            forget_bias=forget_bias,
            vocabulary=vocabulary,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
        )
        self.num_classes = check.size("num_classes", num_classes)
        self.classes = check.texts("classes", classes, "num_classes", self.num_classes)
        if self.classes and len(set(self.classes)) < self.num_classes:
            raise check.ConfigError(
                f"classes has {len(set(self.classes))} different names, expected one for each of "
                f"{self.num_classes}"
            )
        check.size("vocab_size", vocab_size, low=2)
        self.pad_token = check.size("pad_token", pad_token, self.vocab_size - 1, low=0)
        self.padding = check.choice("padding", padding, PADDINGS)
        self.bptt = check.size("bptt", bptt)
        self.pooled_steps: int | None = None
        if pooled_steps is not None:
            self.pooled_steps = check.size("pooled_steps", pooled_steps, low=self.bptt)

        self.head_sizes = check.size_list("head_sizes", head_sizes, MAX_BLOCKS - 1)
        self.head_bias = check.flag("head_bias", head_bias)
        widths = [3 * self.output_size, *self.head_sizes, self.num_classes]
        blocks = len(widths) - 1
        self.head_dropout = check.probabilities("head_dropout", head_dropout, blocks)
        self.head = nn.ModuleList()
        for number, dropped in enumerate(self.head_dropout):
            width, out = widths[number : number + 2]
            check.elements(f"head.{number}.linear.weight", out, width)
            self.head.append(
                Block(
                    width,
                    out,
                    bias=self.head_bias,
                    dropout=dropped,
                    last=number == blocks - 1,
                    device=device,
                    dtype=dtype,
                )
            )

    @property
    def streams(self) -> bool:
        """False: there is one answer for the whole text."""
        return False

    def reset_parameters(self) -> None:
        """Fresh weights for every part."""
        super().reset_parameters()
        for block in self.head:
            cast(Block, block).reset_parameters()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {
            **super().config(),
            "architecture": "QRNNClassifier",
            "num_classes": self.num_classes,
            "head_sizes": list(self.head_sizes),
            "head_bias": self.head_bias,
            "head_dropout": list(self.head_dropout),
            "classes": None if self.classes is None else list(self.classes),
            "pad_token": self.pad_token,
            "padding": self.padding,
            "bptt": self.bptt,
            "pooled_steps": self.pooled_steps,
        }

    def extra_repr(self) -> str:
        """Arguments that the parts do not show, for ``print(module)``."""
        return (
            f"padding={self.padding}, pad_token={self.pad_token}, bptt={self.bptt}, "
            f"pooled_steps={self.pooled_steps}, {super().extra_repr()}"
        )

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]  # whole texts only
        """Logits of whole texts.

        Args:
            tokens: [B, T] int64 ([T, B] without ``batch_first``), each in 0..V-1, T >= 1. A row
                of nothing but padding is answered with NaN.

        Returns:
            Logits [B, C].

        Raises:
            InputError: the tokens do not fit.
        """
        tokens = self.time_major(tokens)
        if not torch.compiler.is_compiling() and tokens.shape[0] == 0:
            raise InputError(
                "QRNNClassifier: tokens has no time steps, expected at least 1: there is nothing "
                "to answer"
            )
        aligned = align(tokens, self.pad_token, self.padding, self.bptt, self.pooled_steps)
        features, _ = self.encode(aligned.tokens, None, aligned.lengths)
        x = concat_pool(features, aligned)
        for block in self.head:
            x = block(x)
        return x
