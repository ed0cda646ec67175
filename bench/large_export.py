"""Memory that the export of a large language model takes: `make test-large`.

Makes a checkpoint of random weights (four fo layers, tied embedding) in a temporary folder and
exports it in a fresh process. What counts is the peak of that process's resident memory, pages of
mapped files included, less what it held once everything was imported, beside the size of the
checkpoint. Then a step of the file is compared with PyTorch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EMBEDDING, LAYERS, WINDOW = 400, 4, 2
NAMES = {"fastai1": "model.pth", "native": "model.safetensors"}
GOLDEN_ROWS = 46
"""Steps in the golden vectors of a model that streams, times the batch."""


def sizes(hidden: int) -> list[tuple[int, int]]:
    """Rows and columns of each layer's weight: three gates; window 2 in the first."""
    widths = [EMBEDDING] + [hidden] * (LAYERS - 1) + [EMBEDDING]
    taps = [WINDOW] + [1] * (LAYERS - 1)
    return [(3 * widths[n + 1], taps[n] * widths[n]) for n in range(LAYERS)]


def checkpoint_bytes(words: int, hidden: int) -> int:
    """Bytes of the weights."""
    layers = sum(rows * (columns + 1) for rows, columns in sizes(hidden))
    return 4 * (words * (EMBEDDING + 1) + layers)


def make_checkpoint(form: str, words: int, hidden: int, path: Path) -> None:
    """Write a checkpoint of random weights."""
    import torch

    torch.manual_seed(0)
    embedding = torch.empty(words, EMBEDDING).uniform_(-0.1, 0.1)
    layers = [
        (torch.empty(shape).uniform_(-1, 1).mul_(2 / shape[1] ** 0.5), torch.randn(shape[0]))
        for shape in sizes(hidden)
    ]
    bias = torch.randn(words)
    if form == "native":
        from qrnn_deploy import save_checkpoint
        from qrnn_deploy.nn import QRNNLanguageModel

        module = QRNNLanguageModel(
            words, EMBEDDING, [hidden] * (LAYERS - 1) + [EMBEDDING],
            window=[WINDOW] + [1] * (LAYERS - 1), tied=True, device="meta",
        )  # fmt: skip
        tensors = {"embedding.weight": embedding, "decoder_bias": bias}
        for number, (weight, own_bias) in enumerate(layers):
            tensors[f"stack.layers.{number}.weight"] = weight
            tensors[f"stack.layers.{number}.bias"] = own_bias
        module.load_state_dict(tensors, assign=True)
        save_checkpoint(module, path)
        return
    tensors = {"0.encoder.weight": embedding, "0.encoder_dp.emb.weight": embedding}
    for number, (weight, own_bias) in enumerate(layers):
        place = f"0.rnns.{number}.layers.0.linear"
        tensors[f"{place}.weight_raw"] = weight
        # WeightDropout in eval mode leaves the weight itself in its place.
        tensors[f"{place}.module.weight"] = weight
        tensors[f"{place}.module.bias"] = own_bias
    tensors |= {"1.decoder.weight": embedding, "1.decoder.bias": bias}
    torch.save(tensors, path)


def memory(key: str) -> int:
    """Bytes of a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"large_export: /proc/self/status has no {key}: this needs Linux")


def export(checkpoint: Path, target: Path) -> dict[str, Any]:
    """In a process of its own: export, and what it took."""
    import onnx  # noqa: F401
    import onnxscript  # noqa: F401
    import torch  # noqa: F401

    from qrnn_deploy.exporter import ExportOptions, export_checkpoint

    before = memory("VmRSS")
    stages: dict[str, float] = {}
    start = time.perf_counter()
    report = export_checkpoint(
        checkpoint,
        target,
        ExportOptions(external_data=True),
        progress=lambda stage: stages.update({stage: round(time.perf_counter() - start, 2)}),
    )
    seconds = time.perf_counter() - start
    return {
        "imports_bytes": before,
        "peak_net_bytes": memory("VmHWM") - before,
        "seconds": round(seconds, 1),
        "stages": stages,
        "output_bytes": report.bytes,
    }


def step(checkpoint: Path, target: Path) -> dict[str, Any]:
    """In a process of its own: a step of the exported file beside PyTorch."""
    import numpy as np
    import torch

    from qrnn_deploy.checkpoints import load_checkpoint
    from qrnn_deploy.runtime import StreamingSession

    tokens = np.array([[1], [7]])
    stream = StreamingSession(target, batch_size=len(tokens))
    got = stream.step(tokens)
    implementation = sorted(set(stream.implementation.values()))
    del stream
    with torch.no_grad():
        expected = load_checkpoint(checkpoint).module(torch.from_numpy(tokens))[0].numpy()
    error = float(np.abs(got - expected).max() / np.abs(expected).max())
    return {
        "finite": bool(np.isfinite(got).all()),
        "relative_error": error,
        "implementation": implementation,
    }


def in_child(what: str, checkpoint: Path, target: Path) -> dict[str, Any]:
    """Run :func:`export` or :func:`step` in a fresh process; what it returned."""
    command = [sys.executable, __file__, "--child", what, str(checkpoint), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise SystemExit(f"large_export: {what} failed: {last}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def refuse_without_room(folder: Path, weights: int, words: int) -> None:
    """Stop where disk or memory would run out on the way.

    ONNX Runtime, the largest of all, holds the weights, and a transposed embedding besides.
    """
    golden = 4 * GOLDEN_ROWS * words
    disk, free = 2 * weights + golden + 2**28, shutil.disk_usage(folder).free
    if free < disk:
        raise SystemExit(
            f"large_export: {folder} has {free / 1e9:.1f} GB free, this needs {disk / 1e9:.1f} GB"
        )
    needed = 4 * weights + 2**30
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:") and int(line.split()[1]) * 1024 < needed:
            raise SystemExit(
                f"large_export: {int(line.split()[1]) / 1e6:.1f} GB of memory are available, this "
                f"needs {needed / 1e9:.1f} GB"
            )


def measure(form: str, words: int, hidden: int) -> dict[str, Any]:
    """Everything about one size."""
    with tempfile.TemporaryDirectory(prefix="qrnn-deploy-large-") as name:
        folder = Path(name)
        refuse_without_room(folder, checkpoint_bytes(words, hidden), words)
        checkpoint, target = folder / NAMES[form], folder / "model.onnx"
        make_checkpoint(form, words, hidden, checkpoint)
        size = checkpoint.stat().st_size
        result = {"form": form, "words": words, "hidden": hidden, "checkpoint_bytes": size}
        result |= in_child("export", checkpoint, target)
        result["ratio"] = round(result["peak_net_bytes"] / size, 3)
        return result | in_child("step", checkpoint, target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=60_000, help="vocabulary (default: 60000)")
    parser.add_argument("--hidden", type=int, default=1550, help="channels (default: 1550)")
    parser.add_argument("--form", choices=sorted(NAMES), default="fastai1", help="of checkpoint")
    parser.add_argument("--check", type=float, metavar="LIMIT", help="exit 1 above this ratio")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        what, checkpoint, target = args.child
        print(json.dumps({"export": export, "step": step}[what](Path(checkpoint), Path(target))))
        return 0
    result = measure(args.form, args.words, args.hidden)
    result["limit"] = args.check
    right = result["finite"] and result["relative_error"] <= 1e-4
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['form']}, {result['words']} words: checkpoint "
            f"{result['checkpoint_bytes'] / 1e6:.0f} MB, peak {result['peak_net_bytes'] / 1e6:.0f} "
            f"MB, ratio {result['ratio']:.2f}; {result['seconds']:.0f} s; output "
            f"{result['output_bytes'] / 1e6:.0f} MB; a step departs by "
            f"{result['relative_error']:.1e} ({', '.join(result['implementation'])})"
        )
    if not right:
        print("large_export: the step of the exported file is wrong", file=sys.stderr)
        return 1
    if args.check is not None and result["ratio"] > args.check:
        print(f"large_export: the ratio is above {args.check:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
