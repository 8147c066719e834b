"""A summary of a prediction file, without its values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scgenept_rt.evaluation.prediction_files import read_group_column, read_labels, read_n_controls, read_provenance
from scgenept_rt.expression.opened_cells import OpenedCells


@dataclass(frozen=True)
class PredictionSummary:
    """What a prediction file holds, and how it was made.

    Attributes
    ----------
    aggregate
        "mean": one row per perturbation (and group); "cells": one row per (perturbation, control cell).
    perturbations
        Control cells that each was predicted from, over all groups.
    groupby, groups
        The obs column and values of groups; None and empty without.
    settings
        ``uns["scgenept_rt"]`` but for what has its own place here.
    """

    path: str
    aggregate: str
    n_rows: int
    n_genes: int
    layers: tuple[str, ...]
    perturbations: Mapping[str, int]
    groupby: str | None
    groups: tuple[str, ...]
    synthetic: bool
    settings: Mapping[str, Any]
    notices: tuple[str, ...]
    shard: Mapping[str, Any] | None


def summarize_predictions(cells: OpenedCells) -> PredictionSummary:
    """Summarize opened predictions; of X nothing is read."""
    settings = read_provenance(cells)
    perturbations: Counter[str] = Counter()
    for label, count in zip(read_labels(cells), read_n_controls(cells).tolist(), strict=True):
        perturbations[label] += count
    groupby, groups = read_group_column(cells)
    shard = settings.pop("shard", None)
    return PredictionSummary(
        path=cells.where,
        aggregate="mean" if "n_controls" in cells.obs.columns else "cells",
        n_rows=cells.n_obs,
        n_genes=cells.var.n_rows,
        layers=cells.layer_names,
        perturbations=dict(perturbations),
        groupby=groupby,
        groups=tuple(dict.fromkeys(groups)),
        synthetic=bool(settings.pop("synthetic", False)),
        notices=tuple(map(str, settings.pop("notices", ()))),
        settings=settings,
        shard=shard and {name: int(shard[name]) for name in ("number", "count")},
    )
