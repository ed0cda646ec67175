"""No file, however made, runs code, takes much memory or time, or breaks the reader.

Every file of the corpus (:mod:`hostile_files`) is read in a process of its own kind
(:mod:`hostile_child`), which watches itself. What the tests hold it to:

- the answer is a ``CheckpointError`` of one printable line, or, where a file only looks strange,
  its weights;
- nothing happened but that the file was opened to be read, and no canary was left;
- memory grew by less than MOST_MEMORY, and no file took longer than MOST_SECONDS of the CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_code
import pytest
import torch
from hostile_files import GROUPS, Hostile
from hostile_values import BIAS, WEIGHT, model
from pickle_assembler import legacy, mapping, tensor, whole, zipped

from qrnn_deploy import load_checkpoint, save_checkpoint
from qrnn_deploy.nn import QRNNLayer

CHILD = Path(__file__).with_name("hostile_child.py")
UPSTREAM = Path(__file__).parent / "data" / "upstream"

MOST_MEMORY = 300 * 2**20
MOST_SECONDS = 8.0
"""Of the CPU, for one file. A pickle of as many opcodes as are allowed takes half of that."""

LONGEST = 600
"""Characters of a message beyond the file's name: it names both ways to save a model anew."""

COMMANDS = ("recognise", "inspect", "inspect --json", "export")
COMMANDS_EVERY = 6
"""Of so many files one is also recognised only, and given to the command line."""

LARGE = 50_000
"""Bytes of a file that takes long enough to be read once."""

FUZZED = ("awd_qrnn_untied_wd0.pt", "fa1_lm_model_opt.pt", "fa2_lm.pt", "sb_quasirnn_0.pt")


def child(*words: object, timeout: float = 300) -> list[dict[str, Any]]:
    """What the child reports; it must end well."""
    command = [sys.executable, str(CHILD), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    last = lines[-1]["name"] if lines else "its start"
    assert done.returncode == 0, f"ended with {done.returncode} after {last}: {done.stderr[-3000:]}"
    return lines


@dataclass
class Folder:
    """Files on disk, and what would show that one of them ran code."""

    path: Path

    @property
    def canary(self) -> Path:
        return self.path / "canary"

    def write(self, files: list[Hostile]) -> Path:
        """All files, and the list of them for the child."""
        manifest = []
        for file in files:
            (self.path / file.name).write_bytes(file.data)
            chosen = not zlib.crc32(file.name.encode()) % COMMANDS_EVERY and len(file.data) < LARGE
            commands = COMMANDS if chosen and not (file.vocabulary or file.sound) else ()
            manifest.append(
                {"name": file.name, "vocabulary": file.vocabulary, "commands": commands}
            )
        (self.path / "manifest.json").write_text(json.dumps(manifest))
        return self.path / "manifest.json"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """With the sound files that a child reads first."""
    save_checkpoint(QRNNLayer(1, 1), tmp_path / "warm.safetensors")
    (tmp_path / "warm.pt").write_bytes(zipped(model()))
    (tmp_path / "warm-legacy.pt").write_bytes(legacy(model()))
    (tmp_path / "warm-refused.pt").write_bytes(zipped(mapping({"a": tensor()})))
    (tmp_path / "warm.npz").write_bytes((UPSTREAM / "fa1_classifier.npz").read_bytes())
    return Folder(tmp_path)


def dear(result: dict[str, Any]) -> list[str]:
    """What happened or was spent that must not."""
    found = [f"caused {event}" for event in result["events"]]
    if result["grew"] > MOST_MEMORY:
        found.append(f"took {result['grew'] >> 20} MiB")
    if result["seconds"] > MOST_SECONDS:
        found.append(f"took {result['seconds']:.1f} s")
    return found


def problems(file: Hostile, result: dict[str, Any], folder: Folder) -> list[str]:
    """What is wrong with the answer to one file."""
    found = dear(result)
    if file.sound:
        if result.get("values") != {"weight": WEIGHT, "bias": BIAS}:
            found.append(f"did not give its weights: {result}")
    elif result["outcome"] != "refused":
        found.append(f"was not refused: {result['outcome']}")
    else:
        message, path = result["message"], str(folder.path / file.name)
        if path not in message or not message.isprintable() or len(message) > len(path) + LONGEST:
            found.append(f"gave no short line that names it: {message!r}")
        if file.says not in message:
            found.append(f"did not say {file.says!r}: {message!r}")
    return found


def command_problems(command: str, result: dict[str, Any]) -> list[str]:
    """What is wrong with another answer to a file that cannot be loaded."""
    found = dear(result)
    if command == "recognise":
        if result["outcome"] != "recognised" and not result.get("message", "").isprintable():
            found.append(f"was neither recognised nor refused: {result}")
        return found
    line, out = result.get("err", "").removesuffix("\n"), result.get("out", "")
    if command.startswith("inspect") and result["outcome"] == "status 0":
        if line or any(
            unicodedata.category(sign) in ("Cc", "Cs") for sign in out.replace("\n", "")
        ):
            found.append(f"shows what cannot be printed: {line!r}, {out[:300]!r}")
    elif result["outcome"] != "status 2" or out:
        found.append(f"ended with {result['outcome']}, {out[:200]!r}, {line!r}")
    elif not line.startswith("error: ") or not line.isprintable():
        found.append(f"did not say it in one line: {line!r}")
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_is_refused_or_sound(group: str, folder: Folder) -> None:
    files = {file.name: file for file in GROUPS[group](folder.canary)}
    results = child("load", folder.write(list(files.values())))
    wrong: dict[str, list[str]] = {}
    for result in results:
        name, command = result["name"], result.get("command")
        found = (
            command_problems(command, result) if command else problems(files[name], result, folder)
        )
        if found:
            wrong.setdefault(name, []).extend(f"{command or 'load'}: {text}" for text in found)
    assert {result["name"] for result in results if "command" not in result} == files.keys()
    assert {result["command"] for result in results if "command" in result} == set(COMMANDS)
    assert not wrong, "\n".join(f"{files[n].attacks}: {n}: {'; '.join(wrong[n])}" for n in wrong)
    assert not folder.canary.exists() and not (folder.path / "out.onnx").exists()


def test_the_traps_are_armed(folder: Folder) -> None:
    """Each payload of the corpus runs where Python's own pickle reads it, and is heard."""
    paths = []
    for name, payload in hostile_code.ARMED.items():
        canary = folder.path / f"canary-{name}"
        protocol = 2 if name.startswith("python-2") else 4
        paths.append(folder.path / f"{name}.trap")
        paths[-1].write_bytes(whole(payload(canary), protocol))
    child("unpickle", *paths)
    asleep = [name for name in hostile_code.ARMED if not (folder.path / f"canary-{name}").exists()]
    assert not asleep


def test_the_watch_hears_them(folder: Folder) -> None:
    paths = []
    for name, payload in hostile_code.ARMED.items():
        paths.append(folder.path / f"{name}.watched")
        paths[-1].write_bytes(whole(payload(folder.canary), 4))
    deaf = [
        Path(result["name"]).stem for result in child("unpickle", *paths) if not result["events"]
    ]
    assert not deaf
    assert not folder.canary.exists()  # and what it hears it stops


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_are_refused_or_sound(seed: int, folder: Folder) -> None:
    paths = []
    for name in FUZZED:
        paths += [folder.path / name, folder.path / f"legacy-{name}"]
        paths[-2].write_bytes((UPSTREAM / name).read_bytes())
        if name != "awd_qrnn_untied_wd0.pt":  # a pickled module, which torch.load refuses to load
            content = torch.load(UPSTREAM / name, weights_only=True)
            torch.save(content, paths[-1], _use_new_zipfile_serialization=False)
        else:
            paths.pop()
    *failures, summary = child("fuzz", seed, 1200, *paths)
    assert not failures
    assert summary["refused"] > 300 and summary["sound"] > 50
    assert summary["grew"] < MOST_MEMORY and summary["seconds"] < MOST_SECONDS


def test_a_sound_file_is_sound(folder: Folder) -> None:
    """What the corpus changes one place of."""
    loaded = load_checkpoint(folder.path / "warm.pt")
    assert {n: t.flatten().tolist() for n, t in loaded.module.state_dict().items()} == {
        "weight": WEIGHT,
        "bias": BIAS,
    }
