"""``run`` on a model of text: what kind it is, and the answer to each line of a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import ModelError
from ._shared import finite
from ._streams import open_output, read_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..metadata import Metadata
    from ..runtime import EngineSession, Session
    from ..vocabulary import Vocabulary

CHUNK = 256
"""Steps per call of a language model."""

_KINDS = {
    "QRNNLanguageModel": "language model",
    "RHNLanguageModel": "language model",
    "SRULanguageModel": "language model",
    "QRNNClassifier": "classifier",
    "QRNNEncoder": "encoder",
    "QRNNEncoderDecoder": "encoder-decoder",
}

_WHAT_TO_DO = {
    "language model": "add --score or --generate N, or --text to have each line answered",
    "classifier": "add --text to have each line classified",
    "encoder": "its answers are features, and it is given tokens as numbers",
    "encoder-decoder": "add --text to have each line translated",
}


class Answer(NamedTuple):
    """The answer to a line: for people, and for programs."""

    text: str
    record: dict[str, Any]


def kind_of(metadata: Metadata) -> str | None:
    """``language model``, ``classifier`` or ``encoder``; None for what is no model of text."""
    name = (metadata.config or {}).get("architecture")
    return _KINDS.get(name) if isinstance(name, str) else None


def refuse_raw_text(metadata: Metadata, model: Path) -> None:
    """Raw frames are float32, and a model of text takes whole numbers.

    Raises:
        click.UsageError: the model is one of text and has a vocabulary; the way to use it.
    """
    kind = kind_of(metadata)
    if kind and metadata.vocabulary:
        article = "an" if kind == "encoder" else "a"
        raise click.UsageError(
            f"{model} is {article} {kind}: {_WHAT_TO_DO[kind]}, or give INPUT as a .npy array of "
            "token numbers, [time] or [batch, time]"
        )


def vocabulary_of(metadata: Metadata, model: Path, mode: str) -> Vocabulary:
    """The tokens of a model that does what ``mode`` (an option) asks for.

    Raises:
        ModelError: it has none.
        click.UsageError: it does something else.
    """
    from ..vocabulary import Vocabulary

    tokens, kind = metadata.vocabulary, kind_of(metadata)
    if kind == "encoder" and mode == "--text":
        raise click.UsageError(
            f"{model} is an encoder, whose answers are features: leave out --text and give INPUT "
            "as a .npy array of token numbers, [time] or [batch, time]"
        )
    if kind in ("encoder", "classifier") and mode != "--text":
        raise click.UsageError(
            f"{model} is no language model, which {mode} needs, but a model of another kind "
            f"({kind}): {_WHAT_TO_DO[kind]}"
        )
    if tokens is None:
        raise ModelError(
            f"{model} has no vocabulary, so it neither reads nor writes text: expected a model of "
            f"text exported with one (export --vocabulary); leave out {mode} to give it numbers"
        )
    if kind is None:
        raise ModelError(
            f"{model} has a vocabulary and is no model of text that this qrnn-deploy knows: "
            "upgrade qrnn-deploy"
        )
    answer = metadata.outputs[0]
    named = metadata.classes if kind == "classifier" else tokens
    if named is not None and answer.shape[-1] != len(named):
        raise ModelError(
            f"{model} has damaged qrnn-deploy metadata (names of {len(named)} answers for output "
            f"{answer.name} {answer.shape}): export the model again"
        )
    return Vocabulary(tokens)


def answer_lines(
    session: Session | EngineSession,
    vocabulary: Vocabulary,
    source: Path,
    unknown: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write one line for each line of the text, as soon as it is read."""
    answer = _answerer(session, vocabulary)
    with open_output(output) as sink:
        for number, line in enumerate(read_lines(source), 1):
            known = vocabulary.known(line) if unknown == "skip" else line
            tokens = vocabulary.encode(known, place=f" of line {number}")
            found = answer(tokens)
            if as_json:
                skipped = vocabulary.count(line) - vocabulary.count(known)
                head = {"line": number, "tokens": len(tokens), "skipped": skipped}
                shown = json.dumps({**head, **found.record}, ensure_ascii=False)
            else:
                shown = found.text
            sink.write(f"{shown}\n".encode())
            sink.flush()


def _answerer(
    session: Session | EngineSession, vocabulary: Vocabulary
) -> Callable[[NDArray[np.int64]], Answer]:
    if kind_of(session.metadata) == "classifier":
        return _classifier(session)
    return _language_model(session, vocabulary)


def _classifier(session: Session | EngineSession) -> Callable[[NDArray[np.int64]], Answer]:
    import numpy as np

    from .. import text

    port = session.metadata.outputs[0]
    names = session.metadata.classes or [str(number) for number in range(int(port.shape[-1]))]
    nothing = dict.fromkeys(("class", "class_index", "probabilities"))

    def answer(tokens: NDArray[np.int64]) -> Answer:
        if not len(tokens):
            return Answer("", nothing)
        shares = text.probabilities(np.asarray(session.run(tokens[None])[port.name])[0])
        best = int(shares.argmax())
        each = dict(zip(names, shares.tolist(), strict=True))
        columns = [names[best], *(f"{name}={share:.4f}" for name, share in each.items())]
        return Answer(
            "\t".join(columns),
            {"class": names[best], "class_index": best, "probabilities": each},
        )

    return answer


def _language_model(
    session: Session | EngineSession, vocabulary: Vocabulary
) -> Callable[[NDArray[np.int64]], Answer]:
    from .. import text
    from ..runtime import StreamingSession, most_steps

    chunk = min(CHUNK, most_steps(session))
    stream = None if session.metadata.state_mode == "none" else StreamingSession(session)
    nothing = dict.fromkeys(("perplexity", "bits_per_token", "next", "next_probability"))

    def answer(tokens: NDArray[np.int64]) -> Answer:
        if not len(tokens):
            return Answer("", nothing)
        if stream is None:
            found = text.predict(_Whole(session), tokens, chunk=len(tokens))
        else:
            stream.reset()
            found = text.predict(stream, tokens, chunk=chunk)
        following = vocabulary.tokens[found.token]
        bits, perplexity = found.score.bits_per_token, found.score.perplexity
        number = f"{perplexity:.4f}" if found.score.tokens else "-"
        return Answer(
            f"perplexity {number}\tnext {following!r}\t{found.probability:.4f}",
            {
                "perplexity": finite(perplexity),
                "bits_per_token": finite(bits),
                "next": following,
                "next_probability": found.probability,
            },
        )

    return answer


class _Whole:
    """A model without states, which reads a text in one step."""

    def __init__(self, session: Session | EngineSession) -> None:
        self.session = session

    def step(self, x: NDArray[Any], /) -> Any:
        """Tokens [1, T] -> logits [1, T, V]."""
        return self.session.run(x)[self.session.metadata.outputs[0].name]
