"""Predicted changes of many perturbations at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Notice, UseOption
from scgenept_rt.evaluation import read_predictions
from scgenept_rt.evaluation.prediction_files import read_parts
from scgenept_rt.plotting import drawing
from scgenept_rt.plotting.changes import Prediction, shown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_DEFAULT_ROWS = 100
_MAX_INCHES = 20.0
"""Longest side of the figure: 4,000 pixels at the resolution of `save`."""

_MAX_SHOWN = 1500
"""Rows or columns that still have two pixels each."""

_BAR_INCHES = 1.6
_LEFT_OUT = "#B0B0B0"
_LEAST_SQUARE = 5.0
"""Side of a square, in typographic points, in which a dash is seen."""


@drawing.own_settings
def heatmap(
    prediction: Prediction,
    perturbations: Sequence[str] | None = None,
    *,
    genes: Sequence[str] | None = None,
    n_genes: int = 40,
    n_perturbations: int | None = None,
    in_group: str | None = None,
    without_targets: bool = False,
    cluster: bool = True,
    ax: Axes | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Axes:
    """Draw predicted changes, perturbations x genes, as colours: blue down, red up, white no change.

    Parameters
    ----------
    prediction, in_group
        As in `delta`.
    perturbations
        Rows; by default the `n_perturbations` of the largest change over all genes (root of the mean square), or over
        `genes` if they are given.
    genes
        Columns; by default the `n_genes` of the largest change in any row.
    n_genes
        Number of genes.
    n_perturbations
        Number of perturbations if none are named, by default at most 100.
    without_targets
        Leave out what a perturbation does to the genes that it targets: where they are drawn for another one, it is
        grey.
    cluster
        Put similar rows, and similar columns, side by side (average linkage); else keep the order given.
    ax
        Axes to draw into; by default those of a new figure of at most 20 inches a side. Where labels would be too small
        to read, their number is written instead.
    on_notice
        Called with a message if perturbations are left out.

    Raises
    ------
    ScgeneptError
        If a perturbation or a gene is not among the predictions, they hold no change, or more than 1,500 rows or
        columns are requested.
    """
    n_predicted = 0
    if perturbations is None:
        sizes = _change_sizes(prediction, genes, in_group, without_targets)
        n_predicted = len(sizes)
        wanted = min(n_predicted, _MAX_DEFAULT_ROWS if n_perturbations is None else n_perturbations)
        largest = set(sorted(sizes, key=lambda label: -sizes[label])[:wanted])
        labels = [label for label in sizes if label in largest]
        fewer = [UseOption("n_perturbations", "draw fewer"), UseOption("perturbations", "name them")]
        if wanted < n_predicted and n_perturbations is None and on_notice is not None:
            more = [UseOption("perturbations", "draw others"), UseOption("n_perturbations", "draw more")]
            drawn = f"{wanted} of {n_predicted:,} perturbations are drawn"
            on_notice(Notice(f"{drawn}, those of the largest predicted change", options=more))
    else:
        labels, fewer = list(perturbations), [UseOption("perturbations", "name fewer")]
        wanted = len(labels)
    drawing.check_count("perturbations", wanted, _MAX_SHOWN, *fewer)
    means = read_predictions(prediction, labels=labels, in_group=in_group)
    fewer = [UseOption("n_genes", "draw fewer"), UseOption("genes", "name them")]
    drawing.check_count("genes", min(len(means.panel), n_genes) if genes is None else len(genes), _MAX_SHOWN, *fewer)
    changes = np.ma.masked_array(np.stack([means.delta(label) for label in labels]))
    for row, label in enumerate(labels if without_targets else []):
        changes[row, means.targets(label)] = np.ma.masked
    if genes is None:
        columns = np.sort(np.argsort(-np.abs(changes.filled(0.0)).max(axis=0), kind="stable")[:n_genes])
    else:
        columns = np.array([means.panel.position(gene) for gene in genes], dtype=np.int64)
    changes = changes[:, columns]
    if cluster:
        rows, order = _order(changes.filled(0.0)), _order(changes.filled(0.0).T)
        labels, columns, changes = [labels[row] for row in rows], columns[order], changes[rows][:, order]

    width, height = max(4.5, 0.19 * len(columns) + 2.6), max(2.6, 0.19 * len(labels) + 1.8)
    ax = drawing.axes_for(ax, min(_MAX_INCHES, width), min(_MAX_INCHES, height))
    shown = changes.filled(0.0)
    limit = float(np.abs(shown).max()) or 1.0
    ax.set_facecolor(_LEFT_OUT)
    colours: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    image = ax.imshow(changes, aspect="auto", interpolation="nearest", **colours)
    _mark_down(ax, shown / limit)
    if not drawing.label_genes(ax, [means.panel.names[column] for column in columns], unless_small=True):
        ax.set_xlabel(f"{len(columns):,} genes")
    if not drawing.label_genes(ax, labels, axis="y", unless_small=True):
        ax.set_ylabel(f"{len(labels):,} perturbations")
    shrink = min(1.0, _BAR_INCHES / drawing.inches(ax)[1])
    bar = drawing.figure_of(ax).colorbar(image, ax=ax, shrink=shrink, aspect=12, pad=0.02)
    bar.set_label("predicted change\n(log1p; dash: down)", fontsize="small")
    title = shown_name(means)
    if len(labels) < n_predicted:
        title += f"\n{len(labels):,} of {n_predicted:,} perturbations, those of the largest change"
    if without_targets:
        title += "\nwithout the targets of each perturbation" + (" (grey)" if changes.mask.any() else "")
    drawing.set_small_title(ax, title)
    return ax


def _change_sizes(
    prediction: Prediction, genes: Sequence[str] | None, in_group: str | None, without_targets: bool
) -> dict[str, float]:
    """Return the change by each perturbation (root of the sum of squares), over all genes by default."""
    sizes: dict[str, float] = {}
    for means in read_parts(prediction, in_group=in_group, layers=("delta",)):
        columns = slice(None) if genes is None else [means.panel.position(gene) for gene in genes]
        for label in means.labels:
            change = means.delta(label)
            if without_targets:
                change[means.targets(label)] = 0.0
            sizes[label] = float(np.linalg.norm(change[columns]))
    return sizes


def _mark_down(ax: Axes, strength: NDArray[np.float64]) -> None:
    """Put a dash on decreases, which in grey look like increases; none where squares are too small for one."""
    width, height = drawing.inches(ax)
    side = 72 * min(width / strength.shape[1], height / len(strength))
    if side < _LEAST_SQUARE:
        return
    for colour, marked in (("black", (strength > -0.6) & (strength < -0.15)), ("white", strength <= -0.6)):
        rows, columns = np.nonzero(marked)
        ax.plot(columns, rows, linestyle="none", marker="_", markersize=0.45 * min(side, 12.0), color=colour)


def _order(rows: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return an order of rows that puts similar ones side by side."""
    if len(rows) < 3:
        return np.arange(len(rows), dtype=np.int64)
    from scipy.cluster.hierarchy import leaves_list, linkage

    return np.asarray(leaves_list(linkage(rows, "average", optimal_ordering=len(rows) <= 300)), dtype=np.int64)
