"""Throughput against batch size, as a picture."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from scgenept_rt.benchmark.measurement import BenchmarkResult
from scgenept_rt.errors import ScgeneptError, counted

_ENDINGS = (".png", ".svg", ".pdf")


class PlotExtraMissingError(ScgeneptError, ImportError):
    """A plot was asked for, but matplotlib is not installed."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            f"{path}: drawing a plot needs matplotlib, which is not installed. "
            "Install it with `pip install 'scgenept-rt[plot]'`, or use --json."
        )


class PlotFormatError(ScgeneptError, ValueError):
    """The ending of a plot's path names no format of pictures."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(f"{path}: a plot ends in {', '.join(_ENDINGS)}. Give a path with one of these endings.")


def check_plot_path(path: Path) -> None:
    """Raise, before anything is measured, if a plot could not be written to `path`.

    Raises
    ------
    PlotExtraMissingError
        If matplotlib is not installed.
    PlotFormatError
        If the ending names no format of pictures.
    """
    if find_spec("matplotlib") is None:
        raise PlotExtraMissingError(path)
    if path.suffix.lower() not in _ENDINGS:
        raise PlotFormatError(path)


def write_plot(result: BenchmarkResult, path: Path) -> None:
    """Draw cells a second against batch size, one line a provider and precision.

    Raises
    ------
    PlotExtraMissingError, PlotFormatError
        See `check_plot_path`.
    """
    check_plot_path(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: it would look for a screen
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for timing in result.timings:
        if timing.cells_per_second is not None:
            points = lines.setdefault((timing.provider, timing.precision), [])
            points.append((timing.batch_size, timing.cells_per_second))
    for (provider, precision), points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=f"{provider}, {precision}")
    sizes = sorted({timing.batch_size for timing in result.timings})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max((rate for points in lines.values() for _, rate in points), default=1.0))
    axes.set_xlabel("cells a batch")
    axes.set_ylabel("cells a second")
    gpu = result.machine.get("gpu")
    device = gpu["name"] if gpu else f"{result.machine['cpu']}, {counted(result.machine['threads'], 'thread')}"
    n_genes = result.timings[0].n_genes if result.timings else result.dimensions.n_genes
    axes.set_title(f"{result.variant}, {n_genes:,} genes\n{device}", fontsize="medium")
    if lines:
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
