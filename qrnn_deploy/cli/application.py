"""The group of all commands, and what becomes of their errors.

Exit status: 0 done; 1 a verification that failed; 2 a mistake the user can mend, told in one line;
70 a defect of qrnn-deploy; 130 interrupted; 141 the reader of a pipe went away, as SIGPIPE ends
other programs.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

import click

from .. import __version__
from .._files import reason
from ..errors import QrnnDeployError
from .build import build
from .completion import completion
from .doctor import doctor
from .export import export
from .inspect import inspect
from .run import run
from .verify import verify

PROGRAM = "qrnn-deploy"
EXIT_READER_GONE = 128 + signal.SIGPIPE
EXIT_USER_ERROR = 2
EXIT_DEFECT = 70

_FAILED_WRITES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write fails with. Those into files say which it is; a report to the screen does not."""


@dataclass
class Options:
    """The options that stand before the command, and the words that called it."""

    debug: bool = False
    command_path: str = PROGRAM


class _Group(click.Group):
    """Lists its commands in the order of use, not of the alphabet.

    Where the reader of a pipe goes away, click would exit with 1, which ``verify`` has a use for.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _telling_of_a_closed_pipe():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _telling_of_a_closed_pipe():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Note which command it is, since not every usage error knows."""
        found = super().resolve_command(ctx, args)
        if isinstance(ctx.obj, Options) and found[0] is not None:
            ctx.obj.command_path = f"{ctx.command_path} {found[0]}"
        return found


@contextmanager
def _telling_of_a_closed_pipe() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise click.exceptions.Exit(EXIT_READER_GONE) from error


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, package_name="qrnn-deploy", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def cli(options: Options, debug: bool) -> None:
    """Take a trained PyTorch QRNN to production.

    \b
    A first round:
      qrnn-deploy export model.safetensors -o model.onnx
      qrnn-deploy verify model.onnx --checkpoint model.safetensors
      qrnn-deploy run model.onnx --score text.txt

    `qrnn-deploy COMMAND --help` explains a command. `qrnn-deploy doctor` tells what works on this
    machine and how to get the rest. `qrnn-deploy completion bash` prints what your shell needs to
    complete commands with the tab key.

    Tables fit the terminal. In a pipe or a file they are as wide as their content, whatever COLUMNS
    says, so that grep finds a row in one line.

    Exit status: 0 done, 1 a verification that failed, 2 a mistake that you can mend, told in one
    line, 70 a defect of qrnn-deploy, 130 interrupted, 141 the reader of a pipe (`| head`) went
    away.
    """
    options.debug = debug


for _command in (export, verify, build, run, inspect, doctor, completion):
    cli.add_command(_command)


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Args:
        arguments: what would follow the program's name; by default ``sys.argv[1:]``.

    Raises:
        KeyboardInterrupt: the user interrupts.
    """
    options = Options()
    signal.signal(signal.SIGTERM, _stop)
    warnings.showwarning = _warn
    if sys.stdout is None:
        _complain("standard output is closed: expected a place for the answer, such as > FILE")
        return EXIT_USER_ERROR
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A file's name need not be text in any encoding, and must not stop a report.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(
            None if arguments is None else list(arguments),
            prog_name=PROGRAM,
            obj=options,
            standalone_mode=False,
        )
    except click.exceptions.Exit as request:
        code = request.exit_code
    except click.Abort as abort:
        raise KeyboardInterrupt from abort
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in _FAILED_WRITES:
            error.filename = "standard output"
        code = _report(error, options)
    status = code if isinstance(code, int) else 0
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            return EXIT_READER_GONE
        if not status:
            error.filename = "standard output"
            return _report(error, options)
    return status


def _discard_output() -> None:
    """Let what is still buffered go nowhere: at exit it would fail, and complain, once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(signum: int, frame: object) -> NoReturn:
    """Leave by way of every ``finally``, so that a terminated export leaves no file behind."""
    sys.exit(128 + signum)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning as one line, without the place in our source that raised it."""
    click.echo(f"warning: {message}", err=True)


def _complain(message: str) -> None:
    click.echo("error: " + " ".join(message.split()), err=True)


def _report(error: Exception, options: Options) -> int:
    """Say in one line on standard error what went wrong; return the exit status."""
    if options.debug and sys.stderr is not None:
        traceback.print_exc()
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()  # no mistake: the help is the answer to a command alone
        return error.exit_code
    if isinstance(error, click.ClickException):
        line, code = error.format_message().rstrip("."), error.exit_code
        if isinstance(error, click.UsageError):
            line += f"; see {options.command_path} --help"
    elif isinstance(error, QrnnDeployError):
        line, code = str(error), EXIT_USER_ERROR
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        line, code = f"{where}{reason(error)}", EXIT_USER_ERROR
    else:
        line, code = f"{type(error).__name__}: {error}", EXIT_DEFECT
        if not options.debug:
            line += " (a defect of qrnn-deploy; `qrnn-deploy --debug ...` shows the traceback)"
    _complain(line)
    return code
