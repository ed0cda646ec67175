"""What an engine holds and whether this machine runs it, as data for ``qrnn-deploy inspect``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._optional import install
from ..errors import EngineError, QrnnDeployError
from .backends import BACKENDS, Backend, load_backend, version_key
from .gpu import find_cards
from .manifest import Manifest, read_manifest
from .plugin import find_plugin, plugin_sha256


@dataclass(frozen=True)
class EngineDescription:
    """The facts about one engine.

    Attributes:
        path: the engine.
        bytes: its size.
        manifest: what it takes, holds and needs.
        golden: whether the golden vectors lie beside it.
        obstacles: why it does not run here, one sentence each; empty where nothing speaks against
            it.
    """

    path: str
    bytes: int
    manifest: Manifest
    golden: bool
    obstacles: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "path": self.path,
            "bytes": self.bytes,
            "golden_is_here": self.golden,
            "runs_here": not self.obstacles,
            "obstacles": self.obstacles,
            "manifest": self.manifest.to_dict(),
        }


def describe(path: str | os.PathLike[str]) -> EngineDescription:
    """Read an engine's manifest, and look at this machine.

    Raises:
        EngineError: the engine or its manifest is missing, damaged, or not of the other.
    """
    file = Path(path)
    manifest = read_manifest(file)
    return EngineDescription(
        path=str(file),
        bytes=file.stat().st_size,
        manifest=manifest,
        golden=manifest.golden is not None and (file.parent / manifest.golden).is_dir(),
        obstacles=obstacles(manifest),
    )


def require_runnable(manifest: Manifest, path: object) -> None:
    """Refuse an engine that this machine cannot run, before anything opens it.

    Raises:
        EngineError: with the first obstacle.
    """
    found = obstacles(manifest)
    if found:
        raise EngineError(f"{path} does not run here: {found[0]}")


def obstacles(manifest: Manifest) -> list[str]:
    """What speaks against running an engine here: packages, versions, cards, libraries."""
    backend = BACKENDS[manifest.backend]
    return [*_package(manifest, backend), *_card(manifest), *_libraries(manifest)]


def _package(manifest: Manifest, backend: Backend) -> list[str]:
    try:
        trt = load_backend(backend)
    except QrnnDeployError as error:
        return [str(error)]
    here, there = version_key(trt.__version__), version_key(manifest.tensorrt_version)
    if here == there or (manifest.version_compatible and here > there):
        return []
    later = " or later" if manifest.version_compatible else ""
    return [
        f"it is for {backend.title} {manifest.tensorrt_version}{later}, here is {trt.__version__}: "
        f"install that version as by {install(backend.module)}, or build the engine again"
    ]


def _card(manifest: Manifest) -> list[str]:
    found = find_cards()
    wanted = ", ".join(manifest.architectures)
    if not found.cards:
        return [f"it needs a GPU of {wanted}, and {found.obstacle}"]
    if any(card.capability in manifest.architectures for card in found.cards):
        return []  # a session looks at the one it uses
    here = dict.fromkeys(f"{card.name} is {card.capability}" for card in found.cards)
    return [f"it is for {wanted}, and {', '.join(here)}: build the engine again for it"]


def _libraries(manifest: Manifest) -> list[str]:
    found = []
    for library in manifest.libraries:
        if library.embedded:
            continue
        try:
            path = find_plugin()
        except EngineError as error:
            found.append(str(error))
            continue
        if plugin_sha256(path) != library.sha256:
            found.append(
                f"{path} is not the {library.name} that it was built with: install that "
                "qrnn-deploy, or build the engine again"
            )
    return found
