"""One evaluation of predictions by groups of cells, from that of each group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from scgenept_rt.errors import ControlCellsError, EvaluationError, LabelNotFoundError, ScgeneptError
from scgenept_rt.evaluation.predicted import PredictedMeans
from scgenept_rt.evaluation.result import Evaluation
from scgenept_rt.evaluation.tables import GROUP
from scgenept_rt.wording import join_limited


def evaluate_groups(groups: Sequence[PredictedMeans], evaluate: Callable[[PredictedMeans], Evaluation]) -> Evaluation:
    """Evaluate every group that was measured, and average over all (perturbation, group)."""
    found: dict[str, Evaluation] = {}
    missing: dict[str, ScgeneptError] = {}
    for means in groups:
        if means.group is None:
            raise EvaluationError(f"the predictions of {means.where} are of no group", "Evaluate them by themselves")
        try:
            found[means.group[1]] = evaluate(means)
        except (LabelNotFoundError, ControlCellsError) as error:
            missing[means.group[1]] = error
    if not found:
        raise next(iter(missing.values()), EvaluationError("there are no predictions to evaluate"))
    column = groups[0].group[0] if groups[0].group else ""
    results = list(found.values())
    first = results[0]
    tables = []
    for name, result in found.items():
        table = result.perturbations.assign(perturbation=_row_names(result.perturbations["perturbation"], name))
        table.insert(1, GROUP, f"{column} = {name}")
        tables.append(table)
    left_out = [f"{name} ({error.problem})" for name, error in missing.items()]
    common = [notice for notice in first.notices if all(notice in result.notices for result in results)]
    return replace(
        first,
        perturbations=pd.concat(tables, ignore_index=True),
        notices=(
            *([f"Groups that were not measured are left out: {join_limited(left_out, 3)}."] if left_out else []),
            *common,
            *(
                f"{name}: {notice}"
                for name, result in found.items()
                for notice in result.notices
                if notice not in common
            ),
        ),
        protocol=f"predictions of {groups[0].where} by {column} ({join_limited(list(found))}), each compared with the "
        "cells of its own group",
        tested=tuple(label for name, result in found.items() for label in _row_names(result.tested, name)),
        predicted_deltas=np.concatenate([result.predicted_deltas for result in results]),
        observed_deltas=np.concatenate([result.observed_deltas for result in results]),
        n_groups=len(groups),
    )


def _row_names(labels: Iterable[str], group: str) -> list[str]:
    """Return the names that predictions by group have."""
    return [f"{label}|{group}" for label in labels]
