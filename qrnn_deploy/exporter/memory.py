"""Giving memory back during an export, so that the peaks of its stages do not add up."""

from __future__ import annotations

import ctypes
import mmap
import sys
from functools import cache
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

_DONTNEED = 4  # of madvise(2)
_PRESENT, _SWAPPED, _OF_A_FILE = (np.uint64(1 << bit) for bit in (63, 62, 61))
"""Of an entry in /proc/self/pagemap, one for each page: proc_pid_pagemap(5)."""


def give_back(module: nn.Module) -> None:
    """Return what this process holds and does not need at the moment.

    That is what the C library keeps of freed memory, and those weights of ``module`` that are
    pages of a memory-mapped file: they are read from it again when they are next used. No value
    changes. Does nothing but on Linux.
    """
    library = _c_library()
    if library is None:
        return
    if hasattr(library, "malloc_trim"):  # glibc
        library.malloc_trim(0)
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            for tensor in module.parameters():
                if _is_plain(tensor):
                    _let_go(tensor, pagemap, library)
    except OSError:  # a sandbox may lack the file: then nothing is known to be there twice
        return


class Meter:
    """Calls :func:`give_back` whenever an eighth of a module's weights has been used.

    Args:
        module: the model.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        total = sum(tensor.nbytes for tensor in module.parameters())
        self._stretch = max(_LEAST_STRETCH, total // 8)
        self._used = 0

    def use(self, nbytes: int) -> None:
        """Count bytes of weights that were used and are not needed for some time."""
        self._used += nbytes
        if self._used >= self._stretch:
            give_back(self._module)
            self._used = 0


_LEAST_STRETCH = 2**24
"""Bytes."""


def _let_go(tensor: Tensor, pagemap: BinaryIO, library: Any) -> None:
    """Let the pages of a tensor go that are pages of a file, as the file has them.

    In a private mapping a page that was written to is no page of the file any more.
    """
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    end = tensor.data_ptr() + tensor.itemsize * (sum((n - 1) * step for n, step in steps) + 1)
    first = tensor.data_ptr() // mmap.PAGESIZE
    count = -(-end // mmap.PAGESIZE) - first
    pagemap.seek(8 * first)
    entries = np.frombuffer(pagemap.read(8 * count), np.uint64)
    of_file = (entries & (_PRESENT | _SWAPPED | _OF_A_FILE)) == (_PRESENT | _OF_A_FILE)
    turns = np.flatnonzero(np.diff(of_file, prepend=False, append=False))
    for start, stop in turns.reshape(-1, 2):
        place = ctypes.c_void_p((first + int(start)) * mmap.PAGESIZE)
        library.madvise(place, ctypes.c_size_t(int(stop - start) * mmap.PAGESIZE), _DONTNEED)


@cache
def _c_library() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def _is_plain(tensor: Tensor) -> bool:
    usual = type(tensor) in (nn.Parameter, Tensor) and tensor.layout == torch.strided
    return usual and tensor.device.type == "cpu" and tensor.numel() > 0
