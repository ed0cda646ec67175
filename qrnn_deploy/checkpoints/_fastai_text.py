"""fastai's models of text: the trunk, and what may stand behind it.

========== ==========================================================================
language   ``0.`` encoder, ``1.decoder.weight`` [V, E] and perhaps ``1.decoder.bias`` [V]
encoder    the same without ``0.`` and without decoder (``save_encoder``)
classifier ``0.module.`` encoder, ``1.layers.*`` head on concat pooling
encoder    ``encoder.weight`` [V, E] (``encoder_dp.emb.weight`` is the same one),
           ``rnns.N.layers.0.linear.*`` and, walking backwards, ``rnns.N.layers_bwd.0``
layers     as torchqrnn's: rows z, f, o; f weights the candidate; zoneout 0; window 2 in
           layer 0, 1 in the others; the last layer has the embedding's size
========== ==========================================================================
"""

from __future__ import annotations

import re

from ..errors import CheckpointError
from ._text_models import TEXT_USES, Tensors, Trunk, language_model, levels
from .given import FLAGS, Given
from .reading import Names, Reading
from .tables import WeightTable

USES = TEXT_USES | {"classes", "pad_token", "bptt", "max_len"}


def prefix_of(table: WeightTable) -> str | None:
    """``0.module.``, ``0.`` or nothing, whichever stands before the layers; None for none."""
    for prefix in ("0.module.", "0.", ""):
        if table.matching(rf"{re.escape(prefix)}rnns\.\d+\.(layers(_bwd)?\.0\.)?linear\..*"):
            return prefix
    return None


def read_text_model(
    table: WeightTable, given: Given, what: str, inner: str, generation: int
) -> list[Reading]:
    """The one reading of a fastai model of text.

    Args:
        table: recognised weights.
        given: what the user said.
        what: name of the format.
        inner: ``layers.0.``, or nothing for MultiFiT's older form.
        generation: 1 or 2 of fastai, which decides how a classifier pads.

    Raises:
        CheckpointError: tensors are missing, left over or do not fit.
    """
    names = Names(table, what)
    prefix = prefix_of(table) or ""
    embedding = [f"{prefix}encoder.weight", f"{prefix}encoder_dp.emb.weight"]
    trunk = Trunk.find(names, embedding, levels(table, prefix, inner))
    if table.matching(r"1\.layers\..*"):
        return [_classifier(trunk, given, generation)]
    useless = [n for n in ("classes", "pad_token", "bptt", "max_len") if n in given.said()]
    if useless:
        raise CheckpointError(f"is no classifier, and {FLAGS[useless[0]]} is for one: leave it out")
    if prefix == "" and not table.matching(r".*decoder\.(weight|bias)"):
        return [trunk.reading("QRNNEncoder", given, {}, inferred=("no decoder: an encoder",))]
    return [language_model(trunk, "1.decoder." if prefix else "decoder.", given)]


def _classifier(trunk: Trunk, given: Given, generation: int) -> Reading:
    """Concat pooling and a head of batch norm and linear maps.

    The head is ``1.layers``: in fastai 1 one sequence, in fastai 2 one of sequences; dropout and
    ReLU stand between and have no tensors, so only the order of the numbers counts.
    """
    names, table = trunk.names, trunk.names.table
    blocks: list[tuple[str, str]] = []
    norm: str | None = None
    paths = {
        match.group(1) for match in table.matching(r"(1\.layers(\.\d{1,4})+)\.[a-z_]+").values()
    }
    for path in sorted(paths, key=lambda p: [int(n) for n in p.split(".")[2:]]):
        if f"{path}.running_mean" in table.tensors:
            norm = path
        elif norm is None:
            raise CheckpointError(f"has a head whose {path} has no batch norm before it")
        else:
            blocks.append((norm, path))
            norm = None
    if not blocks or norm is not None:
        raise CheckpointError("has a head that does not end with a linear map")
    tensors: Tensors = {}
    width, sizes = 3 * trunk.width, []
    has_bias = f"{blocks[0][1]}.bias" in table.tensors
    for number, (norm_path, linear) in enumerate(blocks):
        for part in ("weight", "bias", "running_mean", "running_var"):
            name = names.take(f"{norm_path}.{part}")
            names.expect(name, (width,))
            tensors[f"head.{number}.norm.{part}"] = table.tensors[name].load
        names.has(f"{norm_path}.num_batches_tracked")
        weight = names.take(f"{linear}.weight")
        rows = names.shape(weight, 2)[0]
        names.expect(weight, (rows, width))
        tensors[f"head.{number}.linear.weight"] = table.tensors[weight].load
        if has_bias:
            bias = names.take(f"{linear}.bias")
            names.expect(bias, (rows,))
            tensors[f"head.{number}.linear.bias"] = table.tensors[bias].load
        width = rows
        sizes.append(rows)
    if given.reverse:
        raise CheckpointError(
            "is a classifier, whose chunks and last token are counted in the order of training: "
            "leave out --direction, and reverse the texts of a model trained on reversed ones"
        )
    if given.classes is not None and len(given.classes) != width:
        raise CheckpointError(
            f"has {width} classes, and --classes names {len(given.classes)}: give one name for each"
        )
    default_bptt = 70 if generation == 1 else 72
    bptt = given.bptt or default_bptt
    max_len = given.max_len or 20 * default_bptt
    # fastai 1 pools chunks that start less than max_len before the end, fastai 2 at most.
    pooled_steps = max_len - 1 if generation == 1 else max_len
    if pooled_steps < bptt:
        raise CheckpointError(
            f"--max-len {max_len} with --bptt {bptt}: expected more than one chunk"
        )
    pad = 1 if given.pad_token is None else given.pad_token
    assumed = [
        text
        for name, text in (
            ("pad_token", f"pad token {pad} (--pad-token)"),
            ("bptt", f"chunks of {bptt} steps (--bptt)"),
            ("max_len", f"only the last {max_len} steps of a longer text count (--max-len)"),
        )
        if name not in given.said()
    ]
    both = (
        "fastai walks both ways within each chunk of bptt steps, this model over the whole text: "
        "they agree on texts of one chunk"
    )
    if generation == 2 and width == 1:
        assumed.append("no y_range, a sigmoid behind the head that leaves no tensor")
    return trunk.reading(
        "QRNNClassifier",
        given,
        tensors,
        num_classes=width,
        head_sizes=sizes[:-1],
        head_bias=has_bias,
        head_dropout=[0.0] * len(sizes),
        classes=given.classes,
        pad_token=pad,
        padding="before" if generation == 1 else "chunks",
        bptt=bptt,
        pooled_steps=pooled_steps,
        inferred=(f"a classifier of {width} classes, head {sizes[:-1]}",),
        assumed=assumed,
        notes=(both,) if trunk.ways == 2 else (),
    )
