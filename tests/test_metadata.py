"""Metadata from a file are believed only after every field has been checked."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from qrnn_deploy.errors import ModelError
from qrnn_deploy.metadata import KEY, Metadata
from qrnn_deploy.runtime import Session

DATA = Path(__file__).parent / "data" / "v1"
MODELS = sorted(DATA.glob("*.onnx"))
SEPARATE = DATA / "language_model.onnx"
PACKED = DATA / "packed_ragged.onnx"


def recorded(path):
    """The metadata of a committed file as parsed JSON."""
    (entry,) = [item for item in onnx.load(path).metadata_props if item.key == KEY]
    return json.loads(entry.value)


def holds(now, then):
    """Whether ``now`` has all that ``then`` has; later formats add fields."""
    if isinstance(then, dict):
        return all(key in now and holds(now[key], value) for key, value in then.items())
    if isinstance(then, list):
        return len(now) == len(then) and all(map(holds, now, then))
    return now == then


def read(raw):
    return Metadata.from_properties({KEY: json.dumps(raw)}, "m.onnx")


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_committed_files_are_accepted(path):
    metadata = read(recorded(path))
    graph = onnx.load(path).graph
    assert metadata.input_names() == [port.name for port in graph.input]
    assert metadata.output_names() == [port.name for port in graph.output]
    assert holds(json.loads(metadata.to_json()), recorded(path))
    Session(path, kernel="off")


def test_there_are_committed_files():
    assert SEPARATE in MODELS and PACKED in MODELS


BAD = [
    ("format", True),
    ("format", "1"),
    ("format", 0),
    ("format", 1.0),
    ("op_domain_version", "7"),
    ("op_domain_version", True),
    ("op_domain_version", 0),
    ("dtype", "float64"),
    ("dtype", ["float32"]),
    ("state_mode", "carried"),
    ("state_mode", {}),
    ("state_mode", "none"),
    ("ragged", 1),
    ("time_major", "no"),
    ("own_lengths", None),
    ("weights_sha256", 5),
    ("library", None),
    ("assumptions", "none"),
    ("assumptions", [1]),
    ("config", [1]),
    ("config", {"vocabulary": "abc"}),
    ("config", {"vocabulary": ["a", 2]}),
    ("config", {"vocabulary": ["a", "\ud800"]}),
    ("config", {"classes": {"a": 1}}),
    ("source", "file"),
    ("inputs", []),
    ("inputs", {}),
    ("inputs", ["tokens"]),
    ("outputs", []),
    ("outputs", None),
    ("states", []),
    ("layers", {}),
    ("layers", [None]),
    ("inputs.0.name", ""),
    ("inputs.0.name", "two\nlines"),
    ("inputs.0.name", "state_00_c_in"),
    ("inputs.0.dtype", "object"),
    ("inputs.0.dtype", "complex64"),
    ("inputs.0.shape", "batch"),
    ("inputs.0.shape", ["batch", 1.5]),
    ("inputs.0.shape", ["batch", "time", True]),
    ("inputs.0.shape", ["batch", "time", -1]),
    ("inputs.0.shape", ["batch", "time", 2**40]),
    ("inputs.0.shape", ["batch", "time", 2**20, 2**20]),
    ("inputs.0.shape", ["batch", "time"] + [1] * 40),
    ("inputs.0.shape", ["batch", 4]),
    ("inputs.0.shape", ["rows", "time"]),
    ("inputs.0.shape", ["batch", "batch"]),
    ("inputs.0.time_axis", 2),
    ("inputs.0.time_axis", -1),
    ("inputs.0.time_axis", True),
    ("inputs.0.time_axis", 0),
    ("inputs.0.batch_axis", 9),
    ("outputs.0.name", 3),
    ("outputs.0.name", "state_01_x_out"),
    ("layers.0.index", 1),
    ("layers.0.name", "stack.layers.1"),
    ("layers.0.node", "layer_01_pool"),
    ("layers.0.op_type", "QRNNPoolZ"),
    ("layers.0.pooling", "ifo"),
    ("layers.0.activation", "sigmoid"),
    ("layers.0.direction", 0),
    ("layers.0.direction", 2),
    ("layers.0.zoneout_scale", float("nan")),
    ("layers.0.zoneout_scale", 1.5),
    ("layers.0.zoneout_scale", True),
    ("layers.0.window", 0),
    ("layers.0.hidden_size", "8"),
    ("layers.0.tensors", {"input": "a"}),
    ("layers.0.tensors.gates", 4),
    ("states.0.name", "state_01_c"),
    ("states.0.kind", "h"),
    ("states.0.kind", "x"),
    ("states.0.layer", 2),
    ("states.0.layer", -1),
    ("states.0.layer", "0"),
    ("states.0.shape", [9]),
    ("states.0.shape", [8.0, 1]),
    ("states.0.shape", ["batch"]),
    ("states.0.shape", [2**62]),
    ("states.0.shape", []),
    ("states.0.dtype", "float16"),
    ("states.0.dtype", "nonsense"),
    ("states.1.offset", 9),
    ("states.1.offset", "8"),
]


def changed(raw, place, value):
    """A copy with the field at ``place`` replaced."""
    raw = copy.deepcopy(raw)
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    at = raw
    for part in path:
        at = at[part]
    at[last] = value
    return raw


@pytest.mark.parametrize(("place", "value"), BAD, ids=lambda value: str(value)[:40])
def test_each_field_is_checked(place, value):
    with pytest.raises(ModelError, match=r"^m\.onnx has damaged qrnn-deploy metadata") as caught:
        read(changed(recorded(SEPARATE), place, value))
    message = str(caught.value)
    assert message.isprintable() and len(message) < 300


def test_message_names_the_field():
    with pytest.raises(ModelError, match=r"\(layers\[1\]\.window is 'two', expected a whole numb"):
        read(changed(recorded(SEPARATE), "layers.1.window", "two"))


def fields_of(value, place=()):
    """The path of every field of the JSON."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*place, key)
        if isinstance(item, (dict, list)):
            yield from fields_of(item, (*place, key))


NEEDED_NOT = {"config", "source", "assumptions", "weights_sha256", "toolkit_version", "library"}
NEEDED_NOT |= {"time_major", "own_lengths", "op_domain_version", "batch_axis", "time_axis"}


def test_every_field_may_be_missing_or_of_any_type():
    """Nothing but a ModelError comes out, whichever single field goes or changes its type."""
    raw = recorded(PACKED)
    del raw["config"]
    for path in fields_of(raw):
        for value in (None, True, -3, 2**70, 1.5, "", "x", [], [[]], {}, {"a": 1}):
            altered = copy.deepcopy(raw)
            at = altered
            for part in path[:-1]:
                at = at[part]
            at[path[-1]] = value
            try:
                read(altered)
            except ModelError as error:
                assert "\n" not in str(error)
        if isinstance(path[-1], str):
            del at[path[-1]]
            if path[-1] in NEEDED_NOT:
                continue
            with pytest.raises(ModelError, match="is missing"):
                read(altered)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "5",
        '"text"',
        "[" * 100_000,
        '{"format": ' + "9" * 5000 + "}",
        '{"format": 1e999}',
        '{"format": NaN}',
    ],
    ids=lambda text: text[:20],
)
def test_text_that_is_no_metadata(text):
    with pytest.raises(ModelError, match=r"damaged qrnn-deploy metadata") as caught:
        Metadata.from_properties({KEY: text}, "m.onnx")
    assert "\n" not in str(caught.value)


def test_operator_of_a_newer_version_may_be_unknown():
    """The function body can run it, so reading such a file is no error."""
    raw = changed(recorded(SEPARATE), "layers.0.op_type", "QRNNPoolNew")
    raw["op_domain_version"] = 2
    assert read(raw).layers[0].op_type == "QRNNPoolNew"


def test_states_are_bounded_together():
    raw = recorded(SEPARATE)
    raw["layers"][0]["hidden_size"] = raw["states"][0]["shape"][0] = 2**28
    for state in raw["states"][1:]:
        state["offset"] += 2**28 - 8
    with pytest.raises(ModelError, match="states is too large"):
        read(raw)


def lying(source, target, change):
    """A copy of a committed file with other metadata."""
    model = onnx.load(source)
    raw = recorded(source)
    change(raw)
    del model.metadata_props[:]
    helper.set_model_props(model, {KEY: json.dumps(raw)})
    onnx.save(model, target)
    return target


def narrower(raw):
    """States of 7 instead of 8 columns, consistent in themselves."""
    raw["layers"][0]["hidden_size"] = raw["states"][0]["shape"][0] = 7
    for state in raw["states"][1:]:
        state["offset"] -= 1


def stateless(raw):
    raw["state_mode"], raw["states"] = "none", []


LIES = [
    (SEPARATE, lambda raw: raw["inputs"][0].update(name="text"), "has inputs tokens, state_00"),
    (SEPARATE, lambda raw: raw["outputs"][0].update(name="y"), "has outputs logits, state_00"),
    (SEPARATE, lambda raw: raw["inputs"][0].update(dtype="int32"), "'tokens' is 'int64'"),
    (SEPARATE, lambda raw: raw["outputs"][0].update(dtype="float16"), "'logits' is 'float32'"),
    (SEPARATE, lambda raw: raw["outputs"][0]["shape"].append(2), "'logits' has shape"),
    (SEPARATE, lambda raw: raw["outputs"][0]["shape"].__setitem__(2, 8), "'logits' has shape"),
    (SEPARATE, lambda raw: raw["inputs"][0]["shape"].__setitem__(1, "steps"), "'tokens' has shape"),
    (SEPARATE, lambda raw: raw.update(ragged=True), "has inputs"),
    (SEPARATE, stateless, "has inputs"),
    (SEPARATE, narrower, r"'state_00_c_in' has shape \['batch', 8\], the metadata say"),
    (SEPARATE, lambda raw: raw.update(state_mode="packed"), "has inputs"),
    (PACKED, lambda raw: raw.update(state_mode="separate"), "has inputs"),
    (PACKED, lambda raw: raw.update(ragged=False), "has inputs"),
]


@pytest.mark.parametrize(("source", "change", "message"), LIES)
def test_metadata_that_contradict_the_graph(source, change, message, tmp_path):
    path = lying(source, tmp_path / "m.onnx", change)
    with pytest.raises(ModelError, match="contradicts its metadata: .*" + message) as caught:
        Session(path, kernel="off")
    assert str(caught.value).isprintable()


def test_order_of_inputs_is_the_graphs(tmp_path):
    """Golden vectors are numbered in the order of the metadata: another would mix them up."""
    model = onnx.load(PACKED.with_name("float16.onnx"))
    raw = recorded(PACKED.with_name("float16.onnx"))
    twin = copy.deepcopy(raw["inputs"][0]) | {"name": "w"}
    raw["inputs"].insert(0, twin)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT16, ["batch"]))
    del model.metadata_props[:]
    helper.set_model_props(model, {KEY: json.dumps(raw)})
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="has inputs x, state_00_c_in, w, the metadata say w, x"):
        Session(tmp_path / "m.onnx", kernel="off")


def test_bfloat16_ports_are_refused(tmp_path):
    """NumPy has no such type, so that nobody could feed the session."""
    port = {"name": "x", "dtype": "bfloat16", "shape": ["batch", "time", 3]}
    raw = recorded(SEPARATE) | {"inputs": [port], "outputs": [port | {"name": "y"}]}
    stateless(raw)
    kind = TensorProto.BFLOAT16
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["batch", "time", 3])],
        [helper.make_tensor_value_info("y", kind, ["batch", "time", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {KEY: json.dumps(raw)})
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="'x' is bfloat16, which NumPy lacks"):
        Session(tmp_path / "m.onnx", kernel="off")


def test_fingerprint_covers_what_the_layers_compute():
    raw = recorded(SEPARATE)
    base = read(raw).state_fingerprint()
    changes = {"activation": "relu", "zoneout_scale": 0.5, "direction": -1, "window": 3}
    for field, value in changes.items():
        other = copy.deepcopy(raw)
        other["layers"][1][field] = value
        if field == "window":
            other["states"][3]["shape"] = [2, 8]
        assert read(other).state_fingerprint() != base, field
    other = copy.deepcopy(raw)
    other["layers"][1] |= {"op_type": "QRNNPoolIFO", "pooling": "ifo"}
    assert read(other).state_fingerprint() != base
    assert read(json.loads(json.dumps(raw))).state_fingerprint() == base
