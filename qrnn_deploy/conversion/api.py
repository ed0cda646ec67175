"""From a model with upstream QRNN layers to one with ours."""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

from torch import nn

from .._metadata_check import shown
from ..errors import ConfigError, InputError
from ..nn.recurrent import RecurrentLayer
from ..nn.sru_levels import SRUStack
from . import fastai, speechbrain, sru, torchqrnn
from .adapter import Carrying
from .errors import ConversionError, ConversionWarning
from .kind import AnyKind
from .weights import Weights

KINDS: tuple[AnyKind, ...] = (torchqrnn.KIND, *fastai.KINDS, speechbrain.KIND, *sru.KINDS)


_OURS = (RecurrentLayer, SRUStack)


def convert(model: nn.Module, *, carried: bool = False, check: bool = True) -> nn.Module:
    """A copy of ``model`` in which every upstream layer is replaced by ours.

    Upstream layers are ``QRNNLayer`` of torchqrnn (salesforce/pytorch-qrnn) and of fastai 1.0 and
    2.0 to 2.3, ``QuasiRNNLayer`` of SpeechBrain, ``SRU`` and ``SRUCell`` of asappresearch/sru, and
    copies of them in other projects. They are recognised by the name of their class and by their
    attributes. A replacement is called as the layer was and returns what it returned, so the rest
    stays as it is: upstream's own ``QRNN`` and ``QuasiRNN`` around the layers, and the user's
    network around those. Weights keep their type, device and ``requires_grad``, parts their
    training mode; what was shared stays shared.
    What layers remember between calls (``prevX``) is forgotten, as after ``reset()``.

    Args:
        model: a network, an upstream stack or a single upstream layer; it stays as it is.
        carried: whatever the model passes to its layers as ``hidden`` is zeros, or what they
            returned last. Then an export carries these states and leaves ``hidden`` out; without
            it, a streaming export refuses a model that passes states.
        check: compare each replacement with the layer it replaces, on random input.

    Returns:
        The new model, ready for :func:`qrnn_deploy.export`.

    Raises:
        ConversionError: there is no such layer, or one that cannot be replaced.
        InputError: ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is {shown(model)}, expected a torch.nn.Module")
    weights = Weights()
    instead: dict[int, Any] = {}  # what deepcopy takes for objects that it has copied already
    left = []
    done: tuple[str, ...] = ()  # places whose parts went with them
    for name, part in model.named_modules():
        if name.startswith(done):
            continue
        kind = next((kind for kind in KINDS if kind.fits(part)), None)
        if kind is not None:
            instead[id(part)] = _replacement(part, kind, name, weights, carried, check)
            done += (f"{name}." if name else "",)
        elif (reason := _lookalike(part)) is not None:
            left.append(f"{name or 'the model'!r} ({reason})")
    if not instead:
        raise ConversionError(_nothing_found(model, left))
    if left:
        warnings.warn(f"left as they are: {', '.join(left)}", ConversionWarning, stacklevel=2)
    try:
        return copy.deepcopy(model, instead)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ConversionError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {reason}): expected "
            "a model that copy.deepcopy takes; if it keeps tensors of a training step, run it once "
            "under torch.no_grad()"
        ) from error


def _replacement(
    part: nn.Module, kind: AnyKind, name: str, weights: Weights, carried: bool, check: bool
) -> Carrying:
    """Ours in place of the upstream layer ``part``.

    Raises:
        ConversionError: it cannot be replaced; the message names it.
    """
    try:
        adapter = kind.replace(part, weights, carried, check)
    except (ConversionError, ConfigError) as error:
        raise ConversionError(
            f"{_place(name)} ({kind.class_name} of {kind.name}): {error}"
        ) from error
    return adapter.train(part.training)


def _place(name: str) -> str:
    return f"layer {name!r}" if name else "the model itself"


def _lookalike(part: nn.Module) -> str | None:
    """Why a module with the class name of an upstream layer is none; None for any other module."""
    named = [kind for kind in KINDS if kind.is_named(part)]
    if isinstance(part, (*_OURS, Carrying)) or not named:
        return None
    missing = min((kind.lacks(part) for kind in named), key=len)
    beside = [name for kind in named for name in kind.has_not if hasattr(part, name)]
    differs = f"without {', '.join(missing)}" if missing else f"with {', '.join(beside)}"
    return f"a {type(part).__name__} {differs}"


def _nothing_found(model: nn.Module, left: list[str]) -> str:
    """The message for a model in which there is nothing to replace."""
    what = type(model).__name__
    if any(isinstance(part, (RecurrentLayer, Carrying)) for part in model.modules()):
        return (
            f"{what} is built on layers of qrnn_deploy already: expected upstream layers; export it"
        )
    if not left:
        left = [
            f"{name!r} (a {type(part).__name__})"
            for name, part in model.named_modules()
            if name and re.search("q(uasi)?_?rnn|sru", type(part).__name__, re.IGNORECASE)
        ]
    shown_parts = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
    return (
        f"{what} has no upstream layer: expected a QRNNLayer of torchqrnn or fastai, a "
        "QuasiRNNLayer of SpeechBrain, or an SRU or SRUCell of asappresearch/sru, by the name of "
        "the class and its attributes" + (f"; what it has is {shown_parts}" if left else "")
    )
