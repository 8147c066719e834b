"""The tutorial's figure: measured change of the genes that changed most, and what models predict for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import pluralize
from scgenept_rt.evaluation.de_genes import open_de_lists
from scgenept_rt.evaluation.observed import CONTROL, OpenData, open_data
from scgenept_rt.options import ReadOptions, resolve
from scgenept_rt.plotting.drawing import (
    NEUTRAL,
    axes_for,
    check_named_genes,
    label_genes,
    plain,
    require_matplotlib,
    style_of,
)
from scgenept_rt.plotting.errors import PlotError
from scgenept_rt.plotting.legend import add_legend
from scgenept_rt.plotting.predictions import Predictions, means_of, named_predictions, panel_of, unique_series

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_MANY_SERIES = 4
"""Series from which on points are smaller and set wider, not to cover each other."""


def top_de(
    data: str | Path | AnnData,
    perturbation: str,
    predictions: Predictions,
    *,
    n_genes: int = 20,
    genes: Sequence[str] | None = None,
    n_controls: int | None = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    ax: Axes | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Axes:
    """Draw measured change against control as boxes and predicted change as points, for the genes that change most.

    Mirrors GEARS's and the scGenePT tutorial's `plot_perturbation`. A box holds the middle half of the perturbed cells,
    whiskers reach to the furthest cell within 1.5 times its height, a dash marks the cells' mean: the value that the
    points predict.

    Parameters
    ----------
    data
        Measured cells, the perturbed ones and controls; only the rows needed are read.
    perturbation
        A label of the data.
    predictions
        One or several prediction files, tables, or loaded bundles; a mapping gives their names in the legend. Loaded
        bundles predict from the data's control cells.
    n_genes
        How many genes: the leading ones of `top_non_dropout_de_20` of the data and of its ranking, or computed (see
        `DeGenes`).
    genes
        These genes instead.
    n_controls, seed
        Control cells that loaded bundles predict from; all of them by default.
    read
        Where labels and values lie in the data, and what to accept.
    ax
        Axes to draw into; else a new figure is made.
    on_notice
        Is told in one sentence if fewer than `n_genes` genes are drawn.

    Raises
    ------
    MatplotlibMissingError
        If matplotlib is not installed.
    ScgeneptError
        If the data or the predictions lack the perturbation or a gene, or more than 300 genes are asked for.
    """
    require_matplotlib()
    if genes is not None and not len(genes):
        raise PlotError("there are no genes to draw. Give one or more.")
    check_named_genes(n_genes if genes is None else len(genes))
    options = resolve(ReadOptions, read)
    named = named_predictions(predictions)
    first_name, first = named[0]
    if panel_of(first) is None:  # a file, whose genes are known once it is read
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
        if genes is None:
            with open_de_lists(data, observed) as lists:
                de = lists.of(label, observed.moments)
            chosen = de.leading(n_genes)
            if len(chosen) < n_genes and on_notice is not None:
                on_notice(
                    f"{pluralize(len(chosen), 'gene is', 'genes are')} drawn in place of {n_genes:,}: of the ranking of "
                    f"{label} ({de.source}) no more are genes of the model and not dropouts. --genes draws any others."
                )
        else:
            chosen = np.array([panel.position(gene) for gene in genes], dtype=np.int64)
        change = opened.dense(label, chosen) - observed.control[chosen]
    names = [panel.names[position] for position in chosen]
    series = [
        means_of(entry, name, labels=[perturbation], cells=data, read=options, n_controls=n_controls, seed=seed)
        for name, entry in named
    ]

    own_figure = ax is None
    pitch = 0.32 if len(names) <= 30 else 0.22
    if len(names) <= 30:
        pitch = max(pitch, 0.055 * len(series))  # else points of many series cover each other
    ax = axes_for(ax, (max(5.0, pitch * len(names) + 1.6), 4.2))
    positions = np.arange(len(names), dtype=np.float64)
    ax.axhline(0.0, color=NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
    _draw_boxes(ax, positions, change)
    spread = 0.0 if len(series) == 1 else 0.5 if len(series) < _MANY_SERIES else 0.75
    offsets = np.linspace(-spread / 2, spread / 2, len(series))
    size = 5.5 if len(names) <= 30 and len(series) < _MANY_SERIES else 4.5
    for index, (means, shown) in enumerate(zip(series, unique_series(series), strict=True)):
        delta = means.delta(perturbation, observed.control if means.panel.names == panel.names else None)
        where = [means.panel.position(name) for name in names]
        ax.plot(
            positions + offsets[index],
            delta[where],
            linestyle="none",
            markeredgecolor="white",
            markeredgewidth=0.5,
            label=shown,
            zorder=3,
            **style_of(index, size),
        )
    ax.set_xlim(-0.7, len(names) - 0.3)
    label_genes(ax, names)
    ax.set_ylabel("change over control (log1p)")
    ax.set_title(label, fontsize="medium", loc="left")
    plain(ax)
    add_legend(ax, columns=2, beside_title=True, grow=own_figure)
    return ax


def _draw_boxes(ax: Axes, positions: NDArray[np.float64], change: NDArray[np.float64]) -> None:
    """Draw a box a column of `change` (n_cells, n_genes).

    By hand: `Axes.boxplot` imports pyplot and settles matplotlib's backend for the whole process.
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
        linewidth=1.4,
        label=f"measured mean ({pluralize(len(change), 'cell')})",
    )
