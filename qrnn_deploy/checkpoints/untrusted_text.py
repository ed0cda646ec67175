"""Names out of a file that nobody vouches for: which are used at all, and how they are shown."""

from __future__ import annotations

MAX_NAME = 256
"""Characters of a tensor's name. Upstream's longest has 60."""

MAX_PARTS = 16
"""Between the dots of a tensor's name. Who strips a common prefix walks through all of them."""


def is_name(text: str) -> bool:
    """Whether a text can be the name of a tensor: short, on one line, and printable."""
    return len(text) <= MAX_NAME and text.count(".") < MAX_PARTS and text.isprintable()


def shown(text: str, limit: int = 80) -> str:
    """Any text for a message: on one line, without control characters, cut after ``limit``."""
    cut = text[:limit]
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode("ascii")[:limit]
