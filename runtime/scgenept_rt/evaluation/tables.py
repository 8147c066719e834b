"""Metrics of every perturbation and method, their averages by subgroup, and which baselines beat the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.evaluation.baselines import ADDITIVE, BASELINES, CONTROL_MEAN, TRAIN_MEAN, additive_prediction
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

ALL_TESTED = "all tested"
"""Name of the group of all tested perturbations."""

GROUP = "group"
"""Column of the group of cells, where there are several."""

_DESCRIPTION = ("perturbation", GROUP, "subgroup", "method", "n_cells", "n_controls")


def method_profiles(
    kept: Sequence[str],
    predicted: PredictedMeans,
    moments: GroupMoments,
    train: TrainingLabels,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return by method the predicted mean of each perturbation that the method predicts."""
    control = moments.control
    single_means = {gene: moments.mean(*labels) for gene, labels in train.singles.items()}
    own = {label: predicted.means[predicted.row(label)].astype(np.float64) for label in kept}
    profiles = {predicted.name: own, CONTROL_MEAN: dict.fromkeys(kept, control)}
    if train.names:
        profiles[TRAIN_MEAN] = dict.fromkeys(kept, moments.mean(*train.names))
    additive = {
        label: profile
        for label in kept
        if (profile := additive_prediction(predicted.reader.genes(label) or (), control, single_means)) is not None
    }
    if additive:
        profiles[ADDITIVE] = additive
    return profiles


def metric_table(
    kept: Sequence[str],
    tested: Mapping[str, str],
    split: Split,
    predicted: PredictedMeans,
    moments: GroupMoments,
    de: Mapping[str, DeGenes],
    cells: Mapping[str, TopGeneCells],
    profiles: Mapping[str, Mapping[str, NDArray[np.float64]]],
) -> pd.DataFrame:
    """Return one row per (perturbation, method) that the method predicts; see `Evaluation.perturbations`."""
    control, subgroup_of = moments.control, split.subgroup_of()
    variable_genes = most_variable_genes(moments.std_of_means())
    rows: list[dict[str, Any]] = []
    for label in kept:
        methods = [method for method in profiles if label in profiles[method]]
        stacked = np.stack([profiles[method][label] for method in methods])
        observed = moments.mean(tested[label])
        metrics = metrics_of_methods(stacked, observed, control, de[label], cells[label], variable_genes)
        own = int(predicted.n_controls[predicted.row(label)])
        for row, method in enumerate(methods):
            described = {
                "perturbation": label,
                "subgroup": subgroup_of[label],
                "method": method,
                "n_cells": moments.n(tested[label]),
                "n_controls": own if method == predicted.name else moments.n(CONTROL),
            }
            rows.append({**described, **{name: float(values[row]) for name, values in metrics.items()}})
    return pd.DataFrame(rows)


def subgroup_rows(table: pd.DataFrame, split: Split) -> dict[str, pd.DataFrame]:
    """Return the rows of each subgroup that has any, and of each group of cells, then all rows if these are several."""
    groups = {name: table[table["subgroup"] == name] for name in split.test}
    groups = {name: group for name, group in groups.items() if len(group)}
    if GROUP in table:
        groups |= {str(name): rows for name, rows in table.groupby(GROUP, sort=False)}
    if len(groups) > 1:
        groups[ALL_TESTED] = table
    return groups


def macro_averages(table: pd.DataFrame, split: Split) -> pd.DataFrame:
    """Return one row per (subgroup, method); see `Evaluation.summary`. Means leave out what is not defined."""
    metrics = [str(column) for column in table.columns if column not in _DESCRIPTION]
    rows: list[dict[str, Any]] = []
    for name, group in subgroup_rows(table, split).items():
        for method in dict.fromkeys(table["method"]):
            chosen = group[group["method"] == method]
            if len(chosen):
                means = {metric: float(chosen[metric].mean()) for metric in metrics}
                rows.append({"subgroup": name, "method": method, "n_perturbations": len(chosen), **means})
    return pd.DataFrame(rows)


def baseline_findings(table: pd.DataFrame, split: Split) -> list[str]:
    """Return sentences on baselines that beat the model by a headline metric, over the perturbations of both."""
    model = str(table["method"].iloc[0])
    sentences = []
    for name, group in subgroup_rows(table, split).items():
        own = group[group["method"] == model].set_index("perturbation")
        beaten_by = []
        for baseline in BASELINES:
            other = group[group["method"] == baseline].set_index("perturbation")
            common = own.index.intersection(other.index, sort=False)
            if not len(common):
                continue
            won = []
            for metric in HEADLINE:
                ours, theirs = float(own.loc[common, metric].mean()), float(other.loc[common, metric].mean())
                if theirs > ours if higher_is_better(metric) else theirs < ours:
                    won.append(f"{metric} ({theirs:.3g} against {ours:.3g})")
            if won:
                # The additive baseline predicts pairs alone.
                over = "" if len(common) == len(own) else f" over {pluralize(len(common), 'perturbation')}"
                beaten_by.append(f"{baseline!r} wins on {', '.join(won)}{over}")
        if beaten_by:
            sentences.append(
                f"{name}, {pluralize(len(own), 'perturbation')}: {model} is beaten by baselines: "
                f"{'; '.join(beaten_by)}."
            )
    return sentences or [f"{model} beats every baseline in every subgroup on {', '.join(HEADLINE)}."]
