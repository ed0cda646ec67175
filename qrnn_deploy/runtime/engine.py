"""Whole sequences through a TensorRT engine."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from .._arguments import as_path
from ..engines.description import require_runnable
from ..engines.manifest import read_manifest
from ..errors import EngineError, InputError
from ..metadata import Metadata
from . import feeds
from .engine_context import Execution, OpenEngine
from .engine_device import CudaDevice, Device
from .engine_plans import EngineMemory, EnginePlan, GraphChoice, cuda_errors

_PLANS_KEPT = 4


@dataclass(frozen=True)
class Bounds:
    """The sizes that a model takes: smallest and largest."""

    batch: tuple[int, int] = (0, 2**31)
    time: tuple[int, int] = (0, 2**31)


class EngineSession:
    """An engine, ready to run on whole sequences; the interface is that of ``Session``.

    Arrays come back for arrays, and tensors on the GPU for tensors on the GPU. An engine is code
    for the GPU: open only one that you trust.

    Attributes:
        path: the engine.
        manifest: what lies beside it.
        cuda_graph: see ``__init__``.
        device: where it runs.
        opened: the engine in TensorRT.
        graph_obstacle: why steps are not captured any more, after one that could not be.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        cuda_graph: GraphChoice = "auto",
        device: Device | None = None,
    ) -> None:
        """Open an engine with its manifest.

        Args:
            path: a file written by ``qrnn-deploy build``; ``<path>.json`` lies beside it.
            cuda_graph: whether streams run a chunk of one time step as a CUDA graph: ``auto``
                warns and goes without where the engine does not allow it, ``require`` fails there.
            device: default: the CUDA device of torch that is current now, for all streams and
                runs of this session.

        Raises:
            InputError: another ``cuda_graph``, or ``path`` is no path.
            EngineError: the engine or its manifest is missing, damaged, for another version, card
                or plugin library, or there is no GPU.
            MissingDependencyError: its TensorRT package, or torch, is not installed.
        """
        if cuda_graph not in ("auto", "require", "off"):
            raise InputError(f"cuda_graph={cuda_graph!r}: expected 'auto', 'require' or 'off'")
        self.path = as_path(path, "path")
        self.manifest = read_manifest(self.path, check_digest=False)  # it comes when it is read
        require_runnable(self.manifest, self.path)
        self.cuda_graph = cuda_graph
        self.graph_obstacle = ""
        self.device = CudaDevice() if device is None else device
        card, wanted = self.device.card, self.manifest.architectures
        if card.capability not in wanted:
            raise EngineError(
                f"{self.path} does not run here: it is for {', '.join(wanted)}, and the device in "
                f"use, {card.name}, is {card.capability}: build the engine again for it, or choose "
                "another device (torch.cuda.set_device)"
            )
        with cuda_errors(self.path), self.device.working():
            self.opened = OpenEngine(self.path, self.manifest)
        self._lock = threading.Lock()
        self._executions: dict[int, Execution] = {}
        self._plans: OrderedDict[Any, EnginePlan] = OrderedDict()

    @property
    def metadata(self) -> Metadata:
        """What the ONNX file said about itself."""
        return self.manifest.metadata

    @property
    def implementation(self) -> dict[str, str]:
        """What runs each recurrent layer, by node, as proven at the build.

        ``plugin`` or ``function`` for an operator of ours, ``standard`` for one of ONNX.
        """
        return {
            layer.node: ("function" if not layer.has_kernel else self.manifest.form)
            if layer.is_ours
            else "standard"
            for layer in self.metadata.layers
        }

    @property
    def bounds(self) -> Bounds:
        """Batch and time that the widest profile takes."""
        batch, time = Bounds().batch, Bounds().time
        widest = self.manifest.profiles[0].inputs if self.manifest.profiles else {}
        for port in self.manifest.inputs:
            allowed = widest.get(port.name)
            for axis, size in enumerate(port.shape):
                if allowed is not None:
                    low, high = allowed.min[axis], allowed.max[axis]
                else:  # every size of the input is fixed
                    low = high = int(size)
                if axis == port.batch_axis:
                    batch = max(batch[0], low), min(batch[1], high)
                elif axis == port.time_axis:
                    time = max(time[0], low), min(time[1], high)
        return Bounds(batch, time)

    def run(self, inputs: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, Any]:
        """Run one batch of sequences.

        Args:
            inputs: arrays or tensors by input name, or the only input itself. States default to
                zero, ``lengths`` of a ragged model to all steps.

        Returns:
            Every output of the graph by name, states included.

        Raises:
            InputError: an input does not fit the model or the engine's profiles; it is named.
            EngineError: TensorRT or CUDA fail.
        """
        named = feeds.as_named(self.metadata, inputs, self.device.keeps)
        feed, sizes = feeds.complete(self.metadata, named)
        if feeds.no_steps(self.metadata, sizes):
            return feeds.without_steps(self.metadata, sizes, feed)
        with self._lock:
            return self._plan(feed).run(feed, side=0)

    def stream_memory(self, batch_size: int) -> EngineMemory:
        """States of ``batch_size`` streams, for ``StreamingSession``.

        Raises:
            InputError: GPU memory does not hold them.
        """
        return EngineMemory(self, batch_size)

    def _plan(self, feed: Mapping[str, Any]) -> EnginePlan:
        shapes = {name: tuple(value.shape) for name, value in feed.items()}
        key = tuple(shapes.values())
        plan = self._plans.get(key)
        if plan is None:
            profile = self.manifest.profile_for(shapes)
            with cuda_errors(self.path), self.device.working() as stream:
                if profile not in self._executions:
                    self._executions[profile] = self.opened.execution(profile, stream)
            plan = EnginePlan(
                self, self.device, self._executions[profile], shapes, list(feed), {}, graph=False
            )
            self._plans[key] = plan
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan
