"""Optional parts: which extra installs a package, and what to say where a part is missing.

``torch``, ``onnxruntime`` and the TensorRT packages are not needed by everyone, so they live in
extras. A part of the package that needs one asks for it here, once, at the top of its module, and
the user reads what to install rather than a bare ``ModuleNotFoundError``. The advice names the
packages themselves, since qrnn-deploy is installed from its sources and is on no index. The kernel
library is optional too; how to mend it depends on how it was found.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from types import ModuleType
from typing import Final

from .errors import MissingDependencyError

EXTRAS: Final[dict[str, str]] = {
    "onnxruntime": "cpu",
    "onnxruntime-gpu": "gpu",
    "torch": "export",
    "onnxscript": "export",
    "tensorrt": "tensorrt",
    "tensorrt_rtx_bindings": "tensorrt-rtx",
}
"""Top-level module of every optional package -> the extra that installs it.

``onnxruntime-gpu`` is no module: it is ``onnxruntime`` with CUDA.
"""

LIBRARY_VARIABLE: Final = "QRNN_DEPLOY_LIBRARY"
"""Environment variable: path of the kernel library to use instead of the installed one."""


def install(package: str, options: str = "") -> str:
    """How to get an optional package, as a command for the shell.

    Args:
        package: of :data:`EXTRAS`.
        options: of ``pip install``, such as ``--upgrade``.

    Returns:
        Such as ``pip install 'onnxruntime>=1.23.0' (extra 'cpu')``: what the extra requires by the
        metadata of this installation.
    """
    extra = EXTRAS[package]
    try:
        required = importlib.metadata.requires("qrnn-deploy") or []
    except importlib.metadata.PackageNotFoundError:  # sources that are not installed
        return f"install {package} (extra {extra!r} in pyproject.toml)"
    split = [line.replace('"', "'").partition(";") for line in required]
    names = [f"'{name.strip()}'" for name, _, marker in split if f"extra == '{extra}'" in marker]
    return f"{' '.join(['pip install', *options.split(), *names])} (extra {extra!r})"


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
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingDependencyError(
            f"{feature} needs {package}, which is not installed: {install(package)}"
        ) from None
