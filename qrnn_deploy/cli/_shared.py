"""What several commands share: types of options, JSON output, progress, numbers for people."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 10_000
"""Columns of a table that is not for a terminal: more than any needs, so that none is cut."""

LEAST_THREAD_LIMIT = 64
"""As many threads are good on any machine."""

KERNEL_CHOICES = ("auto", "require", "off")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")
kernel_option = click.option(
    "--kernel",
    type=click.Choice(KERNEL_CHOICES),
    default="auto",
    show_default=True,
    help="auto uses the kernel library; where none is installed, or the installed one does not "
    "load, it warns and runs the standard-ONNX function. require fails there. off never loads it.",
)


def _within_limit(
    context: click.Context, parameter: click.Parameter, value: int | None
) -> int | None:
    """Refuse more threads than a session takes, in the words of the command line."""
    if value is not None and value > LEAST_THREAD_LIMIT:
        from .._optional import require

        require("onnxruntime", "running a model")
        from ..runtime.options import thread_limit

        limit = thread_limit()
        if value > limit:
            raise click.BadParameter(
                f"{value} is not in the range 1..{limit} (64, or four per core of this machine)"
            )
    return value


threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    callback=_within_limit,
    help="Threads within an operator, at most 64 or four per core. Default: ONNX Runtime's own "
    "choice, one per core.",
)


class OutputFile(click.Path):
    """The name of a file to write. An empty one, as of an unset variable, is not the folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """The path.

        Raises:
            click.BadParameter: the name is empty.
        """
        if not os.fspath(value):
            self.fail("the name is empty, expected that of a file to write", param, ctx)
        return super().convert(value, param, ctx)


class FiniteFloat(click.FloatRange):
    """A number from a range; ``nan`` and ``inf``, which click takes for numbers, are none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number.

        Raises:
            click.BadParameter: no number, not finite, or outside the range.
        """
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


def json_text(value: object) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def finite(value: float) -> float | None:
    """The number for JSON, which has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(json_text(value))


def console() -> Console:
    """Standard output for tables: as wide as the terminal; in a pipe nothing is cut, for grep."""
    from rich.console import Console

    class Report(Console):
        """Leaves it to ``application`` what becomes of a closed pipe; rich's own would exit 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    # Names of layers and files may hold brackets, which are no markup here.
    return Report(width=width, markup=False, highlight=False, soft_wrap=width is not None)


def byte_size(size: float) -> str:
    """A size for people: ``1536`` -> ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


class Advance(Protocol):
    """Callback of :func:`progress_bar`."""

    def __call__(self, amount: float) -> None:
        """Move the bar on by ``amount``."""


def _has_terminal() -> bool:
    """Whether standard error is a terminal. It may also be closed."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress_bar(what: str, total: float | None) -> Iterator[Advance]:
    """A progress bar on standard error where that is a terminal; nothing in a pipe or a log.

    Args:
        what: a few words on what is being done.
        total: the amount that is the whole, or None where that is not known.
    """
    if not _has_terminal():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.advance(task, amount)


@contextmanager
def spinner(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error where that is a terminal.

    Yields:
        A function that replaces the text.
    """
    if not _has_terminal():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as shown:
        yield lambda text: shown.update(text)


def table(headings: list[str], rows: Sequence[tuple[str, ...]]) -> Table:
    """A plain table; names may hold what is markup elsewhere."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        result.add_row(*(Text(cell) for cell in row))
    return result
