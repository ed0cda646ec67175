"""What a checkpoint's pickle may name, and what each name becomes: data, never the thing itself.

A pickle is a program: it names functions and classes of Python and says what to call. Here a name
is only compared with these tables. A class becomes a :class:`Shell`, a box with the class's name
and the attributes that were saved; a function becomes the plain value that it would have given. A
name in none of the tables stops the reading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from .stored import STORAGE_DTYPES, Storage, StoredTensor
from .untrusted_text import shown

MAX_NAME = 200
"""Characters of a module or class."""

MAX_KEY = 4096
"""Characters or bytes of a key, so that comparing two of them is cheap."""


class PickleDamage(ValueError):
    """Bytes that are no pickle of a checkpoint; the text says what is wrong."""


class PickleRefusal(PickleDamage):
    """A pickle that names something outside the tables; the text is the name."""


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names, as ``module.qualname``."""

    text: str


@dataclass(eq=False)
class Shell:
    """An object of a class that is never looked up: its name and its saved attributes."""

    cls: str
    state: dict[Any, Any] = field(default_factory=dict, repr=False)


_CLASSES = frozenset(
    {
        # salesforce/pytorch-qrnn, and awd-lstm-lm, whose modules lie in no package
        *("torchqrnn.qrnn.QRNN", "torchqrnn.qrnn.QRNNLayer", "torchqrnn.forget_mult.ForgetMult"),
        # the same as its __init__ exports them, from copies that are one file, torchqrnn.py
        *("torchqrnn.QRNN", "torchqrnn.QRNNLayer", "torchqrnn.ForgetMult"),
        *("model.RNNModel", "weight_drop.WeightDrop", "locked_dropout.LockedDropout"),
        "splitcross.SplitCrossEntropyLoss",
        # fastai 1 (MultiFiT among it) and 2
        *("fastai.text.models.qrnn.QRNN", "fastai.text.models.qrnn.QRNNLayer"),
        *(
            f"fastai.text.models.{module}.{name}"
            for module in ("awd_lstm", "awdlstm", "core")
            for name in (
                *("AWD_LSTM", "AWD_QRNN", "EmbeddingDropout", "RNNDropout", "WeightDropout"),
                *("LinearDecoder", "SequentialRNN", "SentenceEncoder", "PoolingLinearClassifier"),
            )
        ),
        *("fastai.text.learner.MultiBatchEncoder", "fastai.text.learner.PoolingLinearClassifier"),
        # santi-pdp/pase
        *("pase.models.frontend.WaveFe", "pase.models.modules.FeBlock"),
        *("pase.models.modules.SincConv_fast", "pase.models.modules.VQEMA"),
        # speechbrain
        *("speechbrain.nnet.RNN.QuasiRNN", "speechbrain.nnet.RNN.QuasiRNNLayer"),
        # asappresearch/sru, and its branch 3.0.0-dev
        *("sru.modules.SRU", "sru.modules.SRUCell", "sru.modules.SRUpp", "sru.modules.SRUppCell"),
        *("sru.modules.SRUppAttention", "sru.modules.SRUppProjectedLinear"),
        # TuKo/dRNN, whose modules lie in no package
        *("nets.SingleLayerLSTMNet", "nets.MultiLayerLSTMNet", "nets.CustomizedLSTM"),
        # what training scripts keep beside the weights
        *("argparse.Namespace", "numpy.dtype", "fastcore.foundation.L"),
        *(
            "torch.nn.parallel.data_parallel.DataParallel",
            "torch.nn.parallel.distributed.DistributedDataParallel",
        ),
    }
)

_CLASS_PATTERN = re.compile(r"torch\.(nn\.modules\.[a-z_]+|optim\.[a-z_]+)\.[A-Z]\w*", re.ASCII)
"""Layers, losses, optimizers and schedulers of PyTorch itself."""

DTYPES = {
    f"torch.{name}": name
    for name in (
        *("float32", "float64", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64"),
        "bool",
    )
}


def is_class(name: str) -> bool:
    """Whether a pickle may have objects of this class; they become shells."""
    return name in _CLASSES or _CLASS_PATTERN.fullmatch(name) is not None


def checked_name(module: str, qualname: str) -> Name:
    """The name, if it stands in one of the tables.

    Raises:
        PickleRefusal: it does not.
    """
    if max(len(module), len(qualname)) > MAX_NAME:
        raise PickleRefusal(shown(f"{module[:MAX_NAME]}.{qualname[:MAX_NAME]}"))
    text = f"{'builtins' if module == '__builtin__' else module}.{qualname}"
    known = (
        text in MAPPINGS
        or text in CALLS
        or text in STORAGE_DTYPES
        or text in DTYPES
        or is_class(text)
    )
    if not known and text not in ("builtins.object", "torch.serialization._get_layout"):
        raise PickleRefusal(shown(text))
    return Name(text)


def call(function: Name, args: tuple[Any, ...]) -> Any:
    """What a call would give, as data.

    Args:
        function: none of :data:`MAPPINGS`.
        args: the arguments, already data.

    Raises:
        PickleDamage: the arguments are not those that the real function takes.
    """
    if function.text in CALLS:
        try:
            return CALLS[function.text](*args)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            text = shown(str(error))
            raise PickleDamage(f"{function.text} has unusable arguments ({text})") from None
    if is_class(function.text):
        return Shell(function.text)
    raise PickleRefusal(function.text)


def entries_of(function: Name, args: tuple[Any, ...]) -> list[Any]:
    """Keys and values in turn, of a mapping made from nothing, pairs, or another mapping.

    Raises:
        PickleDamage: it is made from something else.
    """
    source = args[1:] if function.text == "collections.defaultdict" else args
    if not source:
        return []
    pairs = source[0].items() if isinstance(source[0], dict) else source[0]
    entries: list[Any] = []
    for pair in pairs if isinstance(pairs, (list, tuple, ItemsView)) else (None,):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise PickleDamage(f"{function.text} is not made of pairs")
        entries += pair
    return entries


def checked_key(key: Any) -> Any:
    """A key of a mapping, if hashing it is cheap whatever the file holds.

    Raises:
        PickleDamage: it is of a kind that no checkpoint has.
    """
    parts = key if isinstance(key, tuple) and len(key) <= 8 else (key,)
    for part in parts:
        if isinstance(part, (str, bytes)) and len(part) > MAX_KEY:
            raise PickleDamage(f"a mapping has a key of {len(part)} characters")
        if isinstance(part, int) and part.bit_length() > 64:
            raise PickleDamage(f"a mapping has a key of {part.bit_length()} bits")
        if not isinstance(part, (str, int, float, bytes, StoredTensor, Name, NoneType)):
            raise PickleDamage(f"a mapping has a key of type {type(part).__name__}")
    return key


def _list(items: Any = ()) -> list[Any]:
    if not isinstance(items, (list, tuple)):
        raise TypeError("it is not made of a list")
    return list(items)


def _tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    grad: Any = None,
    hooks: Any = None,
    metadata: Any = None,
) -> StoredTensor:
    """``torch._utils._rebuild_tensor_v2``; metadata say that a view has the other sign."""
    if not isinstance(storage, Storage):
        raise TypeError("its storage is none")
    if metadata:
        raise ValueError("a view of negative or conjugate numbers: save a clone()")
    return StoredTensor.checked(storage, offset, size, stride)


def _typed_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> StoredTensor:
    """``torch._utils._rebuild_tensor_v3``: an untyped storage, the type beside it."""
    if not isinstance(storage, Storage) or not isinstance(dtype, Name):
        raise TypeError("its storage or type is none")
    view = storage.viewed_as(DTYPES[dtype.text])
    return _tensor(view, offset, size, stride, grad, hooks, metadata)


def _parameter(data: Any, *_: Any) -> Any:
    """``torch._utils._rebuild_parameter``, ``Parameter`` of PyTorch 0.3: the tensor inside."""
    return data


def _reconstructed(cls: Any, base: Any, state: Any) -> Shell:
    """``copyreg._reconstructor(cls, object, None)``: an object of a class without slots."""
    if not isinstance(cls, Name) or not is_class(cls.text) or state is not None:
        raise ValueError("it is not a plain class")
    return Shell(cls.text)


MAPPINGS = frozenset(
    {
        *("collections.OrderedDict", "collections.defaultdict", "collections.Counter"),
        "builtins.dict",
    }
)
"""Classes of which :func:`entries_of` tells the content; a dictionary stands for each."""

CALLS: dict[str, Callable[..., Any]] = {
    "builtins.set": _list,
    "builtins.frozenset": _list,
    "builtins.list": _list,
    "builtins.tuple": lambda items=(): tuple(_list(items)),
    "torch.Size": lambda items=(): tuple(_list(items)),
    "torch.device": lambda *args: "device",
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.autograd.variable.Variable": _parameter,
    "torch.nn.backends.thnn._get_thnn_function_backend": lambda: None,
    "torch.nn.backends.thnn.THNNFunctionBackend": lambda *args: None,
    "copy_reg._reconstructor": _reconstructed,
    "copyreg._reconstructor": _reconstructed,
    # NumPy numbers, such as a best loss: kept as boxes that nobody opens
    "numpy.core.multiarray.scalar": lambda *args: Shell("numpy.generic"),
    "numpy._core.multiarray.scalar": lambda *args: Shell("numpy.generic"),
    "_codecs.encode": lambda text, encoding: Shell("bytes"),
}
"""Functions, and classes that are plain values, with what they give as data."""
