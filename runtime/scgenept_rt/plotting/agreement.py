"""Predicted change against measured change of one perturbation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Notice, PlotError
from scgenept_rt.evaluation.measured import MeasuredCells
from scgenept_rt.evaluation.metrics import pearson
from scgenept_rt.expression.opened_cells import open_cells
from scgenept_rt.options import ReadOptions, SampleOptions
from scgenept_rt.plotting.drawing import (
    NEUTRAL,
    axes_for,
    draw_points,
    figure_of,
    plain,
    settle_layout,
    square_axes,
    style_of,
    without_tex,
)
from scgenept_rt.plotting.predictions import Predictions, common_group, legend_names, open_series, predict_series
from scgenept_rt.plotting.text_layout import NO_BREAK, add_legend, name_points
from scgenept_rt.wording import join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


@without_tex
def agreement(
    data: str | Path | AnnData,
    perturbation: str,
    predictions: Predictions,
    *,
    n_labels: int = 10,
    label_genes: Sequence[str] | None = None,
    in_group: str | None = None,
    read: ReadOptions | None = None,
    ax: Axes | None = None,
    on_notice: Callable[[str], None] | None = None,
    **sample: Unpack[SampleOptions],
) -> Axes:
    """Draw predicted against measured change over control, one point per gene, with Pearson's r of each series.

    Parameters
    ----------
    data, perturbation, predictions, in_group, read, ax, **sample
        As in `top_de`.
    on_notice
        Called with each warning about what changes numbers, and with the names of `label_genes` that do not fit.
    n_labels
        Number of genes to name, those of the largest measured change, at the points of the first series. Names that do
        not fit near their point are left out.
    label_genes
        Names of the genes to name instead.

    Raises
    ------
    ScgeneptError
        If the data or the predictions lack the perturbation.
    """
    named = open_series(predictions, perturbation, in_group)
    panel = named[0][1].panel
    with open_cells(data, read) as cells:
        measured = MeasuredCells(cells, panel, common_group(named))
        label = measured.label(perturbation)
        moments = measured.moments([label])
    change = moments.mean(label) - moments.control
    series = predict_series(named, perturbation, data, read, sample, measured.notices, on_notice)
    for means in series[1:]:
        if means.panel.names != panel.names:
            raise PlotError(
                f"its genes differ from those of {series[0].where}", "Draw a figure of each", where=means.where
            )
    deltas = [means.delta(perturbation, moments.control) for means in series]
    own_figure = ax is None
    ax = axes_for(ax, (4.8, 4.85))
    draw_agreement(ax, change, deltas, legend_names(series))
    add_legend(ax, f"{label} ({pluralize(moments.n(label), 'cell')})", grow=own_figure)
    settle_layout(figure_of(ax))
    chosen = None if label_genes is None else [panel.position(gene) for gene in label_genes]
    left_out = name_genes(ax, change, deltas, panel.names, n_labels, chosen)
    if chosen is not None and left_out and on_notice is not None:
        on_notice(
            Notice(f"no room for the names of {join_limited(left_out, 20)}", "Name fewer, or draw a larger figure")
        )
    return ax


def draw_agreement(
    ax: Axes, measured: NDArray[np.floating], deltas: list[NDArray[np.float64]], names: list[str]
) -> None:
    """Draw changes against each other, without a legend; see `agreement`."""
    for index, (predicted, name) in enumerate(zip(deltas, names, strict=True)):
        text = f"{name}: r{NO_BREAK}={NO_BREAK}{pearson(measured, predicted):.2f}"
        draw_points(ax, measured, predicted, alpha=0.6, label=text, **style_of(index, 4))
    everything = np.concatenate([measured, *deltas])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.06 * (high - low or 1.0)
    square_axes(ax, low - margin, high + margin)
    ax.axhline(0.0, color=NEUTRAL, linewidth=0.4, zorder=0)
    ax.axvline(0.0, color=NEUTRAL, linewidth=0.4, zorder=0)
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
    chosen: Sequence[int] | None = None,
) -> list[str]:
    """Name genes, those of the largest measured change, at the points of the first series, after all else is drawn.

    Returns the names for which there is no room.
    """
    first, *others = (np.column_stack([measured, predicted]).astype(np.float64) for predicted in deltas)
    if chosen is None:
        chosen = np.argsort(-np.abs(measured), kind="stable")[:n_labels].tolist()
    return name_points(ax, first, genes, chosen, np.concatenate([first[:0], *others]))
