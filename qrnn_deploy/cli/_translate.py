"""``run --text`` on an encoder-decoder: a line in, its translation out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ModelError
from ._shared import finite
from ._streams import open_output, read_lines

if TYPE_CHECKING:
    from ..runtime import Seq2Seq
    from ..vocabulary import Vocabulary


class SearchOptions(NamedTuple):
    """Keywords of :meth:`Seq2Seq.translate`."""

    beam: int
    length_penalty: float
    max_steps: int | None


def translate_lines(
    model: Seq2Seq,
    search: SearchOptions,
    source: Path,
    unknown: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write one line for each line of the text, as soon as it is read.

    Raises:
        ModelError: the model has no vocabularies.
    """
    reading, writing = _vocabularies(model)
    with open_output(output) as sink:
        for number, line in enumerate(read_lines(source), 1):
            known = reading.known(line) if unknown == "skip" else line
            tokens = reading.encode(known, place=f" of line {number}")
            record = {
                "line": number,
                "tokens": len(tokens),
                "skipped": reading.count(line) - reading.count(known),
                **dict.fromkeys(("translation", "log_probability", "score", "finished")),
            }
            if len(tokens):
                (found,) = model.translate([tokens], **search._asdict())
                text = writing.separator.join(writing.tokens[token] for token in found.tokens)
                record |= {
                    "translation": text,
                    "log_probability": finite(found.log_probability),
                    "score": finite(found.score),
                    "finished": found.finished,
                }
            if as_json:
                shown = json.dumps(record, ensure_ascii=False)
            else:  # a line break among the tokens would be taken for the end of the answer
                shown = " ".join(str(record["translation"] or "").splitlines())
            sink.write(f"{shown}\n".encode())
            sink.flush()


def _vocabularies(model: Seq2Seq) -> tuple[Vocabulary, Vocabulary]:
    reading, writing = model.source_vocabulary, model.target_vocabulary
    if reading is None or writing is None:
        lacking = "source_vocabulary" if reading is None else "target_vocabulary"
        raise ModelError(
            f"{model.decoder.path} has no {lacking}, so --text does not know its tokens: expected "
            "a model whose configuration has both; give it numbers with "
            "qrnn_deploy.runtime.Seq2Seq"
        )
    return reading, writing
