"""``qrnn-deploy run``: text or frames through an exported model, as they come."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ..errors import InputError, ModelError
from ._shared import json_option, kernel_option, print_json, progress_bar, threads_option

if TYPE_CHECKING:
    from ..inspection import KernelChoice
    from ..metadata import Metadata
    from ..runtime import Session, StreamingSession
    from ..text import Vocabulary

STANDARD_INPUT = Path("-")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source", metavar="[INPUT]", type=click.Path(path_type=Path), default="-")
@click.option("--score", "wants_score", is_flag=True, help="Text in, bits per character out.")
@click.option("--generate", "count", type=int, metavar="N", help="Generate N characters.")
@click.option("--prompt", default="", help="Text that --generate continues; it is printed too.")
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="Below 1 bolder towards the likeliest character, 0 always takes it.",
)
@click.option("--seed", type=int, help="Makes --generate repeatable.")
@click.option(
    "--unknown",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do with characters that the model has no token for.",
)
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    help="Time steps per call of the model. Larger is faster, smaller answers sooner; the numbers "
    "stay the same. Default: 256 for text, 64 for frames.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write there, not to stdout.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["npy", "raw"]),
    help="Of frames, in and out. Default: npy for an INPUT or else an OUTPUT named .npy, else raw.",
)
@kernel_option
@threads_option
@json_option
def run(
    model: Path,
    source: Path,
    wants_score: bool,
    count: int | None,
    prompt: str,
    temperature: float,
    seed: int | None,
    unknown: str,
    chunk: int | None,
    output: Path | None,
    form: str | None,
    kernel: KernelChoice,
    threads: int | None,
    as_json: bool,
) -> None:
    """Stream INPUT (a file, or standard input) through the ONNX file MODEL.

    A language model scores text (--score) or writes it (--generate). Any other model with one
    input turns frames into frames: raw little-endian float32, one frame after the other, or a
    .npy array of shape [time, ...] or [batch, time, ...]. Raw frames are answered chunk by chunk,
    so the command can stand in a live pipe.

    \b
    Examples:
      qrnn-deploy run model.onnx --score book.txt
      qrnn-deploy run model.onnx --generate 300 --prompt "The " --temperature 0.7 --seed 1
      qrnn-deploy run model.onnx frames.npy -o answer.npy
      arecord ... | features | qrnn-deploy run model.onnx --chunk 1 | player

    Needs the extra `cpu` (onnxruntime); no torch.
    """
    if wants_score and count is not None:
        raise click.UsageError("--score and --generate exclude each other: choose one")
    from ..runtime import Session, StreamingSession

    session = Session(model, kernel=kernel, threads=threads)
    if wants_score or count is not None:
        vocabulary = _vocabulary(session.metadata, model)
        stream = StreamingSession(session)
        if count is not None:
            _generate(stream, vocabulary, count, prompt, temperature, seed, output)
        else:
            _score(stream, vocabulary, source, unknown, chunk or 256, as_json)
        return
    if session.metadata.vocabulary:
        raise click.UsageError(f"{model} is a language model: add --score or --generate N")
    _frames(session, source, output, form or _guess_format(source, output), chunk)


def _vocabulary(metadata: Metadata, model: Path) -> Vocabulary:
    from ..text import Vocabulary

    tokens = metadata.vocabulary
    if tokens is None:
        raise ModelError(
            f"{model} has no vocabulary, so it neither scores nor generates text: expected a "
            "language model; leave out --score and --generate to stream frames"
        )
    return Vocabulary(tokens)


def _generate(
    stream: StreamingSession,
    vocabulary: Vocabulary,
    count: int,
    prompt: str,
    temperature: float,
    seed: int | None,
    output: Path | None,
) -> None:
    from ..text import generate

    pieces = generate(stream, vocabulary, count, prompt=prompt, temperature=temperature, seed=seed)
    with _output(output) as sink:
        sink.write(prompt.encode())
        for piece in pieces:
            sink.write(piece.encode())
            sink.flush()
        sink.write(b"\n")


def _score(
    stream: StreamingSession,
    vocabulary: Vocabulary,
    source: Path,
    unknown: str,
    chunk: int,
    as_json: bool,
) -> None:
    from ..text import score

    skipped = 0

    def pieces() -> Iterator[str]:
        nonlocal skipped
        for piece in _read_text(source):
            known = vocabulary.known(piece) if unknown == "skip" else piece
            skipped += len(piece) - len(known)
            yield known

    started = time.perf_counter()
    result = score(stream, vocabulary, pieces(), chunk=chunk)
    seconds = time.perf_counter() - started
    if not result.characters:
        raise InputError(
            f"{source} holds no text to score: expected at least 2 characters of the vocabulary"
        )
    if as_json:
        print_json(
            {
                "bits_per_character": result.bits_per_character,
                "characters": result.characters,
                "skipped": skipped,
                "seconds": seconds,
                "implementation": dict(stream.implementation),
            }
        )
        return
    left_out = f", {skipped} unknown left out" if skipped else ""
    click.echo(
        f"{result.bits_per_character:.4f} bits per character "
        f"({result.characters} characters{left_out}, {result.characters / seconds:.0f} per second)"
    )


def _frames(
    session: Session, source: Path, output: Path | None, form: str, chunk: int | None
) -> None:
    import numpy as np

    from .. import frames

    port = frames.single_input(session.metadata)
    size = frames.chunk_size(session.metadata, chunk)
    with ExitStack() as stack:
        handle = stack.enter_context(_open(source))
        if form == "raw":
            sink = stack.enter_context(_output(output))
            advance = stack.enter_context(progress_bar("frames", None))
            for piece in frames.stream(
                session, frames.read_raw(handle, frames.frame_shape(port), size)
            ):
                sink.write(piece.astype(frames.RAW_DTYPE).tobytes())
                sink.flush()
                advance(piece.shape[1])
            return
        array, unbatched = frames.read_npy(handle, port)
        advance = stack.enter_context(progress_bar("frames", array.shape[1]))
        parts: list[Any] = []
        for piece in frames.stream(session, frames.split(array, size)):
            parts.append(piece)
            advance(piece.shape[1])
        result = np.concatenate(parts, axis=1)
        sink = stack.enter_context(_output(output))
        np.lib.format.write_array(sink, result[0] if unbatched else result, allow_pickle=False)


def _guess_format(source: Path, output: Path | None) -> str:
    named = source if source != STANDARD_INPUT else output
    return "npy" if named is not None and named.suffix == ".npy" else "raw"


@contextmanager
def _open(source: Path) -> Iterator[BinaryIO]:
    """The input; standard input stays open."""
    if source == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    with source.open("rb") as handle:
        yield handle


@contextmanager
def _output(output: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that appears only when it is whole."""
    if output is None:
        yield sys.stdout.buffer
        return
    from .._files import replacing

    try:
        with replacing(output) as beside, beside.open("wb") as handle:
            yield handle
    except OSError as error:
        if error.filename is None:  # a failed write does not know where it went
            error.filename = str(output)
        raise


def _read_text(source: Path) -> Iterator[str]:
    """The text in pieces of 64 KiB, decoded across their seams; reports progress."""
    total = source.stat().st_size if source != STANDARD_INPUT else None
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _open(source) as handle, progress_bar("scoring", total) as advance:
        try:
            while data := handle.read(65536):
                yield decoder.decode(data)
                advance(len(data))
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{source} is not UTF-8 text ({error.reason} at byte {error.start}): convert it, "
                "for example with iconv"
            ) from None
