"""From an ONNX file to a TensorRT engine, with proof of what runs its pooling nodes."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .._files import replacing
from .backends import BackendName, choose_backend, load_backend
from .files import check_output, check_timing_cache, publish, staging
from .gpu import find_cards
from .manifest import Library, Manifest, manifest_path
from .model import read_source
from .native import Built, Job, run_job
from .options import BuildOptions, check_options
from .plugin import find_plugin, plugin_sha256
from .watch import Monitor, Progress, log_reader

_T = TypeVar("_T")
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class BuildReport:
    """What a build made.

    Attributes:
        path: the engine.
        manifest_path: beside it.
        manifest: its content.
        backend_reason: why this backend, in words.
        warnings: of TensorRT, without those that are known to mean nothing.
        seconds: that TensorRT took.
    """

    path: Path
    manifest_path: Path
    manifest: Manifest
    backend_reason: str
    warnings: list[str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "engine": str(self.path),
            "manifest": str(self.manifest_path),
            "backend_reason": self.backend_reason,
            "warnings": self.warnings,
            "seconds": self.seconds,
        } | {key: value for key, value in self.manifest.to_dict().items() if key != "metadata"}


def build_engine(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    backend: BackendName | None = None,
    arch: Sequence[str] | None = None,
    minimum: Mapping[str, int] | None = None,
    optimum: Mapping[str, int] | None = None,
    maximum: Mapping[str, int] | None = None,
    timing_cache: str | os.PathLike[str] | None = None,
    refit: bool = False,
    version_compatible: bool = False,
    workspace: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build an engine and write it with its manifest: both of them or none.

    Precision is the file's. Profile 0 takes every shape within the bounds; where the model carries
    its state, profile 1 is for T = 1. An interrupt cancels the build and leaves nothing behind.

    Args:
        model: an ONNX file written by the exporter, not inlined.
        output: the engine to write; the manifest is written to ``<output>.json``.
        backend: ``tensorrt`` (our plugin; needs a GPU) or ``tensorrt-rtx`` (the function of
            standard ONNX; needs none). None takes the one that is usable here.
        arch: of ``tensorrt-rtx``: architectures such as ``sm86``. None: sm80, sm86, sm89, sm120.
        minimum: smallest sizes, such as ``{"B": 1, "T": 1}``.
        optimum: sizes to be fastest for.
        maximum: largest sizes.
        timing_cache: of ``tensorrt``: file to read, where it is there, and to write.
        refit: let the engine's weights be exchanged.
        version_compatible: of ``tensorrt``: let later versions run the engine; it carries a copy of
            the plugin library.
        workspace: most bytes of scratch memory for one layer.
        progress: called from a thread with the share that is done and the name of the phase.

    Raises:
        ModelError: no readable ONNX file, or not one of ours.
        MissingDependencyError: the package of the backend is not installed.
        EngineError: the engine cannot be built as asked. Nothing is written.
        ProofError: it is not proven that the engine holds what was wanted. Nothing is written.
    """
    options = BuildOptions(
        arch=arch,
        minimum=minimum or {},
        optimum=optimum or {},
        maximum=maximum or {},
        timing_cache=None if timing_cache is None else Path(timing_cache),
        refit=refit,
        version_compatible=version_compatible,
        workspace=workspace,
    )
    choice = choose_backend(backend)
    source, target = read_source(Path(model)), Path(output)
    check_output(target, [source.path.parent / name for name in source.files])
    if options.timing_cache is not None:
        check_timing_cache(options.timing_cache, [target, manifest_path(target)])
    cards = find_cards()
    check_options(options, choice.backend, cards)
    trt = load_backend(choice.backend)
    plugin = find_plugin() if choice.backend.form == "plugin" else None
    monitor = Monitor(progress)
    with _one_at_a_time:
        job = Job(source, choice.backend, options, trt, cards, plugin, monitor, log_reader(trt))
        built = _in_thread(lambda: run_job(job), monitor.cancel)
        warnings = list(job.reader.notes.warnings)
    data = memoryview(built.engine)
    manifest = _manifest(job, built, data)
    with staging(target) as folder:
        (folder / target.name).write_bytes(data)
        (folder / manifest_path(target).name).write_text(manifest.to_json(), encoding="utf-8")
        publish(folder, target)
    if options.timing_cache is not None and built.timing_cache is not None:
        with replacing(options.timing_cache) as beside:
            beside.write_bytes(built.timing_cache)
    return BuildReport(
        target, manifest_path(target), manifest, choice.reason, warnings, built.seconds
    )


def _in_thread(work: Callable[[], _T], cancel: Callable[[], None]) -> _T:
    """Run ``work`` in a thread, so that an interrupt never meets TensorRT's C++ on the stack.

    The first interrupt cancels and waits; a second one does not wait.
    """
    results: list[_T] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="qrnn-deploy-build", daemon=True).start()
    try:
        done.wait()
    except BaseException:
        cancel()
        done.wait()
        raise
    if failures:
        raise failures[0]
    return results[0]


def _manifest(job: Job, built: Built, data: memoryview) -> Manifest:
    source, options = job.source, job.options
    golden = f"{source.path.stem}.golden"
    libraries = []
    if job.plugin is not None:
        libraries.append(
            Library(job.plugin.name, plugin_sha256(job.plugin), options.version_compatible)
        )
    return Manifest(
        backend=job.backend.name,
        form=job.backend.form,
        proof=built.proof,
        tensorrt_version=job.trt.__version__,
        version_compatible=options.version_compatible,
        refit=options.refit,
        architectures=built.architectures,
        libraries=libraries,
        precision=source.metadata.dtype,
        inputs=built.inputs,
        outputs=built.outputs,
        profiles=[profile for profile in built.profiles if profile.inputs],
        metadata=source.metadata,
        golden=golden if (source.path.parent / golden).is_dir() else None,
        model=source.files,
        engine_bytes=data.nbytes,
        engine_sha256=hashlib.sha256(data).hexdigest(),
    )
