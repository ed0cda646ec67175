"""The package ``sru`` of asappresearch, which compiles its operator when it is first imported.

``make setup`` installs it. The compiled operator is kept beside other things that may be deleted,
not in the home folder.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

from needs import absent

CACHE = Path(os.environ.get("QRNN_DEPLOY_CACHE", Path(__file__).parent.parent / ".cache"))


def sru_package() -> ModuleType:
    """``sru``; skips, or fails where ``make test`` requires it."""
    for name in ("sru", "ninja"):
        if importlib.util.find_spec(name) is None:
            absent("sru", f"{name} is not here (`make setup` installs it)")
    return _imported()


@cache
def _imported() -> ModuleType:
    import ninja

    before = dict(os.environ)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(CACHE / "torch_extensions")
    os.environ["PATH"] = os.pathsep.join((ninja.BIN_DIR, before.get("PATH", "")))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for CUDA first, and says that it found none
            import sru
    finally:
        os.environ.clear()
        os.environ.update(before)
    return sru
