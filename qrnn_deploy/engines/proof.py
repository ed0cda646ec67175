"""Proof of which implementation of the pooling nodes an engine holds.

A parser that does not find a plugin falls back to the function without a word, and one that finds a
plugin may take it unasked. So every pooling node is looked up by its name: in the network before
the build, and in the engine after it where this machine can open the engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import EngineError
from .backends import Form
from .model import Pool

_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def check_network(network: Any, trt: Any, pools: Sequence[Pool], form: Form, title: str) -> None:
    """Look at the layers that the parser made.

    The plugin form has one layer of type PLUGIN_V3 for each pooling node. The function form has no
    plugin layer, and for each pooling node one loop, made from the Scan of the node's function.

    Args:
        network: of the parser.
        trt: the TensorRT module.
        pools: the nodes of the ONNX file.
        form: the one that is wanted.
        title: name of the backend, for the message.

    Raises:
        EngineError: a node is implemented otherwise, or it cannot be told.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = trt.LayerType
    if form == "plugin":
        plugins = [layer for layer in layers if layer.type == kinds.PLUGIN_V3]
        taken = [
            pool
            for pool in pools
            if sum(pool.name in (layer.name, *_nodes_of(layer)) for layer in plugins) == 1
        ]
        _demand(taken, pools, f"{title} made a plugin layer", "network")
        return
    unwanted = (kinds.PLUGIN, kinds.PLUGIN_V2, kinds.PLUGIN_V3)
    for layer in layers:
        if layer.type in unwanted and {layer.name, *_nodes_of(layer)} & {p.name for p in pools}:
            raise EngineError(
                f"{title} took a plugin for {layer.name!r}, where the function was wanted: "
                "expected no plugin library of ours in this process; nothing was written"
            )
    loops = [layer for layer in layers if layer.type == kinds.RECURRENCE]
    looped = [pool for pool in pools if sum(pool.name in _nodes_of(layer) for layer in loops) == 1]
    _demand(looped, pools, f"{title} made a loop of the function", "network")


def check_engine(information: str, pools: Sequence[Pool], form: Form, title: str) -> None:
    """Look at the layers of a built engine.

    Args:
        information: JSON of TensorRT's engine inspector, detailed.
        pools: the nodes of the ONNX file.
        form: the one that is wanted.
        title: name of the backend, for the message.

    Raises:
        EngineError: a node is implemented otherwise, or it cannot be told.
    """
    try:
        layers = json.loads(information)["Layers"]
        plugins = [
            str(layer["Name"])
            for layer in layers
            if isinstance(layer, dict) and str(layer["LayerType"]).startswith("Plugin")
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"{title} does not say which layers its engine has ({type(error).__name__}: {error}): "
            "nothing was proven, so nothing was written; please report this version"
        ) from error
    taken = [pool for pool in pools if any(_mentions(name, pool) for name in plugins)]
    if form == "plugin":
        _demand(taken, pools, f"the engine of {title} holds a plugin layer", "engine")
    elif taken:
        raise EngineError(
            f"the engine of {title} holds a plugin for {taken[0].name!r}, where the function was "
            "wanted: nothing was written"
        )


def _nodes_of(layer: Any) -> Iterable[str]:
    """Names of the ONNX nodes that a layer was made from, the innermost first.

    The parser notes them as ``[ONNX Layer: pool | layer_00_pool (QRNNPoolFO)]``: the node of the
    function's body, then the node that calls the function.
    """
    for noted in _ONNX_NODE.findall(getattr(layer, "metadata", "") or ""):
        for part in noted.split(" | "):
            yield part
            yield re.sub(r" \(\w+\)$", "", part)


def _mentions(layer_name: str, pool: Pool) -> bool:
    """Whether the layer is the node's: a name may have additions, such as those of a profile."""
    return re.search(rf"(?<!\w){re.escape(pool.name)}(?!\w)", layer_name) is not None


def _demand(found: Sequence[Pool], pools: Sequence[Pool], what: str, where: str) -> None:
    if len(found) == len(pools):
        return
    missing = next(pool for pool in pools if pool not in found)
    raise EngineError(
        f"{what} for {len(found)} of {len(pools)} pooling nodes, not for {missing.name!r} "
        f"({missing.op_type}), as its {where} says: expected all of them; nothing was written"
    )
