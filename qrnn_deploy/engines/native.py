"""The part of a build that calls TensorRT: parse, configure, build, open again to look."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._metadata_check import shown
from ..errors import EngineError, ProofError
from ..metadata import PortInfo
from .backends import Backend, version_key
from .gpu import Cards
from .model import Source, prepared_bytes
from .options import BuildOptions, architectures
from .plugin import register_plugin
from .profiles import STEP, Profile, make_profiles
from .proof import check_engine, check_network
from .watch import LogReader, Monitor


@dataclass
class Job:
    """What goes into one build.

    Attributes:
        source: the ONNX file.
        backend: what builds.
        options: checked for it.
        trt: its module.
        cards: of this machine.
        plugin: our library, where the backend takes the plugin.
        monitor: follows the build and cancels it.
        reader: reads TensorRT's log.
    """

    source: Source
    backend: Backend
    options: BuildOptions
    trt: Any
    cards: Cards
    plugin: Path | None
    monitor: Monitor
    reader: LogReader


@dataclass(frozen=True)
class Built:
    """The engine and what is known of it.

    Attributes:
        engine: TensorRT's host memory.
        inputs, outputs: ports with the sizes that the graph fixes.
        profiles: those it was built with.
        architectures: what it is for.
        proof: where it was seen what runs the pooling nodes.
        timing_cache: to be kept, where there is one.
        seconds: that the build took.
    """

    engine: Any
    inputs: list[PortInfo]
    outputs: list[PortInfo]
    profiles: list[Profile]
    architectures: list[str]
    proof: list[str]
    timing_cache: bytes | None
    seconds: float


def run_job(job: Job) -> Built:
    """Build the engine of a job.

    Raises:
        EngineError: TensorRT refuses something; with its first error.
        ProofError: the network or the engine is not what was wanted.
    """
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
    _configure(job, config, targets, profiles)
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
    return Built(
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


def _ports(job: Job, network: Any) -> tuple[list[PortInfo], list[PortInfo], dict[str, int]]:
    """Inputs and outputs with the sizes that the graph fixes, and the symbols so fixed."""
    fixed: dict[str, int] = {}

    def sized(tensors: Sequence[Any], ports: Sequence[PortInfo]) -> list[PortInfo]:
        names, known = [tensor.name for tensor in tensors], [port.name for port in ports]
        if names != known:
            raise EngineError(
                f"{job.source.path} contradicts its metadata: the graph has {shown(names)}, "
                f"the metadata say {shown(known)}: export the model again"
            )
        result = []
        for tensor, port in zip(tensors, ports, strict=True):
            shape = list(tensor.shape)
            if len(shape) != len(port.shape) or any(
                isinstance(size, int) and size != there
                for size, there in zip(port.shape, shape, strict=True)
            ):
                raise EngineError(
                    f"{job.source.path} contradicts its metadata: {shown(port.name)} has shape "
                    f"{shape}, the metadata say {shown(port.shape)}: export the model again"
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


def _configure(job: Job, config: Any, targets: Sequence[str], profiles: Sequence[Profile]) -> None:
    trt, options = job.trt, job.options
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # names layers, for the proof
    # On unless it is cleared, it keeps 10 bits of each factor: not the numbers of the model.
    config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.plugins_to_serialize = [str(job.plugin)]
    if job.backend.needs_gpu:
        return
    # TensorRT for RTX may else take memory while it runs, which no CUDA graph can record. With the
    # flag it fails the build instead, where the network cannot do without. Known from 1.2 on.
    flag = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if flag is not None and any(profile.name == STEP for profile in profiles):
        config.set_flag(flag)
    config.num_compute_capabilities = len(targets)
    for index, name in enumerate(targets):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), index):
            raise _failure(job, f"cannot build for {name}")


def _add_profile(job: Job, builder: Any, config: Any, profile: Profile) -> None:
    if not profile.inputs:
        return  # every size is fixed, and TensorRT makes the profile itself
    made = builder.create_optimization_profile()
    for name, sizes in profile.inputs.items():
        made.set_shape(name, sizes.min, sizes.opt, sizes.max)
    if config.add_optimization_profile(made) < 0:
        raise _failure(job, f"does not take the profile {profile.name!r}")


def _read_timing_cache(job: Job, config: Any) -> None:
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


def _prove_engine(job: Job, engine: Any, targets: Sequence[str]) -> list[str]:
    """Open the engine and look at its layers, where this machine can open it."""
    card = job.cards.cards[0].capability if job.cards.cards else None
    if card not in targets:
        return []
    runtime = job.trt.Runtime(job.reader.tensorrt_logger)
    if job.options.version_compatible:
        runtime.engine_host_code_allowed = True  # it was built here, a moment ago
    opened = runtime.deserialize_cuda_engine(engine)
    if opened is None:
        raise ProofError(str(_failure(job, "cannot open the engine that it has built")))
    information = opened.create_engine_inspector().get_engine_information(
        job.trt.LayerInformationFormat.JSON
    )
    check_engine(information, job.source.pools, job.backend.form, job.backend.title)
    return ["engine"]


def _failure(job: Job, what: str, cause: str | None = None) -> EngineError:
    reason = " ".join((cause or job.reader.notes.cause()).split())
    return EngineError(
        f"{job.source.path}: {job.backend.title} {job.trt.__version__} {what}: {reason}"
    )
