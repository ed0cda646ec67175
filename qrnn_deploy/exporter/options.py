"""The options of an export, collected once and passed through its stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import ExportError
from ..metadata import StateMode

DTypeName = Literal["float32", "float16", "bfloat16"]
DTYPES: tuple[DTypeName, ...] = ("float32", "float16", "bfloat16")
"""Types that a file can be exported in."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportOptions:
    """What :func:`qrnn_deploy.export` takes as keywords; their meaning is described there.

    Attributes:
        whole: names of inputs that stay the same from chunk to chunk of a stream, however long
            they are: the memory that a decoder attends to.

    Raises:
        ExportError: an option has a value that there is not.
    """

    states: StateMode | None = None
    lengths: bool = False
    dtype: DTypeName | None = None
    inline: bool = False
    external_data: bool | None = None
    golden: bool = True
    allow_non_finite: bool = False
    time_major: bool | None = None
    input_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None
    time_axes: Mapping[str, int | None] = field(default_factory=dict)
    whole: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.states not in (None, "separate", "packed", "none"):
            raise ExportError(f"states={self.states!r}: expected 'separate', 'packed' or 'none'")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ExportError(f"dtype={self.dtype!r}: expected one of {', '.join(DTYPES)}")
