"""Every figure of this example's README: how close the test part's translations come.

    pip install 'qrnn-deploy[examples]'     # sacrebleu, for chrF
    python examples/translation/score.py

Reads ``model.safetensors`` beside this script, translates in PyTorch, exports it and translates in
ONNX Runtime. The LSTM's translations are those of ``lstm-translations.tsv``. The exit status is 1
where ONNX Runtime translates otherwise than PyTorch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import data
import torch
from search import by_onnxruntime, by_torch, texts

import qrnn_deploy

BEAMS = (1, 4)
SHOWN = 37
"""Every so many pairs of the test part one is printed."""


def chrf(answers: Sequence[str], wanted: Sequence[str]) -> float:
    """chrF2 of a corpus, 0 to 100 (Popovic 2015), by sacrebleu.

    Raises:
        SystemExit: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics import CHRF
    except ImportError as error:
        raise SystemExit("chrF needs sacrebleu: pip install 'qrnn-deploy[examples]'") from error
    return float(CHRF().corpus_score(list(answers), [list(wanted)]).score)


def tally(answers: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """chrF, and how many answers are right to the letter."""
    right = sum(a == b for a, b in zip(answers, wanted, strict=True))
    return {"chrf": round(chrf(answers, wanted), 2), "right": right}


def row(name: str, found: dict[str, float]) -> str:
    """A line of the table."""
    return f"| {name} | {found['chrf']:.2f} | {found['right']} |"


def compared(systems: dict[str, Sequence[str]], wanted: Sequence[str]) -> list[str]:
    """A line for each system: chrF with its 95% interval, and p of no difference from the first.

    By 1,000 paired bootstrap samples of the pairs (Koehn 2004).
    """
    from sacrebleu.metrics import CHRF
    from sacrebleu.significance import PairedTest

    named = [(name, list(answers)) for name, answers in systems.items()]
    _, found = PairedTest(named, {"chrF": CHRF()}, [list(wanted)], "bs", 1000)()
    return [
        f"{name}: {one.mean:.1f} +- {one.ci:.1f}"
        + ("" if one.p_value is None else f", p = {one.p_value:.3f}")
        for name, one in zip(found["System"], found["chrF2"], strict=True)
    ]


def main() -> int:
    """Score everything and print it."""
    parser = argparse.ArgumentParser(description="Score the translator of phrases.")
    parser.add_argument("--checkpoint", type=Path, default=data.HERE / "model.safetensors")
    path = parser.parse_args().checkpoint
    torch.set_num_threads(1)  # small matrices
    test = data.parts()["test"]
    english, wanted = [pair.english for pair in test], [pair.german for pair in test]
    loaded = qrnn_deploy.load_checkpoint(path)
    symbols = loaded.config["target_vocabulary"]
    sources = [data.encode(text, loaded.config["source_vocabulary"]) for text in english]
    lines = path.with_name("lstm-translations.tsv").read_text(encoding="utf-8").split("\n")[:-1]
    lstm = dict(zip(BEAMS, zip(*(line.split("\t") for line in lines), strict=True), strict=True))

    reference = {beam: by_torch(loaded.module, sources, beam) for beam in BEAMS}
    exported = by_onnxruntime(loaded.module, sources, BEAMS)
    said = {beam: texts(found, symbols) for beam, found in reference.items()}
    kind = {1: "greedy", **{beam: f"beam {beam}" for beam in BEAMS if beam > 1}}
    print(f"| n = {len(test)} | chrF | right to the letter |")
    print("| --- | --- | --- |")
    for beam in BEAMS:
        print(row(f"QRNN, PyTorch, {kind[beam]}", tally(said[beam], wanted)))
    for (name, beam), found in exported.items():
        label = f"QRNN, ONNX Runtime, {name}, {kind[beam]}"
        print(row(label, tally(texts(found, symbols), wanted)))
    for beam in BEAMS:
        print(row(f"LSTM, PyTorch, {kind[beam]}", tally(lstm[beam], wanted)))
    print(row("the English, copied", tally(english, wanted)))

    print("\nPaired bootstrap of chrF, against the first:")
    last = BEAMS[-1]
    systems = {f"QRNN, {kind[last]}": said[last], f"LSTM, {kind[last]}": lstm[last]}
    print("\n".join(compared({**systems, "the English, copied": english}, wanted)))
    print("\n| English | German | QRNN | LSTM |\n| --- | --- | --- | --- |")
    for n in range(0, len(test), SHOWN):
        print("|", " | ".join((english[n], wanted[n], said[last][n], lstm[last][n])), "|")
    print()
    changed = 0
    for (name, beam), found in exported.items():
        pairs = zip(found, reference[beam], strict=True)
        same = sum(one.tokens == other.tokens for one, other in pairs)
        changed += len(test) - same
        print(f"ONNX Runtime, {name}, {kind[beam]}: {same} of {len(test)} as PyTorch translates")
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
