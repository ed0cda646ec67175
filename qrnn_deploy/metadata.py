"""What an exported file says about itself, as versioned JSON in ONNX ``metadata_props``.

Written by the exporter, read by the runtime, ``inspect`` and ``verify``. Imports neither torch
nor onnx, so that a target machine needs only a runtime.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from ._metadata_check import (
    STANDARD_OPERATORS,
    MetadataDamage,
    check_metadata,
    distinct,
    shown,
)
from .errors import ModelError
from .pooling.spec import BY_OP_TYPE

KEY = "qrnn_deploy"
"""The ``metadata_props`` key."""

FORMAT = 2
"""Version of this JSON. A reader accepts its own version and every earlier one.

2 has layers of other families than QRNN, with their states, and delays.
"""

StateMode = Literal["separate", "packed", "none"]
StateKind = Literal["c", "s", "h", "x"]


@dataclass(frozen=True)
class StateEntry:
    """One carried state tensor.

    Attributes:
        name: without direction, for example ``state_00_c``.
        kind: ``c`` (state of a pool, or cell of an LSTM), ``s`` (of a highway recurrence), ``h``
            (output of an LSTM or GRU) or ``x`` (the layer's last k-1 inputs, oldest first).
        layer: index into :attr:`Metadata.layers`.
        shape: sizes after the batch axis: [H] for c and s, [k-1, in] for x, [depth, H] for the
            states of an LSTM or GRU.
        dtype: NumPy name. What our own operators carry is float32 whatever the model's type.
        offset: column of the first element in the packed state.
    """

    name: str
    kind: StateKind
    layer: int
    shape: list[int]
    dtype: str
    offset: int

    @property
    def input(self) -> str:
        """Graph input that takes it in a ``separate`` export."""
        return f"{self.name}_in"

    @property
    def output(self) -> str:
        """Graph output that returns it in a ``separate`` export."""
        return f"{self.name}_out"

    @property
    def size(self) -> int:
        """Elements per batch row."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


PACKED_INPUT = "state_in"
PACKED_OUTPUT = "state_out"
LENGTHS = "lengths"


@dataclass(frozen=True)
class LayerInfo:
    """One recurrent layer: what it computes and where it sits in the graph.

    Attributes:
        node: name of the node of one of our operators, or of the part of the graph that an nn.LSTM
            or nn.GRU became.
        op_type: of that node; ``LSTM`` and ``GRU`` are those of ONNX itself.
        pooling: of an operator of ours, else empty; ``activation`` likewise.
        tensors: maps ``input`` and ``h``, and for an operator of ours ``gates`` and ``c``, to names
            of graph tensors, all time-major.
        family: QRNN, SRU, RHN, LSTM or GRU.
        depth: steps of a highway recurrence in one of time; layers in one nn.LSTM or nn.GRU.
    """

    index: int
    name: str
    node: str
    op_type: str
    pooling: str
    activation: str
    direction: int
    zoneout_scale: float
    window: int
    input_size: int
    hidden_size: int
    tensors: dict[str, str]
    family: str = "QRNN"
    depth: int = 1

    @property
    def is_ours(self) -> bool:
        """Whether a node of our domain computes it."""
        return self.op_type not in STANDARD_OPERATORS

    @property
    def has_kernel(self) -> bool:
        """Whether our libraries have a kernel for its node."""
        spec = BY_OP_TYPE.get(self.op_type)
        return self.is_ours and (spec is None or spec.has_kernel)


@dataclass(frozen=True)
class PortInfo:
    """A graph input or output that is not a state: axes are None where there is none."""

    name: str
    dtype: str
    shape: list[int | str]
    batch_axis: int | None = 0
    time_axis: int | None = 1


@dataclass(frozen=True)
class Metadata:
    """Everything the file records.

    Attributes:
        dtype: storage type of the weights: float32, float16 or bfloat16.
        state_mode: ``separate`` and ``packed`` stream; ``none`` starts every run at zero.
        ragged: whether the graph takes ``lengths`` [B] int64.
        inputs, outputs: graph ports that are not states, in graph order.
        layers: recurrent layers in the order in which they are called.
        states: in graph order; empty where ``state_mode`` is ``none``.
        time_major: whether the PyTorch module itself takes [T, B, ...] (the graph never does).
        own_lengths: whether the module computes lengths for its layers itself.
        delay: steps by which a streaming model's outputs are late
            (:class:`~qrnn_deploy.nn.Delayed`): the first ``delay`` outputs of a stream are not
            valid, and ``delay`` more inputs bring out the last ones. 0 in a file that does not
            stream: there the graph does both itself.
        padding: the value of those further inputs, or None where the caller has to give them.
        config: of the module, where it is one of ours.
        source: sha256, file name and format of the checkpoint.
        assumptions: what the checkpoint did not record and was therefore assumed.
        weights_sha256: digest of all parameters and buffers, by name.
        op_domain_version: what a kernel must understand to run the file.
    """

    dtype: str
    state_mode: StateMode
    ragged: bool
    inputs: list[PortInfo]
    outputs: list[PortInfo]
    layers: list[LayerInfo]
    states: list[StateEntry]
    time_major: bool = False
    own_lengths: bool = False
    delay: int = 0
    padding: float | int | None = None
    config: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    assumptions: list[str] = field(default_factory=list)
    weights_sha256: str = ""
    toolkit_version: str = ""
    op_domain_version: int = 1
    library: str = "libqrnn_deploy_ort"
    format: int = FORMAT

    @property
    def feedback(self) -> bool:
        """Whether the gates of some layer see the state, so that roundings may grow."""
        return any(layer.family != "QRNN" for layer in self.layers)

    @property
    def packed_size(self) -> int:
        """Columns S of the packed state [B, S]."""
        return sum(state.size for state in self.states)

    @property
    def vocabulary(self) -> list[str] | None:
        """Token strings in index order, where the model is one of text that has them."""
        return self._texts("vocabulary")

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes in the order of the logits, where a classifier has them."""
        return self._texts("classes")

    def _texts(self, key: str) -> list[str] | None:
        value = (self.config or {}).get(key)
        return list(value) if value else None

    def input_names(self) -> list[str]:
        """Names of all graph inputs in graph order: the model's own, ``lengths``, states."""
        names = [port.name for port in self.inputs]
        names += [LENGTHS] if self.ragged else []
        if self.state_mode == "packed":
            return [*names, PACKED_INPUT]
        return [*names, *(state.input for state in self.states)]

    def output_names(self) -> list[str]:
        """Names of all graph outputs in graph order: the model's own, then states."""
        names = [port.name for port in self.outputs]
        if self.state_mode == "packed":
            return [*names, PACKED_OUTPUT]
        return [*names, *(state.output for state in self.states)]

    def input_ports(self) -> list[PortInfo]:
        """All graph inputs in graph order, ``lengths`` and the states among them."""
        lengths = [PortInfo(LENGTHS, "int64", ["batch"], 0, None)] if self.ragged else []
        return [*self.inputs, *lengths, *self._state_ports(PACKED_INPUT, "input")]

    def output_ports(self) -> list[PortInfo]:
        """All graph outputs in graph order, the states among them."""
        return [*self.outputs, *self._state_ports(PACKED_OUTPUT, "output")]

    def _state_ports(self, packed: str, side: Literal["input", "output"]) -> list[PortInfo]:
        if self.state_mode == "packed":
            return [PortInfo(packed, "float32", ["batch", self.packed_size], 0, None)]
        return [
            PortInfo(getattr(state, side), state.dtype, ["batch", *state.shape], 0, None)
            for state in self.states
        ]

    def state_fingerprint(self) -> str:
        """Identifies what a saved state belongs to: weights, state layout, what layers compute."""
        layout = [asdict(state) for state in self.states]
        layers = [
            [
                *(layer.op_type, layer.activation, layer.direction),
                *(float(layer.zoneout_scale), layer.window),
                *([layer.depth] if layer.depth != 1 else []),  # absent in files of format 1
            ]
            for layer in self.layers
        ]
        text = json.dumps([self.weights_sha256, self.dtype, layout, layers], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """The JSON text stored in the file."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], path: str) -> Metadata:
        """Read the metadata out of ``metadata_props``.

        Raises:
            ModelError: the file was not written by qrnn-deploy, is damaged, or needs a newer one.
        """
        if KEY not in properties:
            raise ModelError(
                f"{path} has no qrnn-deploy metadata (key {KEY!r}): expected a file written by "
                "`qrnn-deploy export`; export the model again"
            )
        try:
            raw = json.loads(properties[KEY])
            json.dumps(raw, ensure_ascii=False).encode()  # halves of surrogate pairs print nowhere
            version = raw.get("format") if isinstance(raw, dict) else None
            if isinstance(version, int) and version > FORMAT:
                raise ModelError(
                    f"{path} has metadata format {shown(version)}, this qrnn-deploy reads up to "
                    f"{FORMAT}: upgrade qrnn-deploy"
                )
            return cls._from_dict(raw)
        except ModelError:
            raise
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
            reason = str(error) if type(error) is MetadataDamage else type(error).__name__
            raise ModelError(
                f"{path} has damaged qrnn-deploy metadata ({reason}): export the model again"
            ) from error

    @classmethod
    def _from_dict(cls, raw: dict[str, Any]) -> Metadata:
        """Build from parsed JSON.

        Raises:
            MetadataDamage: see :func:`check_metadata`.
        """
        check_metadata(raw)
        parts: dict[str, Any] = {
            "inputs": [_known(PortInfo, item) for item in raw["inputs"]],
            "outputs": [_known(PortInfo, item) for item in raw["outputs"]],
            "layers": [_known(LayerInfo, item) for item in raw["layers"]],
            "states": [_known(StateEntry, item) for item in raw["states"]],
        }
        metadata = _known(cls, raw | parts)
        distinct(metadata.input_names(), "graph inputs")
        distinct(metadata.output_names(), "graph outputs")
        return metadata


_Record = TypeVar("_Record", PortInfo, LayerInfo, StateEntry, Metadata)


def _known(cls: type[_Record], raw: Mapping[str, Any]) -> _Record:
    """A record from the fields that this version knows."""
    return cls(**{item.name: raw[item.name] for item in fields(cls) if item.name in raw})
