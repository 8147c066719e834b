"""Predicted beside measured change of one perturbation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, Notice, PlotError, UseOption, warn_caller
from scgenept_rt.evaluation import PredictedMeans, pearson, predict_means, read_predictions
from scgenept_rt.evaluation.de_genes import DeLists
from scgenept_rt.evaluation.measured import MeasuredCells, measured_label
from scgenept_rt.expression.opened_cells import open_cells
from scgenept_rt.options import ReadOptions, SampleOptions, resolve
from scgenept_rt.plotting import drawing
from scgenept_rt.plotting.changes import Prediction, shown_name
from scgenept_rt.predictor import Predictor
from scgenept_rt.wording import join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

OneSeries: TypeAlias = "Prediction | Predictor"
Predictions: TypeAlias = "OneSeries | Sequence[OneSeries] | Mapping[str, OneSeries]"
Series: TypeAlias = "list[tuple[str | None, Predictor | PredictedMeans]]"
_FEW_CELLS = 100
"""Up to this number of measured cells, every cell is drawn over its box."""


@drawing.own_settings
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
        One or several prediction files, tables, or loaded bundles, which predict from the control cells of the data; a
        mapping gives their names in the legend.
    n_genes
        Number of genes, at most 300: the leading ones of `top_non_dropout_de_20` and the ranking in uns, or computed
        (see `DeGenes`).
    genes
        Names of the genes to draw instead.
    in_group
        The group of control cells, where `predict` was given `groupby`; compared with the measured cells of that group.
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
    drawing.check_count("genes", n_genes if genes is None else len(genes), drawing.MAX_NAMED_GENES, *fewer)
    opened, group = _open_series(predictions, perturbation, in_group)
    panel = opened[0][1].panel
    with open_cells(data, read) as cells:
        measured = MeasuredCells(cells, panel, group)
        label = measured_label(measured.labels, perturbation, cells.where)
        moments = measured.moments([label])
        if genes is None:
            de = DeLists(measured).of(label, moments)
            chosen = de.leading(n_genes)
            if len(chosen) < n_genes and on_notice is not None:
                drawn = f"{pluralize(len(chosen), 'gene is', 'genes are')} drawn instead of {n_genes:,}"
                why = f"no other genes in the ranking of {label} ({de.source}) are genes of the model and not dropouts"
                on_notice(Notice(f"{drawn}: {why}", options=[UseOption("genes", "draw others")]))
        else:
            chosen = np.array([panel.position(gene) for gene in genes], dtype=np.int64)
        change = measured.expression({label: chosen})[label].astype(np.float64) - moments.control[chosen]
    names = [panel.names[position] for position in chosen]
    series = _predict_series(opened, perturbation, data, read, sample, measured.notices, on_notice)

    own_figure = ax is None
    # The more series, the wider, so that their points do not cover each other.
    ax = drawing.axes_for(ax, max(5.0, max(0.3, 0.055 * len(series)) * len(names) + 1.6), 4.2)
    ax.axhline(0.0, color=drawing.NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
    _draw_boxes(ax, change)
    offsets = np.linspace(-0.5, 0.5, len(series) + 2)[1:-1]
    for index, (shown, means) in enumerate(series):
        delta = means.delta(perturbation, moments.control if means.panel.names == panel.names else None)
        drawing.draw_points(
            ax,
            np.arange(len(names)) + offsets[index],
            delta[[means.panel.position(name) for name in names]],
            markeredgecolor="white",
            markeredgewidth=0.5,
            label=shown,
            zorder=3,
            **drawing.style_of(index, 5.0),
        )
    ax.set_xlim(-0.7, len(names) - 0.3)
    drawing.label_genes(ax, names)
    perturbed = set(measured.labels.reader.genes(label) or ())
    for name, text in zip(names, ax.get_xticklabels(), strict=False):
        if name in perturbed:
            text.set_fontweight("bold")
            ax.set_xlabel("bold: perturbed", fontsize=drawing.SMALL, loc="left")
    ax.set_ylabel("change over control (log1p)")
    drawing.plain(ax)
    drawing.add_legend(ax, f"{label} ({pluralize(len(change), 'cell')})", grow=own_figure)
    return ax


def _draw_boxes(ax: Axes, change: NDArray[np.float64]) -> None:
    """Draw one box per column of `change` (n_cells, n_genes), and cells over it.

    `Axes.bxp` reads every setting of matplotlib, which chooses the backend of the whole process.
    """
    from matplotlib.cbook import boxplot_stats

    stats, positions = boxplot_stats(change), np.arange(change.shape[1], dtype=np.float64)
    low, first, third, high, mean, median = (
        np.array([entry[key] for entry in stats]) for key in ("whislo", "q1", "q3", "whishi", "mean", "med")
    )
    both, ends = np.tile(positions, 2), np.concatenate([low, high])
    ax.vlines(both, np.concatenate([first, third]), ends, colors=drawing.NEUTRAL, linewidth=0.8)
    ax.hlines(ends, both - 0.17, both + 0.17, colors=drawing.NEUTRAL, linewidth=0.8)
    boxes = ax.bar(
        positions, third - first, bottom=first, width=0.7, facecolor="#E4E4E4", edgecolor=drawing.NEUTRAL, linewidth=0.8
    )
    for box in boxes:
        box.sticky_edges.y.clear()  # else a box that reaches lowest lies on the axis and hides its edge
    dash: dict[str, Any] = {"xmin": positions - 0.35, "xmax": positions + 0.35, "colors": "black", "zorder": 2.5}
    ax.hlines(mean, linewidth=1.6, label="measured mean (box: quartiles)", **dash)
    ax.hlines(median, linewidth=1.0, linestyle=":", label="median", **dash)
    # Of many cells those beyond the whiskers, which are all that is seen of a gene that most cells lack.
    every = len(change) <= _FEW_CELLS
    shown = np.ones(change.shape, dtype=np.bool_) if every else (change < low) | (change > high)
    # Spread evenly, so that cells of one value (mostly zeros) stay apart.
    aside = (np.arange(len(change)) * 0.618034 % 1.0 - 0.5) * 0.5
    drawing.draw_points(
        ax,
        (positions + aside[:, None])[shown],
        change[shown],
        marker="o",
        markersize=1.8 if every else 1.3,
        color="#8C8C8C",
        label="single cells" if every else "cells beyond the whiskers",
        zorder=2,
    )


@drawing.own_settings
def agreement(
    data: str | Path | AnnData,
    perturbation: str,
    predictions: Predictions,
    *,
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
    label_genes
        Genes to name at the points of the first series, the ten of the largest measured change by default. Names that
        do not fit near their point are left out.

    Raises
    ------
    ScgeneptError
        If the data or the predictions lack the perturbation.
    """
    opened, group = _open_series(predictions, perturbation, in_group)
    panel = opened[0][1].panel
    chosen = None if label_genes is None else [panel.position(gene) for gene in label_genes]
    with open_cells(data, read) as cells:
        measured = MeasuredCells(cells, panel, group)
        label = measured_label(measured.labels, perturbation, cells.where)
        moments = measured.moments([label])
    change = moments.mean(label) - moments.control
    series = _predict_series(opened, perturbation, data, read, sample, measured.notices, on_notice)
    for _, means in series:
        if means.panel.names != panel.names:
            raise PlotError("its genes are not those of the first series", "Draw a figure of each", where=means.where)
    deltas = [means.delta(perturbation, moments.control) for _, means in series]
    own_figure = ax is None
    ax = drawing.axes_for(ax, 4.8, 4.85)
    draw_agreement(ax, change, deltas, [name for name, _ in series])
    drawing.add_legend(ax, f"{label} ({pluralize(moments.n(label), 'cell')})", grow=own_figure)
    drawing.settle_layout(drawing.figure_of(ax))
    left_out = name_genes(ax, change, deltas, panel.names, 10, chosen)
    if chosen is not None and left_out and on_notice is not None:
        on_notice(
            Notice(f"no room for the names of {join_limited(left_out, 20)}", "Name fewer, or draw a larger figure")
        )
    return ax


def draw_agreement(
    ax: Axes, measured: NDArray[np.floating], deltas: list[NDArray[np.float64]], names: list[str]
) -> None:
    """Draw changes against each other, without a legend, as `agreement`."""
    for index, (predicted, name) in enumerate(zip(deltas, names, strict=True)):
        text = f"{name}: r{drawing.NO_BREAK}={drawing.NO_BREAK}{pearson(measured, predicted):.2f}"
        drawing.draw_points(ax, measured, predicted, alpha=0.6, label=text, **drawing.style_of(index, 4))
    everything = np.concatenate([measured, *deltas])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.06 * (high - low or 1.0)
    drawing.square_axes(ax, low - margin, high + margin)
    ax.axhline(0.0, color=drawing.NEUTRAL, linewidth=0.4, zorder=0)
    ax.axvline(0.0, color=drawing.NEUTRAL, linewidth=0.4, zorder=0)
    ax.locator_params(nbins=5)  # else numbers on the x axis touch
    ax.set_xlabel("measured change (log1p)")
    ax.set_ylabel("predicted change (log1p)")
    drawing.plain(ax)


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
    return drawing.name_points(ax, first, genes, chosen, *others)


def _open_series(
    predictions: Predictions, perturbation: str, in_group: str | None
) -> tuple[Series, tuple[str, str] | None]:
    """Read one perturbation of the predictions that are files or tables; loaded bundles stay as they are.

    The obs column and value of the control cells that all were predicted from come with them, None for all cells.
    """
    named: list[tuple[str | None, OneSeries]]
    if isinstance(predictions, Mapping):
        named = [(str(name), entry) for name, entry in predictions.items()]
    else:
        named = [(None, entry) for entry in (predictions if isinstance(predictions, (list, tuple)) else [predictions])]
    drawing.check_count("series of predictions", len(named), drawing.MAX_SERIES)
    label = [perturbation]
    opened: Series = [
        (name, entry if isinstance(entry, Predictor) else read_predictions(entry, labels=label, in_group=in_group))
        for name, entry in named
    ]
    groups = dict.fromkeys(None if isinstance(entry, Predictor) else entry.group for _, entry in opened)
    if len(groups) > 1 or (in_group is not None and None in groups):
        cells = ["all control cells" if group is None else " = ".join(group) for group in groups]
        raise PlotError(
            f"the series were predicted from {' and '.join(cells)}, expected the same group of cells",
            "Draw a figure of each, with files that `predict` wrote by groups",
        )
    return opened, next(iter(groups))


def _predict_series(
    series: Series,
    perturbation: str,
    cells: str | Path | AnnData,
    read: ReadOptions | None,
    sample: SampleOptions,
    measured: Sequence[str],
    on_notice: Callable[[str], None] | None,
) -> list[tuple[str, PredictedMeans]]:
    """Predict one perturbation with the loaded bundles among the series, and warn of what changes numbers.

    Returns the series by their names in legends; two of one name get the names of their files.
    """
    notices: list[str] = []
    sample = resolve(SampleOptions, sample)
    predicted = []
    for name, means in series:
        if isinstance(means, Predictor):
            means = predict_means(means, cells, [perturbation], read=read, on_notice=notices.append, **sample)
        predicted.append(replace(means, name=name or means.name))
    warn_caller(notice for notice in measured if notice not in notices)  # predicting warns itself
    for notice in dict.fromkeys([*measured, *notices]):
        if on_notice is not None and isinstance(notice, Caution):
            on_notice(notice)
    names = [shown_name(means) for means in predicted]
    return [
        (name if names.count(name) == 1 else f"{name} ({Path(means.where).name})", means)
        for name, means in zip(names, predicted, strict=True)
    ]
