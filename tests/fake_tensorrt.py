"""TensorRT's Python interface over ONNX Runtime's CPU, so that the engine runtime runs here.

An "engine" is a line of JSON (profiles, faults to show) and the bytes of the ONNX file. Execution
contexts read and write real memory by address, and a run that is captured is only recorded: as
with CUDA graphs, its addresses and shapes are those of the recording.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from qrnn_deploy.engines import description
from qrnn_deploy.engines.gpu import Card, Cards
from qrnn_deploy.engines.manifest import Library, Manifest, manifest_path
from qrnn_deploy.engines.profiles import make_profiles
from qrnn_deploy.metadata import KEY, Metadata
from qrnn_deploy.pooling.spec import BY_OP_TYPE, DOMAIN, PLUGIN_VERSION
from qrnn_deploy.runtime import engine
from qrnn_deploy.runtime.engine_device import Buffer
from qrnn_deploy.verifier import artifacts

VERSION = "11.4.0.1"
STREAM = 7
CARDS = Cards((Card("Stand-in", "sm90"),))
_ELEMENTS = {1: "FLOAT", 10: "HALF", 7: "INT64"}
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64}


def write_engine(
    onnx_file: Path,
    engine: Path,
    *,
    says: Path | None = None,
    minimum: dict[str, int] | None = None,
    maximum: dict[str, int] | None = None,
    streaming: bool = True,
    libraries: list[Library] | None = None,
    **faults: Any,
) -> Path:
    """An engine of ``onnx_file`` with its manifest; ``says`` is what the manifest claims it is."""
    source = says or onnx_file
    properties = {
        p.key: p.value for p in onnx.load(source, load_external_data=False).metadata_props
    }
    metadata = Metadata.from_properties({KEY: properties[KEY]}, str(source))
    profiles = make_profiles(
        metadata.input_ports(),
        {},
        minimum=minimum or {},
        optimum={},
        maximum=maximum or {"B": 4, "T": 80},
        streaming=streaming and metadata.state_mode != "none",
    )
    plain = [{n: [r.min, r.max] for n, r in profile.inputs.items()} for profile in profiles]
    data = json.dumps({"profiles": plain, **faults}).encode() + b"\n" + onnx_file.read_bytes()
    engine.write_bytes(data)
    manifest = Manifest(
        backend="tensorrt",
        form="plugin",
        proof=["network"],
        tensorrt_version=VERSION,
        version_compatible=False,
        refit=False,
        architectures=["sm90"],
        libraries=libraries or [],
        precision=metadata.dtype,
        inputs=metadata.input_ports(),
        outputs=metadata.output_ports(),
        profiles=profiles,
        metadata=metadata,
        golden=f"{source.stem}.golden",
        model={source.name: hashlib.sha256(source.read_bytes()).hexdigest()},
        engine_bytes=len(data),
        engine_sha256=hashlib.sha256(data).hexdigest(),
    )
    manifest_path(engine).write_text(manifest.to_json())
    return engine


def install(monkeypatch: Any) -> FakeTensorRT:
    """A machine with TensorRT and one card, both of them stand-ins."""
    module = FakeTensorRT()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(description, "find_cards", lambda: CARDS)
    monkeypatch.setattr(engine, "CudaDevice", HostDevice)
    monkeypatch.setattr(artifacts, "CudaDevice", lambda number: HostDevice())
    return module


class HostDevice:
    """The device seam on the CPU. ``recording`` is the list that a capture fills."""

    recording: list[Callable[[], None]] | None = None

    def __init__(self, takes_tensors: bool = False, card: Card = CARDS.cards[0]) -> None:
        self.takes_tensors = takes_tensors
        self.card = card
        self._lock = threading.Lock()

    def keeps(self, value: object) -> bool:
        return self.takes_tensors and isinstance(value, torch.Tensor)

    def another(self) -> HostDevice:
        return HostDevice(self.takes_tensors, self.card)

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        assert not self._lock.locked(), "on a GPU this would wait for ever"
        return Buffer(torch.zeros(shape, dtype=getattr(torch, dtype)), pinned=False)

    @contextmanager
    def working(self) -> Iterator[int]:
        with self._lock:
            yield STREAM

    def wait(self) -> None:
        pass

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        HostDevice.recording = recorded = []
        try:
            work()
        finally:
            HostDevice.recording = None
        return lambda: [run() for run in recorded] and None

    def returned(self, buffer: Buffer) -> torch.Tensor:
        return buffer.tensor.clone()


class FakeTensorRT(SimpleNamespace):
    """A module ``tensorrt`` that keeps the addresses of all runs and what was loaded and opened."""

    def __init__(self) -> None:
        creators = {(name, PLUGIN_VERSION, DOMAIN): object() for name in BY_OP_TYPE}
        self.runs: list[dict[str, int]] = []
        self.captures = 0
        self.opened: list[str] = []
        self.loaded: list[str] = []
        registry = SimpleNamespace(
            load_library=lambda path: self.loaded.append(path) or object(),
            get_creator=lambda *which: creators.get(which) if self.loaded else None,
        )
        super().__init__(
            __version__=VERSION,
            __spec__=ModuleSpec("tensorrt", None),
            ILogger=_Logger,
            ExecutionContextAllocationStrategy=SimpleNamespace(ON_PROFILE_CHANGE="by profile"),
            TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
            TensorLocation=SimpleNamespace(DEVICE="device", HOST="host"),
            Runtime=lambda logger: _Runtime(self, logger),
            get_plugin_registry=lambda: registry,
        )


class _Logger:
    def __init__(self) -> None:
        pass


class _Runtime:
    def __init__(self, module: FakeTensorRT, logger: Any) -> None:
        self.module, self.logger = module, logger

    def deserialize_cuda_engine(self, data: bytes) -> _Engine | None:
        self.module.opened.append(hashlib.sha256(data).hexdigest())
        if not data.startswith(b"{"):
            self.logger.log(SimpleNamespace(name="ERROR"), "magicTag does not match")
            return None
        return _Engine(self.module, self.logger, data)


class _Engine:
    def __init__(self, module: FakeTensorRT, logger: Any, data: bytes) -> None:
        self.module, self.logger = module, logger
        head, _, model = data.partition(b"\n")
        self.facts = json.loads(head)
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        graph = onnx.load_from_string(model).graph
        self.ports = {v.name: ("input", v.type.tensor_type) for v in graph.input}
        self.ports |= {v.name: ("output", v.type.tensor_type) for v in graph.output}
        self.num_io_tensors = len(self.ports)
        self.num_optimization_profiles = len(self.facts["profiles"])

    def get_tensor_name(self, index: int) -> str:
        return list(self.ports)[index]

    def get_tensor_mode(self, name: str) -> str:
        return self.ports[name][0]

    def get_tensor_location(self, name: str) -> str:
        return "host" if name == self.facts.get("on_host") else "device"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_ELEMENTS[self.ports[name][1].elem_type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        dims = self.ports[name][1].shape.dim
        return tuple(-1 if dim.dim_param else dim.dim_value for dim in dims)

    def create_runtime_config(self) -> SimpleNamespace:
        config = SimpleNamespace()
        config.set_execution_context_allocation_strategy = partial(setattr, config, "allocation")
        return config

    def create_execution_context(self, how: Any = None) -> _Context:
        """As the binding, from a configuration or from a way to allocate."""
        config = how if isinstance(how, SimpleNamespace) else SimpleNamespace(allocation=how)
        return _Context(self, config)


class _Context:
    def __init__(self, engine: _Engine, config: Any) -> None:
        self.engine = engine
        self.config = config
        self.profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.ran: dict[str, tuple[int, ...]] | None = None

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        assert stream == STREAM
        self.profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, high = self.engine.facts["profiles"][self.profile][name]
        if not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
            self.engine.logger.log(SimpleNamespace(name="ERROR"), "shape outside the profile")
            return False
        self.shapes[name] = shape
        return True

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        for name, shape in self.shapes.items():
            for dim, size in zip(self.engine.ports[name][1].shape.dim, shape, strict=True):
                sizes[dim.dim_param] = size
        return sizes

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes = self._sizes()
        dims = self.engine.ports[name][1].shape.dim
        return tuple(sizes.get(d.dim_param, -1) if d.dim_param else d.dim_value for d in dims)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.ports

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM
        shapes = {name: self.get_tensor_shape(name) for name in self.engine.ports}
        shapes |= self.shapes
        addresses = dict(self.addresses)
        assert addresses.keys() == self.engine.ports.keys()
        if HostDevice.recording is not None:
            if self.engine.facts.get("no_capture"):
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
            if self.ran != shapes:  # TensorRT's rule: a run of the same shapes comes first
                self.engine.logger.log(SimpleNamespace(name="ERROR"), "capture before a run")
                return False
            self.engine.module.captures += 1
            stale = self.engine.facts.get("graphs_keep_old_states", False)
            HostDevice.recording.append(lambda: self._compute(shapes, addresses, stale))
            return True
        if self.engine.facts.get("refuses_to_run"):
            self.engine.logger.log(SimpleNamespace(name="ERROR"), "Cuda Runtime (no kernel image)")
            return False
        self._compute(shapes, addresses)
        self.ran = shapes
        return True

    def _compute(
        self,
        shapes: dict[str, tuple[int, ...]],
        addresses: dict[str, int],
        stale: bool = False,
    ) -> None:
        engine = self.engine
        engine.module.runs.append(addresses)
        memory = {
            name: _memory(addresses[name], shapes[name], _ELEMENTS[kind.elem_type])
            for name, (_, kind) in engine.ports.items()
        }
        feed = {
            name: memory[name].copy() for name, (mode, _) in engine.ports.items() if mode == "input"
        }
        for name in feed:
            if engine.facts.get("forgets_state") and name.endswith("_in"):
                feed[name][:] = 0
        names = [name for name, (mode, _) in engine.ports.items() if mode == "output"]
        for name, value in zip(names, engine.session.run(names, feed), strict=True):
            if not (stale and name.endswith("_out")):
                memory[name][...] = value


def _memory(address: int, shape: tuple[int, ...], element: str) -> np.ndarray:
    dtype = np.dtype(_NUMPY[element])
    raw = (ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype).reshape(shape)
