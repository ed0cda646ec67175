"""``qrnn-deploy build``: ONNX file in, TensorRT engine and its manifest out."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InputError
from ..pair import pair_files, stands_for_pair
from ._shared import OutputFile, byte_size, json_option, print_json

if TYPE_CHECKING:
    from ..engines import BuildReport, Manifest, Profile
    from ..engines.backends import BackendName


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    required=True,
    help="Engine to write. Its manifest goes beside it, model.engine.json.",
)
@click.option(
    "--backend",
    type=click.Choice(["tensorrt", "tensorrt-rtx"]),
    help="TensorRT with our plugin, which needs a GPU and builds for it; or TensorRT for RTX with "
    "the standard-ONNX function, which builds anywhere. Default: the one that is usable here.",
)
@click.option(
    "--arch",
    metavar="ARCH,...",
    help="Cards that an engine of tensorrt-rtx is for. Default: sm80,sm86,sm89,sm120.",
)
@click.option(
    "--min", "minimum", metavar="SIZES", default="", help="Smallest sizes. Default: B=1,T=1."
)
@click.option(
    "--opt",
    "optimum",
    metavar="SIZES",
    default="",
    help="Sizes to be fastest for. Default: B=8,T=64.",
)
@click.option(
    "--max", "maximum", metavar="SIZES", default="", help="Largest sizes. Default: B=32,T=512."
)
@click.option(
    "--workspace",
    metavar="SIZE",
    help="Most scratch memory for one layer, such as 512MiB. Default: all of the card's.",
)
@click.option(
    "--timing-cache",
    type=click.Path(path_type=Path),
    help="Of tensorrt: file that keeps what was measured; read if it is there, then written.",
)
@click.option("--refit", is_flag=True, help="Let the engine's weights be exchanged.")
@click.option(
    "--version-compatible",
    is_flag=True,
    help="Of tensorrt: let later versions run the engine, which then carries our plugin library.",
)
@click.option("--verbose", is_flag=True, help="Show TensorRT's log on standard error.")
@json_option
def build(
    model: Path,
    output: Path,
    backend: BackendName | None,
    arch: str | None,
    minimum: str,
    optimum: str,
    maximum: str,
    workspace: str | None,
    timing_cache: Path | None,
    refit: bool,
    version_compatible: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Build a TensorRT engine from the ONNX file MODEL.

    Precision is the file's (`export --dtype`). B is the batch and T the time of the inputs; sizes
    that are fixed in the model stay fixed. Profile 0 takes every size within the bounds; a model
    that carries its state gets profile 1 for T=1. What runs the pooling nodes is proven, not
    assumed: an engine that holds something else is not written. Ctrl-C cancels and leaves nothing.

    \b
    Examples:
      qrnn-deploy build model.onnx -o model.engine
      qrnn-deploy build model.onnx -o model.engine --backend tensorrt-rtx --arch sm86,sm120
      qrnn-deploy build model.onnx -o model.engine --min B=1,T=1 --opt B=8,T=64 --max B=32,T=512

    Needs the extra `tensorrt` or `tensorrt-rtx`.
    """
    from ..engines import build_engine
    from ..engines.options import parse_bytes
    from ..engines.profiles import parse_sizes

    if stands_for_pair(model):
        raise InputError(
            f"{model} stands for the two files of an encoder-decoder, and an engine is built from "
            f"one: expected {' or '.join(str(file) for file in pair_files(model).values())}; give "
            "each with an -o of its own"
        )
    with _native_output(verbose), _tensorrt_log(verbose), _bar(model.name) as progress:
        report = build_engine(
            model,
            output,
            backend=backend,
            arch=None if arch is None else arch.split(","),
            minimum=parse_sizes(minimum),
            optimum=parse_sizes(optimum),
            maximum=parse_sizes(maximum),
            timing_cache=timing_cache,
            refit=refit,
            version_compatible=version_compatible,
            workspace=None if workspace is None else parse_bytes(workspace),
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)


def _print(report: BuildReport) -> None:
    manifest = report.manifest
    click.echo(
        f"{report.path}: {byte_size(manifest.engine_bytes)}, {manifest.precision}, "
        f"{manifest.backend} {manifest.tensorrt_version}, for {', '.join(manifest.architectures)}, "
        f"built in {report.seconds:.1f} s"
    )
    click.echo(f"  with {report.manifest_path}")
    click.echo(f"Backend {manifest.backend}: {report.backend_reason}")
    click.echo(implementation_text(manifest))
    for index, profile in enumerate(manifest.profiles):
        click.echo(f"Profile {index}, {profile.name}: {profile_text(manifest, profile)}")
    for warning in report.warnings:
        click.echo(f"warning: TensorRT: {warning}", err=True)
    click.echo(f"Next: qrnn-deploy inspect {report.path}")


def implementation_text(manifest: Manifest) -> str:
    """What runs the recurrent layers, and where that was looked up."""
    layers = manifest.metadata.layers
    with_plugin = [layer for layer in layers if layer.has_kernel and manifest.form == "plugin"]
    loops = sum(layer.is_ours for layer in layers) - len(with_plugin)
    standard = sum(not layer.is_ours for layer in layers)
    parts = [
        f"{count} of {len(layers)} layers are {what}"
        for count, what in (
            (len(with_plugin), "our plugin"),
            (loops, "loops of the standard-ONNX function"),
            (standard, "TensorRT's own recurrence"),
        )
        if count
    ]
    says = "says" if len(manifest.proof) == 1 else "say"
    where = " and the ".join(manifest.proof)
    return f"Recurrence: {', '.join(parts)}, as the {where} {says}"


def profile_text(manifest: Manifest, profile: Profile) -> str:
    """The sizes of a profile for people: ``B 1 to 32 (best 8), T 1``."""
    from ..engines.profiles import size_name

    sizes: dict[str, tuple[int, int, int]] = {}
    for port in manifest.inputs:
        for axis, symbol in enumerate(port.shape):
            if isinstance(symbol, str):
                bounds = profile.inputs[port.name]
                sizes[size_name(symbol)] = (bounds.min[axis], bounds.opt[axis], bounds.max[axis])
    return ", ".join(
        f"{name} {low}" if low == high else f"{name} {low} to {high} (best {usual})"
        for name, (low, usual, high) in sizes.items()
    )


@contextmanager
def _tensorrt_log(verbose: bool) -> Iterator[None]:
    """TensorRT's log on standard error, where it is asked for."""
    if not verbose:
        yield
        return
    log = logging.getLogger("qrnn_deploy.tensorrt")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("TensorRT: %(levelname)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def _native_output(verbose: bool) -> Iterator[None]:
    """Keep what TensorRT's libraries print past their own log out of our output.

    It goes to a file that is shown on standard error with ``verbose`` and otherwise dropped.
    Python's own standard error is given another descriptor for as long.
    """
    if sys.stderr is None:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    python_stderr = sys.stderr
    with tempfile.TemporaryFile() as spill:
        os.dup2(spill.fileno(), 1)
        os.dup2(spill.fileno(), 2)
        sys.stderr = os.fdopen(os.dup(kept[1]), "w", buffering=1, errors="backslashreplace")
        try:
            yield
        finally:
            sys.stderr.close()
            sys.stderr = python_stderr
            for descriptor, copy in enumerate(kept, start=1):
                os.dup2(copy, descriptor)
                os.close(copy)
            if verbose:
                spill.seek(0)
                click.echo(spill.read().decode(errors="replace"), err=True, nl=False)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[float, str], None] | None]:
    """A progress bar on standard error where that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("building {task.fields[what]}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=1.0, what=what)
        yield lambda share, phase: shown.update(task, completed=share, description=phase)
