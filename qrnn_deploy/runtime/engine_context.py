"""An engine in TensorRT's hands: opening it, its ports, and running it on one profile.

``tensorrt`` and ``tensorrt_rtx_bindings`` have the same interface; the manifest says which of them
the engine is for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._metadata_check import shown
from ..engines.backends import BACKENDS, load_backend
from ..engines.manifest import Manifest
from ..engines.plugin import find_plugin, register_plugin
from ..engines.watch import log_reader
from ..errors import EngineError
from .contract import Port, check_ports, ports_of

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""TensorRT's names of element types -> NumPy's."""


class OpenEngine:
    """A deserialised engine."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Load our plugin library where the engine needs it, then the engine.

        Args:
            path: the engine.
            manifest: its own, known to be runnable here.

        Raises:
            MissingDependencyError: the TensorRT package is not installed.
            EngineError: TensorRT refuses the library or the engine, or the engine is not what its
                manifest says.
        """
        data = _read(path, manifest)
        backend = BACKENDS[manifest.backend]
        self.path = path
        self.manifest = manifest
        self.trt = load_backend(backend)
        self._title = f"{backend.title} {self.trt.__version__}"
        self._reader = log_reader(self.trt)
        if any(not library.embedded for library in manifest.libraries):
            register_plugin(self.trt, find_plugin())
        try:
            self._runtime = self.trt.Runtime(self._reader.tensorrt_logger)
        except TypeError as error:  # what the binding makes of a null pointer
            raise self.error("does not start") from error
        if any(library.embedded for library in manifest.libraries):
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise self.error("cannot open it")
        self._check()

    def error(self, what: str) -> EngineError:
        """What TensorRT could not do, with its own reason."""
        notes = self._reader.notes
        reason = " ".join(notes.cause().split())
        notes.errors.clear()
        return EngineError(f"{self.path}: {self._title} {what}: {reason}")

    def execution(self, profile: int, stream: int, *, captured: bool = False) -> Execution:
        """A context on that profile, with memory for its shapes alone where TensorRT offers that.

        Args:
            profile: its index.
            stream: CUDA stream of the switch to the profile.
            captured: the context is for a CUDA graph. TensorRT for RTX compiles kernels for the
                shapes at hand in the background while others run; those would be recorded.

        Raises:
            EngineError: TensorRT refuses, for example for want of memory.
        """
        context = self._engine.create_execution_context(*self._how(captured))
        if context is None:
            raise self.error("cannot make an execution context")
        if not context.set_optimization_profile_async(profile, stream):
            raise self.error(f"cannot take profile {profile}")
        return Execution(self, context)

    def _how(self, captured: bool) -> list[Any]:
        """What a context is created with: nothing, a way to allocate, or a configuration."""
        # Else every context gets the memory of the largest profile.
        allocation = getattr(self.trt, "ExecutionContextAllocationStrategy", None)
        by_profile = None if allocation is None else allocation.ON_PROFILE_CHANGE
        strategies = getattr(self.trt, "DynamicShapesKernelSpecializationStrategy", None)
        if not captured or strategies is None:
            return [] if by_profile is None else [by_profile]
        config = self._engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        if by_profile is not None:
            config.set_execution_context_allocation_strategy(by_profile)
        return [config]

    def _check(self) -> None:
        """Compare the engine's ports with the manifest's.

        Raises:
            EngineError: they differ, or one of them wants host memory.
        """
        engine, trt = self._engine, self.trt
        found: dict[str, tuple[bool, str, list[int]]] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                raise EngineError(
                    f"{self.path} takes {shown(name)} in host memory: expected all of its "
                    "inputs and outputs on the GPU; build it anew"
                )
            found[name] = (
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                _DTYPES.get(engine.get_tensor_dtype(name).name, engine.get_tensor_dtype(name).name),
                list(engine.get_tensor_shape(name)),
            )
        wanted = [(True, port) for port in self.manifest.inputs]
        wanted += [(False, port) for port in self.manifest.outputs]
        order = {port.name: place for place, (_, port) in enumerate(wanted)}
        symbols = {port.name: port.shape for _, port in wanted}
        sides: dict[bool, list[Port]] = {True: [], False: []}
        for name in sorted(found, key=lambda name: order.get(name, len(order))):
            is_input, dtype, shape = found[name]
            sides[is_input].append(Port(name, dtype, _named(shape, symbols.get(name, []))))
        check_ports(
            (ports_of(self.manifest.inputs), ports_of(self.manifest.outputs)),
            (sides[True], sides[False]),
            lambda got, expected: EngineError(
                f"{self.path} contradicts its manifest: {got}, the manifest says {expected}: "
                "build the engine again"
            ),
        )
        count = engine.num_optimization_profiles
        if count != max(1, len(self.manifest.profiles)):
            raise EngineError(
                f"{self.path} has {count} profiles, its manifest says "
                f"{len(self.manifest.profiles)}: build the engine again"
            )


class Execution:
    """An execution context on one profile, and the device memory that TensorRT keeps for it."""

    def __init__(self, opened: OpenEngine, context: Any) -> None:
        self._opened = opened
        self._context = context

    def set_shapes(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Fix the shape of every input.

        Raises:
            EngineError: TensorRT refuses one.
        """
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, tuple(shape)):
                raise self._opened.error(f"refuses {shown(name)} of shape {list(shape)}")

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an output under the input shapes set last.

        Raises:
            EngineError: it depends on the values of the inputs.
        """
        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise self._opened.error(f"does not tell the shape of {shown(name)} before it runs")
        return shape

    def set_address(self, name: str, address: int) -> None:
        """Say where an input or output lies in device memory.

        Raises:
            EngineError: TensorRT refuses it.
        """
        if not self._context.set_tensor_address(name, address):
            raise self._opened.error(f"refuses the memory of {shown(name)}")

    def enqueue(self, stream: int) -> None:
        """Enqueue one run.

        Raises:
            EngineError: TensorRT refuses it.
        """
        if not self._context.execute_async_v3(stream):
            raise self._opened.error("cannot run it")

    def capturable(self, stream: int) -> bool:
        """Whether a run may become part of a CUDA graph, as far as TensorRT knows before it."""
        ask = getattr(self._context, "is_stream_capturable", None)
        return True if ask is None else bool(ask(stream))


def _read(path: Path, manifest: Manifest) -> bytes:
    """The engine, read once: what is compared with the manifest is what TensorRT gets.

    Raises:
        EngineError: it cannot be read, or is not the manifest's.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != manifest.engine_sha256:
        raise EngineError(
            f"{path} is not the engine that {path.name}.json describes (its sha256 differs): copy "
            "both files again, or build the engine again"
        )
    return data


def _named(shape: list[int], symbols: Sequence[int | str]) -> list[int | str]:
    """The engine's shape, with the manifest's name where a size is variable in both."""
    if len(shape) != len(symbols):
        return list(shape)
    return [
        symbol if size < 0 and isinstance(symbol, str) else size
        for size, symbol in zip(shape, symbols, strict=True)
    ]
