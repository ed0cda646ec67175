"""The cards of this machine, asked of the CUDA driver itself: no CUDA package is needed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

DRIVER = "libcuda.so.1"

_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76
_NO_DEVICE = 100


@dataclass(frozen=True)
class Card:
    """One GPU.

    Attributes:
        name: as the driver has it.
        capability: its architecture, such as ``sm90``.
    """

    name: str
    capability: str


@dataclass(frozen=True)
class Cards:
    """All GPUs in the driver's order, or why there are none.

    Attributes:
        cards: the first one is the default device.
        obstacle: empty where there are cards.
    """

    cards: tuple[Card, ...]
    obstacle: str = ""


def find_cards() -> Cards:
    """Ask the driver; a machine without one is an answer, not an error."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return Cards((), f"this machine has no NVIDIA driver ({DRIVER} is not there)")
    status = driver.cuInit(0)
    if status == _NO_DEVICE:
        return Cards((), "the NVIDIA driver finds no GPU")
    count = ctypes.c_int()
    status = status or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return Cards((), f"the NVIDIA driver does not start (CUDA error {status})")
    if not count.value:
        return Cards((), "the NVIDIA driver finds no GPU")
    cards = []
    for index in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(256)
        status = (
            driver.cuDeviceGet(ctypes.byref(device), index)
            or driver.cuDeviceGetName(name, len(name), device)
            or driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device)
            or driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device)
        )
        if status:
            return Cards((), f"the NVIDIA driver does not describe GPU {index} (error {status})")
        cards.append(Card(name.value.decode(errors="replace"), f"sm{major.value}{minor.value}"))
    return Cards(tuple(cards))
