"""A summary of a prediction file, without its values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scgenept_rt.evaluation.prediction_files import read_labels, read_n_controls, read_provenance
from scgenept_rt.expression.annotation import as_text
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
    labels, settings = read_labels(cells), read_provenance(cells)
    of_means = "n_controls" in cells.obs.columns
    counts = read_n_controls(cells) if of_means else np.ones(len(labels), np.int64)
    perturbations: Counter[str] = Counter()
    for label, count in zip(labels, counts.tolist(), strict=True):
        perturbations[label] += count
    groupby = settings.get("groupby")
    groups = as_text(cells.obs.column(groupby)) if groupby in cells.obs.columns else ()
    shard = settings.pop("shard", None)
    return PredictionSummary(
        path=cells.where,
        aggregate="mean" if of_means else "cells",
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
