"""The figures of an evaluation's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scgenept_rt.evaluation import Evaluation
from scgenept_rt.plotting.agreement import draw_agreement, name_genes
from scgenept_rt.plotting.drawing import (
    NEUTRAL,
    legend_text,
    new_figure,
    plain,
    settle_layout,
    style_of,
    svg_of,
    without_tex,
)
from scgenept_rt.plotting.text_layout import MEDIUM, add_legend, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@without_tex
def evaluation_figures(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return captions and drawings (SVG) for `scgenept_rt.evaluation.html_report.html_report`.

    Raises
    ------
    MissingPackageError
        If matplotlib or adjustText is not installed.
    """
    figures = [
        (
            "Macro-averaged correlation of predicted with measured change, by subgroup: over all genes, and over the "
            "20 genes that lead the ranking. Points further right are better.",
            _by_subgroup(evaluation),
        ),
        (
            "Correlation of predicted with measured change, one point per perturbation: the model against the training "
            "mean. Points above the dashed line are predicted better by the model.",
            _against_baseline(evaluation),
        ),
        (
            "Predicted against measured change, one point per gene, for the perturbations that the model predicts "
            "best, at the median, and worst.",
            _examples(evaluation),
        ),
    ]
    mark = f" Not biology: {' and '.join(evaluation.synthetic)}." if evaluation.synthetic else ""
    return [(caption + mark, svg_of(figure, f"drawing{number}")) for number, (caption, figure) in enumerate(figures)]


def _by_subgroup(evaluation: Evaluation) -> Figure:
    subgroups, methods = evaluation.subgroups, evaluation.methods
    figure = new_figure(9.0, 0.5 * len(subgroups) + 1.5)
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, metric in ((left, "pearson_delta"), (right, "pearson_delta_de")):
        for index, method in enumerate(methods):
            rows = evaluation.summary[evaluation.summary["method"] == method].set_index("subgroup")
            places = [place for place, name in enumerate(subgroups) if name in rows.index]
            ax.plot(
                [float(rows[metric].loc[subgroups[place]]) for place in places],
                [place + (index - (len(methods) - 1) / 2) * 0.16 for place in places],
                linestyle="none",
                label=legend_text(wrapped(method, 9.0 / len(methods) - 0.4, MEDIUM)),
                **style_of(index, 8 if not index else 6),
            )
        ax.axvline(0.0, color=NEUTRAL, linewidth=0.6)
        ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_xlabel(metric)
        plain(ax)
    counts = evaluation.summary[evaluation.summary["method"] == methods[0]].set_index("subgroup")["n_perturbations"]
    left.set_yticks(range(len(subgroups)), [f"{name} ({int(counts[name])})" for name in subgroups])
    left.set_ylim(len(subgroups) - 0.5, -0.5)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(methods), frameon=False)
    return figure


def _against_baseline(evaluation: Evaluation) -> Figure:
    table = evaluation.perturbations
    baseline = next(name for name in ("training mean", "control mean") if name in evaluation.methods)
    own = table[table["method"] == evaluation.model].set_index("perturbation")
    other = table[table["method"] == baseline].set_index("perturbation")["pearson_delta"]
    figure = new_figure(6.0, 4.2)
    ax = figure.add_subplot()
    for index, subgroup in enumerate(dict.fromkeys(own["subgroup"])):
        rows = own[own["subgroup"] == subgroup]
        ax.plot(
            other.loc[rows.index],
            rows["pearson_delta"],
            linestyle="none",
            alpha=0.8,
            label=legend_text(subgroup),
            **style_of(index, 5),
        )
    values = np.concatenate([own["pearson_delta"], other])
    low, high = min(0.0, float(values.min())) - 0.05, max(0.2, float(values.max())) + 0.05
    ax.plot((low, high), (low, high), color=NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_box_aspect(1)
    ax.set_xlabel(f"{baseline}: pearson_delta")
    ax.set_ylabel(wrapped(f"{evaluation.model}:\npearson_delta", 3.2, MEDIUM))
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    plain(ax)
    return figure


def _examples(evaluation: Evaluation) -> Figure:
    table = evaluation.perturbations
    own = table[table["method"] == evaluation.model].set_index("perturbation")["pearson_delta"]
    ranked = list(own.sort_values(ascending=False, kind="stable").index)
    chosen = list(dict.fromkeys([ranked[0], ranked[len(ranked) // 2], ranked[-1]]))
    figure = new_figure(3.6 * len(chosen), 3.9)
    drawn = []
    for ax, label in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        row = evaluation.tested.index(label)
        measured, predicted = (
            deltas[row].astype(np.float64) for deltas in (evaluation.observed_deltas, evaluation.predicted_deltas)
        )
        draw_agreement(ax, measured, [predicted], [legend_text(label)])
        drawn.append((ax, measured, predicted))
    for ax, _, _ in drawn:
        add_legend(ax)
    settle_layout(figure)
    for ax, measured, predicted in drawn:  # last, as every legend moves the axes of the others
        name_genes(ax, measured, [predicted], evaluation.gene_names, n_labels=6)
    return figure
