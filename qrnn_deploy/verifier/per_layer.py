"""Which layer departs first: each one fed the reference's input, and as it runs in the model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from ..errors import ModelError
from ..exporter.border import EXTRA, Border
from ..exporter.golden import finite_error, run_border
from ..exporter.graph import all_nodes
from ..exporter.layers import layer_at
from ..metadata import PACKED_INPUT, LayerInfo, Metadata
from ..nn.recurrent import RecurrentLayer
from ..runtime.loading import open_session
from ..tolerance import allowed_error
from .reference import GridCase, Reference
from .report import Comparison, LayerFinding, compare

_CASE = GridCase(batch=3, chunks=(9,), random_state=True, seed=11)
_LARGE = 2**30
_ELEMENT = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


def compare_layers(
    path: Path, reference: Reference, artifacts: Sequence[str], atol: float | None
) -> list[LayerFinding]:
    """Probe every layer of the file under every artifact.

    Raises:
        ModelError: the file lacks a tensor that its metadata name.
    """
    feed = reference.inputs(_CASE)
    records = _recorded(reference.exact, feed)
    records_same = _recorded(reference.same, feed)
    model = onnx.load(str(path), format="protobuf")
    arrays = {name: tensor.numpy() for name, tensor in feed.items()}
    findings = []
    with tempfile.TemporaryDirectory(prefix="qrnn-deploy-") as name:
        folder = Path(name)
        running = _Probe(model, folder / "all.onnx", None, reference)
        for info in reference.metadata.layers:
            finding = LayerFinding(info.index, info.name or "the layer")
            alone = _Probe(model, folder / f"layer{info.index}.onnx", info, reference)
            own = _layer_input(records, info, reference)
            expected = _run_layer(reference, info, own, records, feed)
            for artifact in artifacts:
                kernel = artifact != "function"
                fed = {**arrays, info.tensors["input"]: own.numpy()}
                finding.alone += _compare_all(
                    artifact, info, alone.run(fed, kernel), expected, reference, atol
                )
                h, same = (r[info.index, "y"].numpy() for r in (records, records_same))
                got = running.run(arrays, kernel)[info.tensors["h"]]
                allowed = _allowed(same, h, reference.metadata, atol)
                finding.in_model.append(
                    compare(artifact, "in the model", f"{info.name}.h", got, h, allowed, same)
                )
            findings.append(finding)
    return findings


def _recorded(
    border: Border, feed: Mapping[str, torch.Tensor]
) -> dict[tuple[int, str], torch.Tensor]:
    """What every layer of the PyTorch model gets and gives."""
    border.records = {}
    run_border(border, feed)
    records, border.records = border.records, None
    return records


def _allowed(
    same: NDArray[Any], exact: NDArray[Any], metadata: Metadata, atol: float | None
) -> float:
    if atol is not None:
        return atol
    error, peak = finite_error(torch.from_numpy(same), torch.from_numpy(exact))
    return allowed_error(error, peak, metadata.dtype, metadata.feedback)


class _Probe:
    """A cut of the model: one layer with its input as a graph input, or all layers' outputs."""

    def __init__(
        self, model: ModelProto, path: Path, layer: LayerInfo | None, reference: Reference
    ) -> None:
        meta = reference.metadata
        wanted = [layer] if layer else list(meta.layers)
        self.outputs = [info.tensors["h"] for info in wanted]
        if layer is not None:
            self.outputs += [layer.tensors["c"]] if layer.is_ours else []
            if meta.state_mode == "separate":
                self.outputs += [s.output for s in meta.states if s.layer == layer.index]
        self.outputs = list(dict.fromkeys(self.outputs))
        cut = _cut(model, self.outputs, layer.tensors["input"] if layer else None, meta.dtype)
        large = cut.ByteSize() > _LARGE  # one protobuf holds at most 2 GiB
        onnx.save(cut, path, save_as_external_data=large, location=f"{path.name}.data")
        self.inputs = [value.name for value in cut.graph.input]
        self.path = path
        self._sessions: dict[bool, onnxruntime.InferenceSession] = {}

    def run(self, feed: Mapping[str, NDArray[Any]], kernel: bool) -> dict[str, NDArray[Any]]:
        """Run with the kernel or the function body; ``feed`` may hold more than is needed."""
        session = self._sessions.get(kernel)
        if session is None:
            session, *_ = open_session(self.path, kernel="require" if kernel else "off")
            self._sessions[kernel] = session
        values = session.run(self.outputs, {name: feed[name] for name in self.inputs})
        return dict(zip(self.outputs, values, strict=True))


def _cut(model: ModelProto, outputs: Sequence[str], entry: str | None, dtype: str) -> ModelProto:
    """The part of ``model`` that computes ``outputs``, starting at tensor ``entry`` if given."""
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    needed: list[onnx.NodeProto] = []
    seen: set[str] = set()
    queue = list(outputs)
    while queue:
        name = queue.pop()
        if name in seen or name == entry:
            continue
        seen.add(name)
        node = made_by.get(name)
        if node is None:
            continue
        if not any(node is other for other in needed):
            needed.append(node)
        queue += node.input
        for inner in (n for a in node.attribute if a.HasField("g") for n in all_nodes(a.g)):
            queue += [x for x in inner.input if x in made_by]
    missing = [n for n in outputs if n not in made_by]
    if missing:
        raise ModelError(f"the file has no tensor {missing[0]!r}, which its metadata name")
    nodes = [node for node in graph.node if any(node is other for other in needed)]
    kinds = {value.name: value for value in (*graph.input, *graph.output)}
    inputs = [value for value in graph.input if value.name in seen]
    if entry is not None and entry not in {value.name for value in inputs}:
        inputs.append(helper.make_tensor_value_info(entry, _ELEMENT[dtype], [None] * 3))
    weights = [tensor for tensor in graph.initializer if tensor.name in seen]
    new = helper.make_graph(nodes, "probe", inputs, [], weights)
    for name in outputs:
        state = made_by[name].output[-1] == name and len(made_by[name].output) == 2
        plain = helper.make_tensor_value_info(
            name, TensorProto.FLOAT if state else _ELEMENT[dtype], None
        )
        new.output.append(kinds.get(name, plain))
    cut = ModelProto(ir_version=model.ir_version, graph=new)
    cut.opset_import.extend(model.opset_import)
    cut.functions.extend(model.functions)
    cut.metadata_props.extend(model.metadata_props)
    return cut


def _layer_input(
    records: Mapping[tuple[int, str], torch.Tensor], info: LayerInfo, reference: Reference
) -> torch.Tensor:
    """The exact input of a layer, rounded to the file's type so that both sides get the same."""
    return records[info.index, "input"].to(getattr(torch, reference.metadata.dtype))


def _run_layer(
    reference: Reference,
    info: LayerInfo,
    x: torch.Tensor,
    records: Mapping[tuple[int, str], torch.Tensor],
    feed: Mapping[str, torch.Tensor],
) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """What the layer gives for ``x``: tensor name -> (exact, PyTorch in the file's type)."""
    results = []
    for border in (reference.exact, reference.same):
        layer = layer_at(border.module, info.name)
        turned = x.to(layer.storage)
        if layer.batch_first:
            turned = turned.transpose(0, 1)
        state = _state_of(reference, info, feed, records, layer)
        extra = {
            name.removeprefix(EXTRA): value.to(layer.storage)
            if value.is_floating_point()
            else value
            for (index, name), value in records.items()
            if index == info.index and name.startswith(EXTRA)
        }
        with torch.no_grad():
            y, after = layer(turned, state, records.get((info.index, "lengths")), **extra)
        named = {info.tensors["h"]: y.transpose(0, 1) if layer.batch_first else y}
        if info.is_ours:
            named[info.tensors["c"]] = after[0]
        if reference.metadata.state_mode == "separate":
            for entry in reference.metadata.states:
                if entry.layer == info.index:
                    named[entry.output] = getattr(after, entry.kind)
        results.append({name: value.numpy() for name, value in named.items()})
    exact, same = results
    return {name: (exact[name], same[name]) for name in exact}


def _state_of(
    reference: Reference,
    info: LayerInfo,
    feed: Mapping[str, torch.Tensor],
    records: Mapping[tuple[int, str], torch.Tensor],
    layer: RecurrentLayer,
) -> Any:
    """The state from the graph's inputs, or the one that the model itself passes, or None."""
    meta = reference.metadata
    types = {part.kind: part.dtype(layer.storage) for part in layer.state_parts()}
    parts: dict[str, torch.Tensor] = {}
    if meta.state_mode == "none":
        for kind, wanted in types.items():
            if (info.index, f"{kind}0") in records:
                parts[kind] = records[info.index, f"{kind}0"].to(wanted)
        return layer.state_of(parts) if parts else None
    for entry in meta.states:
        if entry.layer != info.index:
            continue
        if meta.state_mode == "packed":
            flat = feed[PACKED_INPUT][:, entry.offset : entry.offset + entry.size]
            value = flat.reshape(-1, *entry.shape)
        else:
            value = feed[entry.input]
        # A float16 file rounds some of them on the way in; so does the reference.
        parts[entry.kind] = value.to(getattr(torch, entry.dtype)).to(types[entry.kind])
    return layer.state_of(parts)


def _compare_all(
    artifact: str,
    info: LayerInfo,
    got: Mapping[str, NDArray[Any]],
    expected: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    reference: Reference,
    atol: float | None,
) -> list[Comparison]:
    return [
        compare(
            artifact,
            "alone",
            f"{info.name}.{name}",
            got[name],
            exact,
            _allowed(same, exact, reference.metadata, atol),
            same,
        )
        for name, (exact, same) in expected.items()
        if name in got
    ]
