"""The largest predicted changes of one perturbation, for data without ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scgenept_rt.errors import pluralize
from scgenept_rt.plotting.drawing import (
    DOWN,
    NEUTRAL,
    UP,
    axes_for,
    check_named_genes,
    label_genes,
    plain,
    require_matplotlib,
)
from scgenept_rt.plotting.legend import wrapped_title
from scgenept_rt.plotting.predictions import Prediction, means_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def delta(prediction: Prediction, perturbation: str, *, n_genes: int = 20, ax: Axes | None = None) -> Axes:
    """Draw the largest predicted changes against control as bars, with the standard error over control cells.

    Parameters
    ----------
    prediction
        A prediction file of means, or the AnnData that `Predictor.predict` returned for the aggregate "mean".
    perturbation
        One of its perturbations.
    n_genes
        How many genes, by the size of the change.
    ax
        Axes to draw into; else a new figure is made.

    Raises
    ------
    MatplotlibMissingError
        If matplotlib is not installed.
    PredictionFileError
        If the perturbation was not predicted, or the predictions hold no change.
    PlotError
        If more than 300 genes are asked for: each is named.
    """
    require_matplotlib()
    check_named_genes(n_genes)
    means = means_of(prediction, None)
    row = means.row(perturbation)
    change = means.delta(perturbation)
    largest = np.argsort(-np.abs(change), kind="stable")[:n_genes]
    shown = largest[np.argsort(-change[largest], kind="stable")]
    errors = None if means.sems is None or not np.isfinite(means.sems[row]).all() else means.sems[row][shown]

    ax = axes_for(ax, (5.2, max(2.4, 0.2 * len(shown) + 1.2)))
    positions = np.arange(len(shown))
    ax.barh(
        positions,
        change[shown],
        height=0.72,
        color=[UP if value > 0 else DOWN for value in change[shown]],
        xerr=errors,
        error_kw={"ecolor": "black", "elinewidth": 0.9, "capsize": 2},
    )
    ax.axvline(0.0, color=NEUTRAL, linewidth=0.8)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    label_genes(ax, [means.panel.names[position] for position in shown], axis="y")
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel("predicted change over control (log1p)" + ("" if errors is None else "\nwith its standard error"))
    count = int(means.n_controls[row])
    plain(ax)
    title = f"{means.labels[row]}\n{means.name}, {pluralize(count, 'control cell')}"
    ax.set_title(wrapped_title(ax, title), fontsize="small", loc="left", parse_math=False)
    return ax
