"""Does the replacement compute what the upstream layer computes? Asked of every layer.

A copy of upstream code in another project has upstream's names and may still compute something
else: another activation, another order of gates. Names cannot tell; numbers can.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .adapter import Adapter
from .errors import ConversionError
from .weights import LinearMap, trained

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
"""Largest difference relative to the largest value; code that differs is far beyond."""

_BATCH, _TIME = 3, 5


def prove(upstream: nn.Module, part: str, adapter: Adapter) -> None:
    """Run both on the same random chunks, in eval mode and without gradients, and compare.

    Args:
        upstream: stays as it is.
        part: the attribute that is its linear map.
        adapter: its replacement; it is left in eval mode and reset.

    Raises:
        ConversionError: they differ, or the upstream layer does not run.
    """
    adapter.eval()
    linear = trained(getattr(upstream, part))
    probe = _probe(upstream, part, linear)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(linear.weight)

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for hidden in (None, random(*adapter.hidden_shape(_BATCH))):
            axes = (_BATCH, _TIME) if adapter.batch_first else (_TIME, _BATCH)
            x = random(*axes, adapter.input_size)
            expected = answer(probe.forward, x.clone(), hidden)
            compare(expected, adapter(x, hidden), adapter.state_is_upstreams)
    adapter.reset()


def answer(call: Callable[..., Any], *args: Any) -> Any:
    """What upstream's code gives.

    Raises:
        ConversionError: it fails.
    """
    try:
        return call(*args)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ConversionError(
            f"it does not run, so that its replacement cannot be compared with it "
            f"({type(error).__name__}: {reason}): make it run here, or give check=False"
        ) from error


def _probe(upstream: nn.Module, part: str, linear: LinearMap) -> Any:
    """A stand-in that runs upstream's code on the trained weights and remembers on its own.

    It shares the weights: running the layer itself would change what it remembers, and the copy of
    the weight that a weight dropout keeps.
    """
    rows, columns = linear.weight.shape
    plain = nn.Linear(columns, rows, bias=linear.bias is not None, device="meta")
    plain.weight = nn.Parameter(linear.weight.detach(), False)
    if linear.bias is not None:
        plain.bias = nn.Parameter(linear.bias.detach(), False)
    probe: Any = object.__new__(type(upstream))
    probe.__dict__.update(upstream.__dict__)
    for registry in ("_parameters", "_buffers", "_modules"):
        probe.__dict__[registry] = dict(probe.__dict__[registry])
    probe._modules[part] = plain
    probe.training = False
    probe.use_cuda = False  # torchqrnn's own kernel needs cupy, and the loop gives the same
    if hasattr(probe, "reset"):
        probe.reset()
    return probe


def compare(expected: Any, got: tuple[Tensor, Tensor], with_state: bool = True) -> None:
    """Output and state against those of upstream.

    Raises:
        ConversionError: they differ, or are no output and state.
    """
    two = isinstance(expected, tuple) and len(expected) == 2
    if not two or not all(isinstance(value, Tensor) for value in expected):
        raise ConversionError(
            f"it returns a {type(expected).__name__}, expected an output and a state, two tensors: "
            "it is a layer of another kind"
        )
    for what, want, have in zip(("output", "state"), expected, got, strict=True):
        if what == "state" and not with_state:
            continue
        if want.shape != have.shape:
            raise ConversionError(
                f"its {what} has shape {list(want.shape)}, and that of its replacement "
                f"{list(have.shape)}: it is a layer of another kind"
            )
        allowed = TOLERANCES.get(want.dtype, 0.0) * float(want.abs().nan_to_num().max())
        if not torch.allclose(have, want, rtol=0, atol=allowed, equal_nan=True):
            raise ConversionError(
                f"its {what} differs from that of its replacement by "
                f"{float((have - want).abs().max()):.2g} on random input, expected at most "
                f"{allowed:.2g}: its code computes something else than upstream's"
            )
