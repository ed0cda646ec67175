"""Checkpoints of santi-pdp/quasi-rnn (TensorFlow 1): from their variables to a language model.

Facts, read in the upstream sources ``qrnn.py``, ``model.py`` and ``train_lm.py``. The variables of
a model with vocabulary V, embedding E, size H and windows of k words::

    QRNN_LM/word_W                               [V, E]
    QRNN_LM/QRNN_layerN/convolutions/W{z,i,f,o}  [k, in, H]   z and the gates of the pooling
    QRNN_LM/QRNN_layerN/convolutions/b{z,i,f,o}  [H]          in derived code only
    QRNN_LM/output_softmax/weights, biases       [H, V], [V]

Convolutions are padded with k-1 zeros on the left, and tap k-1 meets x_t. Polarity is the paper's:
c = f c_prev + (1 - f) tanh(z) for f and fo, c = f c_prev + i tanh(z) for ifo, h = o c or c.
Zoneout sets f to 1 at random in training, without scaling, so it changes nothing later (an early
revision scaled 1 - f by 1 / (1 - p) in training; later there is none in either). The logits pass
through a ReLU: ``tf.contrib.layers.fully_connected`` applies one unless it is told not to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..nn import QRNNLanguageModel
from ..nn.config import shorten
from ..pooling.spec import POOLINGS
from ._quasi_rnn_variables import (
    DECODER,
    DECODER_BIAS,
    EMBEDDING,
    LAYER,
    LEARNING_RATE,
    check_present,
    check_types,
    expect,
    name_of,
    plain_names,
    pooling_of,
    shape_of,
    sort_out,
)
from .given import Given
from .reading import Reading
from .tables import InMemory, WeightTable
from .vocabulary import read_vocabulary

NO_VOCABULARY = "The vocabulary is not in the file (--vocabulary): words are numbers."


class QuasiRNN:
    """Language models of quasi-rnn."""

    name = "quasi-rnn"
    description = "santi-pdp/quasi-rnn (TensorFlow 1): QRNN_LM/QRNN_layerN/convolutions/Wz"
    uses = frozenset({"vocabulary", "batch_first"})

    def recognise(self, table: WeightTable) -> bool:
        """By the names of its variables."""
        return recognise(table.tensors)

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """The one reading; the variables are read at once, since they are small."""
        arrays = {name: tensor.load() for name, tensor in table.tensors.items()}
        try:
            config, state, inferred, assumed = translate(arrays)
        except ConfigError as error:
            raise CheckpointError(str(error)) from None
        config["batch_first"] = given.batch_first is not False
        if given.vocabulary is not None:
            config["vocabulary"] = read_vocabulary(given.vocabulary, config["vocab_size"])
            assumed = [text for text in assumed if text != NO_VOCABULARY]
        tensors = {name: InMemory(tensor).load for name, tensor in state.items()}
        choice = f"--format {self.name}"
        return [Reading(config, tensors, tuple(inferred), tuple(assumed), choice=choice)]


def recognise(names: Collection[str]) -> bool:
    """Whether these are the variables of such a model, perhaps not all of them."""
    plain = {name.removesuffix(":0") for name in names}
    return EMBEDDING in plain or any(LAYER.fullmatch(name) for name in plain)


def translate(
    arrays: Mapping[str, Tensor],
) -> tuple[dict[str, Any], dict[str, Tensor], list[str], list[str]]:
    """Variables by TensorFlow's names, with or without ``:0``, as a language model of ours.

    Args:
        arrays: the shapes above, all of one floating type; optimizer slots and scalars may be
            among them.

    Returns:
        The configuration for :func:`qrnn_deploy.nn.from_config`, the state dict of that
        :class:`~qrnn_deploy.nn.QRNNLanguageModel`, what was read from the file, and what was
        assumed because the file does not tell; both as sentences.

    Raises:
        CheckpointError: a variable is missing, unknown, or of a type or shape that does not fit.
        ConfigError: the variables fit, but no model of ours has these gates.
    """
    variables = plain_names(arrays)
    layers, ignored = sort_out(variables)
    check_present(variables, layers)
    poolings = {pooling_of(number, gates) for number, gates in enumerate(layers)}
    if len(poolings) > 1:
        raise ConfigError(
            f"the layers have {' and '.join(sorted(poolings))} pooling, expected one for all: "
            "upstream builds every layer alike"
        )
    (pooling,) = poolings
    model = {name: tensor for name, tensor in variables.items() if name not in ignored}
    check_types(model)

    vocabulary, width = shape_of(variables, EMBEDDING, 2, "[vocabulary, embedding]")
    state = {"embedding.weight": variables[EMBEDDING].contiguous()}
    biased = any("bz" in gates for gates in layers)
    hidden_sizes, windows, read = [], [], width
    for number, gates in enumerate(layers):
        weight, bias, hidden = _layer(variables, number, pooling, read, "bz" in gates)
        state[f"stack.layers.{number}.weight"] = weight
        if biased:
            state[f"stack.layers.{number}.bias"] = bias
        hidden_sizes.append(hidden)
        windows.append(weight.shape[1] // read)
        read = hidden
    expect(variables, DECODER, (read, vocabulary))
    state["decoder_weight"] = variables[DECODER].t().contiguous()
    if DECODER_BIAS in variables:
        expect(variables, DECODER_BIAS, (vocabulary,))
        state["decoder_bias"] = variables[DECODER_BIAS].contiguous()
    else:
        state["decoder_bias"] = state["decoder_weight"].new_zeros(vocabulary)

    # The class itself fills in the other arguments, and refuses sizes out of range.
    config = QRNNLanguageModel(
        vocabulary,
        width,
        hidden_sizes,
        window=windows,
        pooling=pooling,
        bias=biased,
        decoder_activation="relu",
        device="meta",
    ).config()
    return config, state, _facts(config, variables, ignored), _assumptions()


def _layer(
    variables: Mapping[str, Tensor], number: int, pooling: str, width: int, biased: bool
) -> tuple[Tensor, Tensor, int]:
    """One layer's weight [G*H, k*in] and bias [G*H] in the order of our gates, and H.

    Upstream's filters are [k, in, H] with the oldest tap first, as our columns are.
    """
    order = POOLINGS[pooling].gates
    window, _, hidden = shape_of(variables, name_of(number, "Wz"), 3, "[window, input, size]")
    rows, biases = [], []
    for gate in order:
        expect(variables, name_of(number, f"W{gate}"), (window, width, hidden))
        filters = variables[name_of(number, f"W{gate}")]
        rows.append(filters.permute(2, 0, 1).reshape(hidden, window * width))
        if biased:
            expect(variables, name_of(number, f"b{gate}"), (hidden,))
            biases.append(variables[name_of(number, f"b{gate}")])
    bias = torch.cat(biases) if biased else rows[0].new_zeros(len(order) * hidden)
    return torch.cat(rows), bias, hidden


def _facts(
    config: Mapping[str, Any], variables: Mapping[str, Tensor], ignored: set[str]
) -> list[str]:
    sizes, windows = (
        ", ".join([*map(str, config[key][:8]), *["..."] * (config["num_layers"] > 8)])
        for key in ("hidden_size", "window")
    )
    facts = [
        f"Vocabulary {config['vocab_size']}, embedding {config['embedding_size']}, "
        f"{config['num_layers']} layers of sizes {sizes} and windows {windows}, "
        f"{config['pooling']}-pooling, gates {'with' if config['bias'] else 'without'} bias.",
    ]
    if DECODER_BIAS not in variables:
        facts.append(f"There is no {DECODER_BIAS}: the decoder's bias is 0.")
    rate = variables.get(LEARNING_RATE)
    if rate is not None and rate.numel() == 1 and rate.is_floating_point():
        facts.append(f"The learning rate had come to {rate.item():.4g}.")
    others = sorted(ignored - {LEARNING_RATE})
    if others:
        more = ", ..." if len(others) > 3 else ""
        shown = ", ".join(shorten(name) for name in others[:3])
        facts.append(f"Left out {len(others)} variables that are not weights: {shown}{more}.")
    return facts


def _assumptions() -> list[str]:
    return [
        "The candidate's activation is tanh, upstream's default.",
        "The logits pass through a ReLU, as upstream's do: the default of fully_connected.",
        "Zoneout and dropout are not in the file and act in training only: both are set to 0.",
        "A stream carries the last k-1 inputs of each layer on; upstream puts zeros in their place "
        "wherever a batch or a sampled word begins.",
        NO_VOCABULARY,
    ]
