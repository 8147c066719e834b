"""Errors and warnings that a user can resolve.

    ScgeneptError
    ├── ArgumentError                 ValueError, TypeError
    ├── BundleError                   ValueError
    │   ├── BundleNotFoundError       FileNotFoundError
    │   ├── BundleFileError
    │   └── GraphNotInBundleError     LookupError
    ├── CellsError                    ValueError
    │   ├── CellsNotFoundError        FileNotFoundError
    │   ├── CellsFormatError
    │   ├── FieldNotFoundError        LookupError
    │   ├── ControlCellsError
    │   ├── GeneMatchError
    │   ├── ExpressionValueError
    │   └── PredictionFileError
    ├── PerturbationError             ValueError
    │   ├── UnknownGeneError          LookupError
    │   └── PerturbationFileError
    ├── ProviderError                 RuntimeError
    │   ├── ProviderUnavailableError
    │   └── GraphNotLoadedError
    ├── InferenceError                RuntimeError
    │   ├── DeviceMemoryError         MemoryError
    │   ├── NonFinitePredictionError  ArithmeticError
    │   └── ReferenceMismatchError    ArithmeticError
    ├── ClusterError                  RuntimeError
    ├── OutputError                   OSError
    │   ├── OutputExistsError         FileExistsError
    │   ├── OutputBusyError
    │   ├── PartialOutputError
    │   └── ShardsError
    ├── DownloadError                 OSError
    │   ├── ChecksumError
    │   └── OfflineError              FileNotFoundError
    ├── EvaluationError               ValueError
    │   └── LabelNotFoundError        LookupError
    ├── PlotError                     ValueError
    └── MissingPackageError           ImportError

The export stage adds its own in `scgenept_export.errors`.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scgenept_rt.installing import install_command
from scgenept_rt.wording import printable


@dataclass(frozen=True)
class UseOption:
    """An option that would resolve a problem."""

    name: str  # keyword argument in Python, such as control_label
    purpose: str  # completes the sentence "Pass ... to ...", such as "name the control cells"
    value: Any = None  # the value to pass; None to leave that to the user
    together: bool = False  # goes together with the option before it; else it is an alternative

    def worded(self, flag: str | None) -> str:
        """Return ``control_label='ctrl'``, or of a flag ``--control-label ctrl``, once for each value of a list."""
        if flag is None:
            return f"{self.name}={'...' if self.value is None else repr(self.value)}"
        if self.value is None or self.value is True:
            return flag
        values = self.value if isinstance(self.value, list) else [self.value]
        return " ".join(f"{flag} {shlex.quote(str(value))}" for value in values)


def compose(
    problem: str,
    remedy: str = "",
    options: Iterable[UseOption] = (),
    *,
    where: str = "",
    flags: Mapping[str, str] | None = None,
) -> str:
    """Return a message: where, problem, remedy, and the options that would resolve it.

    With the `flags` of a command by option name, options are worded as these, and those that it lacks are left out;
    without, as keyword arguments.
    """
    use = ""
    for option in options:
        if flags is None or option.name in flags:
            joined = "" if not use else ", and " if option.together else ", or "
            use += f"{joined}{option.worded(None if flags is None else flags[option.name])} to {option.purpose}"
    sentences = [f"{where}: {problem}" if where else problem, remedy, f"Pass {use}" if use else ""]
    ended = (text if text.endswith((".", "!", "?", ":")) else f"{text}." for text in sentences if text)
    return printable(" ".join(ended))


class ScgeneptError(Exception):
    """Base class of every error that this package raises on purpose.

    The command line prints it without a traceback and exits with code 1.

    Attributes
    ----------
    problem
        What was wrong, with the value found and what was expected.
    remedy
        One next step that needs no option; may be empty.
    options
        Options that would resolve it.
    where
        The file, bundle or object concerned; may be empty.
    """

    def __init__(
        self, problem: str, remedy: str = "", options: Iterable[UseOption] = (), *, where: object = ""
    ) -> None:
        self.problem, self.remedy, self.options, self.where = problem, remedy, tuple(options), str(where)
        super().__init__(self.message())

    def message(self, flags: Mapping[str, str] | None = None) -> str:
        """Return the message; see `compose` for `flags`."""
        return compose(self.problem, self.remedy, self.options, where=self.where, flags=flags)


class Notice(str):
    """A warning message that keeps its facts; as a string it names options as keyword arguments."""

    problem: str
    remedy: str
    options: tuple[UseOption, ...]

    def __new__(cls, problem: str, remedy: str = "", options: Iterable[UseOption] = ()) -> Notice:
        """Compose the message of a problem, its remedy and the options that would resolve it."""
        options = tuple(options)
        notice = super().__new__(cls, compose(problem, remedy, options))
        notice.problem, notice.remedy, notice.options = problem, remedy, options
        return notice

    def message(self, flags: Mapping[str, str] | None = None) -> str:
        """Return the message; see `compose` for `flags`."""
        return compose(self.problem, self.remedy, self.options, flags=flags)


class PredictionWarning(UserWarning):
    """Something that changes predicted numbers, such as genes taken as not expressed or a doubtful scale."""


class Caution(Notice):
    """A notice about what changes numbers: Python callers get it as a `PredictionWarning` too."""


def warn_caller(notices: Iterable[str], on_notice: Callable[[str], None] | None = None) -> None:
    """Warn of the cautions among notices, once each, at the line outside this package that called it.

    `on_notice` is called with every notice.
    """
    notices = tuple(notices)
    package = str(Path(__file__).parent)
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    for notice in dict.fromkeys(notices):
        if isinstance(notice, Caution):
            warnings.warn(notice, PredictionWarning, stacklevel=level)
    if on_notice is not None:
        for notice in notices:
            on_notice(notice)


class ArgumentError(ScgeneptError, ValueError, TypeError):
    """An argument has the wrong type or value, or options exclude each other."""


class BundleError(ScgeneptError, ValueError):
    """A bundle cannot be used; `where` is its directory."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no bundle at the path (an interrupted export leaves no manifest)."""


class BundleFileError(BundleError):
    """A file of a bundle is missing, damaged, or of an unsupported format."""


class GraphNotInBundleError(BundleError, LookupError):
    """The bundle has no graph of the requested precision and target."""


class CellsError(ScgeneptError, ValueError):
    """Input cells cannot be used as they are; `where` is their path, or says that they are in memory."""


class CellsNotFoundError(CellsError, FileNotFoundError):
    """The input does not exist."""


class CellsFormatError(CellsError):
    """The input is not a readable .h5ad file, .zarr directory or AnnData, or it is empty."""


class FieldNotFoundError(CellsError, LookupError):
    """The input lacks a layer, matrix or column that an option names."""


class ControlCellsError(CellsError):
    """Control cells cannot be identified, or are too few."""


class GeneMatchError(CellsError):
    """The input lacks genes of the model, or names one gene in several columns; `genes` are their names."""

    def __init__(
        self, problem: str, remedy: str = "", options: Iterable[UseOption] = (), *, where: object = "", genes: Any = ()
    ) -> None:
        self.genes: tuple[str, ...] = tuple(genes)
        super().__init__(problem, remedy, options, where=where)


class ExpressionValueError(CellsError):
    """Expression values are not finite or not log1p-normalised; `problem` names the cell and gene."""


class PredictionFileError(CellsError):
    """A file does not hold usable predictions."""


class PerturbationError(ScgeneptError, ValueError):
    """A perturbation label cannot be used."""


class UnknownGeneError(PerturbationError, LookupError):
    """A perturbed gene is not one of the model's."""


class PerturbationFileError(PerturbationError):
    """A file of perturbations or genes cannot be used; `where` is its path."""


class ProviderError(ScgeneptError, RuntimeError):
    """An execution provider or device cannot be used as requested."""


class ProviderUnavailableError(ProviderError):
    """The requested provider cannot be used on this machine, or did not become active."""


class GraphNotLoadedError(ProviderError):
    """ONNX Runtime cannot load a graph, or the provider cannot run all of it."""


class InferenceError(ScgeneptError, RuntimeError):
    """A batch failed while it ran."""


class DeviceMemoryError(InferenceError, MemoryError):
    """A batch did not fit in memory."""


class NonFinitePredictionError(InferenceError, ArithmeticError):
    """The network returned NaN or infinity; the problem names the first cell and gene."""


class ReferenceMismatchError(InferenceError, ArithmeticError):
    """A provider's outputs for the bundle's reference cells differ from PyTorch's by more than the tolerance."""


class ClusterError(ScgeneptError, RuntimeError):
    """A Ray cluster cannot be reached, or its workers cannot be used."""


class OutputError(ScgeneptError, OSError):
    """An output cannot be written; `where` is its path."""


class OutputExistsError(OutputError, FileExistsError):
    """The output exists and was not to be replaced."""


class OutputBusyError(OutputError):
    """Another process is writing the output."""


class PartialOutputError(OutputError):
    """An interrupted run left a partial output that was not to be resumed, is damaged, or has other settings."""


class ShardsError(OutputError):
    """The parts of a run are missing, unfinished or not of one run."""


class DownloadError(ScgeneptError, OSError):
    """A file cannot be downloaded."""


class ChecksumError(DownloadError):
    """A file is not the one that was published."""


class OfflineError(DownloadError, FileNotFoundError):
    """Files are not here and must not be downloaded; the problem says where to place each."""


class EvaluationError(ScgeneptError, ValueError):
    """An evaluation cannot be made as requested."""


class LabelNotFoundError(EvaluationError, LookupError):
    """A perturbation, split or subgroup is not in the data or predictions."""


class PlotError(ScgeneptError, ValueError):
    """A figure cannot be drawn as requested."""


class MissingPackageError(ScgeneptError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed",
            f"Install it with `{install_command(extra)}`",
        )
