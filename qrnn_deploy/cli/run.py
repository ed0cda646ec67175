"""``qrnn-deploy run``: text or frames through an exported model, as they come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..pair import is_half, pair_of, stands_for_pair
from ._lines import answer_lines, refuse_raw_text, vocabulary_of
from ._modes import generate, score, stream_frames
from ._run_options import MODES, joined, refuse_unlike, refuse_unused
from ._shared import FiniteFloat, OutputFile, kernel_option, threads_option
from ._streams import refuse_model_as_input, refuse_overwriting, shown
from ._translate import SearchOptions, translate_lines

if TYPE_CHECKING:
    from ..inspection import KernelChoice
    from ..runtime.engine_plans import GraphChoice

TEXT_CHUNK = 256


def _utf8(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter(
            f"character {error.start} is a byte that is not UTF-8: convert the text, for example "
            "with iconv"
        ) from None
    return value


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source", metavar="[INPUT]", type=click.Path(path_type=Path), default="-")
@click.option(
    "--score",
    "wants_score",
    is_flag=True,
    help="Text in, out the bits per character that a language model needs for it; for one of words "
    "its perplexity and bits per token.",
)
@click.option(
    "--generate",
    "count",
    type=click.IntRange(min=0),
    metavar="N",
    help="Generate N characters, or N tokens with a blank before each.",
)
@click.option(
    "--text",
    "wants_text",
    is_flag=True,
    help="Text in, for each of its lines one line out: a classifier's class and the probability of "
    "each; a language model's perplexity, the likeliest next token and its probability; an "
    "encoder-decoder's translation. Each line is read on its own; the answer to an empty one is "
    "empty.",
)
@click.option(
    "--beam",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="With --text and an encoder-decoder: how many translations the search follows; 1 takes "
    "the likeliest token at each step.",
)
@click.option(
    "--length-penalty",
    type=FiniteFloat(min=0, max=10),
    default=0.6,
    show_default=True,
    metavar="A",
    help="With --text and an encoder-decoder: translations of n tokens rank by log P / n^A.",
)
@click.option(
    "--max-steps",
    type=click.IntRange(1, 2**31),
    metavar="N",
    help="With --text and an encoder-decoder: tokens after which a translation is cut off. "
    "Default: twice those of its line, and 16 more.",
)
@click.option(
    "--prompt",
    default="",
    callback=_utf8,
    help="With --generate: text to continue; it is printed too.",
)
@click.option(
    "--temperature",
    type=FiniteFloat(min=0),
    default=1.0,
    show_default=True,
    help="With --generate: the closer to 0, the closer to the likeliest character; 0 always takes "
    "it.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="With --generate: makes the draw repeatable."
)
@click.option(
    "--unknown",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do with characters or words of the text or prompt that the model has no token "
    "for: leave them out (skip), or (error) refuse them, unless its vocabulary holds a token that "
    "stands for all of them: U+FFFD, of words one such as xxunk or <unk>.",
)
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    help="Time steps of INPUT per call of the model. Larger is faster, smaller answers sooner; the "
    "numbers stay the same. Default: 256 for text, 64 for frames.",
)
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    help="Write there, not to stdout: a file, which appears when it is whole, or a device or pipe.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["npy", "raw"]),
    help="Of frames, the same in and out. Default: npy for an INPUT named .npy, raw for any other "
    "and for standard input.",
)
@kernel_option
@threads_option
@click.option(
    "--device",
    metavar="[cpu|cuda|cuda:N|rtx]",
    help="Where ONNX Runtime runs the model: an NVIDIA GPU (extra `gpu`), or TensorRT for RTX "
    "(package onnxruntime-ep-nv-tensorrt-rtx). Default: cpu.",
)
@click.option(
    "--cuda-graph",
    type=click.Choice(["off", "auto", "require"]),
    help="On a GPU: whether steps of one (--generate, --chunk 1) run as a CUDA graph. Default: off "
    "for an ONNX file, auto for an engine.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="With --score and --text: print JSON, for a program."
)
@click.pass_context
def run(
    context: click.Context,
    model: Path,
    source: Path,
    wants_score: bool,
    count: int | None,
    wants_text: bool,
    prompt: str,
    temperature: float,
    seed: int | None,
    unknown: str,
    chunk: int | None,
    output: Path | None,
    form: str | None,
    kernel: KernelChoice,
    threads: int | None,
    device: str | None,
    cuda_graph: GraphChoice | None,
    as_json: bool,
    beam: int,
    length_penalty: float,
    max_steps: int | None,
) -> None:
    """Stream INPUT (a file, or standard input) through MODEL, an ONNX file or an engine.

    A language model scores text (--score), writes it (--generate), or answers line by line
    (--text), as a classifier and an encoder-decoder do; the two files of the latter go by the name
    that they were exported under. Any other model with one input turns frames into frames: raw
    little-endian float32, one frame after the other, or a .npy array of shape [time, ...] or
    [batch, time, ...]. Raw frames are answered chunk by chunk, and lines of text one by one, so the
    command can stand in a live pipe.

    Text is UTF-8. A model of characters takes it as it is. Any other knows words or pieces of
    words: give them with white space between them, cut (and lower-cased, and so on) as they were
    for the model's training, SentencePiece's with their U+2581; nothing is added to them. See
    docs/text.md.

    \b
    Examples:
      qrnn-deploy run model.onnx --score book.txt
      qrnn-deploy run model.onnx --generate 300 --prompt "The " --temperature 0.7 --seed 1
      qrnn-deploy run classifier.onnx --text reviews.txt
      qrnn-deploy run translator.onnx --text german.txt --beam 8 -o english.txt
      qrnn-deploy run model.onnx frames.npy -o answer.npy
      arecord ... | features | qrnn-deploy run model.onnx --chunk 1 | player

    An ONNX file needs the extra `cpu` or `gpu` (onnxruntime) and no torch; an engine its TensorRT
    package, torch and a GPU.
    """
    asked = {"score": wants_score, "generate": count is not None, "text": wants_text}
    chosen = [mode for mode, wanted in asked.items() if wanted]
    if len(chosen) > 1:
        raise click.UsageError(f"{joined(chosen)} exclude each other: choose one")
    mode = chosen[0] if chosen else "frames"
    refuse_unused(context, mode)
    if mode == "frames" and form is None:
        form = "npy" if source.suffix == ".npy" else "raw"
        if form == "raw" and output is not None and output.suffix == ".npy":
            raise click.UsageError(
                f"{shown(source)} is read as raw frames, and so {output} would be raw too: add "
                "--format npy for arrays in and out, or --format raw if it shall have that name"
            )
    two_files = stands_for_pair(model) or is_half(model)
    for file in pair_of(model).values() if two_files else (model,):
        refuse_model_as_input(file, source)
        refuse_overwriting(output, file, source)
    refuse_unlike(context, mode, two_files)
    if two_files:
        from ..runtime import Seq2Seq

        translator = Seq2Seq(model, kernel=kernel, threads=threads, device=device)
        search = SearchOptions(beam, length_penalty, max_steps)
        translate_lines(translator, search, source, unknown, output, as_json)
        return
    from ..runtime import StreamingSession, is_engine, most_steps, open_model

    session = open_model(
        model, kernel=kernel, threads=threads, device=device, cuda_graph=cuda_graph
    )
    if mode == "frames":
        if form == "raw":
            refuse_raw_text(session.metadata, model)
        stream_frames(session, source, output, form or "raw", chunk)
        return
    vocabulary = vocabulary_of(session.metadata, model, MODES[mode])
    if mode == "text":
        answer_lines(session, vocabulary, source, unknown, output, as_json)
        return
    stream = StreamingSession(session)
    if count is None:
        device = device or ("cuda" if is_engine(model) else "cpu")
        size = chunk or min(TEXT_CHUNK, most_steps(session))
        score(stream, vocabulary, source, unknown, size, output, device, as_json)
        return
    if unknown == "skip":
        prompt = vocabulary.known(prompt)
    generate(stream, vocabulary, count, prompt, temperature, seed, output)
