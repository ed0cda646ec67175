"""The tokens of a model of text, from the file that its training left beside the weights.

============ ====================================================================
``.pkl``     a pickled list of strings (fastai's ``itos.pkl``, fastai 2's ``vocab.pkl``); read as
             data, never unpickled
``.json``    a list of strings, or an object ``{token: number}``
anything     text in UTF-8, one token per line in the order of their numbers
============ ====================================================================
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .pickle_data import read_pickle
from .pickle_names import PickleDamage, PickleRefusal, Shell

MAX_BYTES = 16 * 2**20


def read_vocabulary(path: str, size: int) -> list[str]:
    """The tokens in the order of their numbers.

    Args:
        path: the file.
        size: tokens that the model has.

    Raises:
        CheckpointError: it cannot be read, is no list of strings, or has another size.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise CheckpointError(
                f"vocabulary {path}: {'is no file' if file.exists() else 'no such file'}, expected "
                "itos.pkl, a .json list, or text with one token per line"
            )
        if file.stat().st_size > MAX_BYTES:
            raise CheckpointError(
                f"vocabulary {path}: has {file.stat().st_size} bytes, expected at most {MAX_BYTES}"
            )
        with file.open("rb") as stream:
            start = stream.read(2)
            stream.seek(0)
            if start[:1] == b"\x80" or (file.suffix == ".pkl" and start[:1] in (b"(", b"]")):
                tokens = read_pickle(stream)
                if isinstance(tokens, Shell) and tokens.cls == "fastcore.foundation.L":
                    tokens = tokens.state.get("items")
            else:
                tokens = _from_text(stream.read().decode("utf-8"), file.suffix)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"vocabulary {path}: {error.strerror or error}") from None
    except PickleRefusal as error:
        raise CheckpointError(
            f"vocabulary {path}: its pickle asks for {str(error)[:100]}, expected a plain list of "
            "strings: save list(itos)"
        ) from None
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"vocabulary {path}: is no text in UTF-8 (byte {error.start}), expected itos.pkl, a "
            ".json list, or text with one token per line"
        ) from None
    except (PickleDamage, ValueError, RecursionError) as error:
        text = str(error).partition("\n")[0][:100]
        raise CheckpointError(f"vocabulary {path}: is damaged or no vocabulary: {text}") from None
    if isinstance(tokens, dict):
        tokens = _by_number(tokens)
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise CheckpointError(f"vocabulary {path}: holds no list of strings")
    if len(tokens) != size:
        raise CheckpointError(
            f"vocabulary {path}: has {len(tokens)} tokens, expected {size}, the rows of the "
            "model's embedding"
        )
    return tokens


def _from_text(text: str, suffix: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    return text.removesuffix("\n").split("\n")


def _by_number(numbers: dict[Any, Any]) -> list[str] | None:
    """``{token: number}`` as a list, if the numbers are 0, 1, ..."""
    tokens: list[str | None] = [None] * len(numbers)
    for token, number in numbers.items():
        if not isinstance(number, int) or not 0 <= number < len(tokens):
            return None
        tokens[number] = token
    return None if None in tokens else [token for token in tokens if token is not None]
