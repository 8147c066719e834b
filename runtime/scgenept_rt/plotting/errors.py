"""Errors of plotting that a user can put right; see `scgenept_rt.errors` for their form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scgenept_rt.errors import OutputError, ScgeneptError, join_limited


class PlotError(ScgeneptError, ValueError):
    """A figure that cannot be drawn as asked for."""


class MatplotlibMissingError(ScgeneptError, ImportError):
    """A figure was asked for, but matplotlib is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "drawing a figure needs matplotlib, which is not installed. Install it with "
            "`pip install 'scgenept-rt[plot]'`."
        )


class FigureWriteError(OutputError, OSError):
    """A figure could not be written."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(path, f"figure {path}: writing failed ({problem}). Choose another path.")


class FigureFormatError(PlotError):
    """The ending of a figure's path names no format of pictures."""

    def __init__(self, path: Path | str, endings: Sequence[str]) -> None:
        super().__init__(
            f"figure {path}: the ending {Path(path).suffix!r} is unknown; figures end in {', '.join(endings)}. "
            "Give a path with one of these endings."
        )


class GeneNotPlottedError(PlotError, LookupError):
    """Genes that were asked for are not among the predicted ones."""

    def __init__(self, where: str, missing: Sequence[str]) -> None:
        super().__init__(f"{where}: it has no gene called {join_limited(missing)}. Check the spelling with --genes.")
