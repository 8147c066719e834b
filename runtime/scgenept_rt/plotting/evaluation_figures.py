"""The figures of an evaluation's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scgenept_rt.evaluation import Evaluation
from scgenept_rt.plotting import drawing
from scgenept_rt.plotting.comparison import draw_agreement, name_genes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@drawing.own_settings
def evaluation_figures(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return captions and drawings (SVG) for `scgenept_rt.evaluation.reports.html_report`."""
    table = evaluation.perturbations
    own = table[table["method"] == evaluation.model].set_index("perturbation")
    figures = {
        "Correlation of predicted with measured change, one point per perturbation: the model against the training "
        "mean. Points above the dashed line are predicted better by the model.": _against_baseline(evaluation, own),
        "Predicted against measured change, one point per gene, for the perturbations that the model predicts best, at "
        "the median, and worst.": _examples(evaluation, own),
    }
    mark = f" Not biology: {' and '.join(evaluation.synthetic)}." if evaluation.synthetic else ""
    return [
        (f"{caption}{mark}", drawing.svg_of(figure, f"drawing{number}"))
        for number, (caption, figure) in enumerate(figures.items())
    ]


def _against_baseline(evaluation: Evaluation, own: pd.DataFrame) -> Figure:
    table = evaluation.perturbations
    baseline = next(name for name in ("training mean", "control mean") if name in evaluation.methods)
    other = table[table["method"] == baseline].set_index("perturbation")["pearson_delta"]
    figure = drawing.new_figure(6.0, 4.2)
    ax = figure.add_subplot()
    for index, (subgroup, rows) in enumerate(own.groupby("subgroup", sort=False)):
        places = other.loc[rows.index], rows["pearson_delta"]
        drawing.draw_points(ax, *places, alpha=0.8, label=str(subgroup), **drawing.style_of(index, 5))
    values = np.concatenate([own["pearson_delta"], other])
    low, high = min(0.0, float(values.min())) - 0.05, max(0.2, float(values.max())) + 0.05
    drawing.square_axes(ax, low, high)
    ax.set_xlabel(f"{baseline}: pearson_delta")
    ax.set_ylabel(drawing.wrapped(f"{evaluation.model}:\npearson_delta", 3.2, drawing.MEDIUM))
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    drawing.plain(ax)
    return figure


def _examples(evaluation: Evaluation, own: pd.DataFrame) -> Figure:
    ranked = list(own["pearson_delta"].sort_values(ascending=False, kind="stable").index)
    chosen = list(dict.fromkeys([ranked[0], ranked[len(ranked) // 2], ranked[-1]]))
    figure = drawing.new_figure(3.6 * len(chosen), 3.9)
    axes = figure.subplots(1, len(chosen), squeeze=False)[0]
    rows = [evaluation.tested.index(label) for label in chosen]
    measured, predicted = evaluation.observed_deltas[rows], evaluation.predicted_deltas[rows].astype(np.float64)
    for place, (ax, label) in enumerate(zip(axes, chosen, strict=True)):
        draw_agreement(ax, measured[place], [predicted[place]], [label])
        drawing.add_legend(ax)
    drawing.settle_layout(figure)
    for place, ax in enumerate(axes):  # last, as every legend moves the axes of the others
        name_genes(ax, measured[place], [predicted[place]], evaluation.gene_names, n_labels=6)
    return figure
