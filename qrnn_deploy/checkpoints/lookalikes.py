"""What weights look like that no format recognises, so that the error helps."""

from __future__ import annotations

import re

from .tables import WeightTable


def looks_like(table: WeightTable) -> str | None:
    """A guess in words, or None."""
    for pattern, guess in _PATTERNS:
        if any(re.search(pattern, name) for name in table.tensors):
            return guess
    recurrent = _torch_rnn(table)
    if recurrent:
        return recurrent
    if any(re.search(r"\.linear\.(module\.)?weight(_raw)?$", name) for name in table.tensors):
        return (
            "a network with layers of torchqrnn's kind inside, which has no format: build it with "
            "its own code, load the weights, and export qrnn_deploy.convert(model)"
        )
    if all(re.search(r"(^|\.)layers\.\d+\.(weight|bias)$", name) for name in table.tensors):
        return None  # layers of ours without their configuration
    ranks = {len(tensor.shape) for tensor in table.tensors.values()}
    if ranks <= {0, 1, 2} and 2 in ranks:
        return (
            "a feed-forward network of linear layers; many projects named qrnn are quantile "
            "regression or quantum networks, which have no quasi-recurrent layer"
        )
    if 3 in ranks or 4 in ranks:
        return "a convolutional network without a quasi-recurrent layer"
    return None


_PATTERNS = (
    (
        r"(^|\.)rnn_lst\.\d+\.",
        "an SRU of a version before 2.0, without weight_c: load it into sru.SRU(v1=True) of "
        "version 2 (strict=False), and save that",
    ),
    (
        r"(^|\.)(cells\.\d+\.(input_lin|hidden_lin)|rhncell)\.",
        "a network with a recurrent highway network inside, which has no format: save the state "
        "dict of that part alone",
    ),
    (
        r"(^|\.)(char|word)_lstm\.weight_hh_l0$",
        "the part-of-speech tagger of TuKo/dRNN, which has no format: it packs its sequences, for "
        "which ONNX has no operator",
    ),
    (r"(^|\.)(attn|attention|self_attn|multihead)", "a transformer, which has no QRNN layer"),
    (r"quantile|pinball", "a quantile-regression network, which has no quasi-recurrent layer"),
    (r"(^|\.)(qlayer|quantum|circuit)", "a quantum network, which has no quasi-recurrent layer"),
)


def _torch_rnn(table: WeightTable) -> str | None:
    """LSTM, GRU or RNN of PyTorch, told apart by the rows of ``weight_hh``."""
    for name, tensor in table.tensors.items():
        if not re.search(r"weight_hh_l\d+(_reverse)?(_raw)?$", name) or len(tensor.shape) != 2:
            continue
        rows, hidden = tensor.shape
        kind = {4: "an LSTM", 3: "a GRU", 1: "a plain RNN"}.get(rows // max(hidden, 1))
        if kind:
            cure = "build it with its own code, load the weights, and call qrnn_deploy.export()"
            if kind == "a plain RNN":
                cure = "torch.onnx exports it as it is"
            return f"{kind} checkpoint ({name[:60]} [{rows}, {hidden}]), not a QRNN: {cure}"
    return None
