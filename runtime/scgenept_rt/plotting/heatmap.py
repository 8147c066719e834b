"""Predicted changes of many perturbations at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.plotting.drawing import DIVERGING, axes_for, figure_of, label_genes, require_matplotlib
from scgenept_rt.plotting.errors import PlotError
from scgenept_rt.plotting.predictions import Prediction, means_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def heatmap(
    prediction: Prediction,
    perturbations: Sequence[str] | None = None,
    *,
    genes: Sequence[str] | None = None,
    n_genes: int = 40,
    cluster: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw predicted changes, perturbations x genes, as colours: blue down, red up, white no change.

    Parameters
    ----------
    prediction
        A prediction file of means, or the AnnData that `Predictor.predict` returned for the aggregate "mean".
    perturbations
        Rows; all that were predicted by default.
    genes
        Columns; by default the `n_genes` whose change is largest in some row.
    n_genes
        How many genes.
    cluster
        Put rows, and columns, that are alike side by side (average linkage); else as given.
    ax
        Axes to draw into; else a new figure is made.

    Raises
    ------
    MatplotlibMissingError
        If matplotlib is not installed.
    ScgeneptError
        If a perturbation or a gene is not among the predictions, or they hold no change.
    """
    require_matplotlib()
    if n_genes < 1:
        raise PlotError(f"n_genes is {n_genes}. Expected 1 or more.")
    means = means_of(prediction, None)
    labels = list(perturbations) if perturbations is not None else list(means.labels)
    if genes is not None and not len(genes):
        raise PlotError("there are no genes to draw. Give one or more.")
    if not labels:
        raise PlotError("there are no perturbations to draw. Give one or more.")
    changes = np.stack([means.delta(label) for label in labels])
    if genes is None:
        columns = np.sort(np.argsort(-np.abs(changes).max(axis=0), kind="stable")[:n_genes])
    else:
        columns = np.array([means.panel.position(gene) for gene in genes], dtype=np.int64)
    shown = changes[:, columns]
    if cluster:
        rows, order = _order(shown), _order(shown.T)
        shown, labels, columns = shown[rows][:, order], [labels[row] for row in rows], columns[order]

    ax = axes_for(ax, (max(4.5, 0.19 * len(columns) + 2.6), max(2.6, 0.19 * len(labels) + 1.8)))
    limit = float(np.abs(shown).max()) or 1.0
    image = ax.imshow(shown, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    label_genes(ax, [means.panel.names[column] for column in columns])
    label_genes(ax, labels, axis="y")
    ax.set_title(means.name, fontsize="small", loc="left")
    bar = figure_of(ax).colorbar(image, ax=ax, shrink=min(1.0, 8.0 / max(len(labels), 8)), pad=0.02)
    bar.set_label("predicted change\n(log1p)", fontsize="small")
    return ax


def _order(rows: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return an order of rows in which alike ones are neighbours."""
    if len(rows) < 3:
        return np.arange(len(rows), dtype=np.int64)
    from scipy.cluster.hierarchy import leaves_list, linkage

    return np.asarray(leaves_list(linkage(rows, "average", optimal_ordering=len(rows) <= 300)), dtype=np.int64)
