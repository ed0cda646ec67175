"""Settings for the whole suite."""

from __future__ import annotations

import os

# Each of pytest-xdist's workers gets one core. It must be said before torch and NumPy are loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

try:
    from hypothesis import settings
except ImportError:
    pass  # `make test-gpu` needs none of the tests that use it
else:
    # A deadline measures the machine's load, not the code. A failing example is printed to copy.
    settings.register_profile("suite", deadline=None, print_blob=True)
    settings.load_profile("suite")
