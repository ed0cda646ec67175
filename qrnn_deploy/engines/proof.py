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

from .._metadata_check import shown
from ..errors import ProofError
from ..pooling.spec import DOMAIN
from .backends import Form
from .model import Pool

_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def check_network(network: Any, trt: Any, pools: Sequence[Pool], form: Form, title: str) -> None:
    """Look at the layers that the parser made.

    The plugin form has one layer of type PLUGIN_V3 for each pooling node that a plugin exists for.
    The function form has no plugin layer. What is no plugin layer is one loop, made from the Scan
    of the node's function.

    Args:
        network: of the parser.
        trt: the TensorRT module.
        pools: the nodes of the ONNX file.
        form: the one that is wanted.
        title: name of the backend, for the message.

    Raises:
        ProofError: a node is implemented otherwise, or it cannot be told.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = trt.LayerType
    as_plugin = [pool for pool in pools if pool.form(form) == "plugin"]
    as_function = [pool for pool in pools if pool.form(form) == "function"]
    plugins = [layer for layer in layers if layer.type == kinds.PLUGIN_V3]
    claims = [{layer.name, *_nodes_of(layer)} & {p.name for p in pools} for layer in plugins]
    taken = [pool for pool in as_plugin if claims.count({pool.name}) == 1]
    _demand(taken, as_plugin, f"{title} made a plugin layer", "network")
    unwanted = (kinds.PLUGIN, kinds.PLUGIN_V2, kinds.PLUGIN_V3)
    names = {pool.name for pool in as_function}
    for layer in layers:
        if layer.type in unwanted and {layer.name, *_nodes_of(layer)} & names:
            raise ProofError(
                f"{title} took a plugin for {shown(layer.name)}, where the function was wanted: "
                "expected no plugin library of ours in this process; nothing was written"
            )
    loops = [layer for layer in layers if layer.type == kinds.RECURRENCE]
    looped = [
        pool for pool in as_function if sum(pool.name in _nodes_of(layer) for layer in loops) == 1
    ]
    _demand(looped, as_function, f"{title} made a loop of the function", "network")


def check_engine(information: str, pools: Sequence[Pool], form: Form, title: str) -> None:
    """Look at the layers of a built engine.

    The plugin form has, in each profile that the inspector lists, one plugin layer for each pooling
    node that has a plugin and for no other, of the node's operator where the inspector tells that.
    The function form has no plugin layer at all. Which other layers its loops became has no names
    to go by.

    Args:
        information: JSON of TensorRT's engine inspector, detailed.
        pools: the nodes of the ONNX file.
        form: the one that is wanted.
        title: name of the backend, for the message.

    Raises:
        ProofError: a node is implemented otherwise, or it cannot be told.
    """
    layers = _layers(information, title)
    plugins = [layer for layer in layers if layer["LayerType"].startswith("Plugin")]
    if form == "function":
        if plugins:
            raise ProofError(
                f"the engine of {title} holds a plugin, {shown(plugins[0]['Name'])}, where the "
                "function was wanted: nothing was written"
            )
        return
    # What stands for the first profile alone has no addition to its name.
    listed = {0, *(_profile(layer["Name"]) for layer in layers)}
    found = [(_profile(layer["Name"]), _pool_of(layer, pools)) for layer in plugins]
    wanted = [pool for pool in pools if pool.form(form) == "plugin"]
    taken = [pool for pool in wanted if all(found.count((index, pool)) == 1 for index in listed)]
    _demand(taken, wanted, f"the engine of {title} holds a plugin layer", "engine")


def _layers(information: str, title: str) -> list[dict[str, Any]]:
    """The inspector's layers, which have at least a name and a type.

    Raises:
        ProofError: there are none, or others.
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _tells_nothing(title, f"{type(error).__name__}: {error}") from error
    if not isinstance(layers, list) or not layers:
        raise _tells_nothing(title, f"it lists {shown(layers)}")
    for layer in layers:
        if not isinstance(layer, dict) or not all(
            isinstance(layer.get(key), str) for key in ("Name", "LayerType")
        ):
            raise _tells_nothing(title, f"one is {shown(layer)}, without a name and a type")
    return layers


def _tells_nothing(title: str, reason: str) -> ProofError:
    return ProofError(
        f"{title} does not say which layers its engine has ({reason}): nothing was proven, so "
        "nothing was written; please report this version"
    )


def _profile(layer_name: str) -> int:
    """The profile that a layer of the engine belongs to."""
    match = re.search(r"\[profile (\d{1,3})\]", layer_name)
    return int(match[1]) if match else 0


def _pool_of(layer: dict[str, Any], pools: Sequence[Pool]) -> Pool | None:
    """The one pooling node that a plugin layer stands for, by its name and the plugin's type."""
    named = [pool for pool in pools if _mentions(layer["Name"], pool)]
    if len(named) != 1:
        return None
    wanted = {"PluginType": named[0].op_type, "PluginNamespace": DOMAIN}
    fits = all(layer.get(key, value) == value for key, value in wanted.items())
    return named[0] if fits else None


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
    """Whether the node's name stands in the layer's, which may have additions in brackets."""
    return re.search(rf"(?<![\w./:-]){re.escape(pool.name)}(?![\w./:-])", layer_name) is not None


def _demand(found: Sequence[Pool], pools: Sequence[Pool], what: str, where: str) -> None:
    if len(found) == len(pools):
        return
    missing = next(pool for pool in pools if pool not in found)
    raise ProofError(
        f"{what} for {len(found)} of {len(pools)} pooling nodes, not for {shown(missing.name)} "
        f"({missing.op_type}), as its {where} says: expected all of them; nothing was written"
    )
