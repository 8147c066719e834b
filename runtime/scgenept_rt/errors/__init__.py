"""Errors that a user can put right.

Each class takes the facts and writes its own sentence: what was wrong with its value, where it stood, what was
expected, and one next step. All derive from `ScgeneptError`, which the command line prints without a traceback
(exit code 1), and from the builtin that fits, so that callers may catch either. Here are those of bundles, cells,
perturbations, providers, prediction and its output; `scgenept_rt.evaluation`, `plotting`, `download`, `benchmark` and
`genetic_interactions` offer their own.
"""

from __future__ import annotations

from scgenept_rt.errors.arguments import PATH_TYPES, ArgumentTypeError, check_argument
from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.core import (
    ArgumentError,
    BundleError,
    BundleFileError,
    BundleNotFoundError,
    CellsError,
    CellsFormatError,
    CellsNotFoundError,
    ControlCellsError,
    DeviceMemoryError,
    ExpressionValueError,
    FieldNotFoundError,
    GeneMatchError,
    GraphNotInBundleError,
    GraphNotLoadedError,
    InferenceError,
    MissingPackageError,
    NonFinitePredictionError,
    PerturbationError,
    PerturbationFileError,
    ProviderError,
    ProviderUnavailableError,
    ReferenceMismatchError,
    UnknownGeneError,
)
from scgenept_rt.errors.output import (
    OutputBusyError,
    OutputDirectoryError,
    OutputError,
    OutputExistsError,
    OutputFormatError,
    OutputIsInputError,
    OutputKindError,
    OutputNameError,
    OutputSpaceError,
    OutputUnfinishedError,
    OutputWriteError,
    PartialDamagedError,
    PartialOutputError,
    ResumeMismatchError,
    ZarrMissingError,
)
from scgenept_rt.errors.wording import describe, join_limited, pluralize

__all__ = [
    "PATH_TYPES",
    "ArgumentError",
    "ArgumentTypeError",
    "BundleError",
    "BundleFileError",
    "BundleNotFoundError",
    "CellsError",
    "CellsFormatError",
    "CellsNotFoundError",
    "ControlCellsError",
    "DeviceMemoryError",
    "ExpressionValueError",
    "FieldNotFoundError",
    "GeneMatchError",
    "GraphNotInBundleError",
    "GraphNotLoadedError",
    "InferenceError",
    "MissingPackageError",
    "NonFinitePredictionError",
    "OutputBusyError",
    "OutputDirectoryError",
    "OutputError",
    "OutputExistsError",
    "OutputFormatError",
    "OutputIsInputError",
    "OutputKindError",
    "OutputNameError",
    "OutputSpaceError",
    "OutputUnfinishedError",
    "OutputWriteError",
    "PartialDamagedError",
    "PartialOutputError",
    "PerturbationError",
    "PerturbationFileError",
    "ProviderError",
    "ProviderUnavailableError",
    "ReferenceMismatchError",
    "ResumeMismatchError",
    "ScgeneptError",
    "UnknownGeneError",
    "ZarrMissingError",
    "check_argument",
    "describe",
    "join_limited",
    "pluralize",
]
