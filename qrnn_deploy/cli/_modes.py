"""What ``run`` does with an open model: generate, score, stream frames. For lines, _lines.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ._shared import finite, json_text, progress_bar
from ._streams import open_output, open_source, read_text, shown

if TYPE_CHECKING:
    from ..runtime import EngineSession, Session, StreamingSession
    from ..vocabulary import Vocabulary


def generate(
    stream: StreamingSession,
    vocabulary: Vocabulary,
    count: int,
    prompt: str,
    temperature: float,
    seed: int | None,
    output: Path | None,
) -> None:
    """Write the prompt and ``count`` tokens after it, each as soon as it is drawn."""
    from .. import text

    pieces = text.generate(
        stream, vocabulary, count, prompt=prompt, temperature=temperature, seed=seed
    )
    with open_output(output) as sink:
        sink.write(prompt.encode())
        apart = bool(prompt) and not prompt[-1].isspace()
        for piece in pieces:
            sink.write(((vocabulary.separator if apart else "") + piece).encode())
            sink.flush()
            apart = True
        sink.write(b"\n")


def score(
    stream: StreamingSession,
    vocabulary: Vocabulary,
    source: Path,
    unknown: str,
    chunk: int,
    output: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Write how many bits per character, or per token of a word model, it needs for the text."""
    from .. import text

    skipped = 0

    def pieces() -> Iterator[str]:
        nonlocal skipped
        for piece in vocabulary.whole(read_text(source)):
            known = vocabulary.known(piece) if unknown == "skip" else piece
            skipped += vocabulary.count(piece) - vocabulary.count(known)
            yield known

    started = time.perf_counter()
    result = text.score(stream, vocabulary, pieces(), chunk=chunk)
    seconds = time.perf_counter() - started
    unit, tokens = vocabulary.unit, result.tokens
    if not tokens:
        raise InputError(
            f"{shown(source)} holds no text to score: expected at least 2 {unit}s of the vocabulary"
        )
    if as_json:
        bits = finite(result.bits_per_token)
        answer = json_text(
            {
                "unit": unit,
                "bits_per_character": bits if vocabulary.characters else None,
                "characters": tokens if vocabulary.characters else None,
                "bits_per_token": bits,
                "perplexity_per_token": finite(result.perplexity),
                "tokens": tokens,
                "skipped": skipped,
                "seconds": seconds,
                "implementation": dict(stream.implementation),
                "device": device,
            }
        )
    else:
        left_out = f", {skipped} unknown left out" if skipped else ""
        perplexity = "" if vocabulary.characters else f"perplexity {result.perplexity:.4f}, "
        answer = (
            f"{perplexity}{result.bits_per_token:.4f} bits per {unit} ({tokens} {unit}s{left_out}, "
            f"{tokens / seconds:.0f} per second)"
        )
    with open_output(output) as sink:
        sink.write(f"{answer}\n".encode())


def stream_frames(
    session: Session | EngineSession,
    source: Path,
    output: Path | None,
    form: str,
    chunk: int | None,
) -> None:
    """Write the model's answer to raw frames or to a .npy array."""
    import numpy as np

    from .. import frames
    from ..runtime import most_steps

    port = frames.single_input(session.metadata)
    size = frames.chunk_size(session.metadata, chunk, most_steps(session))
    with ExitStack() as stack:
        handle = stack.enter_context(open_source(source))
        if form == "raw":
            sink = stack.enter_context(open_output(output))
            advance = stack.enter_context(progress_bar("frames", None))
            for piece in frames.stream(
                session, frames.read_raw(handle, frames.frame_shape(port), size)
            ):
                sink.write(piece.astype(frames.RAW_DTYPE).tobytes())
                sink.flush()
                advance(piece.shape[1])
            return
        array, unbatched = frames.read_npy(handle, port)
        frames.check_tokens(session.metadata, array)
        advance = stack.enter_context(progress_bar("frames", array.shape[1]))
        parts: list[Any] = []
        for piece in frames.stream(session, frames.split(array, size)):
            parts.append(piece)
            advance(piece.shape[1])
        result = np.concatenate(parts, axis=1)
        sink = stack.enter_context(open_output(output))
        # To a real file NumPy would write past Python, whose errors say what went wrong.
        plain: Any = SimpleNamespace(write=sink.write)
        np.lib.format.write_array(plain, result[0] if unbatched else result, allow_pickle=False)
