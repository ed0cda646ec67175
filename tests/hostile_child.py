"""A process that loads hostile files, watches itself, and reports a line of JSON for each.

    python hostile_child.py load MANIFEST              files that lie on disk
    python hostile_child.py fuzz SEED COUNT FILE...    files made of real ones
    python hostile_child.py unpickle FILE...           traps, by Python's own pickle

Watched while a file is looked at: audit events of the interpreter, warnings, memory and time. Any
event but opening that very file to read it is reported, and fails whoever caused it.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import io
import json
import os
import pickle
import resource
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from hostile_mutations import mutated

import qrnn_deploy
from qrnn_deploy.checkpoints import recognise_checkpoint
from qrnn_deploy.cli.application import invoke
from qrnn_deploy.errors import CheckpointError

UPSTREAM = Path(__file__).parent / "data" / "upstream"
TEXT_MODEL = UPSTREAM / "fa1_lm_model_opt.pt"

HARMLESS = ("builtins.id", "object.__getattr__", "sys._getframe")
"""Events that anything causes."""

ADDRESS_SPACE = 3 * 2**30
"""Bytes that this process may map beyond what it has mapped when it begins."""


baseline = 0


class Watch:
    """What happens while one file is looked at."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] | None = None
        self.events: list[str] = []
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None or event in HARMLESS:
            return
        if event == "open" and str(arguments[0]) in self.allowed:
            flags = arguments[2]
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
                return
        if event == "compile" and arguments[1] == "<unknown>" and ".npz" in self.allowed[0]:
            return  # NumPy parses the header of an array with ast.literal_eval
        allowed, self.allowed = self.allowed, None
        self.events.append(f"{event} {str(arguments)[:200]}")
        self.allowed = allowed
        raise RuntimeError(f"{event} while a file was read")

    def run(
        self, allowed: tuple[str, ...] | None, action: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The action's result, or how it failed, with what was noticed.

        Args:
            allowed: files that may be read; None stops the watch.
            action: what to do.
        """
        self.events = []
        before = _settle()
        start = time.process_time()
        self.allowed = allowed
        try:
            result = action()
        except CheckpointError as error:
            result = {"outcome": "refused", "message": str(error)}
        except Exception as error:
            self.allowed = None
            result = {"outcome": f"{type(error).__name__}: {str(error)[:300]}"}
        finally:
            self.allowed = None
        seconds = time.process_time() - start
        return result | {
            "seconds": seconds,
            "grew": _status("VmHWM") - before,
            "events": self.events,
        }


def _settle() -> int:
    """Give back what earlier files left, if it is much, and begin to measure: bytes in use."""
    global baseline
    if _status("VmRSS") > baseline + 2**24:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        baseline = max(baseline, _status("VmRSS"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is in use now
    return _status("VmRSS")


def _status(key: str) -> int:
    """A figure of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def _limit() -> None:
    """A backstop: the limits that the tests assert are far lower."""
    most = _status("VmSize") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def recognise(path: str) -> dict[str, Any]:
    """The weights stay unread, so the file may be sound so far."""
    recognise_checkpoint(path)
    return {"outcome": "recognised"}


def load(path: str) -> dict[str, Any]:
    """With the first numbers of each tensor."""
    state = qrnn_deploy.load_checkpoint(path).module.state_dict()
    values = {name: tensor.flatten()[:8].tolist() for name, tensor in state.items()}
    return {"outcome": "sound", "values": values}


def with_vocabulary(path: str) -> dict[str, Any]:
    """Beside a sound model of text."""
    given = qrnn_deploy.Given(vocabulary=path)
    recognise_checkpoint(TEXT_MODEL, given)
    return {"outcome": "sound", "values": {}}


def by_command(words: list[str]) -> dict[str, Any]:
    """By the command line: its status, and all that it printed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = invoke(words)
    return {"outcome": f"status {status}", "out": out.getvalue(), "err": err.getvalue()}


def warm_up(folder: Path) -> None:
    """Whatever the first file of a kind imports or caches."""
    sound = folder / "warm.pt"
    for path in (sound, folder / "warm-legacy.pt", folder / "warm.safetensors"):
        load(str(path))
    for words in (["inspect", str(sound)], ["inspect", str(sound), "--json"]):
        by_command(words)
    for path in (folder / "warm-refused.pt", folder / "warm.npz"):
        by_command(["inspect", str(path)])
        by_command(["export", str(path), "-o", str(folder / "warm.onnx")])
    by_command(["inspect", str(folder / "manifest.json")])  # which is no checkpoint
    load(str(TEXT_MODEL))
    "é".encode("cp437").decode("cp437")
    "\ud800".encode("unicode_escape").decode("ascii")


def run_manifest(watch: Watch, manifest: Path) -> None:
    folder = manifest.parent
    for entry in json.loads(manifest.read_text()):
        path = str(folder / entry["name"])
        look = with_vocabulary if entry["vocabulary"] else load
        allowed = (path, str(TEXT_MODEL)) if entry["vocabulary"] else (path,)
        report(entry["name"], watch.run(allowed, lambda p=path, f=look: f(p)))
        for command in entry["commands"]:
            words = [*command.split(), path]
            words += ["-o", str(folder / "out.onnx")] if command == "export" else []
            action = (
                (lambda p=path: recognise(p))
                if command == "recognise"
                else (lambda w=words: by_command(w))
            )
            report(entry["name"], watch.run(allowed, action) | {"command": command})


def run_fuzz(watch: Watch, seed: int, count: int, files: list[Path]) -> None:
    """Failures one by one, and how often a file was refused or sound."""
    originals = [path.read_bytes() for path in files]
    for path in files:
        load(str(path))
    changed = files[0].parent / f"fuzz-{seed}.pt"
    counts = {"refused": 0, "sound": 0}
    seconds, grew = 0.0, 0
    for number in range(count):
        data = mutated(originals, seed * 1_000_000 + number)
        changed.write_bytes(data)
        result = watch.run((str(changed),), lambda: load(str(changed)))
        seconds, grew = max(seconds, result["seconds"]), max(grew, result["grew"])
        message = result.get("message", "")
        if result["outcome"] not in counts or result["events"] or not message.isprintable():
            report(f"{seed} {number}", result | {"data": base64.b64encode(data).decode()[:20000]})
        else:
            counts[result["outcome"]] += 1
    report("summary", counts | {"seconds": seconds, "grew": grew})


def report(name: str, result: dict[str, Any]) -> None:
    print(json.dumps({"name": name} | result), file=sys.__stdout__, flush=True)


def main() -> None:
    mode, *rest = sys.argv[1:]
    if mode == "unpickle":
        watch = Watch()
        for path in rest:
            with Path(path).open("rb") as stream:
                watched = (path,) if path.endswith(".watched") else None
                report(path, watch.run(watched, lambda s=stream: {"outcome": str(pickle.load(s))}))
        return
    folder = Path(rest[0]).parent if mode == "load" else Path(rest[2]).parent
    warm_up(folder)
    warnings.simplefilter("error")
    watch = Watch()
    _limit()
    if mode == "load":
        run_manifest(watch, Path(rest[0]))
    else:
        run_fuzz(watch, int(rest[0]), int(rest[1]), [Path(name) for name in rest[2:]])


if __name__ == "__main__":
    main()
