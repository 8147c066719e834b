"""Throughput of a bundle against batch size, as `scgenept_rt.benchmark` measured it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scgenept_rt.benchmark import BenchmarkResult
from scgenept_rt.errors import pluralize
from scgenept_rt.plotting.drawing import axes_for, plain, style_of, without_tex

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@without_tex
def throughput(result: BenchmarkResult, *, ax: Axes | None = None) -> Axes:
    """Draw cells per second against batch size, one line per provider and precision.

    Parameters
    ----------
    result
        From `run_benchmark`.
    ax
        Axes to draw into; by default those of a new figure.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    """
    axes = axes_for(ax, (6.4, 4.2))
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for timing in result.timings:
        if timing.cells_per_second is not None:
            points = lines.setdefault((timing.provider, timing.precision), [])
            points.append((timing.batch_size, timing.cells_per_second))
    for index, ((provider, precision), points) in enumerate(lines.items()):
        axes.plot(*zip(*points, strict=True), label=f"{provider}, {precision}", **style_of(index))
    sizes = sorted({timing.batch_size for timing in result.timings})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max((rate for points in lines.values() for _, rate in points), default=1.0))
    axes.set_xlabel("cells per batch")
    axes.set_ylabel("cells per second")
    gpu = result.machine.get("gpu")
    device = gpu["name"] if gpu else f"{result.machine['cpu']}, {pluralize(result.machine['threads'], 'thread')}"
    n_genes = result.timings[0].n_genes if result.timings else result.dimensions.n_genes
    weights = ", synthetic weights" if result.synthetic else ""
    axes.set_title(f"{result.variant}{weights}, {n_genes:,} genes\n{device}", fontsize="medium")
    plain(axes)
    if lines:
        axes.legend(frameon=False)
    return axes
