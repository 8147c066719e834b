"""The largest predicted changes of one perturbation, for data without ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scgenept_rt.errors import UseOption
from scgenept_rt.evaluation import read_predictions
from scgenept_rt.plotting.drawing import DOWN, MAX_NAMED_GENES, NEUTRAL, UP, check_count, plain, without_tex
from scgenept_rt.plotting.predictions import Prediction, title_of
from scgenept_rt.plotting.text_layout import row_axes, set_small_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@without_tex
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
    check_count("genes", n_genes, MAX_NAMED_GENES, UseOption("n_genes", "draw fewer"))
    means = read_predictions(prediction, labels=[perturbation], in_group=in_group)
    row, change = means.row(perturbation), means.delta(perturbation)
    candidates = np.argsort(-np.abs(change), kind="stable")
    if without_targets:
        candidates = candidates[~np.isin(candidates, means.targets(perturbation))]
    largest = candidates[:n_genes]
    shown = largest[np.argsort(-change[largest], kind="stable")]
    errors = None if means.sems is None or not np.isfinite(means.sems[row]).all() else means.sems[row][shown]

    ax = row_axes(ax, [means.panel.names[position] for position in shown])
    ax.barh(
        np.arange(len(shown)),
        change[shown],
        height=0.72,
        color=[UP if value > 0 else DOWN for value in change[shown]],
        xerr=errors,
        error_kw={"ecolor": "black", "elinewidth": 0.9, "capsize": 2},
    )
    ax.axvline(0.0, color=NEUTRAL, linewidth=0.8)
    ax.set_xlabel("predicted change over control (log1p)" + ("" if errors is None else "\nwith its standard error"))
    plain(ax)
    set_small_title(ax, title_of(means, perturbation, without_targets=without_targets))
    return ax
