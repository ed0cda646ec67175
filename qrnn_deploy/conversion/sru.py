"""asappresearch/sru 2.x: ``sru.SRU`` as a whole, and ``sru.SRUCell`` outside of one.

========== ==========================================================================
call       ``sru(input, c0=None, mask_pad=None)``: input [T, B, in], c0 [L, B, D] with
           D = H * directions, mask_pad [T, B], where not 0 a step is passed over;
           ``cell(input, c0=None, mask_pad=None)``: input [T, B, in] or [B, in], c0 [B, D]
returns    h [T, B, D] and c [L, B, D], or [L * directions, B, H] with
           ``nn_rnn_compatible_return``; a cell h [T, B, D] and c [B, D], for one step
           h [1, B, D] on the CPU and [B, D] on a GPU
source     ``sru/modules.py`` of 2.6.0
========== ==========================================================================

What a cell computes is read as from a checkpoint (:mod:`qrnn_deploy.checkpoints.sru`), with the
attributes of the live module.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..checkpoints.given import Given
from ..checkpoints.reading import choose
from ..checkpoints.sru import SRUFormat
from ..checkpoints.tables import InMemory, WeightTable
from ..errors import CheckpointError
from ..nn.factory import from_config
from ..nn.sru_stack import SRU
from .errors import ConversionError
from .kind import AnyKind
from .proof import answer, compare
from .sru_adapter import SRUAdapter, SRUCellAdapter
from .weights import Weights, refuse_hooks

_BATCH, _TIME = 3, 5


class SRUKind(AnyKind):
    """A stack, or a cell outside of one."""

    def replace(self, upstream: Any, weights: Weights, carried: bool, check: bool) -> SRUAdapter:
        """See :meth:`AnyKind.replace`."""
        cells = _cells(upstream)
        for part in upstream.modules():
            refuse_hooks(part)
        for name in ("custom_m", "transform_module"):
            if any(getattr(cell, name, None) is not None for cell in cells):
                raise ConversionError(
                    f"its gates come from a module of its own ({name}), which no layer of ours has"
                )
        stack = _stack(upstream, cells, weights)
        adapter = (
            SRUCellAdapter(stack, per_direction=False, carried=carried)
            if cells[0] is upstream
            else SRUAdapter(
                stack, per_direction=bool(upstream.nn_rnn_compatible_return), carried=carried
            )
        )
        if check:
            _prove(upstream, adapter)
        return adapter


def _cells(upstream: Any) -> list[Any]:
    return list(upstream.rnn_lst) if hasattr(upstream, "rnn_lst") else [upstream]


def _stack(upstream: nn.Module, cells: Sequence[Any], weights: Weights) -> SRU:
    """Ours with the numbers, the device, the type and ``requires_grad`` of upstream's.

    Raises:
        ConversionError: its tensors are not those of an SRU, or have no values.
    """
    named = {**dict(upstream.named_parameters(remove_duplicate=False)), **_buffers(upstream)}
    if any(tensor.is_meta for tensor in named.values()):
        raise ConversionError("its weights are on the meta device, expected ones with values")
    attributes = {
        path: {k: v for k, v in vars(part).items() if isinstance(v, (bool, int, float))}
        for path, part in upstream.named_modules()
    }
    tensors = {name: InMemory(tensor.detach()) for name, tensor in named.items()}
    try:
        reading = choose(SRUFormat().read(WeightTable(tensors, attributes), Given()))
    except CheckpointError as error:
        raise ConversionError(f"it is no SRU of this kind: it {error}") from error
    stack = cast(SRU, from_config(reading.config, device="meta"))
    loaded = {name: cast(Any, load)() for name, load in reading.tensors.items()}
    stack.load_state_dict(loaded, assign=True)
    ways = 2 if stack.bidirectional else 1
    for name, parameter in list(stack.named_parameters()):
        source = named[_upstream_name(name, ways, lone=cells[0] is upstream)]
        parameter.requires_grad_(source.requires_grad)
        path, _, last = name.rpartition(".")
        kept = weights.kept((id(source), name.split(".")[-1], ways, _way(name, ways)), parameter)
        setattr(stack.get_submodule(path), last, kept)
    for index, layer in enumerate(stack.layers):
        cast(Any, layer).dropout = float(cells[index // ways].dropout)
    return stack


def _buffers(upstream: nn.Module) -> dict[str, Tensor]:
    return dict(upstream.named_buffers(remove_duplicate=False))


def _way(name: str, ways: int) -> int:
    parts = name.split(".")
    return int(parts[1]) % ways if parts[0] == "layers" and len(parts) == 3 else 0


def _upstream_name(name: str, ways: int, *, lone: bool) -> str:
    """The tensor of upstream's that one of our stack is made of."""
    if name == "input_map.weight":
        return "input_to_hidden.weight"
    kind, index, rest = name.split(".", 2)
    cell = "" if lone else f"rnn_lst.{int(index) // (1 if kind == 'norms' else ways)}."
    if kind == "norms":
        return f"{cell}layer_norm.{rest}"
    rest = rest.replace("entry.norm.", "layer_norm.")
    return cell + rest.replace("entry.projection.weight", "weight_proj")


@contextmanager
def _evaluating(upstream: nn.Module) -> Iterator[None]:
    """Every part in eval mode, and afterwards as it was."""
    modes = [(part, part.training) for part in upstream.modules()]
    try:
        upstream.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training


def _prove(upstream: nn.Module, adapter: SRUAdapter) -> None:
    """Run both on the same random input: from zeros, from a state, and with steps passed over.

    With gradients, since without them upstream's code for the CPU takes float32 alone.

    Raises:
        ConversionError: they differ, or the upstream part does not run.
    """
    adapter.eval()
    like = cast(Tensor, adapter.stack.layers[0].weight)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(like)

    x = random(_TIME, _BATCH, adapter.input_size)
    shape = (adapter.num_layers, _BATCH, adapter.output_size)
    c0 = random(*(shape[1:] if isinstance(adapter, SRUCellAdapter) else shape))
    mask = torch.zeros(_TIME, _BATCH, dtype=torch.bool, device=like.device)
    mask[1, 0] = mask[0, 1] = mask[_TIME - 1, 2] = True
    with _evaluating(upstream), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for args in ((x,), (x, c0), (x, c0, mask)):
            with torch.enable_grad():
                expected = answer(upstream.forward, *args)
            if isinstance(expected, tuple):  # a mask turns upstream's float16 into float32
                expected = tuple(v.to(like) if isinstance(v, Tensor) else v for v in expected)
            with torch.no_grad():
                compare(expected, adapter(*args))
    adapter.reset()


KINDS = (
    SRUKind(
        "asappresearch/sru",
        "SRU",
        has=("rnn_lst", "num_layers", "bidirectional", "nn_rnn_compatible_return"),
        has_not=(),
    ),
    SRUKind(
        "asappresearch/sru",
        "SRUCell",
        has=("weight_c", "bias", "scale_x", "bidirectional", "activation_type", "custom_m"),
        has_not=("transform_module",),
    ),
)
