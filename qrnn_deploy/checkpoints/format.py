"""What every checkpoint format provides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from .candidate import Candidate


@dataclass(frozen=True)
class Parts:
    """What a format makes of a file: enough to build the module.

    Attributes:
        config: for :func:`qrnn_deploy.nn.from_config`; it need not be trustworthy.
        tensors: the module's state dict; it need not fit.
        notes: what was assumed or changed on the way, one sentence each.
    """

    config: dict[str, Any]
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


class Format(Protocol):
    """One kind of checkpoint: recognise it, and translate it to our names and configuration.

    Building the module and checking tensors against the configuration is the same for all and
    happens in :mod:`qrnn_deploy.checkpoints.registry`.
    """

    name: str
    description: str

    def recognise(self, candidate: Candidate) -> bool:
        """Whether this format wrote the file. It must not raise for files of other formats."""
        ...

    def load(self, candidate: Candidate) -> Parts:
        """Translate a recognised file.

        Raises:
            CheckpointError: the file is of this format but cannot be used.
        """
        ...
