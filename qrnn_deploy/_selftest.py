"""A tiny model whose answer is known, run with the function form and with the kernel.

``python -m qrnn_deploy._selftest`` prints one line of JSON. The doctor runs it in a process of its
own, so that a crash in a library is a line in a report. The model and its answer, computed by
PyTorch in float64, lie in ``selftest/`` and are made by ``scripts/make_selftest.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ._optional import EXTRAS
from .errors import KernelLibraryError, MissingDependencyError

if TYPE_CHECKING:
    from .runtime.library import KernelLibrary

FOLDER = Path(__file__).parent / "selftest"
TOLERANCE = 1e-5
"""Largest absolute error of a float32 output of order 1."""

REBUILD = (
    "install a C++ compiler (Debian: apt-get install g++) and reinstall qrnn-deploy; "
    "where the build finds no ONNX Runtime headers, set ONNXRUNTIME_INCLUDE_DIR"
)


def selftest() -> dict[str, Any]:
    """Try both implementations.

    Returns:
        ``library``: path, operator version, instruction set and build of the kernel library, None
        where there is none. ``function`` and ``kernel``: ``works``, ``detail`` and ``remedy``.
    """
    try:
        from .runtime.library import load_library
    except MissingDependencyError as error:
        remedy = f"pip install 'qrnn-deploy[{EXTRAS['onnxruntime']}]'"
        absent = _result(False, str(error).partition(":")[0], remedy)
        return {"library": None, "function": absent, "kernel": absent}
    report: dict[str, Any] = {"library": None, "function": _try("off")}
    try:
        library = load_library()
    except KernelLibraryError as error:
        return report | {"kernel": _result(False, str(error), REBUILD)}
    if library is None:
        return report | {"kernel": _result(False, "no kernel library is installed", REBUILD)}
    return report | {"library": _describe(library), "kernel": _try("require")}


def _try(kernel: Literal["require", "off"]) -> dict[str, Any]:
    import numpy as np

    from .runtime import Session

    case = np.load(FOLDER / "case.npz")
    try:
        session = Session(FOLDER / "model.onnx", kernel=kernel)
        result = session.run({n[3:]: case[n] for n in case.files if n.startswith("in_")})
    except Exception as error:  # whatever it is, the report shall name it
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return _result(False, reason, "reinstall qrnn-deploy and onnxruntime")
    wanted = "kernel" if kernel == "require" else "function"
    ran = set(session.implementation.values())
    if ran != {wanted}:
        return _result(False, f"ONNX Runtime ran {', '.join(ran)} instead", REBUILD)
    worst = max(
        float(np.abs(result[n[4:]] - case[n]).max()) for n in case.files if n.startswith("out_")
    )
    if not worst <= TOLERANCE:
        return _result(False, f"wrong answer: error {worst:.1e}, expected <= {TOLERANCE:.0e}", "")
    return _result(True, f"self-test error {worst:.1e}", "")


def _describe(library: KernelLibrary) -> dict[str, Any]:
    return {
        "path": str(library.path),
        "op_version": library.schema_version,
        "isa": library.isa,
        "build": library.build_info,
    }


def _result(works: bool, detail: str, remedy: str) -> dict[str, Any]:
    return {"works": works, "detail": detail, "remedy": remedy}


if __name__ == "__main__":
    print(json.dumps(selftest()))
