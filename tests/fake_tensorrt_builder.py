"""A stand-in for the module ``tensorrt`` of any version, for what a build decides around it.

It knows the names and the order of calls of TensorRT's Python interface, and reads the ONNX bytes
as TensorRT's parser is known to: a node of a custom domain becomes its function where the model
holds one, a plugin layer where a creator of its name is registered, and an error otherwise. It
computes nothing. TensorRT itself never ran in these tests.
"""

from __future__ import annotations

import enum
import json
from types import ModuleType
from typing import Any

import onnx

from qrnn_deploy.pooling.spec import BY_OP_TYPE

OPERATORS = tuple(name for name, spec in BY_OP_TYPE.items() if spec.has_kernel)


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    def __init__(self) -> None:
        pass


class IProgressMonitor:
    def __init__(self) -> None:
        pass


class LayerType(enum.Enum):
    PLUGIN = 11
    PLUGIN_V2 = 23
    PLUGIN_V3 = 46
    RECURRENCE = 29
    OTHER = 0


class Named:
    """Anything with attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Registry:
    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def get_creator(self, name: str, version: str, namespace: str) -> Named | None:
        known = name in self._fake.registered and (version, namespace) == ("1", "qrnn_deploy")
        return Named(name=name) if known else None

    def load_library(self, path: str) -> object | None:
        self._fake.loaded.append(path)
        if self._fake.registered:  # as TensorRT does with a name that it knows
            return None
        self._fake.registered = list(self._fake.creators)
        return object() if self._fake.loads else None


class Network:
    def __init__(self) -> None:
        self.layers: list[Named] = []
        self.inputs: list[Named] = []
        self.outputs: list[Named] = []

    num_layers = property(lambda self: len(self.layers))
    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_layer(self, index: int) -> Named:
        return self.layers[index]

    def get_input(self, index: int) -> Named:
        return self.inputs[index]

    def get_output(self, index: int) -> Named:
        return self.outputs[index]


class Parser:
    def __init__(self, fake: Fake, network: Network) -> None:
        self._fake, self._network = fake, network
        self._errors: list[str] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> Named:
        return Named(desc=lambda: self._errors[index])

    def parse(self, data: bytes, path: str) -> bool:
        self._fake.parsed = model = onnx.ModelProto.FromString(data)
        functions = {(item.domain, item.name) for item in model.functions}
        for node in model.graph.node:
            called = f"[ONNX Layer: {node.name}]"
            if (node.domain, node.op_type) in functions:
                called = f"[ONNX Layer: pool | {node.name} ({node.op_type})]"
                kind, name = LayerType.RECURRENCE, "pool"
            elif node.domain and node.op_type in self._fake.registered:
                kind, name = LayerType.PLUGIN_V3, node.name
            elif node.domain:
                self._errors.append("Plugin not found, are the plugin name and version correct?")
                continue
            else:
                kind, name = LayerType.OTHER, node.name
            self._network.layers.append(Named(type=kind, name=name, metadata=called))
        for values, tensors in (
            (model.graph.input, self._network.inputs),
            (model.graph.output, self._network.outputs),
        ):
            for value in values:
                shape = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
                tensors.append(Named(name=value.name, shape=tuple(shape)))
        return not self._errors


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *bounds: Any) -> None:
        self.shapes[name] = bounds


class Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return b"cache of " + self.data if not self.data else self.data


class Config:
    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self.set_flags = ["TF32"]  # as in TensorRT, on by default
        self.pools: dict[str, int] = {}
        self.profiles: list[Profile] = []
        self.plugins_to_serialize: list[str] = []
        self.progress_monitor: Any = None
        self.profiling_verbosity: Any = None
        self._cache: Cache | None = None

    def set_flag(self, flag: enum.Enum) -> None:
        self.set_flags.append(flag.name)

    def clear_flag(self, flag: enum.Enum) -> None:
        self.set_flags.remove(flag.name)

    def set_memory_pool_limit(self, pool: enum.Enum, size: int) -> None:
        self.pools[pool.name] = size

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return -1 if self._fake.refuses_profiles else len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> Cache:
        if data and not data.startswith(b"cache of "):
            self._fake.log(Severity.WARNING, "Failed to deserialize timing cache.")
        return Cache(data)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return not (cache.data.endswith(b"another card") and not ignore_mismatch)

    def get_timing_cache(self) -> Cache | None:
        return self._cache


class Builder:
    def __init__(self, fake: Fake, logger: Any) -> None:
        fake.logger = logger
        self._fake = fake
        if not fake.starts:
            fake.log(Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int) -> Network:
        self._fake.network_flags = flags
        return Network()

    def create_builder_config(self) -> Config:
        self._fake.config = Config(self._fake)
        return self._fake.config

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 2)
        going = all([monitor.step_complete("Building engine", step) for step in range(2)])
        monitor.phase_finish("Building engine")
        for severity, text in self._fake.says:
            self._fake.log(severity, text)
        if not going or any(severity <= Severity.ERROR for severity, _ in self._fake.says):
            return None
        layers = []
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            kind = "PluginV3" if layer.type is LayerType.PLUGIN_V3 else "Other"
            if layer.name in self._fake.optimised_away:
                kind = "Myelin"
            layers.append({"Name": layer.name, "LayerType": kind})
            if len(config.profiles) > 1:
                layers.append({"Name": f"{layer.name} [profile 1]", "LayerType": kind})
        return json.dumps({"Layers": layers}).encode()


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, fake: Fake, logger: Any) -> None:
        self._fake = fake
        fake.runtime = self

    def deserialize_cuda_engine(self, data: bytes) -> Named | None:
        if not self._fake.opens:
            self._fake.log(Severity.ERROR, "[runtime.cpp::open::1] Error Code 6: cannot open")
            return None
        text = self._fake.inspects or bytes(data).decode()
        inspector = Named(get_engine_information=lambda layout: text)
        return Named(create_engine_inspector=lambda: inspector)


def _names(*names: str) -> Any:
    return enum.Enum("Names", list(names))


class Fake(ModuleType):
    """The module, and what to make of it: the attributes are its faults and what it saw."""

    def __init__(self, version: str) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.creators = list(OPERATORS)
        self.registered: list[str] = []
        self.starts = self.loads = self.opens = True
        self.refuses_profiles = False
        self.says: list[tuple[Severity, str]] = []
        self.optimised_away: set[str] = set()
        self.inspects = ""
        self.loaded: list[str] = []
        self.parsed = onnx.ModelProto()
        self.network_flags = -1
        self.config = Config(self)
        self.runtime: Runtime | None = None
        self.logger: Any = None
        self.ILogger, self.IProgressMonitor, self.LayerType = ILogger, IProgressMonitor, LayerType
        self.BuilderFlag = _names("REFIT", "VERSION_COMPATIBLE", "TF32")
        self.MemoryPoolType = _names("WORKSPACE")
        self.ProfilingVerbosity = _names("LAYER_NAMES_ONLY", "DETAILED")
        self.LayerInformationFormat = _names("ONELINE", "JSON")
        if version.startswith("10."):
            self.NetworkDefinitionCreationFlag = enum.IntEnum(
                "NetworkDefinitionCreationFlag", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
            )

    def log(self, severity: Severity, text: str) -> None:
        self.logger.log(severity, text)

    def get_plugin_registry(self) -> Registry:
        return Registry(self)

    def Builder(self, logger: Any) -> Builder:
        return Builder(self, logger)

    def OnnxParser(self, network: Network, logger: Any) -> Parser:
        return Parser(self, network)

    def Runtime(self, logger: Any) -> Runtime:
        return Runtime(self, logger)
