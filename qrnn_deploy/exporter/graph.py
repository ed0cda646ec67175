"""The pass over the exported graph: names, functions, metadata; nothing of torch remains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from .. import __version__
from ..errors import ExportError
from ..metadata import KEY, Metadata
from ..pooling.spec import ACTIVATIONS, BY_OP_TYPE, DOMAIN, OPSET_VERSION
from .function_body import IR_VERSION, OPSET, Variant, build_functions
from .translate import TAG_OP_TYPE


def finish(model: ModelProto, metadata: Metadata) -> ModelProto:
    """Turn what torch.onnx wrote into our file format, in place, and return it.

    Tags become tensor names, pooling nodes get their names and functions, tracing leftovers
    (stack traces hold paths of the user's machine) go, metadata come in.

    Raises:
        ExportError: the graph does not hold the layers that the plan found.
    """
    graph = model.graph
    _strip_leftovers(model)
    _apply_tags(graph, metadata)
    _name_pools(graph, metadata)
    _name_weights(graph, metadata)
    if metadata.dtype != "float32":
        _part_transpose_from_matmul(graph)
    _add_functions(model, metadata)
    _set_borders(graph, metadata)
    graph.name = "qrnn_deploy"
    model.producer_name = "qrnn-deploy"
    model.producer_version = __version__
    model.ir_version = IR_VERSION
    del model.opset_import[:]
    model.opset_import.extend(
        [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, OPSET_VERSION)]
    )
    model.metadata_props.append(onnx.StringStringEntryProto(key=KEY, value=metadata.to_json()))
    return model


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node of the graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)
            for sub in attribute.graphs:
                yield from all_nodes(sub)


def pool_nodes(graph: GraphProto) -> list[NodeProto]:
    """The pooling nodes of the graph in order."""
    return [n for n in all_nodes(graph) if n.domain == DOMAIN and n.op_type in BY_OP_TYPE]


def rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors everywhere in the main graph."""

    def new(name: str) -> str:
        return names.get(name, name)

    for node in all_nodes(graph):
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new(value.name)


def _strip_leftovers(model: ModelProto) -> None:
    model.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in all_nodes(model.graph):
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]


def _apply_tags(graph: GraphProto, metadata: Metadata) -> None:
    """Replace each Tag by the name it carries.

    A tensor can carry several tags (a graph input that feeds two directions of a layer): one
    Identity per further tag keeps the names apart, and costs nothing, since runtimes remove it.
    """
    border = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    kept: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != TAG_OP_TYPE or node.domain != DOMAIN:
            kept.append(node)
            continue
        wanted = next(a.s.decode() for a in node.attribute if a.name == "name")
        source, out = node.input[0], node.output[0]
        if source in border or source in names or _is_initializer(graph, source):
            kept.append(helper.make_node("Identity", [source], [out], name=f"{wanted}_alias"))
            names[out] = wanted
        else:
            names[source] = wanted
            names[out] = wanted
    del graph.node[:]
    graph.node.extend(kept)
    rename(graph, names)
    stale = [v for v in graph.value_info if v.name in set(names.values())]
    for value in stale:
        graph.value_info.remove(value)


def _is_initializer(graph: GraphProto, name: str) -> bool:
    return any(tensor.name == name for tensor in graph.initializer)


def _name_pools(graph: GraphProto, metadata: Metadata) -> None:
    """Name each pooling node and its tensors after its layer, found by the tag of its gates."""
    by_gates = {layer.tensors["gates"]: layer for layer in metadata.layers if layer.is_ours}
    names: dict[str, str] = {}
    fixed = {value.name for value in graph.output}
    found = set()
    for node in pool_nodes(graph):
        layer = by_gates.get(node.input[0])
        if layer is None or layer.index in found:
            raise ExportError(
                f"pooling node {node.name!r} belongs to no layer of the plan: "
                "please report this model"
            )
        found.add(layer.index)
        node.name = layer.node
        for what, output in zip(("h", "c"), node.output, strict=True):
            if output in fixed:  # the state or the output itself: its name is the contract's
                layer.tensors[what] = output
            else:
                names[output] = layer.tensors[what]
    made = {name for node in graph.node for name in node.output}
    found |= {
        layer.index for layer in metadata.layers if not layer.is_ours and layer.tensors["h"] in made
    }
    if len(found) != len(metadata.layers):
        missing = [layer.name for layer in metadata.layers if layer.index not in found]
        raise ExportError(
            f"layers {missing} are not in the traced graph: expected all; "
            "their result may be unused in the model"
        )
    rename(graph, names)


def _name_weights(graph: GraphProto, metadata: Metadata) -> None:
    """Give weights the names of the module: ``layers.0.weight_T`` [k*in, G*H] is a layer's.

    torch.onnx stores the transposed weight of a linear map under a number of its own.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.name.startswith("module."):
            names[tensor.name] = tensor.name.removeprefix("module.")
    for layer in metadata.layers:
        node = made_by.get(layer.tensors.get("gates", ""))
        if node is not None and node.op_type == "Add":
            node = next((made_by[name] for name in node.input if name in made_by), None)
        if node is not None and node.op_type == "MatMul" and _is_initializer(graph, node.input[1]):
            names.setdefault(node.input[1], f"{layer.name}.weight_T".lstrip("."))
    taken = {value.name for value in (*graph.input, *graph.output)} | set(made_by)
    rename(graph, {old: new for old, new in names.items() if new not in taken})


def _part_transpose_from_matmul(graph: GraphProto) -> None:
    """Put a Reshape to the same shape between a Transpose and the MatMul that reads it.

    On x86 ONNX Runtime's CPU provider (seen in 1.23 to 1.31) crashes while loading a float16 model
    that has one right behind the other, an Identity between them or not: microsoft/onnxruntime
    issue 28392.
    """
    ranks = {
        node.output[0]: len(attribute.ints)
        for node in graph.node
        if node.op_type == "Transpose"
        for attribute in node.attribute
        if attribute.name == "perm"
    }
    for node in graph.node:  # in the order of computation; runtimes take an Identity away
        if node.op_type == "Identity" and node.input[0] in ranks:
            ranks[node.output[0]] = ranks[node.input[0]]
    kept: list[NodeProto] = []
    for node in graph.node:
        for position, name in enumerate(node.input if node.op_type == "MatMul" else ()):
            if name not in ranks:
                continue
            same, parted = f"{name}_same_shape", f"{name}_parted"
            if not _is_initializer(graph, same):
                zeros = helper.make_tensor(
                    same, TensorProto.INT64, [ranks[name]], [0] * ranks[name]
                )
                graph.initializer.append(zeros)
                kept.append(helper.make_node("Reshape", [name, same], [parted], name=parted))
            node.input[position] = parted
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _add_functions(model: ModelProto, metadata: Metadata) -> None:
    storage = TensorProto.DataType.Value(
        {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}[metadata.dtype]
    )
    variants = {}
    for node in pool_nodes(model.graph):
        layer = next(item for item in metadata.layers if item.node == node.name)
        variants[node.name] = Variant(
            spec=BY_OP_TYPE[node.op_type],
            activation=next((name for name in ACTIVATIONS if name == layer.activation), "identity"),
            storage=storage,
            reversible=layer.direction < 0,
            ragged=metadata.ragged or metadata.own_lengths,
            scaled=layer.zoneout_scale != 1.0,
            depth=layer.depth if layer.family == "RHN" else 0,
        )
    functions = build_functions(variants.values())
    for node in pool_nodes(model.graph):
        node.overload = functions[variants[node.name].key].overload
    del model.functions[:]
    model.functions.extend(functions.values())


def _set_borders(graph: GraphProto, metadata: Metadata) -> None:
    """Give the graph's inputs and outputs the symbolic shapes of the metadata."""
    shapes: dict[str, list[int | str]] = {}
    for port in (*metadata.inputs, *metadata.outputs):
        shapes[port.name] = port.shape
    for state in metadata.states:
        shapes[state.input] = shapes[state.output] = ["batch", *state.shape]
    shapes["state_in"] = shapes["state_out"] = ["batch", metadata.packed_size]
    shapes["lengths"] = ["batch"]
    for value in (*graph.input, *graph.output):
        shape = shapes.get(value.name)
        if shape is None:
            raise ExportError(f"graph port {value.name!r} is not in the plan: please report this")
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shape))
    del graph.value_info[:]
