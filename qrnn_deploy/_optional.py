"""Optional packages: which extra installs them, and what to say when one is missing.

``torch``, ``onnxruntime`` and the TensorRT packages are not needed by everyone, so they live in
extras (``pip install 'qrnn-deploy[export]'``). A part of the package that needs one asks for it
here, once, at the top of its module, and the user reads which extra to install rather than a
bare ``ModuleNotFoundError``.
"""

from __future__ import annotations

import importlib
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
