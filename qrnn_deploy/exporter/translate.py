"""From ``torch.export`` to ONNX: how our operators become nodes.

Besides pooling there is ``qrnn_deploy::tag``, an identity that exists only while exporting. It
marks a tensor with a name that survives every optimisation of the exporter; :mod:`.graph` turns
the mark into the tensor's name and removes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnxscript
import torch
from torch import Tensor

from ..pooling import rhn_op, sru_op, torch_op  # noqa: F401  (register the torch operators)
from ..pooling.spec import DOMAIN, OPERATORS, OPSET_VERSION, PoolingSpec
from .schema import STORAGE_TYPES, plugin_attributes, register_schemas
from .standard import standard_translations

TAG_OP_TYPE = "Tag"


@torch.library.custom_op(f"{DOMAIN}::tag", mutates_args=())
def tag(x: Tensor, name: str) -> Tensor:
    """A copy of ``x`` that carries ``name`` through export."""
    return x.clone()


@tag.register_fake
def _(x: Tensor, name: str) -> Tensor:
    return torch.empty_like(x)


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The ``custom_translation_table`` for ``torch.onnx.export``."""
    register_schemas()
    if not onnx.defs.has(TAG_OP_TYPE, DOMAIN):
        onnx.defs.register_schema(_tag_schema())
    domain = onnxscript.values.Opset(DOMAIN, OPSET_VERSION)
    namespace = getattr(torch.ops, DOMAIN)
    table: dict[Callable[..., Any], Callable[..., Any]] = {
        getattr(namespace, f"pool_{spec.name}").default: _pool_translation(domain, spec)
        for spec in OPERATORS.values()
    }
    table[namespace.tag.default] = _tag_translation(domain)
    return table | standard_translations()


def _pool_translation(domain: onnxscript.values.Opset, spec: PoolingSpec) -> Callable[..., Any]:
    """From the arguments of a torch operator, inputs and then attributes, to a node."""
    emit = getattr(domain, spec.op_type)
    count = len(spec.inputs)

    def translate(*arguments: Any) -> Any:
        attributes = dict(zip(spec.attributes, arguments[count:], strict=True))
        return emit(*arguments[:count], **attributes, **plugin_attributes(spec))

    return translate


def _tag_translation(domain: onnxscript.values.Opset) -> Callable[..., Any]:
    emit = getattr(domain, TAG_OP_TYPE)

    def translate(x: Any, name: str) -> Any:
        return emit(x, name=name)

    return translate


def _tag_schema() -> onnx.defs.OpSchema:
    parameter = onnx.defs.OpSchema.FormalParameter
    return onnx.defs.OpSchema(
        TAG_OP_TYPE,
        DOMAIN,
        OPSET_VERSION,
        doc="Identity that names its tensor; only between tracing and finishing.",
        inputs=[parameter("x", "T")],
        outputs=[parameter("y", "T")],
        type_constraints=[("T", list(STORAGE_TYPES), "Any.")],
        attributes=[
            onnx.defs.OpSchema.Attribute("name", onnx.defs.OpSchema.AttrType.STRING, required=True)
        ],
    )
