"""Predicted change against measured change of one perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import pluralize
from scgenept_rt.evaluation.metrics import pearson
from scgenept_rt.evaluation.observed import CONTROL, OpenData, open_data
from scgenept_rt.options import ReadOptions, resolve
from scgenept_rt.plotting.drawing import NEUTRAL, axes_for, plain, require_matplotlib, style_of
from scgenept_rt.plotting.errors import PlotError
from scgenept_rt.plotting.gene_names import name_points
from scgenept_rt.plotting.legend import UNBREAKABLE, add_legend, fit_height
from scgenept_rt.plotting.predictions import Predictions, means_of, named_predictions, panel_of, unique_series

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_ONE_COLUMN = 4
"""Series that the legend lists below each other, so that their correlations are easy to compare; more: two columns."""


def agreement(
    data: str | Path | AnnData,
    perturbation: str,
    predictions: Predictions,
    *,
    n_labels: int = 10,
    n_controls: int | None = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw predicted against measured change over control, a point a gene, with Pearson's r of each series.

    Parameters
    ----------
    data, perturbation, predictions, n_controls, seed, read, ax
        As in `top_de`.
    n_labels
        How many of the genes with the largest measured change are named, at the first series; one whose name has no
        place near its point is not.

    Raises
    ------
    MatplotlibMissingError
        If matplotlib is not installed.
    ScgeneptError
        If the data or the predictions lack the perturbation.
    """
    require_matplotlib()
    options = resolve(ReadOptions, read)
    named = named_predictions(predictions)
    first_name, first = named[0]
    if panel_of(first) is None:
        first = means_of(first, first_name)
        named[0] = (first_name, first)
    panel = panel_of(first)
    assert panel is not None
    with open_data(data, options) as cells:
        opened = OpenData.of(cells, panel)
        label = opened.label(perturbation)
        if label == CONTROL:
            raise PlotError(f"perturbation {perturbation!r} is the control. Give a perturbed gene.")
        observed = opened.observe([label])
    measured = observed.moments.mean(label) - observed.control
    series = [
        means_of(entry, name, labels=[perturbation], cells=data, read=options, n_controls=n_controls, seed=seed)
        for name, entry in named
    ]
    for means in series[1:]:
        if means.panel.names != panel.names:
            raise PlotError(
                f"{means.where}: its genes differ from those of {series[0].where}. Draw them in figures of their own."
            )
    deltas = [means.delta(perturbation, observed.control) for means in series]
    own_figure = ax is None
    ax = axes_for(ax, (4.8, 4.8))
    n_cells = observed.moments.n(label)
    ax.set_title(f"{label} ({pluralize(n_cells, 'cell')})", fontsize="medium", loc="left")
    draw_agreement(ax, measured, deltas, unique_series(series))
    add_legend(ax, columns=1 if len(series) <= _ONE_COLUMN else 2)
    if own_figure:
        fit_height(ax)
    name_genes(ax, measured, deltas, panel.names, n_labels)
    return ax


def draw_agreement(
    ax: Axes, measured: NDArray[np.floating], deltas: list[NDArray[np.float64]], names: list[str]
) -> None:
    """Draw changes that are known, without a legend; see `agreement`."""
    for index, (predicted, name) in enumerate(zip(deltas, names, strict=True)):
        ax.plot(
            measured,
            predicted,
            linestyle="none",
            alpha=0.6,
            markeredgewidth=0,
            label=f"{name}: r{UNBREAKABLE}={UNBREAKABLE}{pearson(measured, predicted):.2f}",
            rasterized=len(measured) > 2000,  # else a vector file has a path for each of thousands of genes
            **style_of(index, 4),
        )
    everything = np.concatenate([measured, *deltas])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.06 * (high - low or 1.0)
    limits = (low - margin, high + margin)
    ax.plot(limits, limits, color=NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
    ax.axhline(0.0, color=NEUTRAL, linewidth=0.4, zorder=0)
    ax.axvline(0.0, color=NEUTRAL, linewidth=0.4, zorder=0)
    ax.set_xlim(limits)
    ax.set_ylim(limits)
    ax.set_box_aspect(1)
    ax.locator_params(nbins=5)  # else numbers on the x axis touch
    ax.set_xlabel("measured change (log1p)")
    ax.set_ylabel("predicted change (log1p)")
    plain(ax)


def name_genes(
    ax: Axes,
    measured: NDArray[np.floating],
    deltas: list[NDArray[np.float64]],
    genes: Sequence[str],
    n_labels: int,
) -> None:
    """Name the genes of the largest measured change at the points of the first series, once all else is drawn."""
    first, *others = (np.column_stack([measured, predicted]).astype(np.float64) for predicted in deltas)
    chosen = np.argsort(-np.abs(measured), kind="stable")[:n_labels]
    name_points(ax, first, genes, chosen.tolist(), np.concatenate([first[:0], *others]))
