"""The pooling operator as data: names, gate order, attributes, versions.

One table serves the PyTorch operator, the exporter, the function body, the runtime and the
tests. It imports nothing of the project and nothing heavy. docs/op.md is the prose form.

Sources of the equations: Bradbury et al. 2016, "Quasi-Recurrent Neural Networks",
arXiv:1611.01576, section 2 (f-, fo- and ifo-pooling; ``if`` is ifo without the output gate); Lei
et al. 2018, "Simple Recurrent Units for Highly Parallelizable Recurrence", arXiv:1709.02755,
section 3; Zilly et al. 2016, "Recurrent Highway Networks", arXiv:1607.03474, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

DOMAIN: Final = "qrnn_deploy"
"""ONNX domain of the operator, and namespace of the ``torch.library`` operators."""

OPSET_VERSION: Final = 1
"""Version of the domain: raised when the meaning of the operator changes."""

PoolingName = Literal["f", "fo", "ifo", "if", "sru", "sru_input", "sru_noskip", "rhn"]
Family = Literal["QRNN", "SRU", "RHN"]
ActivationName = Literal["tanh", "relu", "identity"]

ACTIVATIONS: Final[tuple[ActivationName, ...]] = ("tanh", "relu", "identity")
"""Activations of the candidate z of a QRNN, and of the state on its way out of an SRU."""

STORAGE_DTYPES: Final = ("float32", "float16", "bfloat16")
"""Types of ``gates`` and ``h``. ``c0``, ``c_T`` and the recurrence itself are float32."""

FORWARD: Final = 1
REVERSE: Final = -1


_INPUTS = ("gates", "c0", "lengths")


@dataclass(frozen=True)
class PoolingSpec:
    """One recurrence: an operator that walks through time.

    Attributes:
        name: the paper's name: f, fo, ifo (and ``if``); sru and its two forms; rhn.
        op_type: ONNX operator type in :data:`DOMAIN`, unique across every TensorRT plugin
            and parser function known, since TensorRT ignores the domain.
        gates: order of the packed pre-activations along the last axis of ``gates``.
        family: the network it comes from.
        inputs: names of the operator's inputs in order.
        attributes: names of those attributes that say what is computed.
        has_kernel: whether our libraries have kernels for it; else its function body is all.
        stored: names of the inputs that have the storage type; of the others ``lengths`` is
            int64, and the rest float32.
    """

    name: PoolingName
    op_type: str
    gates: tuple[str, ...]
    family: Family = "QRNN"
    inputs: tuple[str, ...] = _INPUTS
    attributes: tuple[str, ...] = ("direction", "activation", "zoneout_scale")
    has_kernel: bool = True
    stored: tuple[str, ...] = ("gates",)

    @property
    def gate_count(self) -> int:
        """Blocks of ``hidden_size`` columns in ``gates``."""
        return len(self.gates)

    @property
    def has_output_gate(self) -> bool:
        """Whether h = sigmoid(o) * c rather than h = c."""
        return "o" in self.gates

    @property
    def has_input_gate(self) -> bool:
        """Whether the candidate has a weight of its own, c = f c + i z."""
        return "i" in self.gates

    @property
    def state(self) -> str:
        """Letter of the state: c, or s."""
        return self.inputs[1][0]

    @property
    def outputs(self) -> tuple[str, str]:
        """Names of the operator's outputs in order."""
        return "h", f"{self.state}_T"

    @property
    def torch_name(self) -> str:
        """Name of the ``torch.library`` operator: ``qrnn_deploy::pool_fo``."""
        return f"{DOMAIN}::pool_{self.name}"


POOLINGS: Final[dict[str, PoolingSpec]] = {
    spec.name: spec
    for spec in (
        PoolingSpec("f", "QRNNPoolF", ("z", "f")),
        PoolingSpec("fo", "QRNNPoolFO", ("z", "f", "o")),
        PoolingSpec("ifo", "QRNNPoolIFO", ("z", "f", "o", "i")),
        PoolingSpec("if", "QRNNPoolIF", ("z", "f", "i")),
    )
}
"""The pooling functions of a QRNN layer."""

_SRU_INPUTS = (*_INPUTS, "weight_c", "bias")
_SRU_ATTRIBUTES = ("direction", "activation")

SRU_POOLINGS: Final[dict[str, PoolingSpec]] = {
    spec.name: spec
    for spec in (
        # x is the highway's input: packed with the gates, an input of its own, or absent.
        PoolingSpec("sru", "SRUPool", ("z", "f", "r", "x"), "SRU", _SRU_INPUTS, _SRU_ATTRIBUTES),
        PoolingSpec(
            *("sru_input", "SRUPoolInput", ("z", "f", "r"), "SRU"),
            *((*_SRU_INPUTS, "skip"), _SRU_ATTRIBUTES, True, ("gates", "skip")),
        ),
        PoolingSpec(
            "sru_noskip", "SRUPoolNoSkip", ("z", "f", "r"), "SRU", _SRU_INPUTS, _SRU_ATTRIBUTES
        ),
    )
}
"""The recurrence of an SRU layer, by where its highway connection comes from."""

RHN: Final = PoolingSpec(
    *("rhn", "RHNRecurrence", ("h", "t"), "RHN"),
    *(("gates", "s0", "lengths", "weight", "bias"), ("direction",), False),
    stored=("gates", "weight", "bias"),
)
"""The recurrence of a highway layer, whose state meets matrices at every step: no kernel."""

OPERATORS: Final[dict[str, PoolingSpec]] = {**POOLINGS, **SRU_POOLINGS, RHN.name: RHN}

BY_OP_TYPE: Final[dict[str, PoolingSpec]] = {spec.op_type: spec for spec in OPERATORS.values()}

PLUGIN_VERSION: Final = "1"
"""Value of the node attribute ``plugin_version``; a kernel refuses a version it does not know."""
