"""The kernel library: where it is, what it understands, which kernels it has made."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

import qrnn_deploy

from .._optional import LIBRARY_VARIABLE as ENVIRONMENT
from .._optional import library_remedy
from ..errors import KernelLibraryError
from . import elf

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
FILE_NAME = f"libqrnn_deploy_ort{_SUFFIX}"


def find_library() -> Path | None:
    """The library named by ``QRNN_DEPLOY_LIBRARY``, else the installed one, else None.

    Raises:
        KernelLibraryError: the environment variable names a file that does not exist.
    """
    named = os.environ.get(ENVIRONMENT)
    if named:
        path = Path(named)
        if not path.is_file():
            raise KernelLibraryError(
                f"{ENVIRONMENT}={named} is not a file, expected {FILE_NAME}: {library_remedy()}"
            )
        return path.resolve()
    roots = [Path(folder) for folder in qrnn_deploy.__path__]
    # An editable install keeps Python in the source tree and compiled files in site-packages.
    roots.append(Path(sysconfig.get_path("platlib")) / "qrnn_deploy")
    for root in roots:
        path = root / "lib" / FILE_NAME
        if path.is_file():
            return path.resolve()
    return None


class KernelLibrary:
    """A loaded kernel library. ONNX Runtime loads the same file; there is one copy in memory."""

    def __init__(self, path: Path) -> None:
        """Load ``path``.

        Raises:
            KernelLibraryError: it cannot be loaded or is not ours.
        """
        self.path = path
        try:
            found = elf.defect(path) if elf.HAS_ELF else None
            if found is not None:
                raise OSError(found)
            library = ctypes.CDLL(str(path))
            library.qrnn_deploy_schema_version.restype = ctypes.c_int
            library.qrnn_deploy_build_info.restype = ctypes.c_char_p
            library.qrnn_deploy_isa.restype = ctypes.c_char_p
            library.qrnn_deploy_drain_created.restype = ctypes.c_size_t
            library.qrnn_deploy_drain_created.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        except (OSError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise KernelLibraryError(
                f"kernel library {path} cannot be used ({reason}): {library_remedy()}"
            ) from error
        self._library = library

    @property
    def schema_version(self) -> int:
        """Highest version of the operator domain that the kernels understand."""
        return int(self._library.qrnn_deploy_schema_version())

    @property
    def isa(self) -> str:
        """Instruction set chosen on this machine: avx512, avx2 or portable."""
        return bytes(self._library.qrnn_deploy_isa()).decode()

    @property
    def build_info(self) -> dict[str, Any]:
        """Version, compiler and ONNX Runtime API version of the build."""
        return dict(json.loads(self._library.qrnn_deploy_build_info()))

    @property
    def cuda(self) -> str | None:
        """The GPU architectures that the kernels were compiled for; None where there are none."""
        held = self.build_info.get("cuda")
        return None if held is None else str(held["architectures"])

    def drain_created(self) -> dict[str, str]:
        """Graph nodes for which kernels were made since the last call: name -> cpu or cuda."""
        size = 4096
        while True:
            buffer = ctypes.create_string_buffer(size)
            needed = self._library.qrnn_deploy_drain_created(buffer, size)
            if needed <= size:
                lines = [line for line in buffer.value.decode().split("\n") if line]
                pairs = [line.partition(" ") for line in lines]
                return {name: device for device, _, name in pairs}
            size = needed


@lru_cache(maxsize=4)
def _load(path: Path) -> KernelLibrary:
    return KernelLibrary(path)


def load_library() -> KernelLibrary | None:
    """The library of this installation, loaded once, or None where there is none.

    Raises:
        KernelLibraryError: there is one, but it cannot be used.
    """
    path = find_library()
    return None if path is None else _load(path)
