"""The GPU core called on CUDA tensors of PyTorch, through its C interface."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

POOLINGS = ("f", "fo", "ifo", "if", "sru", "sru_input", "sru_noskip")
"""In the order of the core's enumeration."""
ACTIVATIONS = ("tanh", "relu", "identity")
REGIMES = ("step", "walk", "scan", "chain")
STORAGES = (torch.float32, torch.float16, torch.bfloat16)
GATES = {"f": 2, "fo": 3, "ifo": 4, "if": 3, "sru": 4, "sru_input": 3, "sru_noskip": 3}

Plan = tuple[str, int, int]
"""Regime, channels per thread, warps in a block."""


class CudaError(RuntimeError):
    """A cudaError_t other than success, by its number."""

    def __init__(self, code: int) -> None:
        super().__init__(f"cudaError_t {code}")
        self.code = code


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _stream() -> int:
    return torch.cuda.current_stream().cuda_stream


class GpuCore:
    """The functions of tests/gpu/gpu_api.cc and bench/gpu_sweep.cu."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        pointer, integer, wide = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
        size, real = ctypes.c_uint64, ctypes.c_float
        for name, result, arguments in (
            ("device", integer, [pointer]),
            (
                "plan",
                None,
                [*[integer] * 2, *[wide] * 3, *[pointer] * 3, *[integer] * 2, size, *[pointer] * 2],
            ),
            ("chain_bytes", size, [*[wide] * 3, *[integer] * 3]),
            (
                "pool",
                integer,
                [
                    *([integer] * 4 + [real] + [wide] * 3 + [pointer] * 8 + [integer] * 3),
                    *(pointer, size, pointer),
                ],
            ),
            ("empty", integer, [pointer]),
            (
                "sweep",
                integer,
                [*[integer] * 4, *[wide] * 3, *[pointer] * 6, size, pointer],
            ),
        ):
            function = getattr(self._library, f"qrnn_gpu_{name}")
            function.restype = result
            function.argtypes = arguments

    @staticmethod
    def _check(code: int) -> None:
        if code != 0:
            raise CudaError(code)

    def device(self) -> tuple[int, int]:
        """Multiprocessors and compute capability of the current device."""
        out = (ctypes.c_int * 2)()
        self._check(self._library.qrnn_gpu_device(out))
        return out[0], out[1]

    def plan(
        self,
        gates: torch.Tensor,
        h: torch.Tensor,
        workspace_bytes: int = 2**62,
        *,
        pooling: str = "fo",
        skip: torch.Tensor | None = None,
    ) -> tuple[Plan, int, int]:
        """The core's own choice, the workspace for it, and the bound for smaller T and B."""
        plan, sizes = (ctypes.c_int * 3)(), (ctypes.c_uint64 * 2)()
        self._library.qrnn_gpu_plan(
            *(POOLINGS.index(pooling), STORAGES.index(gates.dtype), *h.shape),
            *(_address(gates), _address(skip), _address(h)),
            *(*self.device(), workspace_bytes, plan, sizes),
        )
        return (REGIMES[plan[0]], plan[1], plan[2]), sizes[0], sizes[1]

    def workspace(self, h: torch.Tensor, plan: Plan, span: int = 8) -> torch.Tensor:
        """As much as `plan` takes, full of garbage."""
        size = self._library.qrnn_gpu_chain_bytes(*h.shape, plan[1], plan[2], span)
        return torch.full((size,), 0xA5, dtype=torch.uint8, device="cuda")

    def pool(
        self,
        pooling: str,
        gates: torch.Tensor,
        c0: torch.Tensor,
        lengths: torch.Tensor,
        h: torch.Tensor,
        c_T: torch.Tensor,
        *,
        direction: int = 1,
        activation: str = "tanh",
        zoneout_scale: float = 1.0,
        weight_c: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        skip: torch.Tensor | None = None,
        plan: Plan | None = None,
        workspace: torch.Tensor | None = None,
    ) -> None:
        """Enqueues the pooling on PyTorch's current stream; h [T, B, H] and c_T are written.

        weight_c [2, H] and bias [2, H], float32, are an SRU's; skip [T, B, H] that of sru_input.

        Raises:
            CudaError: as pool_on_gpu returned it.
        """
        regime, channels, warps = plan or ("", 0, 0)
        self._check(
            self._library.qrnn_gpu_pool(
                *(POOLINGS.index(pooling), ACTIVATIONS.index(activation)),
                *(STORAGES.index(gates.dtype), direction < 0, zoneout_scale, *h.shape),
                *(_address(gates), _address(c0), _address(lengths), _address(h), _address(c_T)),
                *(_address(weight_c), _address(bias), _address(skip)),
                *(REGIMES.index(regime) if plan else -1, channels, warps),
                *(_address(workspace), 0 if workspace is None else workspace.numel(), _stream()),
            )
        )

    def sweep(
        self,
        depth: int,
        plan: Plan,
        gates: torch.Tensor,
        c0: torch.Tensor,
        lengths: torch.Tensor,
        h: torch.Tensor,
        c_T: torch.Tensor,
        workspace: torch.Tensor | None = None,
    ) -> None:
        """fo-pooling at another depth; float32, or bfloat16 by pairs."""
        self._check(
            self._library.qrnn_gpu_sweep(
                *(gates.dtype == torch.bfloat16, depth, REGIMES.index(plan[0]), plan[2]),
                *h.shape,
                *(_address(gates), _address(c0), _address(lengths), _address(h), _address(c_T)),
                *(_address(workspace), 0 if workspace is None else workspace.numel(), _stream()),
            )
        )

    def empty(self) -> None:
        """Enqueues a kernel that does nothing."""
        self._check(self._library.qrnn_gpu_empty(_stream()))
