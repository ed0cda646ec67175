"""Write docs/cli.md from the help texts of the command line.

python scripts/cli_docs.py           rewrite the file
python scripts/cli_docs.py --check   exit 1 where it is stale
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from qrnn_deploy.cli import cli

TARGET = Path(__file__).parent.parent / "docs" / "cli.md"
WIDTH = 100
HEADER = """\
# Command line

Written by `make docs` from the help texts; a test fails when the two differ.
"""


def render() -> str:
    """The text of docs/cli.md."""
    # The terminal's width must not matter.
    root = click.Context(
        cli, info_name="qrnn-deploy", terminal_width=WIDTH, help_option_names=["-h", "--help"]
    )
    parts = [HEADER, _section("qrnn-deploy", cli.get_help(root))]
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=name, parent=root, terminal_width=WIDTH)
        parts.append(_section(f"qrnn-deploy {name}", command.get_help(context)))
    return "\n".join(parts)


def _section(title: str, help_text: str) -> str:
    return f"## {title}\n\n```\n{help_text}\n```\n"


if __name__ == "__main__":
    text = render()
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text() != text:
            sys.exit(f"{TARGET} is stale: run `make docs`")
    else:
        TARGET.write_text(text)
