"""``qrnn-deploy doctor``: what works on this machine, and how to get the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .._optional import EXTRAS
from ._shared import json_option, print_json, spinner

if TYPE_CHECKING:
    from ..doctor import Diagnosis


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Tell what works on this machine and how to get the rest.

    Tries a tiny model whose answer is known in every way there is (function form, kernel, CUDA, an
    engine built for the occasion), and lists the versions that a bug report needs. The exit status
    is 0 whatever is missing.

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
    cpu = diagnosis.cpu
    found = {name: version for name, version in diagnosis.packages.items() if version is not None}
    for name, value in (
        ("qrnn-deploy", f"{diagnosis.version} ({diagnosis.location})"),
        ("python", diagnosis.python),
        ("system", diagnosis.system),
        ("cpu", f"{cpu['name']}, {cpu['processors']} usable; {' '.join(cpu['flags'])}"),
        ("gpu", diagnosis.gpu),
        ("packages", ", ".join(f"{name} {version}" for name, version in found.items())),
        ("not installed", _absent_line(diagnosis)),
        ("providers", ", ".join(diagnosis.selftest["providers"]) or "-"),
        ("kernel library", _library_line(diagnosis)),
        ("TensorRT plugin", diagnosis.plugin),
    ):
        click.echo(f"{name:15}  {value}")
    click.echo()
    width = max(len(ability.name) for ability in diagnosis.abilities)
    for ability in diagnosis.abilities:
        mark = click.style("yes", fg="green") if ability.works else click.style("no ", fg="red")
        click.echo(f"{mark}  {ability.name:{width}}  {ability.detail}")
        if ability.remedy:
            click.echo(f"{'':{width + 7}}to get it: {ability.remedy}")


def _absent_line(diagnosis: Diagnosis) -> str:
    absent = sorted(name for name, version in diagnosis.packages.items() if version is None)
    extras = {**EXTRAS, "tensorrt_rtx_cu13_bindings": EXTRAS["tensorrt_rtx_bindings"]}
    named = [f"{name} (extra {extras[name]!r})" if name in extras else name for name in absent]
    return ", ".join(named) or "-"


def _library_line(diagnosis: Diagnosis) -> str:
    library = diagnosis.selftest["library"]
    if library is None:
        return "none that can be used"
    cuda = library["cuda"]
    held = f"CUDA kernels for {cuda}" if cuda else "no CUDA kernels, as there was no nvcc"
    return (
        f"{library['path']}; operator version {library['op_version']}, "
        f"uses {library['isa']} on this CPU, {held}"
    )
