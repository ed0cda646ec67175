"""An encoder-decoder becomes two files: one reads a source once, the other streams the target.

``NAME.encoder.onnx``: source [B, S] and source_lengths [B] to memory [B, S, H] and, for each layer
of the decoder, context_LL [B, G*H]. ``NAME.decoder.onnx``: tokens [B, T] and all of these to logits
[B, T, V], with the states of its layers. docs/seq2seq.md describes both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._files import golden_folder
from ..errors import ExportError
from ..nn import EncoderMemory, QRNNEncoderDecoder
from ..nn.seq2seq_decoder import TargetDecoder
from ..nn.seq2seq_encoder import SourceEncoder
from ..pair import DECODER, ENCODER, SOURCE, SOURCE_LENGTHS, TOKENS, context_name, pair_files
from .earlier import earlier_files
from .files import checked_output, publish, staging, writing
from .options import ExportOptions, Progress
from .parameters import refuse_non_finite
from .pipeline import ExportReport, evaluating, run_export
from .plan import weights_digest


class EncoderHalf(nn.Module):
    """The encoder with tensors at its border."""

    batch_first = True

    def __init__(self, encoder: SourceEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, source: Tensor, source_lengths: Tensor) -> dict[str, Tensor]:
        """Memory and contexts of the sources, by the names they have as inputs of the decoder."""
        memory = self.encoder(source, source_lengths)
        contexts = {context_name(level): c for level, c in enumerate(memory.contexts)}
        return {"memory": memory.values, **contexts}


class DecoderHalf(nn.Module):
    """The decoder with tensors at its border; its state is lifted out like any."""

    batch_first = True

    def __init__(self, decoder: TargetDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, tokens: Tensor, memory: Tensor, source_lengths: Tensor, *contexts: Tensor
    ) -> dict[str, Tensor]:
        """Logits of the token that follows each."""
        logits, _ = self.decoder(tokens, EncoderMemory(memory, source_lengths, contexts))
        return {"logits": logits}


class Half(NamedTuple):
    """One of the two models, and how to export it.

    Attributes:
        module: takes and returns tensors.
        args: example inputs.
        options: what sets the export apart from any other.
    """

    module: nn.Module
    args: tuple[Tensor, ...]
    options: dict[str, Any]


def halves(model: QRNNEncoderDecoder) -> dict[str, Half]:
    """Both models by :data:`ENCODER` and :data:`DECODER`."""
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(model.source_vocab_size, (2, 7), generator=generator)
    tokens = torch.randint(model.target_vocab_size, (2, 7), generator=generator)
    tokens[0, :2] = torch.tensor([model.bos_token, model.eos_token])  # never one value alone
    with evaluating(model), torch.no_grad():
        memory = model.encode(source[:, :5].contiguous(), torch.tensor([5, 3]))
    names = [context_name(level) for level in range(len(memory.contexts))]
    return {
        ENCODER: Half(
            EncoderHalf(model.encoder),
            (source, torch.tensor([7, 4])),
            {"states": "none", "input_names": [SOURCE, SOURCE_LENGTHS]},
        ),
        DECODER: Half(
            DecoderHalf(model.decoder),
            (tokens, memory.values, memory.lengths, *memory.contexts),
            {
                "input_names": [TOKENS, "memory", SOURCE_LENGTHS, *names],
                "time_axes": dict.fromkeys(names),
                "whole": ["memory"],
            },
        ),
    }


def export_seq2seq(
    model: QRNNEncoderDecoder,
    path: str | Path,
    options: ExportOptions | None = None,
    *,
    source: Mapping[str, Any] | None = None,
    assumptions: Sequence[str] = (),
    progress: Progress | None = None,
) -> ExportReport:
    """Write ``NAME.encoder.onnx`` and ``NAME.decoder.onnx`` for a ``path`` of ``NAME.onnx``.

    Either both appear, with all that belongs to them, or nothing changes.

    Args:
        model: it is exported in eval mode and left as it was.
        path: stands for both; no file has this name.
        options: ``states`` are those of the decoder; names, axes, ``lengths`` and ``time_major``
            are fixed.
        source: checkpoint the weights came from, for the metadata.
        assumptions: what the checkpoint did not say, for the metadata.
        progress: called with the name of each stage.

    Returns:
        What was written; the metadata are those of the decoder.

    Raises:
        ExportError: one line on what cannot be exported and what to do.
    """
    options = options or ExportOptions()
    _refuse(options)
    path = checked_output(path)
    if path.exists():
        raise ExportError(
            f"output {path} is a file, and of an encoder-decoder the name stands for two others "
            "beside it: expected a name that no file has; remove it, or choose another"
        )
    targets = pair_files(path)
    for target in targets.values():
        checked_output(target)
        earlier_files(target)  # what is not ours stops the export before its work
    if not options.allow_non_finite:
        refuse_non_finite(model)
    note = progress or (lambda stage: None)
    config = {**model.config(), "pair_sha256": weights_digest(model)}
    main = targets[DECODER]
    reports: dict[str, ExportReport] = {}
    with staging(main) as folder:
        for part, half in halves(model).items():
            reports[part] = run_export(
                half.module,
                folder / targets[part].name,
                half.args,
                replace(options, **{"states": options.states or "separate", **half.options}),
                source=source,
                assumptions=assumptions,
                config={**config, "part": part},
                progress=_named(note, part),
            )
        names = [Path(name).name for report in reports.values() for name in report.files]
        with writing(main):
            earlier = [name for target in targets.values() for name in earlier_files(target)]
        stale = [name for name in earlier if name not in names]
        publish(folder, main, names, stale)
    decoder = reports[DECODER]
    folders = {golden_folder(target).name for target in targets.values()}

    def listed(found: Sequence[str]) -> list[str]:
        return [f"{main.parent / name}{'/' * (name in folders)}" for name in found]

    return replace(
        decoder,
        path=path,
        files=listed(names),
        removed=listed(stale),
        bytes=sum(report.bytes for report in reports.values()),
        notes=list(dict.fromkeys(note for report in reports.values() for note in report.notes)),
    )


def _refuse(options: ExportOptions) -> None:
    if options.lengths:
        raise ExportError(
            "lengths (--lengths) is for a model of one file, and the encoder of an encoder-decoder "
            "takes source_lengths in any case: leave it out"
        )
    if options.states == "none":
        raise ExportError(
            "states='none' (--states none) would leave the decoder without its state, and it "
            "writes token by token: expected 'separate' or 'packed'"
        )
    for name in ("time_major", "input_names", "output_names"):
        if getattr(options, name) is not None:
            raise ExportError(f"{name} cannot be chosen for an encoder-decoder: leave it out")
    if options.time_axes:
        raise ExportError("time_axes cannot be chosen for an encoder-decoder: leave it out")


def _named(note: Callable[[str], None], part: str) -> Callable[[str], None]:
    return lambda stage: note(f"{part}: {stage}")
