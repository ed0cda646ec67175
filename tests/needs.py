"""What some tests need from the machine: they skip with the reason, or fail where it must be.

``make test`` sets QRNN_DEPLOY_TESTS_REQUIRE=kernel, so that a kernel library that was not built
is a failure there and not a quiet skip.
"""

from __future__ import annotations

import importlib.util
import os
from typing import NoReturn

import pytest

from qrnn_deploy.runtime.library import KernelLibrary, load_library

VARIABLE = "QRNN_DEPLOY_TESTS_REQUIRE"


def absent(name: str, reason: str) -> NoReturn:
    """Skip the test with the reason, or fail it where VARIABLE names ``name``."""
    if name in os.environ.get(VARIABLE, "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


def kernel_library() -> KernelLibrary:
    """The installed kernel library; skips, or fails where VARIABLE names ``kernel``."""
    library = load_library()
    if library is None:
        absent("kernel", "the kernel library is not built here (`make setup` builds it)")
    return library


def tensorrt_rtx() -> None:
    """TensorRT for RTX; skips, or fails where VARIABLE names ``tensorrt-rtx``."""
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        absent("tensorrt-rtx", "TensorRT for RTX is not here (the extra `tensorrt-rtx` brings it)")
