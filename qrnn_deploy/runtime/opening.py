"""One way to open a model, whatever runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._arguments import as_path
from ..errors import InputError

if TYPE_CHECKING:
    from .engine import EngineSession
    from .engine_plans import GraphChoice
    from .loading import KernelChoice
    from .session import Session

ENGINE_SUFFIXES = (".engine", ".plan")


def is_engine(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an engine: by its name, or by the manifest beside it.

    Raises:
        InputError: ``path`` is no path.
    """
    file = as_path(path, "path")
    if file.name.endswith(ENGINE_SUFFIXES):  # one called `.engine` has no suffix
        return True
    if file.suffix == ".onnx" or not file.name:
        return False
    from ..engines.manifest import manifest_path

    return manifest_path(file).is_file()


def open_model(
    path: str | os.PathLike[str],
    *,
    kernel: KernelChoice = "auto",
    threads: int | None = None,
    device: str | None = None,
    providers: Sequence[Any] | None = None,
    cuda_graph: GraphChoice | None = None,
) -> Session | EngineSession:
    """Open an ONNX file or an engine.

    Args:
        path: a file written by ``qrnn-deploy export`` or ``qrnn-deploy build``.
        kernel: of an ONNX file, as for :class:`Session`.
        threads: likewise.
        device: likewise.
        providers: likewise.
        cuda_graph: as for :class:`Session` or :class:`EngineSession`, with the default of each.

    Raises:
        InputError: ``path`` is no path, or an option of ONNX files is given for an engine.
        ModelError, KernelLibraryError: as for :class:`Session`.
        EngineError: as for :class:`EngineSession`.
        MissingDependencyError: what runs the file is not installed.
    """
    if not is_engine(path):
        from . import Session

        return Session(
            path,
            kernel=kernel,
            threads=threads,
            device=device,
            providers=providers,
            cuda_graph=cuda_graph or "off",
        )
    for name, value, default in (
        ("kernel", kernel, "auto"),
        ("threads", threads, None),
        ("device", device, None),
        ("providers", providers, None),
    ):
        if value != default:
            raise InputError(
                f"{name}={value!r} is for ONNX files, and {path} is an engine: leave it out"
            )
    from .engine import EngineSession

    return EngineSession(path, cuda_graph=cuda_graph or "auto")


def most_steps(model: Session | EngineSession) -> int:
    """The longest chunk that a model takes: the profiles of an engine have an end."""
    bounds = getattr(model, "bounds", None)
    return 2**31 if bounds is None else int(bounds.time[1])
