"""Figures of predictions and measurements, as `scgenept_rt.pl`; they need the extra `plot` (matplotlib).

Every function returns the Axes that it drew into, takes `ax=`, and leaves pyplot and matplotlib's settings alone.
"""

from scgenept_rt.plotting.agreement import agreement
from scgenept_rt.plotting.delta import delta
from scgenept_rt.plotting.drawing import save
from scgenept_rt.plotting.errors import (
    FigureFormatError,
    FigureWriteError,
    GeneNotPlottedError,
    MatplotlibMissingError,
    PlotError,
)
from scgenept_rt.plotting.evaluation_figures import evaluation_figures
from scgenept_rt.plotting.heatmap import heatmap
from scgenept_rt.plotting.throughput import throughput
from scgenept_rt.plotting.top_de import top_de

__all__ = [
    "FigureFormatError",
    "FigureWriteError",
    "GeneNotPlottedError",
    "MatplotlibMissingError",
    "PlotError",
    "agreement",
    "delta",
    "evaluation_figures",
    "heatmap",
    "save",
    "throughput",
    "top_de",
]
