"""Whole sequences through ONNX Runtime, with our kernel where it is installed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import onnxruntime
from numpy.typing import ArrayLike

from .._arguments import as_path
from ..errors import InputError, ModelError
from ..metadata import LayerInfo, Metadata
from . import feeds
from .contract import check_contract
from .loading import KernelChoice as KernelChoice
from .loading import KernelFallbackWarning as KernelFallbackWarning
from .loading import check_version, open_session, properties_of
from .providers import CUDA, first_line, place

if TYPE_CHECKING:
    from .engine_plans import GraphChoice
    from .plans import OrtMemory

Implementation = Literal["kernel", "function", "standard"]


class Session:
    """An exported model, ready to run on whole sequences.

    Attributes:
        metadata: what the file says about itself.
        implementation: what runs each recurrent layer, by node: our ``kernel`` or the file's
            ``function`` for an operator of ours, ``standard`` for one of ONNX. The library is asked
            which kernels ONNX Runtime made, nothing is inferred.
        kernel_nodes: nodes for which our libraries have a kernel.
        kernel_devices: where the kernel of each node runs, ``cpu`` or ``cuda``. A node on the
            function body is not among them: ONNX Runtime spreads its operators as it likes.
        placement: the providers, and where streams keep their memory.
        cuda_graph: see ``__init__``.
        onnxruntime_session: the session underneath.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kernel: KernelChoice = "auto",
        threads: int | None = None,
        device: str | None = None,
        providers: Sequence[Any] | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
        cuda_graph: GraphChoice = "off",
    ) -> None:
        """Load a model.

        Args:
            path: a file written by ``qrnn-deploy export``.
            kernel: ``auto`` uses the kernel library, and warns and runs the function body where
                none is installed or the installed one does not load; ``require`` fails there;
                ``off`` runs the function body. A library named by ``QRNN_DEPLOY_LIBRARY`` that
                does not load is an error with ``auto`` too. On a GPU a library without CUDA
                kernels counts as one for the CPU: ``auto`` warns and pools there, ``require``
                fails.
            threads: threads inside an operator, at most 64 or four per core; None lets ONNX
                Runtime choose, 0 too.
            device: ``cpu``; ``cuda`` or ``cuda:N``, an NVIDIA GPU, where float32 products are
                float32 products (no TensorFloat-32) and streams keep their states; ``rtx``,
                TensorRT for RTX, which runs the function body. Default: what ``providers`` says.
            providers: instead of ``device``, as for ``onnxruntime.InferenceSession``; default: the
                CPU. One that does not start is an error, no silent way to the CPU.
            session_options: further options. They may serve several sessions; the kernel library
                is registered in them and stays, so they cannot serve one with ``kernel="off"``
                later. Do not register it in them yourself.
            cuda_graph: whether streams run a chunk of one time step as a CUDA graph: ``off``;
                ``auto`` warns and goes without where ONNX Runtime does not allow it, or the model
                is not on ``cuda``; ``require`` fails there. It costs each stream a second session,
                weights included, whose shapes are fixed.

        Raises:
            InputError: an argument that is none of the above.
            ModelError: the file is missing, damaged, foreign, not for this runtime, or its graph
                contradicts its metadata.
            KernelLibraryError: the library is absent or broken (``require``, or it was named), or
                too old.
            MissingDependencyError: this ONNX Runtime has no such provider.
            DeviceError: there is no such GPU, or what it needs does not load.
        """
        self.path = as_path(path, "path")
        self.placement = place(device, providers)
        self.cuda_graph = _checked_choice(cuda_graph)
        if cuda_graph == "require" and not self.placement.has(CUDA):
            raise InputError("cuda_graph='require' is for a GPU: expected device='cuda' beside it")
        if cuda_graph != "off" and session_options is not None:
            raise InputError(
                "session_options do not go with cuda_graph, whose session has options of its own: "
                "leave one out"
            )
        self._threads = threads
        self.onnxruntime_session, library, created = open_session(
            self.path,
            kernel=kernel,
            threads=threads,
            placement=self.placement,
            session_options=session_options,
        )
        self._kernel: KernelChoice = "off" if library is None else kernel
        properties = properties_of(self.onnxruntime_session, self.path)
        self.metadata = Metadata.from_properties(properties, str(self.path))
        if library is not None:
            check_version(self.path, self.metadata, library)
        check_contract(self.metadata, self.onnxruntime_session, self.path)
        layers = self.metadata.layers
        self.kernel_nodes = [layer.node for layer in layers if layer.has_kernel]
        self.kernel_devices = {node: created[node] for node in self.kernel_nodes if node in created}
        self.implementation: dict[str, Implementation] = {
            layer.node: _implementation(layer, self.kernel_devices) for layer in layers
        }
        self._output_names = self.metadata.output_names()

    def run(self, inputs: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, feeds.Array]:
        """Run one batch of sequences.

        Args:
            inputs: arrays by input name, or the only input itself. States default to zero,
                ``lengths`` of a ragged model to all steps.

        Returns:
            Every output of the graph by name, states included.

        Raises:
            InputError: an input does not fit the model; it is named.
        """
        feed, sizes = feeds.complete(self.metadata, feeds.as_named(self.metadata, inputs))
        if feeds.no_steps(self.metadata, sizes):
            return feeds.without_steps(self.metadata, sizes, feed)
        try:
            values = self.onnxruntime_session.run(self._output_names, feed)
        except Exception as error:
            raise run_error(error) from error
        return dict(zip(self._output_names, values, strict=True))

    def stream_memory(self, batch_size: int) -> OrtMemory:
        """States of ``batch_size`` streams, for :class:`StreamingSession`.

        Raises:
            InputError: memory does not hold them.
        """
        from .plans import OrtMemory

        return OrtMemory(self, batch_size)

    def capturing(self, sizes: Mapping[str, int]) -> onnxruntime.InferenceSession:
        """The model anew, for runs of fixed sizes that ONNX Runtime records as CUDA graphs.

        With fixed sizes it computes all that depends on shapes when it loads; in a graph there may
        be no such node, since it would run on the CPU.

        Raises:
            InputError: streams have no memory on a GPU.
            ModelError: a node of the model cannot be recorded.
        """
        if self.placement.memory is None:
            raise InputError(
                f"cuda_graph={self.cuda_graph!r} is for device='cuda', and this model is on "
                f"{self.placement.providers[0][0]}: leave it out"
            )
        on_gpu = [device for device in self.kernel_devices.values() if device == "cuda"]
        if self.placement.has(CUDA) and len(on_gpu) < len(self.implementation):  # of any kind
            raise ModelError(
                f"{self.path}: pooling is not all done by our CUDA kernel (see kernel_devices), "
                "and nothing else can be recorded: install a kernel library built with CUDA"
            )
        session, *_ = open_session(
            self.path,
            kernel=self._kernel,
            threads=self._threads,
            placement=self.placement.capturing(),
            fixed=sizes,
        )
        return session


def _implementation(layer: LayerInfo, kernels: Mapping[str, str]) -> Implementation:
    if layer.node in kernels:
        return "kernel"
    return "function" if layer.is_ours else "standard"


def _checked_choice(value: GraphChoice) -> GraphChoice:
    if value not in ("auto", "require", "off"):
        raise InputError(f"cuda_graph={value!r}: expected 'auto', 'require' or 'off'")
    return value


def run_error(error: Exception) -> InputError:
    """What ONNX Runtime says of a feed that passed our checks, in one line."""
    return InputError(f"ONNX Runtime refused the input ({first_line(error)})")
