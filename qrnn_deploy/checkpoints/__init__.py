"""Reading and writing trained models. Needs the extra ``export`` (torch).

Nothing is ever unpickled: PyTorch files are read with ``weights_only=True``, which admits
tensors and plain values alone.
"""

from __future__ import annotations

from .._optional import require

require("torch", "reading a checkpoint")

from .candidate import Candidate  # noqa: E402
from .format import Format, Parts  # noqa: E402
from .native import save_checkpoint  # noqa: E402
from .registry import LoadedCheckpoint, formats, load_checkpoint  # noqa: E402

__all__ = [
    "Candidate",
    "Format",
    "LoadedCheckpoint",
    "Parts",
    "formats",
    "load_checkpoint",
    "save_checkpoint",
]
