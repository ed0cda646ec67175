"""``qrnn-deploy inspect``: what is in an exported file or an engine, and what will run it here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from ..metadata import PACKED_INPUT, PACKED_OUTPUT, LayerInfo
from ..pair import pair_files, stands_for_pair
from ._checkpoint_options import checkpoint_options
from ._inspect_checkpoint import inspect_checkpoint
from ._shared import byte_size, console, json_option, kernel_option, print_json, table

if TYPE_CHECKING:
    from ..engines import EngineDescription
    from ..inspection import Inspection, KernelChoice


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@kernel_option
@checkpoint_options
@json_option
def inspect(model: Path, kernel: KernelChoice, said: dict[str, Any], as_json: bool) -> None:
    """Show what the ONNX file, the engine or the checkpoint MODEL takes, returns and holds.

    Inputs, outputs, carried states, layers, sizes, where it came from, and which implementation of
    the pooling recurrence runs on this machine: that is read from a session, not guessed. Of an
    engine also its profiles, what it was built for, and whether it runs here.

    Of an encoder-decoder MODEL is either of its files, or the name that stands for both.

    Of a checkpoint: which project wrote it, what followed from names and shapes, and what the file
    does not record and is therefore assumed. The options from --format on, which are for
    checkpoints alone, say what is right instead. Nothing in a checkpoint is executed.

    \b
    Examples:
      qrnn-deploy inspect model.onnx
      qrnn-deploy inspect model.onnx --json | jq .states
      qrnn-deploy inspect model.engine
      qrnn-deploy inspect qrnn.pt --input-size 40
    """
    from ..model_file import is_checkpoint
    from ..runtime import is_engine

    if is_checkpoint(model):
        if kernel != "auto":
            raise InputError(f"--kernel is for ONNX files, and {model} is a checkpoint")
        inspect_checkpoint(model, said, as_json)
        return
    if said:
        option = next(iter(said)).replace("_", "-")
        raise InputError(f"--{option} is for checkpoints, and {model} is none: leave it out")
    if is_engine(model):
        _inspect_engine(model, kernel, as_json)
        return
    from ..inspection import inspect_model

    if stands_for_pair(model):
        both = {
            part: inspect_model(file, kernel=kernel) for part, file in pair_files(model).items()
        }
        if as_json:
            print_json({part: facts.to_dict() for part, facts in both.items()})
        for facts in () if as_json else both.values():
            _print(facts)
        return
    facts = inspect_model(model, kernel=kernel)
    if as_json:
        print_json(facts.to_dict())
    else:
        _print(facts)


def _print(facts: Inspection) -> None:
    out = console()
    meta = facts.metadata
    total = facts.file_bytes + sum(facts.external_bytes.values())
    out.print(
        f"{facts.path}: {byte_size(total)}, {facts.parameters:,} parameters, {meta.dtype}, "
        f"states {meta.state_mode}{', ragged' if meta.ragged else ''}"
    )
    for name, size in facts.external_bytes.items():
        out.print(f"  weights in {name}, {byte_size(size)}")
    rows = [("input", p.name, p.dtype, _shape(p.shape)) for p in meta.inputs]
    rows += [("output", p.name, p.dtype, _shape(p.shape)) for p in meta.outputs]
    for state in facts.states():
        border = f"{state['input']} -> {state['output']}" if "input" in state else state["name"]
        if "offset" in state:
            border += f", columns from {state['offset']} ({state['name']})"
        rows.append(("state", border, state["dtype"], _shape(state["shape"])))
    out.print(table(["", "name", "type", "shape"], rows))
    out.print(
        table(
            ["layer", "kind", "size", "runs as"],
            [
                (
                    layer.name or "the model",
                    _kind(layer),
                    f"{layer.input_size} -> {layer.hidden_size}",
                    (facts.implementation or {}).get(layer.node, "?"),
                )
                for layer in meta.layers
            ],
        )
    )
    out.print(f"Runs here: {_verdict(facts)}")
    if meta.delay:
        padding = "inputs that the caller gives" if meta.padding is None else meta.padding
        out.print(f"Delay: outputs come {meta.delay} steps late; flush() pads with {padding}")
    if meta.vocabulary:
        out.print(f"Vocabulary: {len(meta.vocabulary)} tokens")
    for side in ("source", "target"):
        tokens = (meta.config or {}).get(f"{side}_vocabulary")
        if isinstance(tokens, list):
            out.print(f"{side.capitalize()} vocabulary: {len(tokens)} tokens")
    out.print(f"Test vectors beside it: {'yes' if facts.golden else 'no'}")
    for assumption in meta.assumptions:
        out.print(f"Assumed: {assumption}")
    for name, value in ((meta.source or {}).get("options") or {}).items():
        out.print(f"Given: {name} {value}")
    source = ", ".join(f"{k} {v}" for k, v in (meta.source or {}).items() if k != "options")
    out.print(f"Source: {source or 'a module in memory'}")
    opsets = ", ".join(f"{domain} {version}" for domain, version in facts.opsets.items())
    out.print(
        f"Written by qrnn-deploy {meta.toolkit_version or '?'}; ONNX IR {facts.ir_version}; "
        f"opsets {opsets}; functions {', '.join(facts.functions) or 'none (inlined)'}"
    )


def _inspect_engine(engine: Path, kernel: KernelChoice, as_json: bool) -> None:
    from ..engines import describe

    if kernel != "auto":
        raise InputError(f"--kernel is for ONNX files, and {engine} is an engine: leave it out")
    facts = describe(engine)
    if as_json:
        print_json(facts.to_dict())
    else:
        _print_engine(facts)


def _print_engine(facts: EngineDescription) -> None:
    from .build import implementation_text, profile_text

    out = console()
    manifest = facts.manifest
    meta = manifest.metadata
    out.print(
        f"{facts.path}: {byte_size(facts.bytes)}, {manifest.backend} {manifest.tensorrt_version}"
        f"{' or later' if manifest.version_compatible else ''}, {manifest.precision}, for "
        f"{', '.join(manifest.architectures)}{', refittable' if manifest.refit else ''}"
    )
    carried = {name for state in meta.states for name in (state.input, state.output)}
    carried |= {PACKED_INPUT, PACKED_OUTPUT}
    rows = [
        ("state " * (port.name in carried) + side, port.name, port.dtype, _shape(port.shape))
        for side, ports in (("input", manifest.inputs), ("output", manifest.outputs))
        for port in ports
    ]
    out.print(table(["", "name", "type", "shape"], rows))
    for index, profile in enumerate(manifest.profiles):
        out.print(f"Profile {index}, {profile.name}: {profile_text(manifest, profile)}")
    out.print(implementation_text(manifest))
    for library in manifest.libraries:
        carried_here = ", which the engine carries" if library.embedded else ""
        out.print(f"Needs: {library.name}{carried_here}, sha256 {library.sha256}")
    if not facts.obstacles:
        out.print("Runs here: nothing speaks against it")
    for obstacle in facts.obstacles:
        out.print(f"Runs here: no, {obstacle}")
    out.print(f"Test vectors beside it: {'yes' if facts.golden else 'no'}")
    for name, digest in manifest.model.items():
        out.print(f"Built from: {name}, sha256 {digest}")
    out.print(f"Written by qrnn-deploy {manifest.toolkit_version}")


def _kind(layer: LayerInfo) -> str:
    """What a layer computes: ``QRNN fo, window 2``; what is usual goes without saying."""
    ours = f" {layer.pooling}" if layer.family == "QRNN" else ""
    words = [layer.family + ours + (" reverse" if layer.direction < 0 else "")]
    if layer.window > 1:
        words.append(f"window {layer.window}")
    if layer.depth > 1:
        words.append(f"{'depth' if layer.is_ours else 'layers'} {layer.depth}")
    if layer.activation and layer.activation != ("tanh" if layer.family == "QRNN" else "identity"):
        words.append(layer.activation)
    if layer.pooling == "sru_noskip":
        words.append("no skip term")
    if layer.zoneout_scale != 1:
        words.append(f"zoneout scale {layer.zoneout_scale:g}")
    return ", ".join(words)


def _verdict(facts: Inspection) -> str:
    if facts.implementation is None:
        return f"no, {facts.obstacle}"
    counts = Counter(facts.implementation.values())
    said = {"kernel": "our kernel", "function": "the file's function", "standard": "ONNX itself"}
    return ", ".join(
        f"{n} of {counts.total()} layers by {said.get(how, how)}" for how, n in counts.items()
    )


def _shape(shape: list[Any]) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"
