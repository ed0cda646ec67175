"""What the user says about a checkpoint that the file itself does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import CheckpointError
from ..nn import config as check
from ..nn.delayed import MAX_DELAY

DIRECTIONS = ("forward", "reverse")
SRU_ACTIVATIONS = ("identity", "tanh", "relu")
SRU_NORMS = ("before", "after")
FUTURE = "future"
"""In place of a padding: the caller gives the inputs that follow."""

FLAGS = {
    "format": "--format",
    "key": "--key",
    "window": "--window",
    "output_gate": "--output-gate/--no-output-gate",
    "input_size": "--input-size",
    "zoneout": "--zoneout",
    "direction": "--direction",
    "bidirectional": "--bidirectional/--one-directional",
    "batch_first": "--batch-first/--time-major",
    "vocabulary": "--vocabulary",
    "classes": "--classes",
    "pad_token": "--pad-token",
    "bptt": "--bptt",
    "max_len": "--max-len",
    "activation": "--activation",
    "highway": "--highway/--no-highway",
    "rescale": "--rescale/--no-rescale",
    "layer_norm": "--layer-norm",
    "causal": "--causal/--no-causal",
    "heads": "--heads",
    "delay": "--delay",
    "padding": "--padding",
}
"""Field of :class:`Given` -> option of the command line."""


@dataclass(frozen=True)
class Given:
    """Facts from the user; None is for what was not said.

    Attributes:
        format: name of the format, where several fit.
        key: place of the weights in the file, where several have some: ``model_ema``.
        window: taps of every layer, or one number for each.
        output_gate: whether the layers have one (fo-pooling; else f).
        input_size: features of the input.
        zoneout: probability it was trained with.
        direction: ``forward`` or ``reverse``, the way that one-directional layers walk.
        bidirectional: whether each layer walks both ways.
        batch_first: whether the PyTorch module takes [B, T, ...]. Exported files always do.
        vocabulary: file with the tokens (see :mod:`.vocabulary`).
        classes: names of a classifier's classes.
        pad_token: number of the token that pads.
        bptt: steps per chunk of a fastai classifier.
        max_len: steps at the end of a text that a fastai classifier looks at.
        activation: of an SRU's state on its way out: identity, tanh or relu.
        highway: whether an SRU's output has its input mixed in.
        rescale: whether an SRU applies the ``scale_x`` of its file.
        layer_norm: where an SRU has its layer norms: ``before`` the gates, ``after`` the output.
        causal: whether the attention of an SRU++ looks at earlier steps only.
        heads: of the attention of an SRU++.
        delay: steps by which the outputs of a delayed RNN are late.
        padding: what a delayed RNN gets behind a sequence: a number, a token, or ``future`` where
            the caller's inputs go on.

    Raises:
        CheckpointError: a value is none.
    """

    format: str | None = None
    key: str | None = None
    window: int | tuple[int, ...] | None = None
    output_gate: bool | None = None
    input_size: int | None = None
    zoneout: float | None = None
    direction: str | None = None
    bidirectional: bool | None = None
    batch_first: bool | None = None
    vocabulary: str | None = None
    classes: tuple[str, ...] | None = None
    pad_token: int | None = None
    bptt: int | None = None
    max_len: int | None = None
    activation: str | None = None
    highway: bool | None = None
    rescale: bool | None = None
    layer_norm: str | None = None
    causal: bool | None = None
    heads: int | None = None
    delay: int | None = None
    padding: float | int | str | None = None

    def __post_init__(self) -> None:
        try:
            self._check()
        except check.ConfigError as error:
            raise CheckpointError(str(error)) from None

    def _check(self) -> None:
        for name in ("format", "key", "vocabulary"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise check.ConfigError(f"{name} is no text")
        if self.window is not None:
            many = self.window if isinstance(self.window, tuple) else (self.window,)
            for taps in many or (0,):
                check.size("window", taps, check.MAX_WINDOW)
        for name in ("input_size", "bptt", "max_len", "heads"):
            if getattr(self, name) is not None:
                check.size(name, getattr(self, name))
        if self.delay is not None:
            check.size("delay", self.delay, MAX_DELAY, 0)
        if isinstance(self.padding, str):
            check.choice("padding", self.padding, (FUTURE, "a number"))
        elif self.padding is not None:
            check.number("padding", self.padding)
        if self.zoneout is not None:
            check.probability("zoneout", self.zoneout)
        if self.direction is not None:
            check.choice("direction", self.direction, DIRECTIONS)
        if self.activation is not None:
            check.choice("activation", self.activation, SRU_ACTIVATIONS)
        if self.layer_norm is not None:
            check.choice("layer_norm", self.layer_norm, SRU_NORMS)
        if self.pad_token is not None and (
            isinstance(self.pad_token, bool)
            or not isinstance(self.pad_token, int)
            or self.pad_token < 0
        ):
            raise check.ConfigError(f"pad_token is {self.pad_token!r}, expected a token number")
        flags = ("output_gate", "bidirectional", "batch_first", "highway", "rescale", "causal")
        for name in flags:
            if getattr(self, name) is not None:
                check.flag(name, getattr(self, name))
        if self.classes is not None:
            if not all(isinstance(name, str) and name for name in self.classes):
                raise check.ConfigError("classes holds an empty name, expected a name for each")
            if len(set(self.classes)) != len(self.classes):
                raise check.ConfigError("classes holds a name twice, expected different names")

    @property
    def reverse(self) -> bool:
        """Whether layers walk from the last step to the first."""
        return self.direction == "reverse"

    def said(self) -> dict[str, Any]:
        """What was said about the model itself."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in ("format", "key") and getattr(self, item.name) is not None
        }

    def windows(self, count: int) -> tuple[int, ...] | None:
        """The taps of ``count`` layers, or None.

        Raises:
            CheckpointError: another number of layers was given.
        """
        if self.window is None or isinstance(self.window, int):
            return None if self.window is None else (self.window,) * count
        if len(self.window) != count:
            raise CheckpointError(
                f"--window has {len(self.window)} numbers, expected one, or {count} for the "
                f"{count} layers of the file"
            )
        return self.window

    def to_json(self) -> dict[str, Any]:
        """What was said, as an exported file keeps it, so that ``verify`` reads alike.

        The names of files are left out: ``verify`` has no use for a vocabulary.
        """
        said = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if getattr(self, item.name) is not None
        }
        said.pop("vocabulary", None)
        return said

    @classmethod
    def from_json(cls, raw: Any) -> Given:
        """Back from :meth:`to_json`; keys that are not known are left out.

        Raises:
            CheckpointError: a value is none.
        """
        if not isinstance(raw, Mapping):
            return cls()
        known = {item.name for item in fields(cls)} - {"vocabulary"}
        values = {key: value for key, value in raw.items() if key in known}
        for key in ("window", "classes"):
            if isinstance(values.get(key), list):
                values[key] = tuple(values[key])
        return cls(**values)
