"""From an ONNX file to a TensorRT engine, with proof of what runs its pooling nodes."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from .._files import replacing
from ..errors import EngineError
from ..metadata import PortInfo
from .backends import Backend, BackendName, choose_backend, load_backend, version_key
from .files import check_output, publish, staging
from .gpu import Cards, find_cards
from .manifest import Library, Manifest, manifest_path
from .model import Source, prepared_bytes, read_source
from .options import BuildOptions, architectures, check_options
from .plugin import find_plugin, plugin_sha256, register_plugin
from .profiles import Profile, make_profiles
from .proof import check_engine, check_network
from .watch import LogReader, Monitor, Progress, log_reader

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


@dataclass
class _Job:
    """One build: what goes into it, and the objects of TensorRT that must live as long."""

    source: Source
    backend: Backend
    options: BuildOptions
    trt: Any
    cards: Cards
    plugin: Path | None
    monitor: Monitor
    reader: LogReader


@dataclass(frozen=True)
class _Built:
    """The engine and what is known of it."""

    engine: Any
    inputs: list[PortInfo]
    outputs: list[PortInfo]
    profiles: list[Profile]
    architectures: list[str]
    proof: list[str]
    timing_cache: bytes | None
    seconds: float


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
        EngineError: the engine cannot be built as asked, or it is not proven that it holds what
            was wanted. Nothing is written.
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
    cards = find_cards()
    check_options(options, choice.backend, cards)
    trt = load_backend(choice.backend)
    plugin = find_plugin() if choice.backend.form == "plugin" else None
    monitor = Monitor(progress)
    with _one_at_a_time:
        job = _Job(source, choice.backend, options, trt, cards, plugin, monitor, log_reader(trt))
        built = _in_thread(lambda: _build(job), monitor.cancel)
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


def _build(job: _Job) -> _Built:
    """Everything that calls TensorRT."""
    trt, logger = job.trt, job.reader.tensorrt_logger
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what the binding makes of a null pointer
        raise _failure(job, "does not start") from error
    if job.plugin is not None:
        register_plugin(trt, job.plugin)
    network = builder.create_network(_network_flags(trt, job.backend))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(prepared_bytes(job.source, job.backend.form), str(job.source.path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise _failure(job, "cannot read the model", errors[0].desc() if errors else None)
    check_network(network, trt, job.source.pools, job.backend.form, job.backend.title)
    inputs, outputs, fixed = _ports(job, network)
    profiles = make_profiles(
        inputs,
        fixed,
        minimum=job.options.minimum,
        optimum=job.options.optimum,
        maximum=job.options.maximum,
        streaming=job.source.metadata.state_mode != "none",
    )
    config = builder.create_builder_config()
    targets = architectures(job.options, job.backend, trt, job.cards)
    _configure(job, config, targets)
    for profile in profiles:
        _add_profile(job, builder, config, profile)
    _read_timing_cache(job, config)
    monitor = job.monitor.tensorrt_monitor(trt)
    config.progress_monitor = monitor
    begun = time.monotonic()
    engine = builder.build_serialized_network(network, config)
    seconds = time.monotonic() - begun
    if job.monitor.failure is not None:
        raise job.monitor.failure
    if engine is None:
        raise _failure(job, "cannot build the engine")
    misfit = job.reader.notes.misfit()
    if misfit is not None:
        raise _failure(job, "cannot run all sizes from --min to --max", misfit)
    cache = config.get_timing_cache() if job.options.timing_cache is not None else None
    return _Built(
        engine=engine,
        inputs=inputs,
        outputs=outputs,
        profiles=profiles,
        architectures=targets,
        proof=["network", *_prove_engine(job, engine, targets)],
        timing_cache=None if cache is None else bytes(cache.serialize()),
        seconds=seconds,
    )


def _network_flags(trt: Any, backend: Backend) -> int:
    """Strongly typed: the precision is the file's. From TensorRT 11 on there is nothing else."""
    if backend.name == "tensorrt" and version_key(trt.__version__) < (11,):
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 0


def _ports(job: _Job, network: Any) -> tuple[list[PortInfo], list[PortInfo], dict[str, int]]:
    """Inputs and outputs with the sizes that the graph fixes, and the symbols so fixed."""
    fixed: dict[str, int] = {}

    def sized(tensors: Sequence[Any], ports: Sequence[PortInfo]) -> list[PortInfo]:
        names, known = [tensor.name for tensor in tensors], [port.name for port in ports]
        if names != known:
            raise EngineError(
                f"{job.source.path} contradicts its metadata: the graph has {', '.join(names)}, "
                f"the metadata say {', '.join(known)}: export the model again"
            )
        result = []
        for tensor, port in zip(tensors, ports, strict=True):
            shape = list(tensor.shape)
            if len(shape) != len(port.shape) or any(
                isinstance(size, int) and size != there
                for size, there in zip(port.shape, shape, strict=True)
            ):
                raise EngineError(
                    f"{job.source.path} contradicts its metadata: {port.name!r} has shape {shape}, "
                    f"the metadata say {port.shape}: export the model again"
                )
            for symbol, there in zip(port.shape, shape, strict=True):
                if isinstance(symbol, str) and there >= 0:
                    fixed[symbol] = there
            sizes = [
                there if there >= 0 else symbol
                for symbol, there in zip(port.shape, shape, strict=True)
            ]
            result.append(replace(port, shape=sizes))
        return result

    metadata = job.source.metadata
    inputs = sized(
        [network.get_input(index) for index in range(network.num_inputs)], metadata.input_ports()
    )
    outputs = sized(
        [network.get_output(index) for index in range(network.num_outputs)],
        metadata.output_ports(),
    )
    return inputs, outputs, fixed


def _configure(job: _Job, config: Any, targets: Sequence[str]) -> None:
    trt, options = job.trt, job.options
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # names layers, for the proof
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.plugins_to_serialize = [str(job.plugin)]
    if job.backend.needs_gpu:
        return
    config.num_compute_capabilities = len(targets)
    for index, name in enumerate(targets):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), index):
            raise _failure(job, f"cannot build for {name}")


def _add_profile(job: _Job, builder: Any, config: Any, profile: Profile) -> None:
    if not profile.inputs:
        return  # every size is fixed, and TensorRT makes the profile itself
    made = builder.create_optimization_profile()
    for name, sizes in profile.inputs.items():
        made.set_shape(name, sizes.min, sizes.opt, sizes.max)
    if config.add_optimization_profile(made) < 0:
        raise _failure(job, f"does not take the profile {profile.name!r}")


def _read_timing_cache(job: _Job, config: Any) -> None:
    """Hand TensorRT the cache; a damaged one is told in the log only, and would be lost."""
    path = job.options.timing_cache
    if path is None:
        return
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise EngineError(f"timing cache {path} cannot be read: {error.strerror}") from error
    if path.exists() and not data:
        raise EngineError(f"timing cache {path} is empty: remove it")
    notes = job.reader.notes
    before = len(notes.errors) + len(notes.warnings)
    cache = config.create_timing_cache(data)
    if cache is None or len(notes.errors) + len(notes.warnings) > before:
        raise EngineError(
            f"timing cache {path} is damaged, or of another version of TensorRT: remove it, or "
            "name another file"
        )
    if not config.set_timing_cache(cache, False):
        raise EngineError(
            f"timing cache {path} is of another card than the one here: name another file"
        )


def _prove_engine(job: _Job, engine: Any, targets: Sequence[str]) -> list[str]:
    """Open the engine and look at its layers, where this machine can open it."""
    card = job.cards.cards[0].capability if job.cards.cards else None
    if card not in targets:
        return []
    runtime = job.trt.Runtime(job.reader.tensorrt_logger)
    if job.options.version_compatible:
        runtime.engine_host_code_allowed = True  # it was built here, a moment ago
    opened = runtime.deserialize_cuda_engine(engine)
    if opened is None:
        raise _failure(job, "cannot open the engine that it has built")
    information = opened.create_engine_inspector().get_engine_information(
        job.trt.LayerInformationFormat.JSON
    )
    check_engine(information, job.source.pools, job.backend.form, job.backend.title)
    return ["engine"]


def _failure(job: _Job, what: str, cause: str | None = None) -> EngineError:
    reason = " ".join((cause or job.reader.notes.cause()).split())
    return EngineError(
        f"{job.source.path}: {job.backend.title} {job.trt.__version__} {what}: {reason}"
    )


def _manifest(job: _Job, built: _Built, data: memoryview) -> Manifest:
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
