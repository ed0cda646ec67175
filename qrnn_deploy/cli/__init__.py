"""The command line: parse, call the library, print.

One file per command; ``application.py`` joins them and turns what goes wrong into one line and an
exit status. Nothing heavy is imported before a command runs, so that ``--help`` and shell
completion answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .application import cli as cli

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: what would follow the program's name; by default ``sys.argv[1:]``.
    """
    try:
        # Even these imports take long enough to be interrupted, so they stand inside.
        from ._interrupt import ignore_interrupts, sparing_imports

        with sparing_imports():
            from .application import invoke

            code = invoke(arguments)
        if arguments is None:  # the process is ours alone, and nothing is left to interrupt
            ignore_interrupts()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
        # Where the interrupt passed through an exec() deep in a library, CPython remembers it as
        # unhandled and `python -m` would die by the signal, whatever status we exit with. The
        # next exec() clears that.
        exec("")
        if sys.stderr is not None:
            sys.stderr.write("interrupted\n")
    sys.exit(code)


def __getattr__(name: str) -> Any:
    """Import ``cli``, the group of all commands, when it is asked for (PEP 562)."""
    if name == "cli":
        from .application import cli

        return cli
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
