"""What models of text share: an embedding, layers as torchqrnn has them, a decoder or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ._linear import Linear, layer_tensors, stale_note
from ._stacks import Facts, inferred
from .given import Given
from .layer_shapes import Stack, possibilities, refuse
from .reading import Names, Reading, configuration
from .tables import WeightTable, same_numbers
from .vocabulary import read_vocabulary

Tensors = dict[str, Callable[[], Tensor]]

TEXT_USES = frozenset({"direction", "vocabulary", "batch_first"})
"""What can be said about any model of text."""

FORWARD = (
    "direction forward (--direction reverse): a model trained on reversed text has the same file"
)


IN_ORDER = (
    "texts in reading order: a classifier trained on reversed text has the same file, and takes "
    "its texts reversed"
)


@dataclass(frozen=True)
class Trunk:
    """Embedding and stack of a model of text.

    Attributes:
        names: the names of the table, of which those of the trunk are taken.
        embedding: name of the embedding's weight [V, E].
        linears: level by level, forward before reverse.
        stack: what the shapes say.
        ways: 2 where each level walks both ways.
        zoneout: that scales the forget gate in eval mode, 0 for none.
    """

    names: Names
    embedding: str
    linears: Sequence[Linear]
    stack: Stack
    ways: int
    zoneout: float = 0.0

    @classmethod
    def find(
        cls,
        names: Names,
        embedding: Sequence[str],
        layers: Sequence[Sequence[str]],
        *,
        scales: bool = False,
    ) -> Trunk:
        """Take the tensors of embedding and layers.

        Args:
            names: those of the table.
            embedding: names that the embedding's weight may have.
            layers: for each level the path of its one or two layers, with a dot.
            scales: whether a zoneout that pickled layers record acts in eval mode too.

        Raises:
            CheckpointError: tensors are missing or do not fit together.
        """
        found = names.take(*embedding)
        size = names.shape(found, 2)[1]
        for other in embedding:  # a second name of the same weight
            if other != found and names.has(other):
                names.expect(other, names.table.shape(found))
                if not same_numbers(names.table.tensors[other], names.table.tensors[found]):
                    raise CheckpointError(
                        f"has other numbers in {other} than in {found}, which are one weight"
                    )
        linears = [Linear.find(names, path) for level in layers for path in level]
        ways = len(layers[0])
        shapes = [linear.shape for linear in linears]
        if ways == 2 and shapes[::2] != shapes[1::2]:
            raise CheckpointError("its two directions differ in shape, expected the same")
        paths = [level[0].removesuffix(".") for level in layers]
        facts = Facts.of(names.table, paths, Given(), ())
        # The constructors of all these projects give every layer an output gate.
        stacks = possibilities(
            shapes[::ways],
            directions=ways,
            input_size=size,
            gates=facts.gates or 3,
            windows=facts.windows,
        )
        if not stacks:
            raise refuse(shapes[::ways], names.what, f"an embedding of {size}")
        return cls(names, found, linears, stacks[0], ways, (facts.zoneout or 0.0) * scales)

    @property
    def width(self) -> int:
        """Features that the stack gives."""
        return self.ways * self.stack.hidden[-1]

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self.names.table.shape(self.embedding)[0]

    def arguments(self, given: Given) -> dict[str, Any]:
        """What all our models of text are built with."""
        vocabulary = None
        if given.vocabulary is not None:
            vocabulary = read_vocabulary(given.vocabulary, self.vocab_size)
        if given.direction is not None and self.ways == 2:
            raise CheckpointError("walks both ways: leave out --direction")
        return {
            "vocab_size": self.vocab_size,
            "embedding_size": self.names.table.shape(self.embedding)[1],
            "hidden_size": list(self.stack.hidden),
            "window": list(self.stack.windows),
            "pooling": self.stack.pooling,
            "zoneout": self.zoneout,
            "zoneout_eval": "expectation" if self.zoneout else "identity",
            "bidirectional": self.ways == 2,
            "reverse": given.reverse,
            "vocabulary": vocabulary,
            "batch_first": given.batch_first is not False,
        }

    def tensors(self) -> Tensors:
        """The state dict of our embedding and stack."""
        return {
            "embedding.weight": self.names.table.tensors[self.embedding].load,
            **layer_tensors(self.linears, self.stack, "stack."),
        }

    def reading(self, architecture: str, given: Given, tensors: Tensors, **extra: Any) -> Reading:
        """The one reading of a model with this trunk.

        Args:
            architecture: name of our class.
            given: what the user said.
            tensors: those behind the trunk.
            extra: further arguments of the class; ``inferred``, ``assumed`` and ``notes`` for the
                reading.
        """
        said = extra.pop("inferred", ())
        assumed = extra.pop("assumed", ())
        notes = extra.pop("notes", ())
        self.names.refuse_the_rest()
        order = IN_ORDER if architecture == "QRNNClassifier" else FORWARD
        both = ("both directions",) if self.ways == 2 else ()
        told = (f"zoneout {self.zoneout:g}, as the file records",) if self.zoneout else ()
        return Reading(
            configuration(architecture, **self.arguments(given), **extra),
            self.tensors() | tensors,
            inferred=(f"{self.vocab_size} tokens", *inferred(self.stack), *told, *both, *said),
            assumed=(
                *assumed,
                *((order,) if given.direction is None and self.ways == 1 else ()),
            ),
            notes=tuple(notes),
            checks=(partial(stale_note, self.linears),),
            choice=f"--format {self.names.what}",
        )


def language_model(trunk: Trunk, decoder: str, given: Given) -> Reading:
    """A trunk with a decoder behind it.

    Args:
        trunk: its tensors are taken.
        decoder: path of the decoder with its dot: ``weight`` [V, H] and perhaps ``bias`` [V].
        given: what the user said.

    Raises:
        CheckpointError: the decoder does not fit, or tensors are left over.
    """
    names, table = trunk.names, trunk.names.table
    weight, bias = f"{decoder}weight", f"{decoder}bias"
    vocab, width = trunk.vocab_size, trunk.width
    stored = names.has(weight)
    if not stored and (not names.has(bias) or trunk.width != table.shape(trunk.embedding)[1]):
        names.take(weight)  # says what is missing
    tied = not stored
    if stored:
        names.expect(weight, (vocab, width))
        tied = same_numbers(table.tensors[weight], table.tensors[trunk.embedding])
    tensors: Tensors = {} if tied else {"decoder_weight": table.tensors[weight].load}
    has_bias = names.has(bias)
    if has_bias:
        names.expect(bias, (vocab,))
        tensors["decoder_bias"] = table.tensors[bias].load
    else:
        dtype = table.tensors[trunk.embedding].dtype
        tensors["decoder_bias"] = lambda: torch.zeros(vocab, dtype=dtype)
    said = (
        "decoder tied to the embedding" if tied else "decoder with a weight of its own",
        *(() if has_bias else ("no decoder bias",)),
    )
    return trunk.reading("QRNNLanguageModel", given, tensors, tied=tied, inferred=said)


def levels(table: WeightTable, prefix: str, inner: str) -> list[tuple[str, ...]]:
    """The paths of each level's layers, with dots.

    Args:
        table: the weights.
        prefix: of the encoder, with its dot, or empty.
        inner: between the number of the level and ``linear``, with its dot, or empty.
    """
    numbers = {
        int(match.group(1)) for match in table.matching(rf"{prefix}rnns\.(\d{{1,4}})\..*").values()
    }
    backward = inner.replace("layers.", "layers_bwd.")
    two_ways = inner != backward and bool(table.matching(rf"{prefix}rnns\.\d+\.layers_bwd\..*"))
    return [
        tuple(f"{prefix}rnns.{n}.{way}" for way in ((inner, backward) if two_ways else (inner,)))
        for n in range(max(numbers, default=0) + 1)
    ]
