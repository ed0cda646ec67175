"""Opening an ONNX file in ONNX Runtime: providers, kernel library, and why it did not work."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import onnxruntime

from .._optional import library_is_named
from ..errors import InputError, KernelLibraryError, ModelError, QrnnDeployError
from ..metadata import Metadata
from ..model_file import check_model_file, external_sizes, metadata_of, read_model
from .library import FILE_NAME, KernelLibrary, load_library
from .options import check_threads, prepared
from .providers import (
    CUDA,
    RTX,
    Placement,
    check_available,
    check_used,
    first_line,
    not_started,
    use,
)

KernelChoice = Literal["auto", "require", "off"]

_creating = threading.Lock()
"""Sessions are created one at a time, so that each counts its own kernels."""


class KernelFallbackWarning(UserWarning):
    """The model runs slower than it could because there is no usable kernel library."""


def open_session(
    path: Path,
    *,
    kernel: KernelChoice,
    threads: int | None = None,
    placement: Placement | None = None,
    session_options: onnxruntime.SessionOptions | None = None,
    fixed: Mapping[str, int] | None = None,
) -> tuple[onnxruntime.InferenceSession, KernelLibrary | None, dict[str, str]]:
    """Load any graph, also one whose ports are not those of its metadata (a cut of a model).

    Args:
        path: an ONNX file.
        kernel: this and the others as for :class:`Session`.
        threads: see there.
        placement: where it runs; default: on the CPU.
        session_options: see there.
        fixed: sizes by their symbolic names, for a session that takes no others.

    Returns:
        The session, the kernel library if it is used, and the nodes that it runs with the device
        of each.

    Raises:
        InputError: as for :class:`Session`.
        ModelError: the file is missing, damaged, or not for this runtime.
        KernelLibraryError, MissingDependencyError, DeviceError: as for :class:`Session`.
    """
    check_model_file(path)
    if kernel not in ("auto", "require", "off"):
        raise InputError(f"kernel={kernel!r}: expected 'auto', 'require' or 'off'")
    check_threads(threads)
    placement = placement or Placement()
    check_available(placement)
    library = _library_for(kernel, placement)
    with _creating, prepared(session_options, threads, library) as options:
        for name, size in (fixed or {}).items():
            options.add_free_dimension_override_by_name(name, size)
        if library is not None:
            library.drain_created()
        providers = use(placement, options)
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            raise _explain(path, library, placement, error) from error
        check_used(placement, session)
        return session, library, {} if library is None else library.drain_created()


def _library_for(kernel: KernelChoice, placement: Placement) -> KernelLibrary | None:
    """The kernel library, if it is to be used on these providers."""
    if not placement.takes_kernels:
        if kernel == "require":
            raise InputError(
                f"kernel='require' with {RTX}, which runs the function body: expected 'auto' or "
                "'off'"
            )
        return None
    library = None if kernel == "off" else _kernel_library(kernel)
    if library is not None and placement.has(CUDA) and library.cuda is None:
        advice = f"the kernel library {library.path} was built without a CUDA compiler"
        if kernel == "require":
            raise KernelLibraryError(
                f"{advice}: build it where nvcc is, or run on the CPU, or with kernel='off'"
            )
        warnings.warn(
            f"pooling runs on the CPU, its arrays copied there and back, since {advice}",
            KernelFallbackWarning,
            stacklevel=4,
        )
    return library


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
        f"running on the slower function body, since {advice}", KernelFallbackWarning, stacklevel=5
    )
    return None


def properties_of(session: onnxruntime.InferenceSession, path: Path) -> dict[str, str]:
    """What the file ``path`` says about itself, as ``session`` read it.

    Raises:
        ModelError: it is no text.
    """
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path} has damaged qrnn-deploy metadata ({type(error).__name__}): export the model "
            "again"
        ) from error


def check_version(path: Path, metadata: Metadata, library: KernelLibrary) -> None:
    """Refuse a file whose pooling operator is newer than the kernels.

    Raises:
        KernelLibraryError: it is.
    """
    if metadata.op_domain_version > library.schema_version:
        raise KernelLibraryError(
            f"{path} needs version {metadata.op_domain_version} of the pooling operator, the "
            f"kernel library {library.path} has {library.schema_version}: upgrade qrnn-deploy, or "
            "run without the kernel (kernel='off', --kernel off)"
        )


def _explain(
    path: Path, library: KernelLibrary | None, placement: Placement, error: Exception
) -> QrnnDeployError:
    """Why a session could not be made, in one line.

    A file that is not whole or not ours is the likeliest cause, then a library too old for it,
    which the file says itself; of the rest ONNX Runtime's own reason tells most.
    """
    try:
        model = read_model(path)
        external_sizes(model, path)
        metadata = metadata_of(model, path)
        if library is not None:
            check_version(path, metadata, library)
    except (ModelError, KernelLibraryError) as defect:
        return defect
    if "graph capture" in str(error):
        return ModelError(f"{path} cannot be recorded as a CUDA graph ({first_line(error)})")
    if placement != Placement():
        return not_started(placement, path, error)
    return ModelError(_refusal(path, metadata, error))


def _refusal(path: Path, metadata: Metadata, error: Exception) -> str:
    text = str(error)
    if metadata.dtype == "bfloat16" and "NOT_IMPLEMENTED" in text:
        return (
            f"{path} is a bfloat16 model, and ONNX Runtime's CPU provider has no bfloat16 MatMul: "
            "export with --dtype float32, or build an engine (`qrnn-deploy build`)"
        )
    if "Domain already set in registry" in text:
        return (
            f"{path} cannot be loaded, since session_options has the kernel library registered "
            "already: leave that to Session"
        )
    return (
        f"{path} cannot be loaded ({first_line(error)}): export the model again, or try another "
        "version of onnxruntime"
    )
