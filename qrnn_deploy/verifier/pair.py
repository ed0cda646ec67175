"""Both files of an encoder-decoder against their original, each alone and then in a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arguments import as_path
from .._metadata_check import shown
from .._optional import require
from ..errors import InputError
from ..pair import DECODER, PairFacts, pair_of
from ..runtime import Seq2Seq
from ..runtime.search import Integers, Translation, beam_search
from .report import VerifyReport
from .run import verify

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..nn import EncoderMemory, QRNNEncoderDecoder

SOURCES = (1, 2, 5, 9, 14, 0)
"""Lengths of the sources that are translated."""

BEAMS = (1, 4)

STEPS = 24

_KERNEL: dict[str, Any] = {"kernel": "require", "function": "off"}
"""How to open what searches on the CPU."""


def verify_pair(
    model: str | Path,
    *,
    checkpoint: str | Path | None = None,
    module: nn.Module | None = None,
    per_layer: bool = False,
    atol: float | None = None,
    only: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> VerifyReport:
    """Compare both files with their original, or with the golden vectors beside them.

    With an original every implementation on the CPU also translates some sources, by the likeliest
    tokens and by a beam, and must choose the tokens that PyTorch chooses. That is asked of float32
    files alone: in a narrower type scores are often too near to each other.

    Args:
        model: the name that stands for both, or either file.
        checkpoint: the checkpoint that they were exported from.
        module: the module instead.
        per_layer: as for :func:`qrnn_deploy.verify`.
        atol: likewise.
        only: likewise.
        progress: likewise.

    Returns:
        One report on both; outputs and problems begin with ``encoder/`` or ``decoder/``.

    Raises:
        QrnnDeployError: as for :func:`qrnn_deploy.verify`.
    """
    files = pair_of(as_path(model, "model"))
    note = progress or (lambda stage: None)
    result = VerifyReport(str(model), "the golden vectors beside its files")
    original: QRNNEncoderDecoder | None = None
    parts: Mapping[str, Any] = {}
    if checkpoint is not None or module is not None:
        original, digest = _original(checkpoint, module, note)
        from ..exporter.seq2seq import halves

        parts = halves(original)
        result.reference = f"{checkpoint or type(original).__name__} in float64"
    for part, file in files.items():
        half = parts.get(part)
        report = verify(
            file,
            module=half.module if half else None,
            args=half.args if half else None,
            per_layer=per_layer,
            atol=atol,
            only=only,
            progress=_named(note, part),
        )
        result.comparisons += [
            replace(item, output=f"{part}/{item.output}") for item in report.comparisons
        ]
        result.layers += report.layers
        result.problems += [f"{part}/{problem}" for problem in report.problems]
        result.notes += [f"{part}/{text}" for text in report.notes]
        result.missing |= report.missing
        result.most_atol = min(result.most_atol, report.most_atol)
    if original is not None:
        _compare_searches(result, original, files[DECODER], note)
        recorded = Seq2Seq(files[DECODER], kernel="off").decoder.metadata.source or {}
        if digest is not None and recorded.get("sha256") not in (None, digest):
            result.problems.append(
                f"the files were exported from another checkpoint ({recorded.get('name')}): its "
                "sha256 differs"
            )
    return result


def _named(note: Callable[[str], None], part: str) -> Callable[[str], None]:
    return lambda stage: note(f"{part}: {stage}")


def _original(
    checkpoint: str | Path | None, module: object, note: Callable[[str], None]
) -> tuple[QRNNEncoderDecoder, str | None]:
    """The PyTorch model, and the digest of its checkpoint."""
    for package in ("torch", "onnxscript"):
        require(package, "comparing with PyTorch")
    from ..checkpoints import load_checkpoint
    from ..nn import QRNNEncoderDecoder

    digest = None
    if checkpoint is not None:
        note("loading")
        loaded = load_checkpoint(checkpoint, allow_non_finite=True)
        module, digest = loaded.module, loaded.sha256
    if not isinstance(module, QRNNEncoderDecoder):
        what = "the checkpoint" if checkpoint is not None else "module"
        raise InputError(
            f"{what} holds {shown(type(module).__name__)}, expected the QRNNEncoderDecoder that "
            "the two files were exported from"
        )
    return module, digest


def _compare_searches(
    report: VerifyReport,
    original: QRNNEncoderDecoder,
    decoder: Path,
    note: Callable[[str], None],
) -> None:
    """Translate with each implementation on the CPU that was compared, and with PyTorch."""
    ran = dict.fromkeys(item.artifact for item in report.comparisons)
    for name in [name for name in ran if name in _KERNEL]:
        note(f"{name}: translating")
        model = Seq2Seq(decoder, kernel=_KERNEL[name])
        if model.decoder.metadata.dtype != "float32":
            report.missing["translations"] = (
                f"scores in {model.decoder.metadata.dtype} are often too near to each other to ask "
                "for the same tokens"
            )
            return
        sources = _sources(model.facts)
        for beam in BEAMS:
            got = model.translate(sources, beam=beam, max_steps=STEPS)
            expected = torch_search(original, model.facts, sources, beam)
            report.problems += [
                f"{name} with a beam of {beam} translates {source.tolist()} to "
                f"{list(one.tokens)}, PyTorch to {list(other.tokens)}"
                for source, one, other in zip(sources, got, expected, strict=True)
                if one.tokens != other.tokens
            ]
        beams = " and ".join(map(str, BEAMS))
        report.notes.append(
            f"{name} translated {len(sources)} sources with beams of {beams}, as PyTorch does"
            if not report.problems
            else f"{name} translated {len(sources)} sources"
        )


def _sources(facts: PairFacts) -> list[Integers]:
    generator = np.random.default_rng(0)
    return [generator.integers(facts.source_vocab_size, size=length) for length in SOURCES]


def torch_search(
    original: QRNNEncoderDecoder, facts: PairFacts, sources: Sequence[Integers], beam: int
) -> list[Translation]:
    """The same search over the PyTorch model in float32, every row from the start at each step."""
    import copy

    import torch

    model = copy.deepcopy(original).eval().float()
    lengths = torch.tensor([len(source) for source in sources])
    tokens = torch.full((len(sources), max(1, int(lengths.max()))), facts.pad)
    for row, source in zip(tokens, sources, strict=True):
        row[: len(source)] = torch.from_numpy(source)
    with torch.no_grad():
        memory = model.encode(tokens, lengths)
        return beam_search(
            _TorchDecoding(model, memory, beam), facts, [STEPS] * len(sources), beam, 0.6
        )


class _TorchDecoding:
    """Rows of the PyTorch decoder, which keeps the tokens so far instead of states."""

    def __init__(self, model: QRNNEncoderDecoder, memory: EncoderMemory, beam: int) -> None:
        self.model = model
        self.memory = memory._replace(
            values=memory.values.repeat_interleave(beam, 0),
            lengths=memory.lengths.repeat_interleave(beam, 0),
            contexts=tuple(c.repeat_interleave(beam, 0) for c in memory.contexts),
        )
        self.prefixes: Tensor = self.memory.lengths.new_zeros((len(self.memory.lengths), 0))

    def step(self, tokens: Integers) -> Any:
        import torch

        new = torch.from_numpy(tokens)[:, None]
        self.prefixes = torch.cat([self.prefixes, new], dim=1)
        logits, _ = self.model.decode(self.prefixes, self.memory)
        return logits[:, -1].numpy()

    def reorder(self, rows: Integers) -> None:
        import torch

        self.prefixes = self.prefixes[torch.from_numpy(rows)]
