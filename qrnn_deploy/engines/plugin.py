"""Our plugin library, from the file to TensorRT's registry."""

from __future__ import annotations

import os
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

import qrnn_deploy

from ..errors import EngineError

FILE_NAME = "libqrnn_deploy_tensorrt.so"
ENVIRONMENT = "QRNN_DEPLOY_TENSORRT_LIBRARY"
"""Environment variable: path of the plugin library to use instead of the installed one."""

_loaded: list[tuple[Any, Path, Any]] = []
"""Module, library and TensorRT's handle of it."""


def find_plugin() -> Path:
    """The library named by :data:`ENVIRONMENT`, else the installed one.

    Raises:
        EngineError: there is none.
    """
    named = os.environ.get(ENVIRONMENT)
    if named:
        path = Path(named)
        if not path.is_file():
            raise EngineError(f"{ENVIRONMENT}={named} is not a file: expected {FILE_NAME}")
        return path.resolve()
    # An editable install keeps Python in the source tree and compiled files in site-packages.
    roots = [*qrnn_deploy.__path__, str(Path(sysconfig.get_path("platlib")) / "qrnn_deploy")]
    for root in roots:
        path = Path(root) / "lib" / FILE_NAME
        if path.is_file():
            return path.resolve()
    raise EngineError(
        f"{FILE_NAME} is not installed here, which holds the pooling for TensorRT: build it from "
        f"source with nvcc (plugins/README.md), or name it in {ENVIRONMENT}"
    )


def register_plugin(trt: Any, path: Path) -> None:
    """Load the library into the module's plugin registry, unless it is there already.

    Raises:
        EngineError: TensorRT does not take it, it brings no creator of ours, or another library has
            registered creators of the same names.
    """
    from ..pooling.spec import BY_OP_TYPE, DOMAIN, PLUGIN_VERSION

    registry = trt.get_plugin_registry()
    wanted = [name for name, spec in BY_OP_TYPE.items() if spec.has_kernel]

    def missing() -> list[str]:
        creators = {name: registry.get_creator(name, PLUGIN_VERSION, DOMAIN) for name in wanted}
        return [name for name, creator in creators.items() if creator is None]

    if any(module is trt and known == path for module, known, _ in _loaded):
        pass
    elif len(missing()) < len(wanted):
        # TensorRT refuses creators of the same names, and the manifest names the library in use.
        if not _is_mapped(path):
            raise EngineError(
                f"plugins for QRNN pooling are registered in this process already, and not by "
                f"{path}: load that library only, or name the other one in {ENVIRONMENT}"
            )
    else:
        try:
            handle = registry.load_library(str(path))
        except Exception as error:
            # The binding lets whatever TensorRT throws through.
            raise EngineError(f"TensorRT cannot load {path} ({error}): build it anew") from error
        if handle is None:
            raise EngineError(f"TensorRT cannot load {path}: build it anew for this version")
        _loaded.append((trt, path, handle))
    if absent := missing():
        raise EngineError(
            f"{path} brings no plugin for {', '.join(absent)} into TensorRT's registry: expected "
            "one for each pooling operator; build it anew"
        )


def _is_mapped(path: Path) -> bool:
    """Whether this process has loaded that file."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
        places = [line.rstrip("\n").split(maxsplit=5) for line in lines]
    return any(len(place) > 5 and place[5] == str(path) for place in places)  # the last is the file


@lru_cache(maxsize=8)
def _digest(path: Path, size: int, modified: int) -> str:
    from .model import file_sha256

    return file_sha256(path)


def plugin_sha256(path: Path) -> str:
    """Digest of a library, remembered as long as the file does not change."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)
