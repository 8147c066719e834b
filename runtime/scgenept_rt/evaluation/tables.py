"""Metrics of every perturbation and method, their averages by subgroup, and which baselines beat the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.evaluation.de_genes import DeGenes
from scgenept_rt.evaluation.held_out import TrainingLabels
from scgenept_rt.evaluation.measured import GroupMoments
from scgenept_rt.evaluation.metrics import (
    HEADLINE,
    TopGeneCells,
    higher_is_better,
    metrics_of_methods,
    most_variable_genes,
)
from scgenept_rt.evaluation.predicted import PredictedMeans
from scgenept_rt.evaluation.split import Split
from scgenept_rt.expression.label_matching import CONTROL
from scgenept_rt.wording import pluralize

CONTROL_MEAN = "control mean"
TRAIN_MEAN = "training mean"
ADDITIVE = "additive"
BASELINES: Mapping[str, str] = {
    CONTROL_MEAN: "no change: the mean of all control cells",
    TRAIN_MEAN: "the mean of all perturbed cells of the training set, the same for every perturbation",
    ADDITIVE: "pairs: the control mean plus the changes by those of its genes that training perturbed alone",
}
"""Predictions without a model, from training cells alone, for a model to beat."""

ALL_TESTED = "all tested"
"""Name of the group of all tested perturbations."""

GROUP = "group"
"""Column of the group of cells, where there are several."""

_DESCRIPTION = ("perturbation", GROUP, "subgroup", "method", "n_cells", "n_controls")


def metric_table(
    tested: Mapping[str, str],
    split: Split,
    predicted: PredictedMeans,
    moments: GroupMoments,
    train: TrainingLabels,
    de: Mapping[str, DeGenes],
    cells: Mapping[str, TopGeneCells],
) -> pd.DataFrame:
    """Return one row per (perturbation, method) that the method predicts; see `Evaluation.perturbations`."""
    control = moments.control
    training_mean = moments.mean(*train.names) if train.names else None
    singles = {gene: moments.mean(*labels) for gene, labels in train.singles.items()}
    subgroup_of = {label: name for name, labels in split.test.items() for label in labels}
    variable_genes = most_variable_genes(moments.std_of_means())
    rows: list[dict[str, Any]] = []
    for label, in_data in tested.items():
        row = predicted.row(label)
        profiles = {
            predicted.name: predicted.means[row].astype(np.float64),
            CONTROL_MEAN: control,
            TRAIN_MEAN: training_mean,
            ADDITIVE: additive_prediction(predicted.reader.genes(label) or (), control, singles),
        }
        known = {method: profile for method, profile in profiles.items() if profile is not None}
        stacked, observed = np.stack(list(known.values())), moments.mean(in_data)
        metrics = metrics_of_methods(stacked, observed, control, de[label], cells[label], variable_genes)
        for place, method in enumerate(known):
            described = {
                "perturbation": label,
                "subgroup": subgroup_of[label],
                "method": method,
                "n_cells": moments.n(in_data),
                "n_controls": int(predicted.n_controls[row]) if method == predicted.name else moments.n(CONTROL),
            }
            rows.append({**described, **{name: float(values[place]) for name, values in metrics.items()}})
    return pd.DataFrame(rows)


def additive_prediction(
    genes: tuple[str, ...], control: NDArray[np.float64], single_means: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64] | None:
    """Return the control mean plus the changes by the single perturbations of a pair of genes, all (n_genes,).

    A gene that was not perturbed alone adds nothing; None if neither was, or if there are not two genes.
    """
    known = [single_means[gene] for gene in genes if gene in single_means]
    return control + sum(mean - control for mean in known) if len(genes) == 2 and known else None


def subgroup_rows(table: pd.DataFrame, split: Split) -> dict[str, pd.DataFrame]:
    """Return the rows of each subgroup that has any, and of each group of cells, then all rows if these are several."""
    groups = {name: rows for name in split.test if len(rows := table[table["subgroup"] == name])}
    if GROUP in table:
        groups |= {str(name): rows for name, rows in table.groupby(GROUP, sort=False)}
    if len(groups) > 1:
        groups[ALL_TESTED] = table
    return groups


def macro_averages(table: pd.DataFrame, split: Split) -> pd.DataFrame:
    """Return one row per (subgroup, method); see `Evaluation.summary`. Means leave out what is not defined."""
    metrics = [column for column in table.columns if column not in _DESCRIPTION]
    rows: list[dict[str, Any]] = []
    for name, group in subgroup_rows(table, split).items():
        for method, chosen in group.groupby("method", sort=False):
            means = {metric: float(chosen[metric].mean()) for metric in metrics}
            rows.append({"subgroup": name, "method": method, "n_perturbations": len(chosen), **means})
    return pd.DataFrame(rows)


def baseline_findings(table: pd.DataFrame, split: Split) -> list[str]:
    """Return sentences on baselines that beat the model by a headline metric, over the perturbations of both."""
    model = str(table["method"].iloc[0])
    sentences = []
    for name, group in subgroup_rows(table, split).items():
        of_method = {method: rows.set_index("perturbation") for method, rows in group.groupby("method")}
        own, beaten_by = of_method[model], []
        for baseline, other in ((name, of_method[name]) for name in BASELINES if name in of_method):
            won = []
            for metric in HEADLINE:
                ours, theirs = own.loc[other.index, metric].mean(), other[metric].mean()
                if theirs > ours if higher_is_better(metric) else theirs < ours:
                    won.append(f"{metric} ({theirs:.3g} against {ours:.3g})")
            if won:
                # The additive baseline predicts pairs alone.
                over = "" if len(other) == len(own) else f" over {pluralize(len(other), 'perturbation')}"
                beaten_by.append(f"{baseline!r} wins on {', '.join(won)}{over}")
        if beaten_by:
            n_all = pluralize(len(own), "perturbation")
            sentences.append(f"{name}, {n_all}: {model} is beaten by baselines: {'; '.join(beaten_by)}.")
    return sentences or [f"{model} beats every baseline in every subgroup on {', '.join(HEADLINE)}."]
