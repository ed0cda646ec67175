"""The arrays of a recording, with the messages that its user needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..._files import reason
from ...errors import InputError
from ...npz import ADVICE, NpzError
from ...npz import read_npz as read_arrays

MOST_BYTES = 4 * 2**30
"""Of all arrays together, unpacked."""


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a .npz file by name, in the order of the file.

    Raises:
        InputError: the file is absent, no .npz file, damaged, too large, or holds Python objects.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "is missing"
        raise InputError(f"{path} {what}: expected a .npz file; {ADVICE}")
    try:
        return read_arrays(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from error
    except NpzError as error:
        raise InputError(f"{path} {error}: {ADVICE}") from error
