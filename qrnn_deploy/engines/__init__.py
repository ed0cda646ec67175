"""TensorRT engines: building them, and what their manifests say.

Neither needs torch. Building needs ``tensorrt`` or ``tensorrt_rtx_bindings``, imported when a
build begins.
"""

from __future__ import annotations

from .build import BuildReport, build_engine
from .description import EngineDescription, describe, obstacles, require_runnable
from .manifest import Library, Manifest, manifest_path, read_manifest
from .profiles import Profile, ShapeRange

__all__ = [
    "BuildReport",
    "EngineDescription",
    "Library",
    "Manifest",
    "Profile",
    "ShapeRange",
    "build_engine",
    "describe",
    "manifest_path",
    "obstacles",
    "read_manifest",
    "require_runnable",
]
