"""The ONNX file as a builder takes it: its pooling nodes, and the bytes to parse.

Which of plugin and function TensorRT's parser prefers for a node that could be either has changed
between versions. So it gets no choice: where the plugin is wanted the functions are taken out of
the model in memory, and where the function is wanted the attributes that name a plugin are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from .._metadata_check import shown
from ..errors import EngineError
from ..metadata import Metadata
from ..model_file import external_sizes, metadata_of, read_model
from ..pooling.spec import BY_OP_TYPE, DOMAIN
from .backends import Form

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

PLUGIN_ATTRIBUTES = ("plugin_namespace", "plugin_version")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Pool:
    """A node of one of our operators: its name in the graph and its operator."""

    name: str
    op_type: str

    def form(self, wanted: Form) -> Form:
        """What it becomes in an engine of form ``wanted``: some operators have no plugin."""
        return wanted if BY_OP_TYPE[self.op_type].has_kernel else "function"


@dataclass(frozen=True)
class Source:
    """An ONNX file to build from.

    Attributes:
        path: the file.
        model: without the weights that lie in other files.
        metadata: what the exporter recorded.
        pools: the nodes of our operators; none where all layers are those of ONNX itself.
        files: name of each file of the model, weights included -> sha256.
    """

    path: Path
    model: ModelProto
    metadata: Metadata
    pools: tuple[Pool, ...]
    files: dict[str, str]


def read_source(path: Path) -> Source:
    """Read a file of the exporter.

    Raises:
        ModelError: no readable ONNX file, not one of ours, or without its weights.
        EngineError: it lacks the nodes that its metadata list, their names are not distinct, or
            a function calls itself.
    """
    model = read_model(path)
    metadata = metadata_of(model, path)
    parts = external_sizes(model, path)
    for name in parts:
        if not _is_beside(name):
            raise EngineError(
                f"{path} refers to weights in {shown(name)}, outside its folder: expected a file "
                "beside it, as the exporter writes"
            )
    if _calls_itself(model):
        raise EngineError(
            f"{path} has a function that calls itself, which no engine can hold: export the model "
            "again"
        )
    pools = tuple(Pool(node.name, node.op_type) for node in pool_nodes(model.graph))
    ours = {layer.node for layer in metadata.layers if layer.is_ours}
    if ours and not pools:
        raise EngineError(
            f"{path} holds no pooling node ({', '.join(BY_OP_TYPE)} of {DOMAIN}), so nothing could "
            "be proven of an engine: export the model without --inline"
        )
    if len({pool.name for pool in pools}) != len(pools) or not all(pool.name for pool in pools):
        raise EngineError(
            f"{path} has pooling nodes without a name of their own: expected the names that the "
            "exporter gives; export the model again"
        )
    if {pool.name for pool in pools} != ours:
        raise EngineError(
            f"{path} contradicts its metadata: its pooling nodes are not those of the layers that "
            "the metadata list; export the model again"
        )
    files = {name: file_sha256(path.parent / name) for name in (path.name, *parts)}
    return Source(path, model, metadata, pools, files)


def pool_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The pooling nodes of a graph and of its subgraphs."""
    for node in _all_nodes(graph):
        if node.domain == DOMAIN and node.op_type in BY_OP_TYPE:
            yield node


def _all_nodes(graph: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _all_nodes(inner)


def _calls_itself(model: ModelProto) -> bool:
    """Whether a function calls itself, perhaps by way of others: parsers follow that for ever.

    Overloads are not told apart, since not every parser does.
    """
    calls: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for function in model.functions:
        called = {(node.domain, node.op_type) for node in _all_nodes(function)}
        calls.setdefault((function.domain, function.name), set()).update(called)
    try:
        TopologicalSorter(calls).prepare()
    except CycleError:
        return True
    return False


def prepared_bytes(source: Source, form: Form) -> bytes:
    """The serialised model that leaves the parser one way to read each node of ours.

    Weights in other files stay there: the parser finds them beside the path it is given.

    Raises:
        EngineError: the function is wanted, and the file lacks that of a node.
    """
    from onnx import ModelProto

    model = ModelProto()
    model.CopyFrom(source.model)
    plugins = {name for name, spec in BY_OP_TYPE.items() if spec.has_kernel and form == "plugin"}
    kept = [item for item in model.functions if item.domain != DOMAIN or item.name not in plugins]
    del model.functions[:]
    model.functions.extend(kept)
    functions = {(item.domain, item.name, item.overload) for item in model.functions}
    for node in pool_nodes(model.graph):
        if node.op_type in plugins:
            node.overload = ""
            continue
        if (node.domain, node.op_type, node.overload) not in functions:
            raise EngineError(
                f"{source.path} lacks the function of its node {shown(node.name)} "
                f"({node.op_type}): expected one of standard ONNX, as the exporter writes; export "
                "the model again"
            )
        others = [item for item in node.attribute if item.name not in PLUGIN_ATTRIBUTES]
        del node.attribute[:]
        node.attribute.extend(others)
    return bytes(model.SerializeToString())


def file_sha256(path: Path) -> str:
    """Digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _is_beside(name: str) -> bool:
    """Whether a location stays below the model's folder; what a link there points to is fine."""
    location = PurePath(name)
    return not location.is_absolute() and ".." not in location.parts
