"""``qrnn-deploy doctor``: what works on this machine, and how to get the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._shared import json_option, print_json, spinner

if TYPE_CHECKING:
    from ..doctor import Diagnosis


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Tell what works on this machine and how to get the rest.

    Tries the kernel library and the function form on a tiny model whose answer is known, and lists
    the versions that a bug report needs. The exit status is 0 whatever is missing.

    \b
    Examples:
      qrnn-deploy doctor
      qrnn-deploy doctor --json
    """
    from ..doctor import diagnose

    with spinner("looking around"):
        diagnosis = diagnose()
    if as_json:
        print_json(diagnosis.to_dict())
    else:
        _print(diagnosis)


def _print(diagnosis: Diagnosis) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    facts = Table.grid(padding=(0, 2))
    cpu = diagnosis.cpu
    versions = ", ".join(f"{name} {v}" for name, v in diagnosis.packages.items() if v is not None)
    absent = ", ".join(name for name, v in diagnosis.packages.items() if v is None)
    for name, value in (
        ("qrnn-deploy", f"{diagnosis.version} ({diagnosis.location})"),
        ("python", diagnosis.python),
        ("system", diagnosis.system),
        ("cpu", f"{cpu['name']}, {cpu['processors']} usable; {' '.join(cpu['flags'])}"),
        ("packages", versions),
        ("not installed", absent or "-"),
        ("kernel library", _library_line(diagnosis)),
    ):
        facts.add_row(Text(name, style="bold"), Text(value))
    console.print(facts)
    console.print()
    table = Table.grid(padding=(0, 2))
    for ability in diagnosis.abilities:
        mark = Text("yes", style="green") if ability.works else Text("no", style="red")
        what = ability.detail + (f"; {ability.remedy}" if ability.remedy else "")
        table.add_row(mark, Text(ability.name), Text(what))
    console.print(table)


def _library_line(diagnosis: Diagnosis) -> str:
    library = diagnosis.selftest.get("library")
    if not library or not library["path"]:
        return "none"
    return (
        f"{library['path']}; operator version {library['op_version']}, "
        f"uses {library['isa']} on this CPU"
    )
