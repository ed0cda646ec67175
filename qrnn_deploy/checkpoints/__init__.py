"""Reading and writing trained models. Needs the extra ``export`` (torch).

Nothing is ever unpickled: what a file holds is read as data (:mod:`.pickle_data`).
"""

from __future__ import annotations

from .._optional import require

require("torch", "reading a checkpoint")

from .format import Format  # noqa: E402
from .given import Given  # noqa: E402
from .native import save_checkpoint  # noqa: E402
from .reading import Reading  # noqa: E402
from .registry import (  # noqa: E402
    LoadedCheckpoint,
    Recognised,
    formats,
    load_checkpoint,
    recognise_checkpoint,
)

__all__ = [
    "Format",
    "Given",
    "LoadedCheckpoint",
    "Reading",
    "Recognised",
    "formats",
    "load_checkpoint",
    "recognise_checkpoint",
    "save_checkpoint",
]
