"""Where ONNX Runtime runs a model: devices, execution providers, and why one is not usable here.

ONNX Runtime falls back to the CPU, with nothing but lines in its log, where a provider that was
asked for is absent or does not start. Here that is an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime

from .._metadata_check import shown
from .._optional import install
from ..errors import DeviceError, InputError, MissingDependencyError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
RTX = "NvTensorRTRTXExecutionProvider"
"""TensorRT for RTX. It comes as a plugin, in a package of its own."""

RTX_PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx"
_RTX_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"

_DEVICE = re.compile(r"(cpu|rtx|cuda)(?:(?<=cuda):(\d{1,3}))?", re.ASCII)

Options = dict[str, str]


@dataclass(frozen=True)
class Placement:
    """The providers of a session, in order of precedence, and where its streams keep their memory.

    Attributes:
        providers: names and options, the CPU last.
        memory: ONNX Runtime's name and number of the device that holds the states and chunks of
            streams, or None for arrays of the host.
    """

    providers: tuple[tuple[str, Options], ...] = ((CPU, {}),)
    memory: tuple[str, int] | None = field(default=None)

    def has(self, provider: str) -> bool:
        """Whether ``provider`` is among them."""
        return any(name == provider for name, _ in self.providers)

    @property
    def takes_kernels(self) -> bool:
        """Whether our kernels may be registered. TensorRT for RTX takes the function body alone.

        With a kernel known ONNX Runtime would leave the node whole, and the CPU would run it.
        """
        return not self.has(RTX)

    def capturing(self) -> Placement:
        """The same with CUDA graphs: ONNX Runtime records a run of fixed shapes and replays it."""
        return Placement(
            tuple(
                (name, {**options, "enable_cuda_graph": "1"} if name == CUDA else options)
                for name, options in self.providers
            ),
            self.memory,
        )


def place(device: str | None, providers: Sequence[Any] | None) -> Placement:
    """What ``device`` or ``providers`` asks for.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``rtx``; None leaves it to ``providers``.
        providers: names, or pairs of a name and its options; None and none at all mean the CPU.

    Raises:
        InputError: another device, or no such providers, or both are given.
    """
    if device is not None and providers is not None:
        raise InputError(
            f"device={shown(device)} and providers are both given: expected one; device sets the "
            "providers"
        )
    if device is not None:
        found = _DEVICE.fullmatch(device) if isinstance(device, str) else None
        if found is None:
            raise InputError(f"device={shown(device)}: expected 'cpu', 'cuda', 'cuda:N' or 'rtx'")
        kind, number = found[1], int(found[2] or 0)
        if kind == "rtx":
            return _placement([(RTX, {})])
        return _placement([(CUDA, {"device_id": str(number)})] if kind == "cuda" else [])
    if isinstance(providers, (str, Mapping)):
        raise InputError(f"providers={shown(providers)}: expected a list of names")
    return _placement([_named(item) for item in providers or ()])


def _named(item: Any) -> tuple[str, Options]:
    if isinstance(item, str):
        return item, {}
    if (
        isinstance(item, tuple)
        and len(item) == 2
        and isinstance(item[0], str)
        and isinstance(item[1], Mapping)
    ):
        return item[0], {str(key): str(value) for key, value in item[1].items()}
    raise InputError(
        f"providers holds {shown(item)}: expected a name, or a pair of a name and its options"
    )


def _placement(asked: list[tuple[str, Options]]) -> Placement:
    """With our defaults and the CPU at the end, where ONNX Runtime wants it for shapes."""
    providers, memory = [], None
    for name, options in asked:
        if name == CUDA:
            # TensorFloat-32 keeps 10 bits of what is multiplied: not the numbers of the model.
            options = {"device_id": "0", "use_tf32": "0", **options}
            number = options["device_id"]
            memory = "cuda", int(number) if number.isdecimal() else 0
        providers.append((name, options))
    if not any(name == CPU for name, _ in providers):
        providers.append((CPU, {}))
    return Placement(tuple(providers), memory)


def check_available(placement: Placement) -> None:
    """Refuse before a session is made what cannot be had, and load what ONNX Runtime will need.

    Raises:
        MissingDependencyError: this build of ONNX Runtime lacks the provider, or its plugin is
            not installed; the message says which package to install.
        DeviceError: there is no driver.
    """
    for name, _ in placement.providers:
        if name == RTX:
            _require_plugin()
            _require_driver(name)
            continue
        held = onnxruntime.get_available_providers()
        if name not in held:
            raise MissingDependencyError(
                f"onnxruntime {onnxruntime.__version__} has no {shown(name)} (it has "
                f"{', '.join(held)}): {_remedy(name)}"
            )
        if name == CUDA:
            _require_driver(name)
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
                onnxruntime.preload_dlls()


def use(placement: Placement, options: onnxruntime.SessionOptions) -> list[Any] | None:
    """Prepare ``options``, and return what the session takes as its ``providers``.

    Raises:
        DeviceError: a plugin does not load, or finds no GPU that it supports.
    """
    if not placement.has(RTX):
        return [(name, dict(given)) for name, given in placement.providers]
    if not options.has_providers():  # options of the caller may serve several sessions
        given = dict(placement.providers)[RTX]
        options.add_provider_for_devices(_rtx_devices()[:1], given)
    return None


def check_used(placement: Placement, session: onnxruntime.InferenceSession) -> None:
    """Refuse a session that ONNX Runtime put on other providers than those asked for.

    Raises:
        DeviceError: a provider did not start.
    """
    held = session.get_providers()
    for name, _ in placement.providers:
        if name not in held:
            raise DeviceError(
                f"ONNX Runtime could not start {name}{_why_not(name)}: {_remedy(name)}"
            )


def not_started(placement: Placement, path: Path, error: Exception) -> DeviceError:
    """Why ONNX Runtime could not make a session where it should."""
    provider = placement.providers[0][0]
    fault = re.search(r"CUDA failure \d+: [^;\n]*", str(error))
    reason = fault[0].strip() if fault is not None else first_line(error)
    return DeviceError(
        f"{path} cannot be loaded on {provider} ({reason}): expected a driver and libraries that "
        f"fit onnxruntime {onnxruntime.__version__}, or run on the CPU"
    )


def _remedy(provider: str) -> str:
    if provider == CUDA:
        return (
            "expected onnxruntime-gpu alone, with the CUDA and cuDNN that it is built for; "
            f"pip uninstall onnxruntime, then {install('onnxruntime-gpu')}"
        )
    return "install what it needs, or choose another"


def _why_not(provider: str) -> str:
    """What the loader says of the provider's library, in parentheses, or nothing."""
    # Only after ONNX Runtime's own attempt: the library looks for its host when it is loaded.
    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if provider != CUDA or not library.is_file():
        return ""
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return f" ({first_line(error)})"
    return ""


def _require_driver(provider: str) -> None:
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceError(
            f"{provider} needs an NVIDIA GPU, and this machine has no driver of one "
            f"({first_line(error)}): install the driver, or run on the CPU"
        ) from error


def _require_plugin() -> None:
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise MissingDependencyError(
            f"onnxruntime {onnxruntime.__version__} takes no plugins, which {RTX} is: expected "
            "1.24 or later; `pip install --upgrade onnxruntime`"
        )
    if importlib.util.find_spec(_RTX_MODULE) is None:
        raise MissingDependencyError(
            f"{RTX} needs {RTX_PACKAGE}, which is not installed: pip install {RTX_PACKAGE}"
        )


def _rtx_devices() -> list[Any]:
    """The GPUs that the plugin supports; it is registered once in a process."""
    plugin = importlib.import_module(_RTX_MODULE)
    name = plugin.get_ep_name()
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        try:
            onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            if "already registered" not in str(error):
                reason = first_line(error).rpartition(" with error: ")[2]
                raise DeviceError(
                    f"{name} does not load ({reason}): expected an NVIDIA driver and the whole of "
                    f"{RTX_PACKAGE}; reinstall it, or run on the CPU"
                ) from error
        devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise DeviceError(
            f"{name} finds no GPU that it supports: expected an NVIDIA RTX GPU of the Ampere "
            "generation or later; run on cuda or the CPU"
        )
    return devices


def first_line(error: BaseException) -> str:
    """The first line of an error that is not ours, cut to a length that is read."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
