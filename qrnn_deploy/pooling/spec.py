"""The pooling operator as data: names, gate order, attributes, versions.

One table serves the PyTorch operator, the exporter, the function body, the runtime and the
tests. It imports nothing of the project and nothing heavy. docs/op.md is the prose form.

Source of the equations: Bradbury et al. 2016, "Quasi-Recurrent Neural Networks",
arXiv:1611.01576, section 2 (f-, fo- and ifo-pooling). ``if`` is ifo without the output gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

DOMAIN: Final = "qrnn_deploy"
"""ONNX domain of the operator, and namespace of the ``torch.library`` operators."""

OPSET_VERSION: Final = 1
"""Version of the domain: raised when the meaning of the operator changes."""

PoolingName = Literal["f", "fo", "ifo", "if"]
ActivationName = Literal["tanh", "relu", "identity"]

ACTIVATIONS: Final[tuple[ActivationName, ...]] = ("tanh", "relu", "identity")
"""Activations of the candidate z."""

STORAGE_DTYPES: Final = ("float32", "float16", "bfloat16")
"""Types of ``gates`` and ``h``. ``c0``, ``c_T`` and the recurrence itself are float32."""

FORWARD: Final = 1
REVERSE: Final = -1


@dataclass(frozen=True)
class PoolingSpec:
    """One pooling function.

    Attributes:
        name: the paper's name: f, fo, ifo (and ``if``).
        op_type: ONNX operator type in :data:`DOMAIN`, unique across every TensorRT plugin
            and parser function known, since TensorRT ignores the domain.
        gates: order of the packed pre-activations along the last axis of ``gates``.
    """

    name: PoolingName
    op_type: str
    gates: tuple[str, ...]

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

BY_OP_TYPE: Final[dict[str, PoolingSpec]] = {spec.op_type: spec for spec in POOLINGS.values()}

PLUGIN_VERSION: Final = "1"
"""Value of the node attribute ``plugin_version``; a kernel refuses a version it does not know."""
