"""Whole sequences through ONNX Runtime, with our kernel where it is installed."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnxruntime
from numpy.typing import ArrayLike

from .._optional import library_is_named
from ..errors import InputError, KernelLibraryError, ModelError
from ..metadata import Metadata
from ..model_file import check_model_file, external_sizes, read_model
from . import feeds
from .contract import check_contract
from .library import FILE_NAME, KernelLibrary, load_library
from .options import check_threads, prepared

if TYPE_CHECKING:
    from .plans import OrtMemory

KernelChoice = Literal["auto", "require", "off"]
Implementation = Literal["kernel", "function"]

_creating = threading.Lock()
"""Sessions are created one at a time, so that each counts its own kernels."""


class KernelFallbackWarning(UserWarning):
    """The model runs on its function body because there is no usable kernel library."""


class Session:
    """An exported model, ready to run on whole sequences.

    Attributes:
        metadata: what the file says about itself.
        implementation: what runs each pooling node, ``kernel`` or ``function``: the library is
            asked which kernels ONNX Runtime made, nothing is inferred.
        onnxruntime_session: the session underneath.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kernel: KernelChoice = "auto",
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
    ) -> None:
        """Load a model.

        Args:
            path: a file written by ``qrnn-deploy export``.
            kernel: ``auto`` uses the kernel library, and warns and runs the function body where
                none is installed or the installed one does not load; ``require`` fails there;
                ``off`` runs the function body. A library named by ``QRNN_DEPLOY_LIBRARY`` that
                does not load is an error with ``auto`` too.
            threads: threads inside an operator, at most 64 or four per core; None lets ONNX
                Runtime choose, 0 too.
            providers: as for ``onnxruntime.InferenceSession``; default: the CPU.
            session_options: further options. They may serve several sessions; the kernel library
                is registered in them and stays, so they cannot serve one with ``kernel="off"``
                later. Do not register it in them yourself.

        Raises:
            InputError: an argument that is none of the above.
            ModelError: the file is missing, damaged, foreign, not for this runtime, or its graph
                contradicts its metadata.
            KernelLibraryError: the library is absent or broken (``require``, or it was named), or
                too old.
        """
        self.path = Path(path)
        self.onnxruntime_session, library, created = open_session(
            self.path,
            kernel=kernel,
            threads=threads,
            providers=providers,
            session_options=session_options,
        )
        properties = self.onnxruntime_session.get_modelmeta().custom_metadata_map
        self.metadata = Metadata.from_properties(properties, str(self.path))
        if library is not None:
            _check_version(self.path, self.metadata, library)
        check_contract(self.metadata, self.onnxruntime_session, self.path)
        self.implementation: dict[str, Implementation] = {
            layer.node: "kernel" if layer.node in created else "function"
            for layer in self.metadata.layers
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


def open_session(
    path: Path,
    *,
    kernel: KernelChoice,
    threads: int | None = None,
    providers: Sequence[Any] | None = None,
    session_options: onnxruntime.SessionOptions | None = None,
) -> tuple[onnxruntime.InferenceSession, KernelLibrary | None, list[str]]:
    """Load any graph, also one whose ports are not those of its metadata (a cut of a model).

    Args:
        path: an ONNX file.
        kernel: this and the others as for :class:`Session`.
        threads: see there.
        providers: see there.
        session_options: see there.

    Returns:
        The session, the kernel library if it is used, and the names of the nodes that it runs.

    Raises:
        InputError: as for :class:`Session`.
        ModelError: the file is missing, damaged, or not for this runtime.
        KernelLibraryError: as for :class:`Session`.
    """
    check_model_file(path)
    if kernel not in ("auto", "require", "off"):
        raise InputError(f"kernel={kernel!r}: expected 'auto', 'require' or 'off'")
    check_threads(threads)
    library = None if kernel == "off" else _kernel_library(kernel)
    with _creating, prepared(session_options, threads, library) as options:
        if library is not None:
            library.drain_created()
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=providers or ["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            raise _explain(path, library, error) from error
        return session, library, [] if library is None else library.drain_created()


def run_error(error: Exception) -> InputError:
    """What ONNX Runtime says of a feed that passed our checks, in one line."""
    return InputError(f"ONNX Runtime refused the input ({_first_line(error)})")


def _kernel_library(choice: KernelChoice) -> KernelLibrary | None:
    try:
        library = load_library()
    except KernelLibraryError as error:
        # Who names a library wants that one; the installed one is used where it can be.
        if choice == "require" or library_is_named():
            raise
        advice = str(error)
    else:
        if library is not None:
            return library
        advice = (
            f"the kernel library {FILE_NAME} is not installed: reinstall qrnn-deploy where a C++ "
            "compiler is (`qrnn-deploy doctor` shows what is missing)"
        )
        if choice == "require":
            raise KernelLibraryError(advice)
    warnings.warn(
        f"running on the slower function body, since {advice}", KernelFallbackWarning, stacklevel=4
    )
    return None


def _check_version(path: Path, metadata: Metadata, library: KernelLibrary) -> None:
    if metadata.op_domain_version > library.schema_version:
        raise KernelLibraryError(
            f"{path} needs version {metadata.op_domain_version} of the pooling operator, the "
            f"kernel library {library.path} has {library.schema_version}: upgrade qrnn-deploy, or "
            "run without the kernel (kernel='off', --kernel off)"
        )


def _explain(path: Path, library: KernelLibrary | None, error: Exception) -> Exception:
    """Why a session could not be made, in one line.

    A file that is not whole is the likeliest cause, then a library too old for it, which the file
    says itself; of the rest ONNX Runtime's own reason tells most.
    """
    try:
        model = read_model(path)
        external_sizes(model, path)
    except ModelError as damaged:
        return damaged
    if library is not None:
        properties = {item.key: item.value for item in model.metadata_props}
        try:
            _check_version(path, Metadata.from_properties(properties, str(path)), library)
        except KernelLibraryError as too_old:
            return too_old
        except ModelError as foreign:
            return foreign
    return ModelError(_refusal(path, error))


def _refusal(path: Path, error: Exception) -> str:
    text = str(error)
    if "bfloat16" in text and "NOT_IMPLEMENTED" in text:
        return (
            f"{path} is a bfloat16 model, and ONNX Runtime's CPU provider has no bfloat16 MatMul: "
            "use another provider, or export with --dtype float32"
        )
    if "Domain already set in registry" in text:
        return (
            f"{path} cannot be loaded, since session_options has the kernel library registered "
            "already: leave that to Session"
        )
    return (
        f"{path} cannot be loaded ({_first_line(error)}): export the model again, or try another "
        "version of onnxruntime"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
