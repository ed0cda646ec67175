"""What can run a model, as this machine has it: one class for each implementation.

A model is compared in every implementation that is here. One that is absent is named in the
report with what it lacks, and counts for nothing; one that was asked for and is absent is an error.
What an implementation lacks is looked at before the model: whatever fails after that, such as a
proof that an engine holds our plugin, is a fault that the report fails with.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .._optional import install
from ..engines.backends import BACKENDS, Backend, is_installed, load_backend
from ..engines.build import build_engine
from ..engines.gpu import find_cards
from ..engines.model import pool_nodes
from ..engines.options import BuildOptions, architectures
from ..engines.plugin import find_plugin
from ..errors import (
    DeviceError,
    EngineError,
    InputError,
    MissingDependencyError,
    ModelError,
    QrnnDeployError,
)
from ..model_file import metadata_of, read_model
from ..runtime import EngineSession
from ..runtime.engine_device import CudaDevice
from ..runtime.library import load_library
from ..runtime.stream_memory import StreamedModel

Note = Callable[[str], None]


class Runnable(StreamedModel, Protocol):
    """An open model: a ``Session`` or an ``EngineSession``."""

    def run(self, inputs: Any) -> dict[str, Any]:
        """Run one batch of sequences."""


class AbsentError(Exception):
    """This machine cannot run the model that way; the message says what is missing."""


class FailedError(Exception):
    """The implementation is here, and the model fails in it; the message says how."""


@dataclass(frozen=True)
class Opened:
    """A model opened in one implementation.

    Attributes:
        name: to report it under.
        model: the open model.
        lacks: what keeps it from being the artifact of that name altogether; empty is nothing.
    """

    name: str
    model: Runnable
    lacks: str = ""


class Artifact(Protocol):
    """One implementation."""

    @property
    def name(self) -> str:
        """As ``--only`` has it."""

    def open(self, path: Path, note: Note) -> Opened:
        """Open the model.

        Raises:
            AbsentError: the machine lacks the implementation, or the file has nothing for it.
            FailedError: it is here, and does not take the model, or not as it should.
            QrnnDeployError: the model cannot be used at all.
        """


@dataclass(frozen=True)
class KernelArtifact:
    """ONNX Runtime on the CPU, with our kernel for the pooling nodes."""

    name: str = "kernel"

    def open(self, path: Path, note: Note) -> Opened:
        """``mixed`` is a file of which only some nodes got a kernel, as production would run it."""
        if load_library() is None:
            raise AbsentError("the kernel library is not installed; see `qrnn-deploy doctor`")
        from ..runtime import Session

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            session = Session(path, kernel="require")
        wanted, count = session.kernel_nodes, len(session.kernel_devices)
        if not wanted:
            raise AbsentError("no layer of the file has a kernel: they are standard ONNX")
        if not count:
            raise AbsentError(
                "no node of the file got a kernel; a file made with --inline has none"
            )
        if count < len(wanted):
            return Opened(
                "mixed", session, f"only {count} of {len(wanted)} pooling nodes got a kernel"
            )
        return Opened(self.name, session)


@dataclass(frozen=True)
class FunctionArtifact:
    """ONNX Runtime on the CPU, with the file's own function bodies."""

    name: str = "function"

    def open(self, path: Path, note: Note) -> Opened:
        """There wherever ONNX Runtime is."""
        from ..runtime import Session

        return Opened(self.name, Session(path, kernel="off"))


@dataclass(frozen=True)
class CudaArtifact:
    """ONNX Runtime on an NVIDIA GPU, with our CUDA kernel for the pooling nodes."""

    name: str = "cuda"

    def open(self, path: Path, note: Note) -> Opened:
        """Streams of it run single steps as CUDA graphs where ONNX Runtime allows it.

        ``mixed-cuda`` is a file of which only some nodes run in our kernel on the GPU.
        """
        from ..runtime import Session
        from ..runtime.provider_probe import check_starts
        from ..runtime.providers import place

        try:
            check_starts(place("cuda", None))
        except (MissingDependencyError, DeviceError) as error:  # no such provider, no GPU
            raise AbsentError(str(error)) from error
        library = load_library()
        if library is None or library.cuda is None:
            lacking = "not installed" if library is None else "built without a CUDA compiler"
            raise AbsentError(f"the kernel library is {lacking}; see `qrnn-deploy doctor`")
        try:
            session = Session(path, device="cuda", kernel="require", cuda_graph="auto")
        except QrnnDeployError as error:
            if isinstance(error, ModelError) and _is_bfloat16(path):
                raise
            raise FailedError(str(error)) from error
        places = [session.kernel_devices.get(node) for node in session.kernel_nodes]
        count = places.count("cuda")
        if not count:
            raise AbsentError(
                "no pooling node of the file runs in our CUDA kernel "
                f"({places.count('cpu')} of {len(places)} in the one for the CPU); a file made "
                "with --inline has none"
            )
        if count < len(places):
            lacks = f"only {count} of {len(places)} pooling nodes run in our CUDA kernel"
            return Opened("mixed-cuda", session, lacks)
        return Opened(self.name, session)


@dataclass(frozen=True)
class EngineArtifact:
    """An engine built from the file here and now, and run on this machine's GPU."""

    backend: Backend

    @property
    def name(self) -> str:
        """``tensorrt`` or ``tensorrt-rtx``."""
        return self.backend.name

    def open(self, path: Path, note: Note) -> Opened:
        """Build an engine in a temporary folder for the first card, and open it there."""
        missing = []
        if not is_installed(self.backend):
            missing.append(f"not installed: {install(self.backend.module)}")
        cards = find_cards()
        if not cards.cards:
            missing.append(f"no GPU: {cards.obstacle}")
        if missing:
            raise AbsentError("; ".join(missing))
        try:
            trt = load_backend(self.backend)
            device = CudaDevice(0)
            arch = None if self.backend.needs_gpu else [device.card.capability]
            architectures(BuildOptions(arch=arch), self.backend, trt, cards)
            if self.backend.form == "plugin":
                find_plugin()
        except (MissingDependencyError, EngineError) as error:  # driver, card, plugin library
            raise AbsentError(str(error)) from error
        model = read_model(path)
        layers = metadata_of(model, path).layers
        if any(layer.is_ours for layer in layers) and not any(pool_nodes(model.graph)):
            raise AbsentError("the file has no pooling node; one made with --inline has none")
        note(f"building an engine of {self.backend.title}")
        with tempfile.TemporaryDirectory(prefix="qrnn-deploy-") as folder:
            engine = Path(folder) / f"{path.stem}.engine"
            try:
                build_engine(path, engine, backend=self.backend.name, arch=arch)
                return Opened(self.name, EngineSession(engine, device=device))
            except QrnnDeployError as error:
                raise FailedError(str(error)) from error


ARTIFACTS: tuple[Artifact, ...] = (
    KernelArtifact(),
    FunctionArtifact(),
    CudaArtifact(),
    *(EngineArtifact(backend) for backend in BACKENDS.values()),
)
"""In the order of the report."""

ON_CPU = ("kernel", "mixed", "function")
"""Names under which ONNX Runtime on the CPU is reported."""

NAMES = tuple(artifact.name for artifact in ARTIFACTS)


def open_artifacts(
    path: Path, only: Sequence[str] | None, note: Note
) -> tuple[dict[str, Runnable], dict[str, str], list[str]]:
    """Open models by artifact name, why others are missing, and in which the model fails.

    Args:
        path: the ONNX file.
        only: the artifacts that are wanted, each of which must be here; None takes what is here.
        note: called with the name of each stage.

    Raises:
        InputError: a name in ``only`` is unknown, or its artifact is missing.
        ModelError: the file cannot be run at all.
        KernelLibraryError: the file needs a newer kernel library than the one installed.
    """
    if only is not None and (not only or set(only) - set(NAMES)):
        raise InputError(f"got the artifacts {list(only)}: expected some of {', '.join(NAMES)}")
    models: dict[str, Runnable] = {}
    missing: dict[str, str] = {}
    problems: list[str] = []
    refusal: QrnnDeployError | None = None
    for artifact in ARTIFACTS:
        if only is not None and artifact.name not in only:
            continue
        try:
            opened = artifact.open(path, note)
        except AbsentError as absent:
            missing[artifact.name] = str(absent)
        except FailedError as failed:
            problems.append(f"{artifact.name}: {failed}")
        except (MissingDependencyError, ModelError) as error:
            # A bfloat16 file is good, only not for every runtime.
            if isinstance(error, ModelError) and not _is_bfloat16(path):
                raise
            missing[artifact.name] = str(error)
            refusal = refusal or error
        else:
            models[opened.name] = opened.model
            if opened.lacks:
                missing[artifact.name] = opened.lacks
    for name in only or ():
        if name in missing:
            raise InputError(
                f"{name} was asked for and is not here ({missing[name]}): leave it out, or get it"
            )
    if not models and not problems:
        raise refusal or ModelError(f"{path} cannot be run here: {'; '.join(missing.values())}")
    return models, missing, problems


def outside(model: Runnable, feed: Mapping[str, Any]) -> str | None:
    """Why an engine's profiles do not take these inputs, or None where they do."""
    if isinstance(model, EngineSession):
        try:
            model.manifest.profile_for({name: value.shape for name, value in feed.items()})
        except InputError as error:
            return str(error)
    return None


def _is_bfloat16(path: Path) -> bool:
    return metadata_of(read_model(path), path).dtype == "bfloat16"
