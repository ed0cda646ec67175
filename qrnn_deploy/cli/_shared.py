"""What several commands share: JSON output, progress, numbers for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 200
KERNEL_CHOICES = ("auto", "require", "off")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")
kernel_option = click.option(
    "--kernel",
    type=click.Choice(KERNEL_CHOICES),
    default="auto",
    show_default=True,
    help="Use the kernel library if it loads, insist on it, or run the standard-ONNX function.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads within an operator. Default: ONNX Runtime's, one per core.",
)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def console() -> Console:
    """Standard output for tables: as wide as the terminal, and wide in a pipe, for grep."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    # Names of layers and files may hold brackets, which are no markup here.
    return Console(width=width, markup=False, highlight=False, soft_wrap=width is not None)


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


@contextmanager
def progress_bar(what: str, total: float | None) -> Iterator[Advance]:
    """A progress bar on standard error where that is a terminal; nothing in a pipe or a log.

    Args:
        what: a few words on what is being done.
        total: the amount that is the whole, or None where that is not known.
    """
    if not sys.stderr.isatty():
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
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as shown:
        yield lambda text: shown.update(text)
