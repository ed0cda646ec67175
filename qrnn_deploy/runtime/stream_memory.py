"""What a runtime brings for streams: memory that holds their states, and plans that run steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..metadata import Metadata
from .feeds import Array


class Plan(Protocol):
    """How to run chunks of one set of shapes."""

    def run(self, feed: Mapping[str, Any], side: int) -> dict[str, Any]:
        """The outputs, in memory of their own, of a step from the states of ``side``.

        The new states go to the other side. A step that fails leaves those of ``side`` alone.
        """


class StreamMemory(Protocol):
    """The states of some streams, each in two buffers that take turns, in one runtime."""

    def keeps(self, value: object) -> bool:
        """Whether a step takes ``value`` as it is (a tensor on the device), not as an array."""

    def plan(self, feed: Mapping[str, Any], sizes: Mapping[str, int]) -> Plan:
        """A plan for chunks like ``feed``, whose symbolic sizes are ``sizes``."""

    def read(self, side: int, rows: Any) -> dict[str, Array]:
        """Copies of the states of some rows (anything that indexes an axis), by name."""

    def write(self, side: int, rows: Any, states: Mapping[str, Array] | None) -> None:
        """Replace the states of some rows; None is the start of a sequence."""


class StreamedModel(Protocol):
    """An open model, whatever runs it."""

    @property
    def path(self) -> Path:
        """Its file."""

    @property
    def metadata(self) -> Metadata:
        """What the file says about itself."""

    @property
    def implementation(self) -> Mapping[str, str]:
        """What runs each pooling node."""

    def stream_memory(self, batch_size: int) -> StreamMemory:
        """States of ``batch_size`` streams at the start of their sequences."""
