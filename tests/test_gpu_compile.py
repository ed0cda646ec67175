"""What ptxas reported when the CUDA kernels were compiled: no spills, on any architecture.

The build keeps the report beside each object file (plugins/cmake/keep-log.sh).
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import needs
import pytest

BUILD = Path(__file__).parents[1] / "build/dev"
ARCHITECTURES = {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"}
KERNELS = {"float32": 32 + 12, "float16": 48 + 24, "bfloat16": 48 + 24}
"""4 poolings x tanh or not x (step, walk, scan, chain), in 16 bits also step and walk by pairs; and
3 forms of SRU x tanh or not x (step, walk), in 16 bits twice."""

THREADS = {"step": 256, "walk": 256, "scan": 512, "chain": 256}

ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<architecture>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)


class Kernel(NamedTuple):
    storage: str
    architecture: str
    name: str
    regime: str
    registers: int
    stack: int
    spilled: int


def find_nvcc() -> str | None:
    usual = Path("/usr/local/cuda/bin/nvcc")
    return shutil.which("nvcc") or (str(usual) if usual.is_file() else None)


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    logs = {storage: next(BUILD.rglob(f"pool_gpu_{storage}.cu.o.log"), None) for storage in KERNELS}
    if not all(logs.values()):
        if find_nvcc() is None:
            pytest.skip("no CUDA compiler here (nvcc in PATH or /usr/local/cuda)")
        needs.absent("kernel", "the CUDA kernels are not built here (`make setup` builds them)")
    found = []
    for storage, log in logs.items():
        assert log is not None
        for match in ENTRY.finditer(log.read_text()):
            regime = re.search(r"qrnn_(step|walk|scan|chain)", match["name"])
            assert regime is not None, match["name"]
            found.append(
                Kernel(
                    storage,
                    match["architecture"],
                    match["name"],
                    regime[1],
                    int(match["registers"]),
                    int(match["stack"]),
                    int(match["stores"]) + int(match["loads"]),
                )
            )
    return found


def test_every_kernel_for_every_architecture(kernels: list[Kernel]) -> None:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for kernel in kernels:
        counts[kernel.storage, kernel.architecture] += 1
    built = {architecture for _, architecture in counts}
    if built < ARCHITECTURES:
        pytest.skip(f"this CUDA compiler or build has only {', '.join(sorted(built))}")
    assert built == ARCHITECTURES
    for (storage, architecture), count in counts.items():
        assert count == KERNELS[storage], (storage, architecture)
    assert len({(k.architecture, k.name) for k in kernels}) == len(kernels)


def test_no_kernel_spills(kernels: list[Kernel]) -> None:
    table: dict[tuple[str, str], list[int]] = defaultdict(list)
    for kernel in kernels:
        table[kernel.architecture, kernel.regime].append(kernel.registers)
    for (architecture, regime), registers in sorted(table.items()):
        print(f"{architecture:7} {regime:6} {min(registers):4} to {max(registers)} registers")
    assert kernels
    spilling = [k for k in kernels if k.spilled or k.stack]
    assert not spilling, spilling


def test_a_block_fits_the_registers(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        assert kernel.registers * THREADS[kernel.regime] <= 65536, kernel
