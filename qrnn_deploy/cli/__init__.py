"""The command line: parse, call the library, print.

One file per command. Nothing heavy is imported before a command runs, so that ``--help`` and
shell completion answer at once.

Exit status: 0 done; 1 a verification that failed; 2 a mistake the user can mend, told in one
line; 70 a defect of qrnn-deploy; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, TextIO

import click

from .. import __version__
from ..errors import QrnnDeployError
from .completion import completion
from .doctor import doctor
from .export import export
from .inspect import inspect
from .run import run
from .verify import verify

EXIT_USER_ERROR = 2
EXIT_DEFECT = 70
EXIT_INTERRUPTED = 130


@dataclass
class Options:
    """The options that stand before the command."""

    debug: bool = False


class _Group(click.Group):
    """Lists its commands in the order of use, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


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
    """
    options.debug = debug


for _command in (export, verify, run, inspect, doctor, completion):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: what would follow the program's name; by default ``sys.argv[1:]``.
    """
    options = Options()
    signal.signal(signal.SIGTERM, _stop)
    warnings.showwarning = _warn
    try:
        code = cli.main(
            None if arguments is None else list(arguments),
            prog_name="qrnn-deploy",
            obj=options,
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.exceptions.Exit as request:
        code = request.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
        # Where the interrupt passed through an exec() deep in a library, CPython remembers it as
        # unhandled and `python -m` would die by the signal, whatever status we exit with. The
        # next exec() clears that.
        exec("")
    except BrokenPipeError:
        # The reader has gone (`... | head`); a second complaint at exit would help nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        code = _report(error, options)
    sys.exit(code if isinstance(code, int) else 0)


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


def _report(error: Exception, options: Options) -> int:
    """Say in one line on standard error what went wrong; return the exit status."""
    if options.debug:
        traceback.print_exc()
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, QrnnDeployError):
        line, code = str(error), EXIT_USER_ERROR
    elif isinstance(error, OSError) and error.strerror:
        where = f"{os.fspath(error.filename)}: " if error.filename is not None else ""
        line, code = f"{where}{error.strerror}", EXIT_USER_ERROR
    else:
        line, code = f"{type(error).__name__}: {error}", EXIT_DEFECT
        if not options.debug:
            line += " (a defect of qrnn-deploy; `qrnn-deploy --debug ...` shows the traceback)"
    click.echo("error: " + " ".join(line.split()), err=True)
    return code
