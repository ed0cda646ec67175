"""Where ``run`` reads from and writes to: files, pipes, and never over what it reads."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from ..errors import InputError
from ._shared import progress_bar

STANDARD_INPUT = Path("-")


class Source:
    """A binary input whose failures say which it is."""

    def __init__(self, handle: BinaryIO, name: str) -> None:
        self._handle = handle
        self.name = name

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; fewer only at the end.

        Raises:
            OSError: with the name of the input.
        """
        try:
            return self._handle.read(size)
        except OSError as error:  # a failed read does not know what it read from
            error.filename = self.name
            raise

    def readline(self) -> bytes:
        """The bytes up to a line feed, and that; without one only at the end.

        Raises:
            OSError: with the name of the input.
        """
        try:
            return self._handle.readline()
        except OSError as error:
            error.filename = self.name
            raise


class Sink:
    """A binary output that takes all it is given.

    Python's own may be unbuffered (``PYTHONUNBUFFERED``), and then takes only as much as there is
    room for, without an error.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.flush = handle.flush

    def write(self, data: bytes, /) -> None:
        """Write all of ``data``.

        Raises:
            OSError: that cannot be done.
        """
        rest = memoryview(data)
        while len(rest):
            rest = rest[self._handle.write(rest) :]


def shown(source: Path) -> str:
    """The input as a message names it."""
    return "standard input" if source == STANDARD_INPUT else str(source)


@contextmanager
def open_source(source: Path) -> Iterator[Source]:
    """The input; standard input stays open.

    Raises:
        InputError: standard input is closed.
        OSError: the file cannot be read.
    """
    if source != STANDARD_INPUT:
        with source.open("rb") as handle:
            yield Source(handle, str(source))
        return
    if sys.stdin is None:
        raise InputError("standard input is closed: give INPUT, the name of a file")
    yield Source(sys.stdin.buffer, shown(source))


@contextmanager
def open_output(output: Path | None) -> Iterator[Sink]:
    """Standard output, or a file that appears only when it is whole, or a device or pipe.

    Raises:
        OSError: it cannot be written; the error names ``output``.
    """
    from .._files import opened_for_writing

    if output is not None:
        with opened_for_writing(output) as handle:
            yield Sink(handle)
        return
    try:
        yield Sink(sys.stdout.buffer)
    except OSError as error:
        if error.filename is None:  # a failed write does not know where it went
            error.filename = "standard output"
        raise


def read_lines(source: Path) -> Iterator[str]:
    """The lines of a text as they come, without LF or CRLF at their ends; reports progress.

    Raises:
        InputError: it is not UTF-8.
        OSError: it cannot be read.
    """
    total = source.stat().st_size if source != STANDARD_INPUT else None
    done = 0
    with open_source(source) as handle, progress_bar("reading", total) as advance:
        while data := handle.readline():
            try:
                line = data.decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(handle, error, done) from None
            done += len(data)
            yield line.removesuffix("\n").removesuffix("\r")
            advance(len(data))


def read_text(source: Path) -> Iterator[str]:
    """The text in pieces of 64 KiB, decoded across their seams; reports progress.

    Raises:
        InputError: it is not UTF-8.
        OSError: it cannot be read.
    """
    total = source.stat().st_size if source != STANDARD_INPUT else None
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0  # bytes that are decoded; of the rest the decoder holds the start of a character
    with open_source(source) as handle, progress_bar("scoring", total) as advance:
        while True:
            data = handle.read(65536)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise _not_utf8(handle, error, done) from None
            done += pending + len(data) - len(decoder.getstate()[0])
            yield text
            advance(len(data))
            if not data:
                return


def _not_utf8(source: Source, error: UnicodeDecodeError, done: int) -> InputError:
    """``done``: bytes before those that failed."""
    return InputError(
        f"{source.name} is not UTF-8 text ({error.reason} at byte {done + error.start}): convert "
        "it, for example with iconv"
    )


def refuse_model_as_input(model: Path, source: Path) -> None:
    """A model is no input of its own: as raw frames it would be garbage, and the answer too.

    Raises:
        click.UsageError: both are one file, under whatever name.
    """
    if source == STANDARD_INPUT or not (source.is_file() and model.is_file()):
        return
    if source.samefile(model):
        raise click.UsageError(f"INPUT {source} is the same file as MODEL: name the data")


def refuse_overwriting(output: Path | None, model: Path, source: Path) -> None:
    """Leave the model, the files it refers to and the input as they are.

    Raises:
        click.UsageError: ``output`` is one of them, under whatever name.
    """
    if output is None or not output.exists() or output.is_char_device():  # such as /dev/null
        return
    from ..engines.manifest import manifest_path
    from ..model_file import external_files
    from ..runtime import is_engine

    if model.exists() and output.samefile(model):
        raise _overwriting(output, "MODEL")
    if source == STANDARD_INPUT:
        if _is_standard_input(output):
            raise _overwriting(output, "standard input")
    elif source.exists() and output.samefile(source):
        raise _overwriting(output, "INPUT")
    if is_engine(model):
        parts, what = [manifest_path(model)], "the manifest of MODEL"
    else:
        parts, what = external_files(model), "weights of MODEL"
    for part in parts:
        if part.exists() and output.samefile(part):
            raise _overwriting(output, what)


def _overwriting(output: Path, what: str) -> click.UsageError:
    return click.UsageError(
        f"OUTPUT {output} is the same file as {what}, which must stay: name another file"
    )


def _is_standard_input(path: Path) -> bool:
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or no file at all
        return False
    return os.path.samestat(path.stat(), os.fstat(descriptor))
