"""Predicted change against measured change of one perturbation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import counted
from scgenept_rt.evaluation.metrics import pearson
from scgenept_rt.evaluation.observed import CONTROL, OpenData, open_data
from scgenept_rt.expression import ReadOptions
from scgenept_rt.plotting.drawing import NEUTRAL, axes_for, figure_of, plain, require_matplotlib, style_of
from scgenept_rt.plotting.errors import PlotError
from scgenept_rt.plotting.predictions import Predictions, means_of, named_predictions, panel_of, unique_series

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox


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
        How many of the genes with the largest measured change are named; one whose name would cover another is not.

    Raises
    ------
    MatplotlibMissingError
        If matplotlib is not installed.
    ScgeneptError
        If the data or the predictions lack the perturbation.
    """
    require_matplotlib()
    options = ReadOptions.given(read)
    named = named_predictions(predictions)
    first_name, first = named[0]
    if panel_of(first) is None:
        first = means_of(first, first_name)
        named[0] = (first_name, first)
    panel = panel_of(first)
    assert panel is not None
    with open_data(data, options) as cells:
        opened = OpenData.of(cells, panel, options)
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
    ax = draw_agreement(
        axes_for(ax, (4.8, 4.8)), measured, deltas, unique_series(series), panel.names, n_labels=n_labels
    )
    n_cells = observed.moments.n(label)
    ax.set_title(f"{label} ({counted(n_cells, 'cell')})", fontsize="medium", loc="left")
    return ax


def draw_agreement(
    ax: Axes,
    measured: NDArray[np.floating],
    deltas: list[NDArray[np.float64]],
    names: list[str],
    genes: tuple[str, ...],
    *,
    n_labels: int = 10,
) -> Axes:
    """Draw changes that are known; see `agreement`."""
    for index, (predicted, name) in enumerate(zip(deltas, names, strict=True)):
        ax.plot(
            measured,
            predicted,
            linestyle="none",
            markersize=4,
            alpha=0.6,
            markeredgewidth=0,
            label=f"{name}: r = {pearson(measured, predicted):.2f}",
            rasterized=len(measured) > 2000,  # else a vector file has a path for each of thousands of genes
            **style_of(index),
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
    ax.set_xlabel("measured change (log1p)")
    ax.set_ylabel("predicted change (log1p)")
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.06), borderaxespad=0.0)
    plain(ax)
    _name_genes(ax, measured, deltas[0], genes, n_labels)
    return ax


def _name_genes(
    ax: Axes, x: NDArray[np.floating], y: NDArray[np.float64], genes: tuple[str, ...], n_labels: int
) -> None:
    """Name the genes of the largest measured change, leaving out names that would cover another one."""
    from matplotlib.patheffects import withStroke

    figure = figure_of(ax)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    middle = sum(ax.get_xlim()) / 2
    taken: list[Bbox] = []
    for gene in np.argsort(-np.abs(x), kind="stable")[:n_labels]:
        left = x[gene] <= middle  # names point to the inside
        text = ax.annotate(
            genes[gene],
            (float(x[gene]), float(y[gene])),
            xytext=(4 if left else -4, 3),
            textcoords="offset points",
            fontsize=7,
            ha="left" if left else "right",
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
        box = text.get_window_extent(renderer).padded(1)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)
