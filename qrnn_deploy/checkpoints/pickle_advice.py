"""What to do about a pickle that was refused, from the name that it asked for.

The name decides nothing but the advice: whatever stands in no table of :mod:`.pickle_names` is
refused. A class of somebody's own is most likely a model saved whole, and its maker can save it
otherwise. A function, or anything of Python's own library, has no place in a model.
"""

from __future__ import annotations

import re
import sys
from _compat_pickle import IMPORT_MAPPING

_DATA = re.compile(
    r"torch\.(q?u?int\d+|float8\w+|complex\d+|\w+Storage)|torch\._utils\._rebuild_\w+"
    r"|numpy\.(core|_core)\.multiarray\._reconstruct"
    r"|(pathlib|datetime|decimal|fractions|uuid|collections)\.[A-Za-z]\w*",
    re.ASCII,
)
"""What ordinary files hold beside weights that are read: other tensors, arrays, paths, dates."""

_CLASS = re.compile(r"(?P<package>[A-Za-z_]\w*)(\.\w+)*\.[A-Z]\w*", re.ASCII)


def advice(name: str, ours: str) -> str:
    """What the user of the file can do.

    Args:
        name: ``module.qualname`` that the pickle asks for.
        ours: what to call for a model of our own classes.
    """
    match = _CLASS.fullmatch(name)
    package = match["package"] if match else ""
    if package == "qrnn_deploy":
        return f"load it where its code is, then call {ours}"
    package = IMPORT_MAPPING.get(package, package)  # Python 2's names, which protocol 2 has
    if _DATA.fullmatch(name) or (package and package not in sys.stdlib_module_names):
        return (
            "if you trust its maker, load it where its code is, and save the weights alone, "
            "torch.save(model.state_dict(), FILE), or export qrnn_deploy.convert(model) "
            "(docs/convert.md)"
        )
    return "it is no part of a model's weights: do not load the file by other means either"
