"""nn.LSTM and nn.GRU as ONNX's own operators, one node per layer and pair of directions.

The gates of PyTorch's weights stand in another order than ONNX's: rows are moved by nodes, which
the exporter's optimiser or the runtime folds into the weights when the file is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18 as op

from ..nn import standard_op  # noqa: F401  (registers the torch.library operators)
from ..pooling.spec import DOMAIN

_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""Blocks of PyTorch's rows in ONNX's order: LSTM i o f c from i f g o, GRU z r h from r z n."""


def standard_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Entries for the ``custom_translation_table`` of ``torch.onnx.export``."""
    namespace = getattr(torch.ops, DOMAIN)
    return {namespace.lstm.default: _lstm, namespace.gru.default: _gru}


def _lstm(
    x: Any,
    h0: Any,
    c0: Any,
    weights: Sequence[Any],
    bias: bool,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Any, ...]:
    return _layers("LSTM", x, (h0, c0), weights, bias, num_layers, bidirectional)


def _gru(
    x: Any, h0: Any, weights: Sequence[Any], bias: bool, num_layers: int, bidirectional: bool
) -> tuple[Any, ...]:
    return _layers("GRU", x, (h0,), weights, bias, num_layers, bidirectional)


def _layers(
    kind: str,
    x: Any,
    states: Sequence[Any],
    weights: Sequence[Any],
    bias: bool,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Any, ...]:
    """Y [T, B, D*H], then each state after the last step [num_layers * D, B, H]."""
    ways = 2 if bidirectional else 1
    per_way = 4 if bias else 2
    hidden = weights[1].shape[1]
    ends: list[list[Any]] = [[] for _ in states]
    for layer in range(num_layers):
        mine = weights[layer * ways * per_way : (layer + 1) * ways * per_way]
        parts = [
            [_reordered(kind, mine[way * per_way + k]) for way in range(ways)]
            for k in range(per_way)
        ]
        input_weight, hidden_weight = (_stacked(part) for part in parts[:2])
        joined = None
        if bias:
            both = zip(parts[2], parts[3], strict=True)
            joined = _stacked([op.Concat(*pair, axis=0) for pair in both])
        given = [
            op.Slice(state, _ints(layer * ways), _ints((layer + 1) * ways), _ints(0))
            for state in states
        ]
        options: dict[str, Any] = {
            "hidden_size": hidden,
            "direction": "bidirectional" if bidirectional else "forward",
        }
        if kind == "GRU":
            options["linear_before_reset"] = 1
        emit = getattr(op, kind)
        y, *after = emit(x, input_weight, hidden_weight, joined, None, *given, **options)
        if bidirectional:
            x = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), _ints(0, 0, -1))
        else:
            x = op.Squeeze(y, _ints(1))
        for end, value in zip(ends, after, strict=True):
            end.append(value)
    stacked = [end[0] if num_layers == 1 else op.Concat(*end, axis=0) for end in ends]
    return (x, *stacked)


def _ints(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def _reordered(kind: str, rows: Any) -> Any:
    """Rows [G*H, ...] with their blocks in ONNX's order."""
    order = _ORDER[kind]
    blocks = op.Split(rows, axis=0, num_outputs=len(order))
    return op.Concat(*(blocks[place] for place in order), axis=0)


def _stacked(parts: Sequence[Any]) -> Any:
    """The parts of the directions with a new first axis."""
    raised = [op.Unsqueeze(part, _ints(0)) for part in parts]
    return raised[0] if len(raised) == 1 else op.Concat(*raised, axis=0)
