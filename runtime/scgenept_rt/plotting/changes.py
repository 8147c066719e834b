"""Predicted changes of one perturbation: the largest as bars, and all against their standard errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from scgenept_rt.errors import PredictionFileError, UseOption
from scgenept_rt.evaluation import PredictedMeans, read_predictions
from scgenept_rt.plotting import drawing
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

Prediction: TypeAlias = "str | Path | AnnData | PredictedMeans"

_SUPPORTED = 2.0
"""Standard errors beyond which a gene is coloured: few are as far by chance."""


@drawing.own_settings
def delta(
    prediction: Prediction,
    perturbation: str,
    *,
    n_genes: int = 20,
    in_group: str | None = None,
    without_targets: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw the largest predicted changes against control as bars, with the standard error over control cells.

    Parameters
    ----------
    prediction
        A prediction file of means, or the AnnData that `Predictor.predict` returned for the aggregate "mean".
    perturbation
        One of its perturbations.
    n_genes
        Number of genes, those of the largest absolute change; at most 300.
    in_group
        The group of control cells, where `predict` was given `groupby`.
    without_targets
        Leave out the genes that the perturbation targets.
    ax
        Axes to draw into; by default those of a new figure.

    Raises
    ------
    ScgeneptError
        If the perturbation was not predicted, the predictions hold no change, or `n_genes` is out of range.
    """
    drawing.check_count("genes", n_genes, drawing.MAX_NAMED_GENES, UseOption("n_genes", "draw fewer"))
    means = read_predictions(prediction, labels=[perturbation], in_group=in_group)
    change, errors = means.delta(perturbation), means.errors(perturbation)
    candidates = np.argsort(-np.abs(change), kind="stable")
    if without_targets:
        candidates = candidates[~np.isin(candidates, means.targets(perturbation))]
    largest = candidates[:n_genes]
    shown = largest[np.argsort(-change[largest], kind="stable")]

    ax = drawing.row_axes(ax, [means.panel.names[position] for position in shown])
    ax.barh(
        np.arange(len(shown)),
        change[shown],
        height=0.72,
        color=[drawing.UP if value > 0 else drawing.DOWN for value in change[shown]],
        xerr=None if errors is None else errors[shown],
        error_kw={"ecolor": "black", "elinewidth": 0.9, "capsize": 2},
    )
    ax.axvline(0.0, color=drawing.NEUTRAL, linewidth=0.8)
    ax.set_xlabel("predicted change over control (log1p)" + ("" if errors is None else "\nwith its standard error"))
    _finish(ax, means, perturbation, without_targets=without_targets)
    return ax


@drawing.own_settings
def volcano(
    prediction: Prediction,
    perturbation: str,
    *,
    n_genes: int = 10,
    in_group: str | None = None,
    without_targets: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw the predicted effect on every gene against the number of its standard errors, and name the largest.

    Effects are differences from predictions without the perturbation where the predictions have them (`max_error`,
    `n_controls_per_perturbation`), else from the control cells. Genes beyond two standard errors are coloured.

    Parameters
    ----------
    prediction, perturbation, in_group, without_targets, ax
        As in `delta`.
    n_genes
        Number of genes to name, those of the largest effect beyond two standard errors; fewer where names would cover
        each other.

    Raises
    ------
    ScgeneptError
        As in `delta`, and if the predictions hold no standard errors.
    """
    drawing.check_count("genes", n_genes, drawing.MAX_NAMED_GENES, UseOption("n_genes", "name fewer"))
    means = read_predictions(prediction, labels=[perturbation], in_group=in_group, effects=True)
    effect, errors = means.delta(perturbation), means.errors(perturbation)
    if errors is None:
        raise PredictionFileError(
            f"there are no standard errors of {perturbation} to divide by",
            "Predict means from two control cells or more",
            where=means.where,
        )
    from matplotlib.ticker import SymmetricalLogLocator

    drawn = errors > 0
    if without_targets:
        drawn[means.targets(perturbation)] = False
    names = np.array(means.panel.names)[drawn].tolist()
    effect = effect[drawn]
    ratio = np.abs(effect) / errors[drawn]
    supported = ratio > _SUPPORTED

    ax = drawing.axes_for(ax, 4.8, 4.4)
    for chosen, colour, marker in (
        (~supported, drawing.NEUTRAL, "o"),
        (supported & (effect > 0), drawing.UP, "^"),
        (supported & (effect < 0), drawing.DOWN, "v"),
    ):
        drawing.draw_points(ax, effect[chosen], ratio[chosen], marker=marker, markersize=3.5, color=colour, alpha=0.6)
    ax.axhline(_SUPPORTED, color=drawing.NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
    ax.axvline(0.0, color=drawing.NEUTRAL, linewidth=0.4, zorder=0)
    ax.margins(0.08)
    # Effects of a network may be hundreds of their errors, and what matters lies around two: a logarithm beyond it.
    ax.set_yscale("symlog", linthresh=_SUPPORTED)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=_SUPPORTED, subs=(1, 2, 5)))
    ax.set_ylim(bottom=0.0)
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel("predicted effect (log1p)" if means.changes == "effect" else "predicted change over control (log1p)")
    ax.set_ylabel("size in standard errors (dashed: 2)")
    _finish(ax, means, perturbation, without_targets=without_targets)
    drawing.settle_layout(drawing.figure_of(ax))
    largest = np.argsort(-np.abs(effect), kind="stable")
    places = np.column_stack([effect, ratio])
    drawing.name_points(ax, places, names, largest[supported[largest]][:n_genes].tolist())
    return ax


def shown_name(means: PredictedMeans) -> str:
    """Return the name of predictions in figures, with their group, which says if the weights are synthetic."""
    name = means.name if means.group is None else f"{means.name}, {means.group[1]}"
    return f"{name} (synthetic weights)" if means.synthetic else name


def _finish(ax: Axes, means: PredictedMeans, perturbation: str, *, without_targets: bool) -> None:
    """Set the title: the perturbation, the predictions and their control cells."""
    row = means.row(perturbation)
    cells = pluralize(int(means.n_controls[row]), "control cell").replace(" ", drawing.NO_BREAK)
    title = f"{means.labels[row]}\n{shown_name(means)}, {cells}"
    drawing.set_small_title(ax, f"{title}\nwithout its targets" if without_targets else title)
    drawing.plain(ax)
