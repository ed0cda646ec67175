"""The shared table of pooling cases: one list, run over every implementation of the operator.

Plain NumPy; imports nothing of the project. A case is named, deterministic, and gives its inputs
in any storage type::

    @pytest.mark.parametrize("case", cases.POOL_CASES, ids=str)
    def test_parity(case):
        gates, c0, lengths = case.inputs(np.float32)
        expected = case.expected(gates, c0, lengths)     # the float64 oracle
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import oracle
from numpy.typing import NDArray

Lengths = Literal["full", "ragged", "zero"]

POOLING_NAMES = ("f", "fo", "ifo", "if")
SRU_NAMES = ("sru", "sru_input", "sru_noskip")
ACTIVATION_NAMES = ("tanh", "relu", "identity")
GATE_COUNT = {
    name: len(packing) for name, packing in (*oracle.PACKING.items(), *oracle.SRU_PACKING.items())
}


def _lengths(kind: Lengths, T: int, B: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Full, all zero, or ragged: T and 0 are among them where B allows."""
    if kind == "full":
        return np.full(B, T, np.int64)
    if kind == "zero":
        return np.zeros(B, np.int64)
    lengths = rng.integers(0, T + 1, B).astype(np.int64)
    lengths[: min(2, B)] = [T, 0][: min(2, B)]
    if B == 1:
        lengths[0] = T // 2
    return lengths


@dataclass(frozen=True)
class PoolCase:
    """One configuration of the pooling operator, with a recipe for its inputs.

    Attributes:
        pooling: f, fo, ifo or if.
        T: steps.
        B: rows.
        H: channels.
        direction: 1 or -1.
        activation: of the candidate.
        zoneout_scale: 1.0 for ifo and if.
        lengths: every row full, ragged (0 and T among them where B allows), or all zero.
        scale: standard deviation of the pre-activations.
    """

    pooling: str
    T: int = 7
    B: int = 3
    H: int = 5
    direction: int = 1
    activation: str = "tanh"
    zoneout_scale: float = 1.0
    lengths: Lengths = "full"
    scale: float = 2.0

    def __str__(self) -> str:
        """The test id."""
        way = "fwd" if self.direction == 1 else "rev"
        return (
            f"{self.pooling}-T{self.T}B{self.B}H{self.H}-{way}-{self.activation}"
            f"-s{self.zoneout_scale:g}-{self.lengths}-x{self.scale:g}"
        )

    def inputs(self, dtype: Any = np.float32) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """``gates`` [T, B, G*H] in ``dtype``, ``c0`` [B, H] float32, ``lengths`` [B] int64.

        ``dtype`` may be an ml_dtypes type. For float64 gates, c0 is float64 too.
        """
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        width = GATE_COUNT[self.pooling] * self.H
        gates = (rng.standard_normal((self.T, self.B, width)) * self.scale).astype(dtype)
        wide = np.dtype(dtype) == np.float64
        c0 = rng.standard_normal((self.B, self.H)).astype(np.float64 if wide else np.float32)
        return gates, c0, _lengths(self.lengths, self.T, self.B, rng)

    def attributes(self) -> dict[str, Any]:
        """direction, activation and zoneout_scale, as keyword arguments."""
        return {
            "direction": self.direction,
            "activation": self.activation,
            "zoneout_scale": self.zoneout_scale,
        }

    def expected(
        self, gates: NDArray[Any], c0: NDArray[Any], lengths: NDArray[Any]
    ) -> tuple[oracle.F64, oracle.F64]:
        """h [T, B, H] and c_T [B, H] of the oracle, float64."""
        return oracle.pool(self.pooling, gates, c0, lengths, **self.attributes())


def scales(pooling: str) -> tuple[float, ...]:
    """The zoneout scales a pooling function takes in the tests."""
    return (1.0, 0.75) if pooling in ("f", "fo") else (1.0,)


def _grid() -> list[PoolCase]:
    """Every attribute against every other, at one odd shape."""
    return [
        PoolCase(
            pooling, direction=direction, activation=activation, zoneout_scale=s, lengths=lengths
        )
        for pooling, direction, activation, lengths in itertools.product(
            POOLING_NAMES, (1, -1), ACTIVATION_NAMES, ("full", "ragged")
        )
        for s in scales(pooling)
    ]


def _shapes() -> list[PoolCase]:
    """Sizes around vector widths, single steps, empty axes and long walks, per pooling."""
    shapes = [
        (1, 1, 1),
        (1, 4, 16),
        (2, 1, 17),
        (63, 2, 129),
        (5, 7, 31),
        (300, 1, 33),
        (0, 3, 5),
        (4, 0, 5),
        (0, 0, 1),
    ]
    base = [PoolCase(p, T=t, B=b, H=h) for p in POOLING_NAMES for t, b, h in shapes]
    return base + [replace(c, direction=-1, lengths="ragged") for c in base if c.T and c.B]


def _extremes() -> list[PoolCase]:
    """Saturated gates, and no row with any step."""
    return [
        replace(PoolCase(p, T=9), **change)
        for p in POOLING_NAMES
        for change in ({"scale": 40.0}, {"scale": 0.01}, {"lengths": "zero"})
    ]


ATTRIBUTE_CASES = _grid()
"""Every pooling x direction x activation x zoneout x lengths at (T, B, H) = (7, 3, 5)."""

SHAPE_CASES = _shapes()
"""Every pooling at many shapes, empty axes among them."""

POOL_CASES = ATTRIBUTE_CASES + SHAPE_CASES + _extremes()
"""All of them."""


@dataclass(frozen=True)
class SruCase:
    """One configuration of the SRU recurrence, with a recipe for its inputs.

    Attributes:
        pooling: sru, sru_input or sru_noskip.
        T: steps.
        B: rows.
        H: channels.
        direction: 1 or -1.
        activation: of the state on its way to h.
        lengths: every row full, ragged (0 and T among them where B allows), or all zero.
        scale: standard deviation of the pre-activations.
    """

    pooling: str
    T: int = 7
    B: int = 3
    H: int = 5
    direction: int = 1
    activation: str = "identity"
    lengths: Lengths = "full"
    scale: float = 2.0

    def __str__(self) -> str:
        """The test id."""
        way = "fwd" if self.direction == 1 else "rev"
        return (
            f"{self.pooling}-T{self.T}B{self.B}H{self.H}-{way}-{self.activation}"
            f"-{self.lengths}-x{self.scale:g}"
        )

    def inputs(self, dtype: Any = np.float32) -> dict[str, NDArray[Any]]:
        """The operator's inputs by name, in its order.

        ``gates`` [T, B, G*H] and (sru_input) ``skip`` [T, B, H] in ``dtype``, which may be an
        ml_dtypes type; ``lengths`` [B] int64; ``c0`` [B, H], ``weight_c`` [2, H] and ``bias``
        [2, H] float32, or float64 for float64 gates.
        """
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        wide = np.float64 if np.dtype(dtype) == np.float64 else np.float32
        shape = (self.T, self.B, GATE_COUNT[self.pooling] * self.H)
        arrays: dict[str, NDArray[Any]] = {
            "gates": (rng.standard_normal(shape) * self.scale).astype(dtype),
            "c0": rng.standard_normal((self.B, self.H)).astype(wide),
            "lengths": _lengths(self.lengths, self.T, self.B, rng),
            "weight_c": (rng.standard_normal((2, self.H)) * 0.5).astype(wide),
            "bias": rng.standard_normal((2, self.H)).astype(wide),
        }
        if self.pooling == "sru_input":
            arrays["skip"] = rng.standard_normal((self.T, self.B, self.H)).astype(dtype)
        return arrays

    def attributes(self) -> dict[str, Any]:
        """direction and activation, as keyword arguments."""
        return {"direction": self.direction, "activation": self.activation}

    def expected(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[oracle.F64, oracle.F64]:
        """h [T, B, H] and c_T [B, H] of the oracle, float64."""
        return oracle.sru_pool(self.pooling, **inputs, **self.attributes())


def _sru_grid() -> list[SruCase]:
    """Every attribute against every other, at one odd shape."""
    return [
        SruCase(pooling, direction=direction, activation=activation, lengths=lengths)
        for pooling, direction, activation, lengths in itertools.product(
            SRU_NAMES, (1, -1), ACTIVATION_NAMES, ("full", "ragged")
        )
    ]


def _sru_shapes() -> list[SruCase]:
    """The shapes of the other operators, in both directions, and what is extreme."""
    shapes = {(c.T, c.B, c.H): None for c in SHAPE_CASES}
    base = [SruCase(p, T=t, B=b, H=h) for p in SRU_NAMES for t, b, h in shapes]
    ragged = [replace(c, direction=-1, lengths="ragged") for c in base if c.T and c.B]
    changes = ({"scale": 40.0}, {"scale": 0.01}, {"lengths": "zero"}, {"T": 33, "H": 17})
    return base + ragged + [SruCase(p, **change) for p in SRU_NAMES for change in changes]


SRU_CASES = _sru_grid() + _sru_shapes()
"""The forms of an SRU, as the pooling cases have it."""
