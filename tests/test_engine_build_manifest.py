"""Profiles and manifests: what is accepted, what is refused, without any TensorRT."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrnn_deploy.engines import description, manifest_path, read_manifest
from qrnn_deploy.engines.gpu import Card, Cards
from qrnn_deploy.engines.manifest import Library, Manifest, parse_manifest
from qrnn_deploy.engines.options import parse_bytes
from qrnn_deploy.engines.profiles import ShapeRange, choose_profile, make_profiles, parse_sizes
from qrnn_deploy.errors import EngineError, InputError
from qrnn_deploy.metadata import LayerInfo, Metadata, PortInfo, StateEntry

X = PortInfo("x", "float32", ["batch", "time", 5])
STATE = PortInfo("state_00_c_in", "float32", ["batch", 6], 0, None)
LENGTHS = PortInfo("lengths", "int64", ["batch"], 0, None)
ENGINE = b"an engine"


def metadata() -> Metadata:
    tensors = {"input": "i", "gates": "g", "h": "y", "c": "state_00_c_out"}
    layer = LayerInfo(
        *(0, "layers.0", "layer_00_pool", "QRNNPoolFO", "fo", "tanh", 1, 1.0, 1, 5, 6), tensors
    )
    return Metadata(
        dtype="float32",
        state_mode="separate",
        ragged=False,
        inputs=[X],
        outputs=[PortInfo("y", "float32", ["batch", "time", 6])],
        layers=[layer],
        states=[StateEntry("state_00_c", "c", 0, [6], "float32", 0)],
    )


def profiles(*ports: PortInfo, streaming: bool = True, **sizes):
    bounds = {"minimum": {}, "optimum": {}, "maximum": {}} | sizes
    return make_profiles(ports or (X, STATE), {}, streaming=streaming, **bounds)


def manifest(**changes) -> Manifest:
    info = metadata()
    fields = {
        "backend": "tensorrt",
        "form": "plugin",
        "proof": ["network", "engine"],
        "tensorrt_version": "10.14.1.48",
        "version_compatible": False,
        "refit": False,
        "architectures": ["sm86"],
        "libraries": [Library("libqrnn_deploy_tensorrt.so", "0" * 64)],
        "precision": "float32",
        "inputs": info.input_ports(),
        "outputs": info.output_ports(),
        "profiles": profiles(),
        "metadata": info,
        "golden": "model.golden",
        "model": {"model.onnx": "1" * 64},
        "engine_bytes": len(ENGINE),
        "engine_sha256": hashlib.sha256(ENGINE).hexdigest(),
    }
    return Manifest(**fields | changes)


def write(folder: Path, content: Manifest) -> Path:
    engine = folder / "m.engine"
    engine.write_bytes(ENGINE)
    manifest_path(engine).write_text(content.to_json())
    return engine


def test_looking_at_engines_imports_nothing_heavy():
    heavy = {"torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx_bindings", "numpy"}
    program = f"import sys, qrnn_deploy.engines; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_default_profiles():
    sequence, step = profiles()
    assert sequence.name == "sequence" and step.name == "step"
    assert sequence.inputs == {
        "x": ShapeRange((1, 1, 5), (8, 64, 5), (32, 512, 5)),
        "state_00_c_in": ShapeRange((1, 6), (8, 6), (32, 6)),
    }
    assert step.inputs["x"] == ShapeRange((1, 1, 5), (8, 1, 5), (32, 1, 5))
    assert [profile.name for profile in profiles(streaming=False)] == ["sequence"]


def test_profiles_of_given_sizes():
    sequence, step = profiles(
        X, LENGTHS, minimum={"B": 2, "T": 4}, optimum={"T": 100}, maximum={"B": 3}
    )
    assert sequence.inputs["x"] == ShapeRange((2, 4, 5), (3, 100, 5), (3, 512, 5))
    assert sequence.inputs["lengths"] == ShapeRange((2,), (3,), (3,))
    assert step.inputs["x"] == ShapeRange((2, 1, 5), (3, 1, 5), (3, 1, 5))
    (only,) = profiles(maximum={"T": 1})
    assert only.name == "step"
    (high,) = profiles(streaming=False, minimum={"T": 1000})
    assert high.inputs["x"].max[1] == 1000


def test_sizes_of_further_symbols():
    control = PortInfo("control", "float32", ["batch", "time_control"])
    sequence, step = profiles(X, control, maximum={"T": 64, "time_control": 7})
    assert sequence.inputs["control"] == ShapeRange((1, 1), (8, 7), (32, 7))
    assert sequence.inputs["x"].max == (32, 64, 5)
    assert step.inputs["control"].max == (32, 1)
    other = PortInfo("x", "float32", ["batch", "channels"])
    with pytest.raises(EngineError, match="size channels has no default: give --max channels="):
        profiles(other)
    (only,) = profiles(other, maximum={"channels": 9})
    assert only.inputs["x"] == ShapeRange((1, 1), (8, 9), (32, 9))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"minimum": {"B": 9}, "maximum": {"B": 8}}, "B with min 9, opt 9, max 8"),
        ({"optimum": {"T": 9}, "maximum": {"T": 8}}, "T with min 1, opt 9, max 8"),
        ({"minimum": {"T": 0}}, "got --min T=0: expected 1 to"),
        ({"maximum": {"T": 2**31}}, "got --max T=2147483648: expected 1 to"),
        ({"maximum": {"T": True}}, "got --max T=True"),
        ({"optimum": {"t": 1}}, "got --opt t: this model has B, T"),
    ],
)
def test_sizes_that_no_profile_can_have(sizes, message):
    with pytest.raises(EngineError, match=message):
        profiles(**sizes)


@given(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99))
def test_whatever_is_given_is_kept_or_refused(low, usual, high):
    sizes = {"minimum": {"T": low}, "optimum": {"T": usual}, "maximum": {"T": high}}
    if low <= usual <= high:
        bounds = profiles(streaming=False, **sizes)[0].inputs["x"]
        assert (bounds.min[1], bounds.opt[1], bounds.max[1]) == (low, usual, high)
    else:
        with pytest.raises(EngineError):
            profiles(**sizes)


def test_texts():
    assert parse_sizes("B=1, T=64") == {"B": 1, "T": 64} and parse_sizes("") == {}
    for text in ("B", "B=", "=1", "B=1,", "B=-1", "B=1.5", "B=1,B=2", "B=²", "B=" + "9" * 99):
        with pytest.raises(EngineError, match="got sizes"):
            parse_sizes(text)
    assert parse_bytes("512MiB") == 1 << 29 and parse_bytes("2 GiB") == 1 << 31
    assert parse_bytes("262144GiB") == 1 << 48
    for text in ("262145GiB", "999999999999GiB"):
        with pytest.raises(EngineError, match="expected at most 262144GiB"):
            parse_bytes(text)
    for text in ("", "512", "0MiB", "1.5GiB", "-1GiB", "1TB", "1mib"):
        with pytest.raises(EngineError, match="expected a number with a unit"):
            parse_bytes(text)


def test_manifest_comes_back_as_it_went(tmp_path):
    engine = write(tmp_path, manifest())
    assert read_manifest(engine) == manifest()
    raw = json.loads(manifest_path(engine).read_text())
    assert list(raw)[:2] == ["kind", "format"]
    assert raw["profiles"][1]["inputs"]["x"]["max"] == [32, 1, 5]


def test_manifest_that_is_a_pipe_is_not_waited_for(tmp_path):
    engine = write(tmp_path, manifest())
    manifest_path(engine).unlink()
    os.mkfifo(manifest_path(engine))
    with pytest.raises(EngineError, match=r"m\.engine\.json is not a regular file"):
        read_manifest(engine)


def test_engine_and_manifest_that_do_not_belong_together(tmp_path):
    engine = write(tmp_path, manifest())
    engine.write_bytes(ENGINE + b"!")
    with pytest.raises(EngineError, match=r"has 10 bytes, and .* of an engine of 9"):
        read_manifest(engine)
    engine.write_bytes(ENGINE[::-1])
    with pytest.raises(EngineError, match=r"is not the engine that .* describes"):
        read_manifest(engine)
    manifest_path(engine).unlink()
    with pytest.raises(EngineError, match=r"m\.engine\.json is missing"):
        read_manifest(engine)
    engine.unlink()
    with pytest.raises(EngineError, match="is no file: expected an engine"):
        read_manifest(engine)


DAMAGE = {
    "no object": lambda raw: [],
    "another kind": lambda raw: raw | {"kind": "x"},
    "no format": lambda raw: {key: raw[key] for key in raw if key != "format"},
    "format zero": lambda raw: raw | {"format": 0},
    "backend": lambda raw: raw | {"backend": "cuda"},
    "backend a list": lambda raw: raw | {"backend": ["tensorrt"]},
    "form of the other backend": lambda raw: raw | {"form": "function"},
    "precision": lambda raw: raw | {"precision": "float16"},
    "version": lambda raw: raw | {"tensorrt_version": "10.x\n"},
    "no architectures": lambda raw: raw | {"architectures": []},
    "architectures": lambda raw: raw | {"architectures": ["gpu"]},
    "architecture twice": lambda raw: raw | {"architectures": ["sm86", "sm86"]},
    "too many": lambda raw: raw | {"architectures": [f"sm{n}" for n in range(100, 200)]},
    "proof": lambda raw: raw | {"proof": ["trust"]},
    "flag": lambda raw: raw | {"refit": 1},
    "library elsewhere": lambda raw: put(raw, "../evil.so", "libraries", 0, "name"),
    "library digest": lambda raw: put(raw, "0" * 63, "libraries", 0, "sha256"),
    "library no object": lambda raw: put(raw, None, "libraries", 0),
    "golden elsewhere": lambda raw: raw | {"golden": "/etc"},
    "golden a number": lambda raw: raw | {"golden": 1},
    "model empty": lambda raw: raw | {"model": {}},
    "engine digest": lambda raw: raw | {"engine_sha256": "x" * 64},
    "engine size": lambda raw: raw | {"engine_bytes": True},
    "port missing": lambda raw: raw | {"inputs": raw["inputs"][:1]},
    "port renamed": lambda raw: put(raw, "z", "inputs", 0, "name"),
    "port type": lambda raw: put(raw, "int8", "inputs", 0, "dtype"),
    "port size": lambda raw: put(raw, 6, "inputs", 0, "shape", 2),
    "port size zero": lambda raw: put(raw, 0, "inputs", 0, "shape", 0),
    "port symbol": lambda raw: put(raw, "other", "outputs", 0, "shape", 0),
    "profile input missing": lambda raw: put(raw, {}, "profiles", 0, "inputs"),
    "profile rank": lambda raw: put(raw, [1, 1], "profiles", 0, "inputs", "x", "min"),
    "profile bounds": lambda raw: put(raw, [99, 1, 5], "profiles", 0, "inputs", "x", "min"),
    "profile fixed": lambda raw: put(raw, [32, 512, 6], "profiles", 0, "inputs", "x", "max"),
    "profile size": lambda raw: put(raw, [32, 1e9, 5], "profiles", 0, "inputs", "x", "max"),
    "profile huge": lambda raw: put(raw, [32, 2**40, 5], "profiles", 0, "inputs", "x", "max"),
    "profile twice": lambda raw: raw | {"profiles": raw["profiles"][:1] * 2},
    "metadata missing": lambda raw: raw | {"metadata": None},
    "metadata damaged": lambda raw: put(raw, "f", "metadata", "layers", 0, "pooling"),
    "metadata huge": lambda raw: put(raw, [2**31], "metadata", "states", 0, "shape"),
}


def put(raw, value, *path):
    """A copy with the value at that place."""
    changed = copy.deepcopy(raw)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_manifest_is_refused_in_one_line(name):
    raw = DAMAGE[name](json.loads(manifest().to_json()))
    with pytest.raises(EngineError) as refused:
        parse_manifest(json.dumps(raw), "m.engine.json")
    text = str(refused.value)
    assert text.startswith("m.engine.json") and "\n" not in text and len(text) < 300


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.data())
def test_any_value_anywhere_is_accepted_or_refused_in_one_line(data):
    raw = json.loads(manifest().to_json())
    path, at = [], raw
    while isinstance(at, (dict, list)) and at and (not path or data.draw(st.booleans())):
        path.append(
            data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        )
        at = at[path[-1]]
    changed = put(raw, data.draw(JSON_VALUES), *path)
    try:
        parse_manifest(json.dumps(changed), "m.json")
    except EngineError as refused:
        assert "\n" not in str(refused) and len(str(refused)) < 400


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1e999999", '{"kind": "\\ud800"}', "NaN"])
def test_text_that_is_no_manifest(text):
    with pytest.raises(EngineError, match=r"m\.json is (damaged|no manifest)"):
        parse_manifest(text, "m.json")


def test_later_format_asks_for_an_upgrade(tmp_path):
    engine = write(tmp_path, manifest(format=2))
    with pytest.raises(EngineError, match=r"format 2, this qrnn-deploy reads up to 1: upgrade"):
        read_manifest(engine)
    manifest_path(engine).write_bytes(b"\xff\xfe")
    with pytest.raises(EngineError, match="not UTF-8"):
        read_manifest(engine)


def test_profile_for_shapes():
    content = manifest()
    assert content.profile_for({"x": (4, 20, 5), "state_00_c_in": (4, 6)}) == 0
    assert content.profile_for({"x": (4, 1, 5)}) == 1
    with pytest.raises(InputError, match=r"'x' has size 513 along axis 1 \(T\).* 1 to 512;"):
        content.profile_for({"x": (4, 513, 5)})
    with pytest.raises(InputError, match=r"'state_00_c_in' has size 33 along axis 0 \(B\)"):
        content.profile_for({"x": (4, 5, 5), "state_00_c_in": (33, 6)})
    with pytest.raises(InputError, match=r"'x' has 2 axes: expected 3"):
        content.profile_for({"x": (4, 5)})


class Installed:
    """A TensorRT of some version."""

    def __init__(self, version: str) -> None:
        self.__version__ = version


@pytest.mark.parametrize(
    ("here", "compatible", "card", "expected"),
    [
        ("10.14.1.48", False, "sm86", None),
        ("10.15.0.1", True, "sm86", None),
        ("11.1.0.1", True, "sm86", None),
        ("10.15.0.1", False, "sm86", "for TensorRT 10.14.1.48, here is 10.15.0.1"),
        ("10.13.0.1", True, "sm86", "for TensorRT 10.14.1.48 or later, here is 10.13.0.1"),
        ("10.14.1.48", False, "sm89", "for sm86, and A card is sm89"),
        ("10.14.1.48", False, None, "needs a GPU of sm86, and there is none"),
    ],
)
def test_whether_an_engine_runs_here(here, compatible, card, expected, monkeypatch):
    monkeypatch.setattr(description, "load_backend", lambda backend: Installed(here))
    cards = Cards((Card("A card", card),)) if card else Cards((), "there is none")
    monkeypatch.setattr(description, "find_cards", lambda: cards)
    content = manifest(version_compatible=compatible, libraries=[])
    found = description.obstacles(content)
    assert len(found) == (expected is not None)
    if expected is not None:
        assert expected in found[0]
        with pytest.raises(EngineError, match=r"m\.engine does not run here: "):
            description.require_runnable(content, "m.engine")


def test_plugin_library_that_an_engine_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(description, "load_backend", lambda backend: Installed("10.14.1.48"))
    monkeypatch.setattr(description, "find_cards", lambda: Cards((Card("A card", "sm86"),)))
    library = tmp_path / "libqrnn_deploy_tensorrt.so"
    monkeypatch.setenv("QRNN_DEPLOY_TENSORRT_LIBRARY", str(library))
    (absent,) = description.obstacles(manifest())
    assert "is not a file" in absent
    library.write_bytes(b"other")
    (other,) = description.obstacles(manifest())
    assert "is not the libqrnn_deploy_tensorrt.so that it was built with" in other
    digest = hashlib.sha256(b"other").hexdigest()
    assert description.obstacles(manifest(libraries=[Library(library.name, digest)])) == []
    carried = Library(library.name, "0" * 64, embedded=True)
    assert description.obstacles(manifest(libraries=[carried])) == []


def test_manifests_that_no_build_writes():
    def refused(**changes) -> str:
        raw = json.loads(manifest().to_json()) | changes
        with pytest.raises(EngineError) as error:
            parse_manifest(json.dumps(raw), "m.engine.json")
        assert len(str(error.value)) < 400
        return str(error.value)

    assert "proof is [], expected network" in refused(proof=[])
    assert "proof is ['engine'], expected network" in refused(proof=["engine"])
    assert "proof" in refused(proof=["network", "network"])
    assert "profiles is empty" in refused(profiles=[])
    other = json.loads(manifest().to_json())["profiles"]
    state = other[0]["inputs"]["state_00_c_in"]
    for bound in ("min", "opt", "max"):
        state[bound] = [7, 6]
    message = refused(profiles=other)
    assert "'state_00_c_in' has min 7, opt 7, max 7 for 'batch', another input" in message


def test_long_names_are_cut_in_messages():
    name = "x" * 5000
    port = PortInfo(name, "float32", ["batch", name])
    found = make_profiles([port], {}, minimum={}, optimum={}, maximum={name: 9}, streaming=False)
    messages = []
    for shape in ((1,), (1, 99)):
        with pytest.raises(InputError) as unfit:
            choose_profile(found, [port], {name: shape})
        messages.append(str(unfit.value))
    with pytest.raises(EngineError) as unknown:
        make_profiles([port], {}, minimum={"Q": 1}, optimum={}, maximum={}, streaming=False)
    with pytest.raises(EngineError) as unbounded:
        make_profiles([port], {}, minimum={}, optimum={}, maximum={}, streaming=False)
    messages += [str(unknown.value), str(unbounded.value)]
    assert all("xxx" in message and len(message) < 400 for message in messages)
