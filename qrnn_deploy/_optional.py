"""Optional parts: which extra installs a package, and what to say where a part is missing.

``torch``, ``onnxruntime`` and the TensorRT packages are not needed by everyone, so they live in
extras (``pip install 'qrnn-deploy[export]'``). A part of the package that needs one asks for it
here, once, at the top of its module, and the user reads which extra to install rather than a
bare ``ModuleNotFoundError``. The kernel library is optional too; how to mend it depends on how it
was found.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Final

from .errors import MissingDependencyError

EXTRAS: Final[dict[str, str]] = {
    "onnxruntime": "cpu",
    "torch": "export",
    "onnxscript": "export",
    "tensorrt": "tensorrt",
    "tensorrt_rtx_bindings": "tensorrt-rtx",
}
"""Top-level module of every optional package -> the extra that installs it."""

LIBRARY_VARIABLE: Final = "QRNN_DEPLOY_LIBRARY"
"""Environment variable: path of the kernel library to use instead of the installed one."""


def library_is_named() -> bool:
    """Whether the user named the kernel library, rather than that the installed one is used."""
    return bool(os.environ.get(LIBRARY_VARIABLE))


def library_remedy() -> str:
    """How to mend a kernel library that is there and cannot be used."""
    if library_is_named():
        mend = f"unset {LIBRARY_VARIABLE}, or name a library that works"
    else:
        mend = "reinstall qrnn-deploy (in a source checkout: `make clean setup`)"
    return f"{mend}, or go without the kernel (`run --kernel off`, kernel='off')"


def require(module: str, feature: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: name of the module to import; its top-level package is in :data:`EXTRAS`.
        feature: what needs it, as the user knows it, such as ``"qrnn-deploy export"``.

    Returns:
        The imported module.

    Raises:
        MissingDependencyError: the package is not installed. A package that is installed but
            broken raises its own ImportError, since installing the extra would not help.
    """
    package = module.partition(".")[0]
    extra = EXTRAS[package]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingDependencyError(
            f"{feature} needs {package}, which is not installed: pip install 'qrnn-deploy[{extra}]'"
        ) from None
