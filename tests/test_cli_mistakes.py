"""What a user does by mistake on the command line: one line, status 2, nothing lost."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import qrnn_deploy
from qrnn_deploy.cli import cli, main
from qrnn_deploy.cli._shared import console
from qrnn_deploy.errors import InputError
from qrnn_deploy.nn import QRNNLanguageModel
from qrnn_deploy.runtime import Session, StreamingSession
from qrnn_deploy.runtime.options import thread_limit
from qrnn_deploy.verifier import verify

SELFTEST = Path(qrnn_deploy.__file__).parent / "selftest" / "model.onnx"
PROGRAM = [sys.executable, "-m", "qrnn_deploy"]


@pytest.fixture
def case() -> dict[str, np.ndarray]:
    return dict(np.load(SELFTEST.parent / "case.npz"))


@pytest.fixture
def folder(tmp_path, case, monkeypatch) -> Path:
    """The working folder, with a model of frames and its input in every form."""
    shutil.copy(SELFTEST, tmp_path / "m.onnx")
    # 128 frames, so that the header of the .npy file would pass as whole frames.
    x = np.resize(case["in_x"][0], (128, 3)).astype("<f4")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    x.tofile(tmp_path / "x.raw")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> Path:
    torch.manual_seed(1)
    tokens = ["\n", *"abcdefgh", "\N{REPLACEMENT CHARACTER}"]
    model = QRNNLanguageModel(len(tokens), 4, 8, vocabulary=tokens).eval()
    path = tmp_path_factory.mktemp("lm") / "lm.onnx"
    qrnn_deploy.export(model, path, golden=False, external_data=True)
    return path


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def mistake(capsys, *arguments: object) -> str:
    """The one line on standard error of a command that exits with status 2."""
    assert run_main(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1, err
    return err.removeprefix("error: ").rstrip("\n")


def feed_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# Frames: what the input is.


@pytest.mark.parametrize("form", [(), ("--format", "raw")])
def test_piped_npy_is_not_read_as_raw_frames(folder, monkeypatch, capsys, form):
    # One frame is 12 bytes and the header of this array 128: padded, it would pass.
    data = (folder / "x.npy").read_bytes() + bytes(4)
    feed_stdin(monkeypatch, data)
    assert "looks like a .npy file, not like raw frames: add --format npy" in mistake(
        capsys, "run", "m.onnx", *form
    )
    (folder / "x.bin").write_bytes(data)
    assert "add --format npy" in mistake(capsys, "run", "m.onnx", "x.bin", "-o", "y.bin")
    assert not (folder / "y.bin").exists()


def test_npz_is_not_read_as_raw_frames(folder, capsys):
    assert "looks like a zip archive (.npz, .pt)" in mistake(capsys, "run", "m.onnx", "x.npz")


def test_piped_npy_with_its_format(folder, monkeypatch, case):
    feed_stdin(monkeypatch, (folder / "x.npy").read_bytes())
    assert run_main("run", "m.onnx", "--format", "npy", "-o", "y.npy") == 0
    np.testing.assert_allclose(np.load("y.npy")[:9], case["out_y"][0], atol=1e-6)


def test_the_format_is_guessed_by_the_input_alone(folder, monkeypatch, capsys, case):
    feed_stdin(monkeypatch, (folder / "x.raw").read_bytes())
    line = mistake(capsys, "run", "m.onnx", "-o", "y.npy")
    assert "standard input is read as raw frames" in line and "--format npy" in line
    assert not (folder / "y.npy").exists()
    assert run_main("run", "m.onnx", "x.npy", "-o", "y.array") == 0
    np.testing.assert_allclose(np.load("y.array")[:9], case["out_y"][0], atol=1e-6)


def test_npy_header_that_asks_for_all_memory(folder, capsys):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**50, 3)}
    )
    (folder / "huge.npy").write_bytes(header.getvalue())
    assert "not a readable .npy array" in mistake(capsys, "run", "m.onnx", "huge.npy")


def test_a_chunk_larger_than_memory_is_the_whole_input(folder):
    assert run_main("run", "m.onnx", "x.raw", "-o", "y.raw", "--chunk", 10**15) == 0
    assert run_main("run", "m.onnx", "x.raw", "-o", "z.raw", "--chunk", 5) == 0
    np.testing.assert_allclose(np.fromfile("y.raw", "<f4"), np.fromfile("z.raw", "<f4"), atol=1e-6)


# Output: what it must not replace, and what a failed write says.


def test_output_is_never_the_model_or_the_input(folder, capsys):
    (folder / "linked.onnx").symlink_to(folder / "m.onnx")
    os.link(folder / "x.raw", folder / "twin.raw")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for output, what in (
        ("m.onnx", "MODEL"),
        ("linked.onnx", "MODEL"),
        ("./x.raw", "INPUT"),
        ("twin.raw", "INPUT"),
    ):
        line = mistake(capsys, "run", "m.onnx", "x.raw", "-o", output)
        assert f"OUTPUT {Path(output)} is the same file as {what}" in line
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_output_is_never_the_file_on_standard_input(folder):
    before = (folder / "x.raw").read_bytes()
    with (folder / "x.raw").open("rb") as handle:
        done = subprocess.run(
            [*PROGRAM, "run", "m.onnx", "-o", "x.raw"], stdin=handle, capture_output=True, text=True
        )
    assert done.returncode == 2 and "is the same file as standard input" in done.stderr
    assert (folder / "x.raw").read_bytes() == before


def test_output_is_never_the_weights_of_the_model(language_model, capsys):
    data = language_model.with_name("lm.onnx.data")
    before = data.read_bytes()
    line = mistake(capsys, "run", language_model, "--generate", 1, "-o", data)
    assert "is the same file as weights of MODEL" in line
    assert data.read_bytes() == before


def test_other_output_is_replaced(folder):
    (folder / "y.raw").write_bytes(b"old")
    assert run_main("run", "m.onnx", "x.raw", "-o", "y.raw") == 0
    assert (folder / "y.raw").stat().st_size == 128 * 5 * 4


@pytest.mark.parametrize("output", ["absent/y.raw", "folder"])
def test_failed_write_names_the_file_that_the_user_named(folder, capsys, output):
    (folder / "folder").mkdir()
    line = mistake(capsys, "run", "m.onnx", "x.raw", "-o", output)
    assert line.startswith(f"{output}: ")


def test_failed_read_is_not_blamed_on_the_output(folder, capsys):
    line = mistake(capsys, "run", "m.onnx", "/proc/self/mem", "-o", "y.raw")
    assert line == "/proc/self/mem: Input/output error"


def test_the_model_is_no_input(folder, capsys):
    (folder / "linked.onnx").symlink_to("m.onnx")
    for source in ("m.onnx", "linked.onnx"):
        line = mistake(capsys, "run", "m.onnx", source, "-o", "y.raw")
        assert line.startswith(f"INPUT {source} is the same file as MODEL")


def test_an_empty_output_name_is_not_the_folder(folder, capsys):
    for command in (("run", "m.onnx", "x.raw"), ("export", "m.pt")):
        line = mistake(capsys, *command, "-o", "")
        assert line.startswith("Invalid value for '-o' / '--output': the name is empty")


@pytest.mark.parametrize("length", [254, 255])
def test_longest_output_names(folder, length):
    name = "y" * length
    assert run_main("run", "m.onnx", "x.raw", "-o", name) == 0
    assert (folder / name).stat().st_size == 128 * 5 * 4


# Output that is no plain file: what is there stays what it is.


def test_output_into_a_named_pipe(folder):
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as reader:
        try:
            assert run_main("run", "m.onnx", "x.raw", "-o", "pipe") == 0
            out, _ = reader.communicate(timeout=10)
        finally:
            reader.kill()
    assert len(out) == 128 * 5 * 4
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_output_into_a_device(language_model):
    """A terminal stands in for any character device, such as /dev/null."""
    terminal, device = os.openpty()
    try:
        name = os.ttyname(device)
        command = ("run", language_model, "--generate", 3, "--prompt", "abc", "-o", name)
        assert run_main(*command) == 0
        assert os.read(terminal, 3) == b"abc"
        assert stat.S_ISCHR(os.stat(name).st_mode)
    finally:
        os.close(terminal)
        os.close(device)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_not_replaced(folder):
    try:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (folder / "null").write_bytes(b"")
    except OSError as error:
        pytest.skip(f"no devices can be made here: {error}")
    for arguments in (("x.raw",), ("x.npy",)):
        assert run_main("run", "m.onnx", *arguments, "-o", "null") == 0
        assert stat.S_ISCHR(os.stat("null").st_mode)


def test_a_link_stays_a_link(folder):
    (folder / "store").mkdir()
    (folder / "y.raw").symlink_to("store/real.raw")
    for _ in range(2):  # first it leads nowhere
        assert run_main("run", "m.onnx", "x.raw", "-o", "y.raw") == 0
        assert (folder / "y.raw").is_symlink()
        assert [path.name for path in (folder / "store").iterdir()] == ["real.raw"]
        assert (folder / "store" / "real.raw").stat().st_size == 128 * 5 * 4


def test_a_link_in_a_circle(folder, capsys):
    (folder / "y.raw").symlink_to("y.raw")
    line = mistake(capsys, "run", "m.onnx", "x.raw", "-o", "y.raw")
    assert line == "y.raw: Too many levels of symbolic links"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_output_keeps_the_permissions_of_the_earlier_one(folder, mode):
    (folder / "y.raw").write_bytes(b"old")
    (folder / "y.raw").chmod(mode)
    assert run_main("run", "m.onnx", "x.raw", "-o", "y.raw") == 0
    assert stat.S_IMODE((folder / "y.raw").stat().st_mode) == mode


@pytest.mark.parametrize(
    ("name", "number", "redirection"),
    [("stdout", 1, "> y"), ("/dev/fd/1", 1, "| cat > y"), ("/proc/self/fd/3", 3, "3> y")],
)
def test_output_into_an_open_descriptor(folder, name, number, redirection):
    """What the shell has opened is written on, and not replaced or cut.

    A link of our own stands in for /dev/stdout, which root could replace.
    """
    (folder / "stdout").symlink_to("/proc/self/fd/1")
    run = f"{sys.executable} -m qrnn_deploy run m.onnx x.raw -o {name}"
    parts = f"(echo before >&{number}; {run}; echo after >&{number})"
    subprocess.run(["bash", "-c", f"{parts} {redirection}"], check=True)
    data = (folder / "y").read_bytes()
    assert data.startswith(b"before\n") and data.endswith(b"after\n")
    assert len(data) == 128 * 5 * 4 + len("before\nafter\n")


# Options that nothing would use.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json",), "--json goes with --score and --text, not with frames"),
        (("--prompt", "a"), "--prompt goes with --generate, not with frames"),
        (("--temperature", "1"), "--temperature goes with --generate, not with frames"),
        (("--unknown", "skip"), "--unknown goes with --score, --generate and --text, not with"),
        (("--seed", "1"), "--seed goes with --generate, not with frames"),
        (("--generate", "3", "--json"), "--json goes with --score and --text, not with --generate"),
        (("x.txt", "--generate", "3"), "INPUT goes with --score, --text and frames, not with"),
        (("--generate", "3", "--chunk", "4"), "--chunk goes with --score and frames, not with"),
        (("--generate", "3", "--format", "raw"), "--format goes with frames, not with --generate"),
        (("--score", "--prompt", "a"), "--prompt goes with --generate, not with --score"),
        (("--score", "--format", "npy"), "--format goes with frames, not with --score"),
    ],
)
def test_options_without_effect_are_refused(language_model, capsys, arguments, message):
    line = mistake(capsys, "run", language_model, *arguments)
    assert message in line and line.endswith("; see qrnn-deploy run --help")


def test_score_goes_to_the_output_too(language_model, tmp_path, capsys):
    (tmp_path / "text").write_text("abc")
    command = ("run", language_model, "--score", tmp_path / "text", "--json")
    assert run_main(*command, "-o", tmp_path / "score.json") == 0
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "score.json").read_text())["characters"] == 2


def test_unknown_characters_of_the_prompt_can_be_skipped(tmp_path, capfdbinary):
    torch.manual_seed(1)
    model = QRNNLanguageModel(3, 4, 8, vocabulary=["a", "b", "c"]).eval()
    qrnn_deploy.export(model, tmp_path / "lm.onnx", golden=False)
    command = ("run", tmp_path / "lm.onnx", "--generate", 2, "--prompt", "a?b")
    assert run_main(*command) == 2
    assert b"--unknown skip" in capfdbinary.readouterr().err
    assert run_main(*command, "--unknown", "skip") == 0
    assert capfdbinary.readouterr().out.startswith(b"ab")


# Numbers.


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", "-1"),
        ("--generate", "-1"),
        ("--temperature", "nan"),
        ("--temperature", "inf"),
        ("--temperature", "-0.5"),
    ],
)
def test_numbers_outside_their_range(language_model, capsys, option, value):
    line = mistake(capsys, "run", language_model, "--generate", "3", option, value)
    assert line.startswith(f"Invalid value for '{option}'")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1"])
def test_tolerances_are_finite(folder, capsys, value):
    line = mistake(capsys, "verify", "m.onnx", f"--atol={value}")
    assert line.startswith("Invalid value for '--atol'")
    with pytest.raises(InputError, match=r"atol is .*expected a finite number"):
        verify("m.onnx", atol=float(value))


def test_tiny_temperature_is_greedy_without_a_warning(language_model, capfdbinary):
    def draw(temperature: str) -> bytes:
        command = ("run", language_model, "--generate", 20, "--temperature", temperature)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            assert run_main(*command) == 0
        return capfdbinary.readouterr().out

    assert draw("1e-320") == draw("0")


def test_threads_have_a_limit(folder, capsys):
    limit = thread_limit()
    assert limit >= 64
    for threads in (1_000_000, limit + 1):
        line = mistake(capsys, "run", "m.onnx", "x.raw", "--threads", threads)
        assert f"'--threads': {threads} is not in the range 1..{limit}" in line
        assert "None" not in line
    for kind in (Session, StreamingSession):
        with pytest.raises(InputError, match=f"expected a whole number in 0..{limit}"):
            kind("m.onnx", kernel="off", threads=limit + 1)


# Usage errors, of every command and of the group.


@pytest.mark.parametrize("name", [""] + [name for name in cli.commands if name != "completion"])
def test_usage_errors_are_one_line_that_points_to_the_help(capsys, name):
    line = mistake(capsys, *filter(None, [name]), "--nonsense")
    assert line.startswith("No such option '--nonsense'")
    assert line.endswith("; see " + f"qrnn-deploy {name}".strip() + " --help")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("expotr",), "No such command 'expotr'"),
        (("inspect",), "Missing argument 'MODEL'"),
        (("run", "-o"), "Option '-o' requires an argument"),
        (("completion", "tcsh"), "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (("doctor", "now"), "unexpected extra argument"),
    ],
)
def test_every_usage_error_points_to_the_help(capsys, arguments, line):
    command = "" if arguments[0] == "expotr" else f" {arguments[0]}"
    got = mistake(capsys, *arguments)
    assert line in got and got.endswith(f"; see qrnn-deploy{command} --help")


# Streams that are closed or full, and bytes that are no text.


@pytest.mark.parametrize(
    "command",
    ["--help", "doctor", "inspect m.onnx", "run m.onnx x.raw", "completion bash", "verify m.onnx"],
)
def test_closed_standard_output(folder, command):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m qrnn_deploy {command} >&-"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output is closed")
    assert done.stderr.count("\n") == 1


def test_closed_standard_input_and_standard_error(folder):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m qrnn_deploy run m.onnx <&-"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: standard input is closed: give INPUT, the name of a file\n"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m qrnn_deploy run m.onnx x.raw 2>&-"],
        capture_output=True,
    )
    assert (done.returncode, len(done.stdout)) == (0, 128 * 5 * 4)


def test_full_standard_output(folder):
    for command in ("run m.onnx x.raw", "completion bash", "inspect m.onnx"):
        for unbuffered in ("", "1"):
            done = subprocess.run(
                ["bash", "-c", f"{sys.executable} -m qrnn_deploy {command} > /dev/full"],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            )
            assert done.returncode == 2
            assert done.stderr == "error: standard output: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_fills_up(folder, unbuffered):
    """The file takes a part of the write, and then no more."""
    with (folder / "y.raw").open("wb") as handle:
        done = subprocess.run(
            [*PROGRAM, "run", "m.onnx", "x.raw", "--chunk", "1000"],
            stdout=handle,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        )
    assert (done.returncode, done.stderr) == (2, "error: standard output: File too large\n")


def test_prompt_that_is_not_utf8(language_model):
    command = [*PROGRAM, "run", str(language_model), "--generate", "3", "--prompt", b"ab\xff"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Invalid value for '--prompt': character 2 is a byte")


def test_names_that_are_not_utf8_do_not_stop_a_report():
    program = (
        "import click, json\n"
        "from qrnn_deploy.cli import cli, main\n"
        "@cli.command()\n"
        "@click.argument('path')\n"
        "def name(path):\n"
        "    click.echo(path)\n"
        "    click.echo(json.dumps(path, ensure_ascii=False))\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "name", b"a\xff"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    plain, quoted = done.stdout.splitlines()
    assert plain == r"a\udcff" and json.loads(quoted) == "a\udcff"


# Models.


def damaged(language_model: Path, folder: Path, how: str) -> Path:
    path = folder / "lm.onnx"
    shutil.copy(language_model, path)
    data = folder / "lm.onnx.data"
    shutil.copy(language_model.with_name(data.name), data)
    if how == "folder":
        return folder
    if how == "absent":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "no weights":
        data.unlink()
    elif how == "short weights":
        data.write_bytes(data.read_bytes()[:-4])
    else:
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], how, [], [])), path)
    return path


@pytest.mark.parametrize(
    "how",
    ["folder", "absent", "empty", "truncated", "no weights", "short weights", "no graph"],
)
def test_every_command_says_the_same_of_a_bad_model(language_model, tmp_path, capsys, how):
    path = damaged(language_model, tmp_path, how)
    lines = {
        mistake(capsys, *command)
        for command in (
            ("run", path, "--generate", 1),
            ("run", path, "--score", "--kernel", "off"),
            ("verify", path),
            ("inspect", path),
        )
    }
    assert len(lines) == 1, lines
    assert ("export" in lines.pop()) or how == "folder"


# Tables and interrupts.


def test_a_piped_table_is_never_cut(monkeypatch, capsys):
    from rich.table import Table

    monkeypatch.setenv("COLUMNS", "40")
    table = Table("name", "other")
    table.add_row("n" * 150, "o" * 150)
    console().print(table)
    assert f"{'n' * 150} │ {'o' * 150}" in capsys.readouterr().out


def test_interrupt_while_the_program_still_loads(tmp_path):
    """Ctrl-C in the middle of the imports; a module of the same name stands in for the moment."""
    (tmp_path / "click.py").write_text(f"import os\nos.kill(os.getpid(), {int(signal.SIGINT)})\n")
    done = subprocess.run(
        [*PROGRAM, "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_an_interrupt_when_all_is_done_changes_nothing(tmp_path):
    """While Python takes itself down it would end in a traceback, or in death by the signal."""
    program = (
        "import atexit, os, signal, sys\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "from qrnn_deploy.cli import main\n"
        "sys.argv = ['qrnn-deploy', *{}]\n"
        "main()\n"
    )
    for arguments, status in ((["--version"], 0), (["inspect", str(tmp_path / "absent")], 2)):
        done = subprocess.run(
            [sys.executable, "-c", program.format(arguments)], capture_output=True, text=True
        )
        assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
        assert len((done.stdout + done.stderr).splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        *(["inspect", "m.onnx"], ["inspect", "m.onnx", "--json"], ["inspect", "--help"]),
        *(["doctor"], ["--help"]),
    ],
    ids=" ".join,
)
def test_a_reader_that_goes_away(folder, arguments):
    """As other programs end by SIGPIPE; 1 is for a verification that failed."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            [*PROGRAM, *arguments], cwd=folder, stdout=pipe, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(("times", "imported"), [(1, "whole\n"), (2, "")])
def test_an_interrupt_waits_for_the_end_of_an_import_a_second_does_not(tmp_path, times, imported):
    interrupt = f"os.kill(os.getpid(), {int(signal.SIGINT)})\n"
    (tmp_path / "compiled.py").write_text(
        f"import os\n{interrupt * times}print('whole', flush=True)\n"
    )
    program = (
        "import time\n"
        "from qrnn_deploy.cli import cli, main\n"
        "@cli.command()\n"
        "def wait():\n"
        "    import compiled\n"
        "    time.sleep(60)\n"
        "main(['wait'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (130, imported)
    assert done.stderr.split() == ["interrupted"]
