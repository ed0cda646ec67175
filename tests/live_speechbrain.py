"""SpeechBrain's own QuasiRNN, without the packages that SpeechBrain as a whole needs.

``make setup`` installs the package alone (``--no-deps``). Of it only the file
``speechbrain/nnet/RNN.py`` is run; what that imports from its siblings is for other classes.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from needs import absent

_SIBLINGS: dict[str, dict[str, Any]] = {
    "speechbrain": {},
    "speechbrain.nnet": {},
    "speechbrain.nnet.attention": {
        name: object
        for name in ("ContentBasedAttention", "KeyValueAttention", "LocationAwareAttention")
    },
    "speechbrain.utils": {},
    "speechbrain.utils.logger": {"get_logger": logging.getLogger},
}


def speechbrain_rnn() -> ModuleType:
    """``speechbrain.nnet.RNN``; skips, or fails where ``make test`` requires it."""
    spec = importlib.util.find_spec("speechbrain")
    if spec is None or not spec.submodule_search_locations:
        absent("speechbrain", "SpeechBrain is not here (`make setup` installs it)")
    return _loaded(Path(next(iter(spec.submodule_search_locations))) / "nnet" / "RNN.py")


@cache
def _loaded(path: Path) -> ModuleType:
    before = dict(sys.modules)
    for name, members in _SIBLINGS.items():
        sibling = ModuleType(name)
        sibling.__dict__.update(members)
        sys.modules[name] = sibling
    try:
        spec = importlib.util.spec_from_file_location("speechbrain.nnet.RNN", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        for name in _SIBLINGS:
            sys.modules.pop(name)
            if name in before:
                sys.modules[name] = before[name]
