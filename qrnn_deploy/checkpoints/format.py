"""What every checkpoint format provides."""

from __future__ import annotations

from typing import Protocol

from .given import Given
from .reading import Reading
from .tables import WeightTable


class Format(Protocol):
    """One kind of checkpoint: recognise it, and translate it to our names and configuration.

    Building the module and checking tensors against the configuration is the same for all and
    happens in :mod:`qrnn_deploy.checkpoints.registry`.

    Attributes:
        name: for ``--format``.
        description: who writes it, and by what it is recognised.
        uses: the fields of :class:`.given.Given` that can matter to it.
    """

    name: str
    description: str
    uses: frozenset[str]

    def recognise(self, table: WeightTable) -> bool:
        """Whether the names look like this format's. It must not raise."""
        ...

    def read(self, table: WeightTable, given: Given) -> list[Reading]:
        """Every way in which recognised weights can be understood, at least one.

        Raises:
            CheckpointError: tensors are missing, left over, or do not fit together. The text lacks
                the name of the file.
        """
        ...
