"""The figures of every perturbation and method, and their averages by subgroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.evaluation.baselines import ADDITIVE, CONTROL_MEAN, TRAIN_MEAN, additive_prediction
from scgenept_rt.evaluation.de_genes import DeGenes
from scgenept_rt.evaluation.held_out import genes_of
from scgenept_rt.evaluation.metrics import TopGeneCells, most_variable_genes, perturbation_metrics
from scgenept_rt.evaluation.observed import CONTROL, Observed
from scgenept_rt.evaluation.predicted import PredictedMeans
from scgenept_rt.evaluation.split import Split
from scgenept_rt.genes import GenePanel

ALL_TESTED = "all tested"
"""Name of the group of every tested perturbation."""

TRAIN_POOL = "train"
"""Name of the pool of all training cells in `Observed.pooled`."""


def method_profiles(
    kept: Sequence[str],
    predicted: PredictedMeans,
    observed: Observed,
    singles: Mapping[str, Sequence[str]],
    panel: GenePanel,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return by method the predicted mean of each perturbation that the method predicts."""
    control = observed.control
    single_means = {gene: observed.moments.mean(*labels) for gene, labels in singles.items()}
    profiles: dict[str, dict[str, NDArray[np.float64]]] = {predicted.name: {}}
    for label in kept:
        profiles[predicted.name][label] = predicted.means[predicted.row(label)].astype(np.float64)
    profiles[CONTROL_MEAN] = dict.fromkeys(kept, control)
    if TRAIN_POOL in observed.pooled:
        profiles[TRAIN_MEAN] = dict.fromkeys(kept, observed.pooled[TRAIN_POOL])
    additive = {label: additive_prediction(genes_of(label, panel), control, single_means) for label in kept}
    if any(profile is not None for profile in additive.values()):
        profiles[ADDITIVE] = {label: profile for label, profile in additive.items() if profile is not None}
    return profiles


def metric_table(
    kept: Sequence[str],
    tested: Mapping[str, str],
    split: Split,
    predicted: PredictedMeans,
    observed: Observed,
    de: Mapping[str, DeGenes],
    cells: Mapping[str, TopGeneCells],
    profiles: Mapping[str, Mapping[str, NDArray[np.float64]]],
) -> pd.DataFrame:
    """Return one row a (perturbation, method) that the method predicts; see `Evaluation.perturbations`."""
    control, subgroup_of = observed.control, split.subgroup_of()
    std = observed.condition_std
    variable_genes = None if std is None else most_variable_genes(std)
    rows: list[dict[str, Any]] = []
    for label in kept:
        measured = observed.moments.mean(tested[label])
        for method, means in profiles.items():
            if label not in means:
                continue
            rows.append(
                {
                    "perturbation": label,
                    "subgroup": subgroup_of[label],
                    "method": method,
                    "n_cells": observed.moments.n(tested[label]),
                    "n_controls": int(predicted.n_controls[predicted.row(label)])
                    if method == predicted.name
                    else observed.moments.n(CONTROL),
                    **perturbation_metrics(
                        means[label],
                        measured,
                        control,
                        de[label],
                        cells=cells[label],
                        variable_genes=variable_genes,
                    ),
                }
            )
    return pd.DataFrame(rows)


def _metrics_of(table: pd.DataFrame) -> list[str]:
    described = ("perturbation", "subgroup", "method", "n_cells", "n_controls", "n_perturbations")
    return [str(column) for column in table.columns if column not in described]


def subgroup_rows(table: pd.DataFrame, split: Split) -> dict[str, pd.DataFrame]:
    """Return the rows of each subgroup that has any, then of all if there are several."""
    groups = {name: table[table["subgroup"] == name] for name in split.test}
    groups = {name: group for name, group in groups.items() if len(group)}
    if len(groups) > 1:
        groups[ALL_TESTED] = table
    return groups


def macro_averages(table: pd.DataFrame, split: Split) -> pd.DataFrame:
    """Return one row a (subgroup, method); see `Evaluation.summary`. What is not defined is left out of a mean."""
    metrics = _metrics_of(table)
    rows: list[dict[str, Any]] = []
    for name, group in subgroup_rows(table, split).items():
        for method in dict.fromkeys(table["method"]):
            chosen = group[group["method"] == method]
            if len(chosen):
                means = {metric: float(chosen[metric].mean()) for metric in metrics}
                rows.append({"subgroup": name, "method": method, "n_perturbations": len(chosen), **means})
    return pd.DataFrame(rows)
