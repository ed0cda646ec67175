"""The kernel library: whole, cut off, foreign; what is said then."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import needs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qrnn_deploy
from qrnn_deploy.errors import KernelLibraryError
from qrnn_deploy.runtime import KernelFallbackWarning, Session, elf
from qrnn_deploy.runtime.library import ENVIRONMENT, FILE_NAME, KernelLibrary, find_library

MODEL = Path(qrnn_deploy.__file__).parent / "selftest" / "model.onnx"
only_elf = pytest.mark.skipif(not elf.HAS_ELF, reason="libraries are no ELF files here")

# Loads the library at ever shorter lengths. It prints each message; a bus error ends it early.
SHORTEN = """
import os, sys
from pathlib import Path
from qrnn_deploy.errors import KernelLibraryError
from qrnn_deploy.runtime.library import KernelLibrary
path = Path(sys.argv[1])
for length in map(int, sys.argv[2:]):
    os.truncate(path, length)
    try:
        KernelLibrary(path)
    except KernelLibraryError as error:
        print(length, error, flush=True)
    else:
        sys.exit(f"loaded {length} bytes")
"""


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the kernel library, free to be damaged."""
    return Path(shutil.copy(needs.kernel_library().path, tmp_path / "libcopy.so"))


def command(*arguments: object, library: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with ``library`` named."""
    return subprocess.run(
        [sys.executable, "-m", "qrnn_deploy", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, ENVIRONMENT: str(library)},
    )


@only_elf
def test_no_length_crashes_the_process(copy):
    size = copy.stat().st_size
    steps = {round(size * part / 24) for part in range(24)}
    lengths = sorted(steps | {1, 4, 20, 52, 63, 64, 100, 20_000, size - 64, size - 1}, reverse=True)
    done = subprocess.run(
        [sys.executable, "-c", SHORTEN, copy, *map(str, lengths)], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-300:], done.stderr)
    lines = done.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == lengths
    assert all(f"kernel library {copy} cannot be used (it " in line for line in lines)
    assert f"it ends after 20000 bytes, expected {size}" in lines[lengths.index(20_000)]


@only_elf
@pytest.mark.parametrize(
    "arguments",
    [("run", MODEL, "frames.npy", "-o", "y.npy"), ("inspect", MODEL), ("verify", MODEL)],
    ids=lambda arguments: arguments[0],
)
def test_commands_name_the_file_that_was_cut_off(copy, arguments):
    os.truncate(copy, 20_000)
    done = command(*arguments, library=copy)
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: kernel library {copy} cannot be used (it ends after 20000 ")
    assert f"unset {ENVIRONMENT}" in line and "--kernel off" in line and "reinstall" not in line


@only_elf
def test_without_the_kernel_a_broken_library_does_not_matter(copy):
    os.truncate(copy, 20_000)
    done = command("inspect", MODEL, "--kernel", "off", library=copy)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_advice_is_that_of_the_source(monkeypatch, tmp_path):
    fake = tmp_path / "lib.so"
    fake.write_bytes(b"not a library")
    monkeypatch.setenv(ENVIRONMENT, str(fake))
    with pytest.raises(KernelLibraryError, match=f"unset {ENVIRONMENT}, or name") as named:
        KernelLibrary(fake)
    assert "reinstall" not in str(named.value)
    monkeypatch.delenv(ENVIRONMENT)
    with pytest.raises(KernelLibraryError, match="reinstall qrnn-deploy") as installed:
        KernelLibrary(fake)
    assert ENVIRONMENT not in str(installed.value)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "absent.so"))
    with pytest.raises(
        KernelLibraryError, match=f"is not a file, expected .*: unset {ENVIRONMENT}"
    ):
        find_library()


def test_a_library_of_others_is_refused():
    other = Path(np._core._multiarray_umath.__file__)
    with pytest.raises(KernelLibraryError, match=r"cannot be used \(.*qrnn_deploy_schema_version"):
        KernelLibrary(other)


@only_elf
def test_whole_files_have_no_defect():
    assert elf.defect(needs.kernel_library().path) is None
    assert elf.defect(Path("/proc/self/exe")) is None


@only_elf
def test_another_machine_is_named(copy):
    data = bytearray(copy.read_bytes())
    (own,) = struct.unpack_from("=H", data, 18)
    struct.pack_into("=H", data, 18, 183 if own != 183 else 62)
    copy.write_bytes(data)
    found = elf.defect(copy)
    names = ["aarch64", "x86-64"] if own != 183 else ["x86-64", "aarch64"]
    assert found is not None
    assert f"built for {names[0]}, 64-bit, little-endian, expected {names[1]}" in found


def use_installed(monkeypatch, path: Path) -> None:
    """Let ``path`` be the library that is installed."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(qrnn_deploy, "__path__", [str(path.parent.parent)])
    # Everything of the package that is needed later is imported by now, by the fixture `copy`.
    assert find_library() == path


@only_elf
def test_an_installed_library_that_does_not_load_is_one_warning(copy, monkeypatch):
    library = copy.parent / "lib" / FILE_NAME
    library.parent.mkdir()
    os.truncate(copy.rename(library), 20_000)
    use_installed(monkeypatch, library)
    with pytest.warns(KernelFallbackWarning) as caught:
        session = Session(MODEL)
    (warning,) = caught
    text = str(warning.message)
    assert f"function body, since kernel library {library} cannot be used (it ends" in text
    assert "reinstall qrnn-deploy" in text and "--kernel off" in text and "\n" not in text
    assert set(session.implementation.values()) == {"function"}
    with pytest.raises(KernelLibraryError, match="reinstall qrnn-deploy"):
        Session(MODEL, kernel="require")


@only_elf
def test_a_named_library_that_does_not_load_is_an_error(copy, monkeypatch):
    os.truncate(copy, 20_000)
    monkeypatch.setenv(ENVIRONMENT, str(copy))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for choice in ("auto", "require"):
            with pytest.raises(KernelLibraryError, match=f"unset {ENVIRONMENT}"):
                Session(MODEL, kernel=choice)
        assert set(Session(MODEL, kernel="off").implementation.values()) == {"function"}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("elf") / "library.so"


def elf_file(wide: bool, order: str, segment: tuple[int, int], section: tuple[int, int]) -> bytes:
    """A header, one segment and one section of (offset, size), and 64 bytes more."""
    bits, mark = (2, "Q") if wide else (1, "I")
    start = 64 if wide else 52
    rows = (56, 64) if wide else (32, 40)
    ident = b"\x7fELF" + bytes([bits, 1 if order == "<" else 2, 1]) + bytes(9)
    head = struct.pack(
        f"{order}2HI3{mark}I6H",
        *(3, 62, 1, 0, start, start + rows[0], 0, start, rows[0], 1, rows[1], 1, 0),
    )
    if wide:
        program = struct.pack(f"{order}2I6Q", 1, 5, segment[0], 0, 0, *([segment[1]] * 2), 1)
        table = struct.pack(f"{order}2I4Q2I2Q", 0, 1, 0, 0, *section, 0, 0, 1, 0)
    else:
        program = struct.pack(f"{order}8I", 1, segment[0], 0, 0, *([segment[1]] * 2), 5, 1)
        table = struct.pack(f"{order}10I", 0, 1, 0, 0, *section, 0, 0, 1, 0)
    return ident + head + program + table + bytes(64)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_extents_of_both_classes_and_byte_orders(small, monkeypatch, wide, order):
    monkeypatch.setattr(elf, "_own_head", lambda: b"")
    size = len(elf_file(wide, order, (0, 0), (0, 0)))
    for extents, end in (
        (((0, size), (size - 9, 9)), None),
        (((1, size), (0, 0)), size + 1),
        (((0, 0), (size - 9, 10)), size + 1),
    ):
        small.write_bytes(elf_file(wide, order, *extents))
        found = elf.defect(small)
        assert found == (end and f"it ends after {size} bytes, expected {end}: it was cut off")


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=12), st.integers(0, 190))
def test_damaged_headers_are_words_and_no_other_error(small, damage, where):
    data = bytearray(elf_file(True, "<", (0, 100), (100, 20)))
    data[where : where + len(damage)] = damage
    small.write_bytes(data)
    found = elf.defect(small)
    assert found is None or ("it" in found and "\n" not in found)
