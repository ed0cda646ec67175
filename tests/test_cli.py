"""The shell around the commands: help, exit statuses, one-line errors, speed of the start."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from qrnn_deploy import __version__
from qrnn_deploy.cli import cli, main
from qrnn_deploy.errors import CheckpointError

ROOT = Path(__file__).parent.parent
COMMANDS = ["export", "verify", "build", "run", "inspect", "doctor", "completion"]


def run_main(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def qrnn_deploy(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qrnn_deploy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch):
    """Add a command `boom` that raises the given exception."""

    def add(error: BaseException) -> None:
        @click.command()
        def boom() -> None:
            raise error

        monkeypatch.setitem(cli.commands, "boom", boom)

    return add


def test_every_command_is_listed_and_tested():
    assert list(cli.commands) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_text_and_every_option_has_help(name, capsys):
    command = cli.commands[name]
    assert command.help and len(command.help.split()) > 10
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    assert run_main(name, "--help") == 0
    assert f"Usage: qrnn-deploy {name}" in capsys.readouterr().out


def test_docs_are_what_the_help_says():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "cli_docs.py"), "--check"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


def test_version(capsys):
    assert run_main("--version") == 0
    assert capsys.readouterr().out == f"qrnn-deploy {__version__}\n"


def test_user_error_is_one_line_and_exit_2(raising, capsys):
    raising(CheckpointError("a.pt holds\nnothing: expected weights"))
    assert run_main("boom") == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: a.pt holds nothing: expected weights\n")


def test_os_error_names_the_file(raising, capsys):
    raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.npy"))
    assert run_main("boom") == 2
    assert capsys.readouterr().err == "error: out.npy: No space left on device\n"


def test_defect_is_one_line_that_suggests_debug(raising, capsys):
    raising(ZeroDivisionError("division by zero"))
    assert run_main("boom") == 70
    err = capsys.readouterr().err
    assert err.startswith("error: ZeroDivisionError: division by zero (")
    assert "--debug" in err and err.count("\n") == 1


def test_debug_shows_the_traceback(raising, capsys):
    raising(CheckpointError("broken"))
    assert run_main("--debug", "boom") == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err and err.endswith("error: broken\n")


def test_interrupt_exits_130(raising, capsys):
    raising(KeyboardInterrupt())
    assert run_main("boom") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_unknown_command_and_option_exit_2(capsys):
    assert run_main("expotr") == 2
    assert "No such command 'expotr'" in capsys.readouterr().err
    assert run_main("doctor", "--jsn") == 2
    assert "No such option" in capsys.readouterr().err


def test_no_command_prints_help_not_a_traceback():
    done = qrnn_deploy()
    assert "Usage: qrnn-deploy" in done.stdout + done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell, capsys):
    assert run_main("completion", shell) == 0
    assert "_QRNN_DEPLOY_COMPLETE" in capsys.readouterr().out


def test_completion_completes():
    done = qrnn_deploy(
        env={
            **os.environ,
            "_QRNN_DEPLOY_COMPLETE": "bash_complete",
            "COMP_WORDS": "qrnn-deploy ver",
            "COMP_CWORD": "1",
        }
    )
    assert done.stdout.split() == ["plain,verify"]


def test_help_is_quick_and_imports_nothing_heavy():
    program = (
        "import sys\n"
        "import qrnn_deploy.cli\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'rich', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    # Processor time, since the machine may be busy with other tests.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert qrnn_deploy("--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 0.3


def test_broken_pipe_is_quiet(tmp_path):
    program = tmp_path / "loud.py"
    program.write_text(
        "import click\n"
        "from qrnn_deploy.cli import cli, main\n"
        "@cli.command()\n"
        "def loud():\n"
        "    for line in range(100_000):\n"
        "        click.echo(f'line {line}')\n"
        "main(['loud'])\n"
    )
    command = f"{sys.executable} {program} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["line 0", "141"]
    assert done.stderr == ""


def test_terminate_runs_cleanup(tmp_path):
    """SIGTERM leaves by way of `finally`, as Ctrl-C does."""
    program = (
        "import pathlib, sys, time, click\n"
        "from qrnn_deploy._files import replacing\n"
        "from qrnn_deploy.cli import cli, main\n"
        "@cli.command()\n"
        "def wait():\n"
        "    with replacing(sys.argv[1]) as beside:\n"
        "        beside.write_text('half')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "main(['wait'])\n"
    )
    for sent, code in ((signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 130)):
        target = tmp_path / "result"
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(target)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(sent)
        _, err = process.communicate(timeout=30)
        assert process.returncode == code
        assert "Traceback" not in err
        assert list(tmp_path.iterdir()) == []


def test_interrupt_within_exec_exits_130_too(tmp_path):
    (tmp_path / "interrupted.py").write_text(
        "from qrnn_deploy.cli import cli, main\n"
        "@cli.command()\n"
        "def boom():\n"
        "    exec('raise KeyboardInterrupt')\n"
        "main(['boom'])\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 130
