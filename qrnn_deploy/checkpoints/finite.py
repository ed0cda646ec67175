"""NaN and infinity in a file that has been recognised, before it is loaded."""

from __future__ import annotations

from .building import is_finite, value_of
from .registry import Recognised
from .stored import StorageDamage

MOST_BYTES = 2**28
"""Of a file whose numbers are looked at for a report that needs none of them."""


def non_finite(found: Recognised, most_bytes: int = MOST_BYTES) -> list[str] | None:
    """The tensors of the model that hold NaN or infinity, by their names in our module.

    They are read one after the other, as :func:`.load_checkpoint` reads them.

    Args:
        found: the file and how it is understood.
        most_bytes: size of the largest file that is looked at.

    Returns:
        Their names; None for a larger file.

    Raises:
        CheckpointError: the file does not hold what it announces.
    """
    if found.candidate.path.stat().st_size > most_bytes:
        return None
    try:
        return [
            name
            for name, source in found.reading.tensors.items()
            if not is_finite(value_of(source))
        ]
    except StorageDamage as error:
        raise found.candidate.error(f"is a truncated or damaged file: {error}") from None
