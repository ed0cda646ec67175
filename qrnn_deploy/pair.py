"""The two files of an encoder-decoder: their names, and what their metadata say of the search.

Imports nothing heavy. The configuration in the metadata of each file is that of the whole model,
with ``part`` and ``pair_sha256``, the digest of all its weights, which both files share.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._metadata_check import shown
from .errors import ModelError
from .metadata import Metadata

ARCHITECTURE = "QRNNEncoderDecoder"
ENCODER, DECODER = "encoder", "decoder"
SOURCE, SOURCE_LENGTHS, TOKENS = "source", "source_lengths", "tokens"
"""Names of graph inputs; memory and contexts have one name in both files."""


def context_name(level: int) -> str:
    """Name of what the encoder tells the decoder layer of a level."""
    return f"context_{level:02d}"


def pair_files(path: Path) -> dict[str, Path]:
    """The two files that ``NAME.onnx`` stands for, by part."""
    stem = path.name.removesuffix(".onnx")
    return {part: path.with_name(f"{stem}.{part}.onnx") for part in (ENCODER, DECODER)}


def pair_of(path: Path) -> dict[str, Path]:
    """Both files, from the name of either of them, or from the name that stands for them.

    Raises:
        ModelError: there are no such two files.
    """
    for part in (ENCODER, DECODER):
        if path.name.endswith(f".{part}.onnx"):
            files = pair_files(path.with_name(f"{path.name.removesuffix(f'.{part}.onnx')}.onnx"))
            break
    else:
        files = pair_files(path)
    for part, file in files.items():
        if not file.is_file():
            raise ModelError(
                f"{file} is missing, the {part} of an encoder-decoder: expected {files[ENCODER]} "
                f"and {files[DECODER].name} side by side, as `qrnn-deploy export` writes them"
            )
    return files


def stands_for_pair(path: Path) -> bool:
    """Whether there is no such file, and those of an encoder-decoder of that name."""
    return not path.exists() and all(file.is_file() for file in pair_files(path).values())


def is_half(path: Path) -> bool:
    """Whether a file is one of the two of an encoder-decoder: so by its name, and by itself."""
    if not path.name.endswith((f".{ENCODER}.onnx", f".{DECODER}.onnx")):
        return False
    from .model_file import metadata_of, read_model

    try:
        return is_pair(metadata_of(read_model(path), path))
    except ModelError:  # whoever opens it next says what is wrong
        return False


def is_pair(metadata: Metadata) -> bool:
    """Whether a file is one of two."""
    return (metadata.config or {}).get("architecture") == ARCHITECTURE


def half_of(metadata: Metadata) -> str:
    """Which of the two a file is.

    Raises:
        ModelError: it does not say so.
    """
    part = (metadata.config or {}).get("part")
    if part not in (ENCODER, DECODER):
        raise ModelError(
            f"the file has damaged qrnn-deploy metadata (part is {shown(part)}, expected {ENCODER} "
            f"or {DECODER}): export the model again"
        )
    return str(part)


@dataclass(frozen=True)
class PairFacts:
    """What the search must know.

    Attributes:
        source_vocab_size: tokens of a source are below it.
        target_vocab_size: V of the logits.
        pad: fills rows; never an answer.
        bos: what a target starts after; never an answer.
        eos: what ends a target.
        source_vocabulary: the source tokens as text, or None.
        target_vocabulary: the target tokens as text, or None.
    """

    source_vocab_size: int
    target_vocab_size: int
    pad: int
    bos: int
    eos: int
    source_vocabulary: list[str] | None
    target_vocabulary: list[str] | None


def check_pair(encoder: Metadata, decoder: Metadata, files: dict[str, Path]) -> PairFacts:
    """Whether two files belong together; what they say of the search.

    Raises:
        ModelError: they do not, or say what cannot be.
    """
    for part, metadata in ((ENCODER, encoder), (DECODER, decoder)):
        config = metadata.config or {}
        if not is_pair(metadata) or config.get("part") != part:
            raise ModelError(
                f"{files[part]} is not the {part} of an encoder-decoder: expected a file that "
                "`qrnn-deploy export` wrote of one"
            )
    first, second = encoder.config or {}, decoder.config or {}
    digest = first.get("pair_sha256")
    if digest is None or digest != second.get("pair_sha256") or encoder.dtype != decoder.dtype:
        raise ModelError(
            f"{files[ENCODER]} and {files[DECODER].name} do not belong together: expected those of "
            "one export; export the model again"
        )
    facts = _facts(second, files[DECODER])
    _check_ports(encoder, decoder, facts, files)
    return facts


def _facts(config: dict[str, Any], path: Path) -> PairFacts:
    def token(name: str, size: int) -> int:
        return _whole(config, name, path, 0, size - 1)

    source = _whole(config, "source_vocab_size", path, 1, 2**24)
    target = _whole(config, "target_vocab_size", path, 4, 2**24)
    facts = PairFacts(
        source,
        target,
        token("pad_token", min(source, target)),
        token("bos_token", target),
        token("eos_token", target),
        _texts(config, "source_vocabulary", source, path),
        _texts(config, "target_vocabulary", target, path),
    )
    if len({facts.pad, facts.bos, facts.eos}) < 3:
        raise _damaged(path, "pad_token, bos_token and eos_token are not three tokens")
    return facts


def _check_ports(
    encoder: Metadata, decoder: Metadata, facts: PairFacts, files: dict[str, Path]
) -> None:
    made = {port.name: port for port in encoder.outputs}
    names = [context_name(level) for level in range(len(made) - 1)]
    ports = [port.name for port in decoder.inputs]
    if [port.name for port in encoder.inputs] != [SOURCE, SOURCE_LENGTHS] or ports != [
        TOKENS,
        "memory",
        SOURCE_LENGTHS,
        *names,
    ]:
        raise _damaged(files[DECODER], f"its inputs are {shown(ports)}")
    for port in decoder.inputs:
        if port.name in (TOKENS, SOURCE_LENGTHS):
            continue
        other = made.get(port.name)
        sizes = [size for size in port.shape if not isinstance(size, str)]
        same = other is not None and (other.dtype, len(other.shape)) == (
            port.dtype,
            len(port.shape),
        )
        if not same or other is None or [s for s in other.shape if not isinstance(s, str)] != sizes:
            raise _damaged(files[DECODER], f"the encoder makes no {port.name} {shown(port.shape)}")
    (logits,) = decoder.outputs[:1]
    if logits.shape[-1] != facts.target_vocab_size or decoder.state_mode == "none":
        raise _damaged(files[DECODER], f"its output is {shown(logits.shape)}")


def _whole(config: dict[str, Any], name: str, path: Path, low: int, high: int) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _damaged(path, f"{name} is {shown(value)}, expected a whole number in {low}..{high}")
    return value


def _texts(config: dict[str, Any], name: str, count: int, path: Path) -> list[str] | None:
    value = config.get(name)
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(isinstance(text, str) for text in value)
    ):
        raise _damaged(path, f"{name} is {shown(value)}, expected {count} texts")
    return value


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} has damaged qrnn-deploy metadata ({what}): export the model again")
