"""The tutorial's figure: measured and predicted change of the genes that change most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Notice, UseOption
from scgenept_rt.evaluation.de_genes import DeLists
from scgenept_rt.evaluation.measured import MeasuredCells
from scgenept_rt.expression.opened_cells import open_cells
from scgenept_rt.options import ReadOptions, SampleOptions
from scgenept_rt.plotting.drawing import (
    MAX_NAMED_GENES,
    NEUTRAL,
    axes_for,
    check_count,
    draw_points,
    plain,
    style_of,
    without_tex,
)
from scgenept_rt.plotting.predictions import Predictions, common_group, legend_names, open_series, predict_series
from scgenept_rt.plotting.text_layout import SMALL, add_legend, label_genes
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_MANY_SERIES = 4
"""From this number of series on, points are smaller and wider apart, so that they do not cover each other."""

_MANY_GENES = 30
_FEW_CELLS = 100
"""Up to this number of measured cells, every cell is drawn over its box."""


@without_tex
def top_de(
    data: str | Path | AnnData,
    perturbation: str,
    predictions: Predictions,
    *,
    n_genes: int = 20,
    genes: Sequence[str] | None = None,
    in_group: str | None = None,
    read: ReadOptions | None = None,
    ax: Axes | None = None,
    on_notice: Callable[[str], None] | None = None,
    **sample: Unpack[SampleOptions],
) -> Axes:
    """Draw measured change over control as boxes and predicted change as points, for the genes that change most.

    Mirrors `plot_perturbation` of GEARS and the scGenePT tutorial. A box holds the middle half of the perturbed cells,
    whiskers reach to the furthest cell within 1.5 times its height, a dash marks the mean of the cells, which the
    points predict. Dots are cells: all of up to 100, else those beyond the whiskers. Perturbed genes are bold.

    Parameters
    ----------
    data
        Measured cells, the perturbed ones and controls; only the rows needed are read.
    perturbation
        A label of the data.
    predictions
        One or several prediction files, tables, or loaded bundles; a mapping gives their names in the legend. Loaded
        bundles predict from the control cells of the data.
    n_genes
        Number of genes, at most 300: the leading ones of `top_non_dropout_de_20` and the ranking in uns, or computed
        (see `DeGenes`).
    genes
        Names of the genes to draw instead.
    in_group
        The group of control cells, where `predict` was given `groupby`; it is compared with the measured cells of the
        same group.
    read
        How to read the data, and what to accept.
    ax
        Axes to draw into; by default those of a new figure.
    on_notice
        Called with each warning about what changes numbers, and if fewer than `n_genes` genes are drawn.
    **sample
        n_controls and seed: control cells that loaded bundles predict from (all by default), and the seed of the draw.

    Raises
    ------
    ScgeneptError
        If the data or the predictions lack the perturbation or a gene, or the number of genes is out of range.
    """
    fewer = (UseOption("n_genes", "draw fewer"), UseOption("genes", "name them"))
    check_count("genes", n_genes if genes is None else len(genes), MAX_NAMED_GENES, *fewer)
    named = open_series(predictions, perturbation, in_group)
    panel = named[0][1].panel
    with open_cells(data, read) as cells:
        measured = MeasuredCells(cells, panel, common_group(named))
        label = measured.label(perturbation)
        moments = measured.moments([label])
        if genes is None:
            de = DeLists(measured).of(label, moments)
            chosen = de.leading(n_genes)
            if len(chosen) < n_genes and on_notice is not None:
                on_notice(
                    Notice(
                        f"{pluralize(len(chosen), 'gene is', 'genes are')} drawn instead of {n_genes:,}: no other "
                        f"genes in the ranking of {label} ({de.source}) are genes of the model and not dropouts",
                        options=[UseOption("genes", "draw others")],
                    )
                )
        else:
            chosen = np.array([panel.position(gene) for gene in genes], dtype=np.int64)
        change = measured.expression({label: chosen})[label].astype(np.float64) - moments.control[chosen]
    names = [panel.names[position] for position in chosen]
    series = predict_series(named, perturbation, data, read, sample, measured.notices, on_notice)

    own_figure = ax is None
    few_genes, few_series = len(names) <= _MANY_GENES, len(series) < _MANY_SERIES
    pitch = max(0.32, 0.055 * len(series)) if few_genes else 0.22  # else points of many series cover each other
    ax = axes_for(ax, (max(5.0, pitch * len(names) + 1.6), 4.2))
    positions = np.arange(len(names), dtype=np.float64)
    ax.axhline(0.0, color=NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
    _draw_boxes(ax, positions, change)
    spread = 0.0 if len(series) == 1 else 0.5 if few_series else 0.75
    offsets = np.linspace(-spread / 2, spread / 2, len(series))
    for index, (means, shown) in enumerate(zip(series, legend_names(series), strict=True)):
        delta = means.delta(perturbation, moments.control if means.panel.names == panel.names else None)
        draw_points(
            ax,
            positions + offsets[index],
            delta[[means.panel.position(name) for name in names]],
            markeredgecolor="white",
            markeredgewidth=0.5,
            label=shown,
            zorder=3,
            **style_of(index, 5.5 if few_genes and few_series else 4.5),
        )
    ax.set_xlim(-0.7, len(names) - 0.3)
    label_genes(ax, names)
    perturbed = set(measured.labels.reader.genes(label) or ())
    for name, text in zip(names, ax.get_xticklabels(), strict=False):
        if name in perturbed:
            text.set_fontweight("bold")
    if perturbed.intersection(names):
        ax.set_xlabel("bold: perturbed", fontsize=SMALL, loc="left")
    ax.set_ylabel("change over control (log1p)")
    plain(ax)
    add_legend(ax, f"{label} ({pluralize(len(change), 'cell')})", grow=own_figure)
    return ax


def _draw_boxes(ax: Axes, positions: NDArray[np.float64], change: NDArray[np.float64]) -> None:
    """Draw one box per column of `change` (n_cells, n_genes).

    `Axes.boxplot` would import pyplot and choose the backend of the whole process.
    """
    from matplotlib.cbook import boxplot_stats

    stats = boxplot_stats(change)
    low, first, third, high, mean = (
        np.array([entry[key] for entry in stats]) for key in ("whislo", "q1", "q3", "whishi", "mean")
    )
    for inner, end in ((first, low), (third, high)):
        ax.vlines(positions, inner, end, colors=NEUTRAL, linewidth=0.8)
        ax.hlines(end, positions - 0.17, positions + 0.17, colors=NEUTRAL, linewidth=0.8)
    boxes = ax.bar(
        positions, third - first, bottom=first, width=0.7, facecolor="#E4E4E4", edgecolor=NEUTRAL, linewidth=0.8
    )
    for box in boxes:
        box.sticky_edges.y.clear()  # else a box that reaches lowest lies on the axis and hides its edge
    ax.hlines(
        mean,
        positions - 0.35,
        positions + 0.35,
        colors="black",
        linewidth=1.6,
        zorder=2.5,
        label="measured mean (box: quartiles)",
    )
    median = np.array([entry["med"] for entry in stats])
    ax.hlines(median, positions - 0.35, positions + 0.35, colors="black", linewidth=1.0, linestyle=":", label="median")
    # Of many cells those beyond the whiskers, which are all that is seen of a gene that most cells lack.
    every = len(change) <= _FEW_CELLS
    shown = np.ones(change.shape, dtype=np.bool_) if every else (change < low) | (change > high)
    # Spread evenly, so that cells of one value (mostly zeros) stay apart.
    aside = (np.arange(len(change)) * 0.618034 % 1.0 - 0.5) * 0.5
    draw_points(
        ax,
        (positions + aside[:, None])[shown],
        change[shown],
        marker="o",
        markersize=1.8 if every else 1.3,
        color="#8C8C8C",
        label="single cells" if every else "cells beyond the whiskers",
        zorder=2,
    )
