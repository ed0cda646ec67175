"""A tiny model whose answer is known, run in every way that a machine may have.

``python -m qrnn_deploy._selftest function`` (or another of :data:`PARTS`) prints one line of JSON.
The doctor runs each in a process of its own, so that a crash in a library is a line in a report and
takes nothing from what works without that library. The model and its answer, computed by PyTorch in
float64, lie in ``selftest/`` and are made by ``scripts/make_selftest.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ._optional import install, library_remedy, require
from .errors import KernelLibraryError, MissingDependencyError, QrnnDeployError

if TYPE_CHECKING:
    from .runtime.library import KernelLibrary

FOLDER = Path(__file__).parent / "selftest"
TOLERANCE = 1e-5
"""Largest absolute error of a float32 output of order 1."""

REBUILD = (
    "install a C++ compiler (Debian: apt-get install g++) and reinstall qrnn-deploy; "
    "where the build finds no ONNX Runtime headers, set ONNXRUNTIME_INCLUDE_DIR"
)


def try_function() -> dict[str, Any]:
    """Try the function form; the kernel library is neither looked for nor loaded.

    Returns:
        ``function``: ``works``, ``detail`` and ``remedy``. ``providers``: what this ONNX Runtime
        was built with.
    """
    absent = _no_runtime()
    if absent:
        return {"providers": [], "function": absent}
    import onnxruntime

    return {"providers": onnxruntime.get_available_providers(), "function": _try("off")}


def try_kernel() -> dict[str, Any]:
    """Try the kernel.

    Returns:
        ``library``: path, operator version, instruction set, GPU architectures and build of the
        kernel library, None where there is none that can be used. ``kernel``: as ``function``
        above.
    """
    absent = _no_runtime()
    if absent:
        return {"library": None, "kernel": absent}
    from .runtime.library import load_library

    try:
        library = load_library()
    except KernelLibraryError as error:
        remedy = library_remedy()
        detail = str(error).removesuffix(f": {remedy}")
        return {"library": None, "kernel": result(False, detail, remedy)}
    if library is None:
        none = result(False, "no kernel library is installed", REBUILD)
        return {"library": None, "kernel": none}
    return {"library": _describe(library), "kernel": _try("require")}


def try_cuda() -> dict[str, Any]:
    """Try ONNX Runtime on an NVIDIA GPU with our kernel.

    Returns:
        ``cuda``: as ``function`` above.
    """
    from .runtime import Session

    try:
        session = Session(FOLDER / "model.onnx", kernel="require", device="cuda")
        return {"cuda": _judged(session.run(_case("in_")))}
    except QrnnDeployError as error:
        return {"cuda": _refused(error)}


def try_engine() -> dict[str, Any]:
    """Build an engine with the TensorRT that is here, and run it where there is a GPU.

    Returns:
        ``build`` and ``engine``: as ``function`` above.
    """
    from .engines import build_engine
    from .engines.backends import BACKENDS, choose_backend
    from .engines.gpu import find_cards
    from .runtime import EngineSession

    with tempfile.TemporaryDirectory(prefix="qrnn-deploy-") as folder:
        engine = Path(folder) / "model.engine"
        cards = find_cards().cards
        try:
            backend = choose_backend(None).backend
            arch = [cards[0].capability] if cards and not backend.needs_gpu else None
            manifest = build_engine(
                FOLDER / "model.onnx", engine, backend=backend.name, arch=arch
            ).manifest
        except QrnnDeployError as error:
            return {"build": _refused(error), "engine": _refused(error)}
        title = f"{BACKENDS[manifest.backend].title} {manifest.tensorrt_version}"
        built = result(True, f"{title}, for {', '.join(manifest.architectures)}", "")
        try:
            return {"build": built, "engine": _judged(EngineSession(engine).run(_case("in_")))}
        except QrnnDeployError as error:
            reason = str(error).removeprefix(f"{engine} does not run here: ")
            return {"build": built, "engine": _refused(reason)}


PARTS = {
    "function": try_function,
    "kernel": try_kernel,
    "cuda": try_cuda,
    "engine": try_engine,
}
"""What ``python -m qrnn_deploy._selftest PART`` runs."""


def _refused(error: QrnnDeployError | str) -> dict[str, Any]:
    """An error of ours says how to mend itself behind its first colon."""
    detail, _, remedy = str(error).partition(": ")
    return result(False, detail, remedy)


def result(works: bool, detail: str, remedy: str) -> dict[str, Any]:
    """What is reported of each part."""
    return {"works": works, "detail": detail, "remedy": remedy}


def _no_runtime() -> dict[str, Any] | None:
    try:
        require("onnxruntime", "running a model")
    except MissingDependencyError as error:
        return result(False, str(error).partition(":")[0], install("onnxruntime"))
    return None


def _try(kernel: Literal["require", "off"]) -> dict[str, Any]:
    from .runtime import Session

    try:
        session = Session(FOLDER / "model.onnx", kernel=kernel)
        answer = session.run(_case("in_"))
    except Exception as error:  # whatever it is, the report shall name it
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return result(False, reason, "reinstall qrnn-deploy and onnxruntime")
    wanted = "kernel" if kernel == "require" else "function"
    ran = set(session.implementation.values())
    if ran != {wanted}:
        return result(False, f"ONNX Runtime ran {', '.join(ran)} instead", REBUILD)
    return _judged(answer)


def _case(prefix: str) -> dict[str, Any]:
    """Inputs (``in_``) or outputs (``out_``) of the known case, by name."""
    import numpy as np

    case = np.load(FOLDER / "case.npz")
    return {n.removeprefix(prefix): case[n] for n in case.files if n.startswith(prefix)}


def _judged(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Compare an answer with the known one."""
    import numpy as np

    worst = max(float(np.abs(answer[n] - value).max()) for n, value in _case("out_").items())
    if not worst <= TOLERANCE:
        return result(False, f"wrong answer: error {worst:.1e}, expected <= {TOLERANCE:.0e}", "")
    return result(True, f"self-test error {worst:.1e}", "")


def _describe(library: KernelLibrary) -> dict[str, Any]:
    return {
        "path": str(library.path),
        "op_version": library.schema_version,
        "isa": library.isa,
        "cuda": library.cuda,
        "build": library.build_info,
    }


if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[-1]]()))
