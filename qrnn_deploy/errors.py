"""Errors that a user can act on.

Every :class:`QrnnDeployError` is one line that says what is wrong, what was got, what was
expected, and how to fix it. The command line prints that line and exits with status 2; the
library raises it. Anything else that escapes is a defect of qrnn-deploy.
"""

from __future__ import annotations


class QrnnDeployError(ValueError):
    """Bad input or an unusable environment, described in one line."""


class ConfigError(QrnnDeployError):
    """An argument or a configuration that no module can be built from."""


class CheckpointError(QrnnDeployError):
    """A checkpoint that cannot be read, is not recognised, or does not fit its configuration."""


class ExportError(QrnnDeployError):
    """A model that cannot be exported as asked."""


class ModelError(QrnnDeployError):
    """An ONNX file that is damaged, foreign, or too new for this installation."""


class InputError(QrnnDeployError):
    """An input or a state given at run time with the wrong name, dtype, rank or size."""


class KernelLibraryError(QrnnDeployError):
    """The kernel library is absent, cannot be loaded, or is older than the model needs."""


class EngineError(QrnnDeployError):
    """A TensorRT engine that cannot be built, or not be used here, or whose files do not fit."""


class ProofError(EngineError):
    """A built engine does not hold what was asked for, or does not let it be seen."""


class DeviceError(QrnnDeployError):
    """A device that is absent, or that its execution provider cannot use here."""


class MissingDependencyError(QrnnDeployError, ImportError):
    """An optional package is not installed; the message names the extra that holds it."""
