"""Runs the README: every code block of the tour, in order, in one folder.

A block that cannot be run here says so in a comment above it: ``<!-- not run: reason -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.M | re.S,
)


@dataclass
class Block:
    language: str
    code: str
    line: int
    reason: str | None


BLOCKS = [
    Block(m["language"], m["code"], README[: m.start("code")].count("\n") + 1, m["reason"])
    for m in FENCE.finditer(README)
]
RUN = [b for b in BLOCKS if b.language in ("python", "sh") and b.reason is None]


def test_the_tour_is_found_and_only_set_up_and_the_gpu_are_left_out():
    assert sum(b.language == "python" for b in RUN) >= 5
    assert sum(b.language == "sh" for b in RUN) >= 2
    assert [b.language for b in BLOCKS if b.reason] == ["sh", "sh", "sh"]
    assert {b.language for b in BLOCKS} == {"", "python", "sh"}


@pytest.mark.filterwarnings("error::qrnn_deploy.runtime.KernelFallbackWarning")
def test_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names: dict[str, object] = {}
    for block in RUN:
        if block.language == "python":
            # The padding makes a traceback name the README's own lines.
            exec(compile("\n" * (block.line - 1) + block.code, "README.md", "exec"), names)
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
            timeout=120,
        )
        assert done.returncode == 0, f"README.md:{block.line}\n{done.stdout}{done.stderr}"
        assert done.stderr == "", f"README.md:{block.line}\n{done.stderr}"
    assert (tmp_path / "answer.raw").stat().st_size == 100 * 64 * 4
    assert (tmp_path / "model.golden").is_dir()


def test_every_command_and_every_make_target_is_documented():
    from qrnn_deploy.cli import cli

    documented = (ROOT / "docs" / "cli.md").read_text()
    for name in cli.commands:
        assert f"## qrnn-deploy {name}\n" in documented
        assert f"qrnn-deploy {name}" in README or name in ("completion",), name
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert target in targets, target


def test_documented_defaults_of_the_operators_are_those_of_their_schemas():
    from onnx.helper import get_attribute_value

    from qrnn_deploy.exporter.schema import attribute_defaults
    from qrnn_deploy.pooling.spec import BY_OP_TYPE

    described = set()
    for section in (ROOT / "docs" / "op.md").read_text().split("\n## ")[1:]:
        rows = re.findall(r"^\| `(\w+)` \| (?:int|float|string) \| `?([^|`]+)`? \|", section, re.M)
        for op_type in section.split("\n")[0].split(", "):
            if op_type not in BY_OP_TYPE:
                continue
            defaults = attribute_defaults(BY_OP_TYPE[op_type])
            values = {item.name: get_attribute_value(item) for item in defaults}
            assert dict(rows) == {
                name: value.decode() if isinstance(value, bytes) else str(value)
                for name, value in values.items()
            }
            described.add(op_type)
    assert described == set(BY_OP_TYPE)


def test_every_part_of_the_package_has_its_place_in_the_architecture():
    described = (ROOT / "docs" / "architecture.md").read_text()
    for path in sorted((ROOT / "qrnn_deploy").iterdir()):
        if path.is_dir() and (any(path.glob("*.py")) or path.name == "selftest"):
            assert f"| `{path.name}/` |" in described, path.name
        if path.suffix == ".py" and path.name not in ("__init__.py", "__main__.py"):
            assert f"`{path.name}`" in described, path.name


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
