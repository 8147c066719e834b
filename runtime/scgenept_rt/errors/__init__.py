"""Errors that a user can put right.

Each class takes the facts and writes its own sentence: what was wrong with its value, where it stood, what was
expected, and one next step. All derive from `ScgeneptError`, which the command line prints without a traceback
(exit code 1), and from the builtin that fits, so that callers may catch either.
"""

from __future__ import annotations

from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.core import (
    ArgumentError,
    BundleError,
    BundleFileError,
    BundleNotFoundError,
    CellsError,
    CellsFormatError,
    CellsNotFoundError,
    ChecksumError,
    ControlCellsError,
    DeviceMemoryError,
    DownloadError,
    ExpressionValueError,
    FieldNotFoundError,
    GeneMatchError,
    GraphNotInBundleError,
    GraphNotLoadedError,
    InferenceError,
    MissingPackageError,
    NonFinitePredictionError,
    OfflineError,
    OutputBusyError,
    OutputError,
    OutputExistsError,
    PartialOutputError,
    PerturbationError,
    PerturbationFileError,
    ProviderError,
    ProviderUnavailableError,
    ReferenceMismatchError,
    UnknownGeneError,
)
from scgenept_rt.errors.wording import describe, join_limited, pluralize

__all__ = [
    "ArgumentError",
    "BundleError",
    "BundleFileError",
    "BundleNotFoundError",
    "CellsError",
    "CellsFormatError",
    "CellsNotFoundError",
    "ChecksumError",
    "ControlCellsError",
    "DeviceMemoryError",
    "DownloadError",
    "ExpressionValueError",
    "FieldNotFoundError",
    "GeneMatchError",
    "GraphNotInBundleError",
    "GraphNotLoadedError",
    "InferenceError",
    "MissingPackageError",
    "NonFinitePredictionError",
    "OfflineError",
    "OutputBusyError",
    "OutputError",
    "OutputExistsError",
    "PartialOutputError",
    "PerturbationError",
    "PerturbationFileError",
    "ProviderError",
    "ProviderUnavailableError",
    "ReferenceMismatchError",
    "ScgeneptError",
    "UnknownGeneError",
    "describe",
    "join_limited",
    "pluralize",
]
