"""Predictions in the cell-eval format: a file that cell-eval compares with the measured file that the cells came from.

cell-eval 0.8 demands the genes of the measured file in its order, the same labels, and no negative values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from scgenept_rt.errors import ArgumentError, Caution, UseOption
from scgenept_rt.expression import ControlCells
from scgenept_rt.expression.annotation import is_storable
from scgenept_rt.expression.label_matching import CONTROL, LabelReader
from scgenept_rt.genes import GenePanel
from scgenept_rt.options import PredictOptions, ReadOptions
from scgenept_rt.output.table_spec import CellRows, Positions, TableSpec
from scgenept_rt.perturbation import CONTROL_LABELS, Perturbation
from scgenept_rt.predictor.run import Run
from scgenept_rt.wording import join_limited, pluralize

CELL_EVAL_COLUMN, CONTROL_LABEL = "cell_eval_column", "control_label"
"""Entries of uns: what cell-eval calls pert_col and control_pert."""

_NO_GENES = Perturbation(CONTROL, (), ())


def as_measured(
    perturbations: Sequence[Perturbation],
    controls: ControlCells,
    panel: GenePanel,
    read: ReadOptions,
    options: PredictOptions,
) -> tuple[list[Perturbation], list[Caution]]:
    """Return the perturbations under the labels of the input, and messages for the user.

    Where the input has several labels of the same genes (A+ctrl and ctrl+A in Norman), each is predicted. Predicted
    controls are a perturbation of no genes, which comes first.
    """
    predicted_controls = bool(options.get("predicted_controls"))
    given = [perturbation for perturbation in perturbations if perturbation.target_genes]
    if len(given) < len(perturbations) and not predicted_controls:
        label = next(perturbation.label for perturbation in perturbations if not perturbation.target_genes)
        raise ArgumentError(
            f"perturbation {label!r} is the control, for which the cell-eval format has measured cells",
            f"Leave the perturbation {label} out",
            [UseOption("predicted_controls", "write predicted control cells instead", True)],
        )
    source = controls.annotation
    own = set(source.control_labels)
    reader = LabelReader(panel, own)
    measured = [label for label in source.labels if label not in own]
    of_genes: dict[tuple[str, ...] | None, list[str]] = {}
    for label in measured:
        of_genes.setdefault(reader.genes(label.strip()), []).append(label)
    found = [
        replace(perturbation, label=label)
        for perturbation in given
        for label in of_genes.get(perturbation.target_genes, [perturbation.label])
    ]
    notices = list(_notices(found, measured, controls, read))
    return [_NO_GENES, *found] if predicted_controls else found, notices


def _notices(
    perturbations: Sequence[Perturbation], measured: Sequence[str], controls: ControlCells, read: ReadOptions
) -> Iterator[Caution]:
    n_others = len(controls.annotation.var_names) - controls.match.n_found
    if n_others:
        genes = pluralize(n_others, "gene of the input is", "genes of the input are")
        yield Caution(f"{genes} not predicted: the output has the values of the control cells there")
    predicted = {perturbation.label for perturbation in perturbations}
    lacking = {
        "without a prediction": [label or "(none)" for label in measured if label not in predicted],
        "without measured cells": sorted(predicted.difference(measured)),
    }
    n_lacking, key = sum(map(len, lacking.values())), controls.condition_key
    if measured and n_lacking:
        named = ", ".join(f"{what}: {join_limited(labels)}" for what, labels in lacking.items() if labels)
        yield Caution(
            "cell-eval refuses data and predictions of different labels. "
            f"{pluralize(n_lacking, 'label is', 'labels are')} {named}",
            f"Keep the others of each: `real = real[real.obs[{key!r}].isin(predicted.obs[{key!r}])]`, and the same "
            "the other way round",
        )
    if read["use_raw"] or read["layer"] is not None:
        where = "raw" if read["use_raw"] else f"layer {read['layer']!r}"
        yield Caution(f"cell-eval reads X, but the cells were read from {where}: give it a file with that as X")


def label_column(controls: ControlCells, options: PredictOptions) -> str:
    """Return the column of obs that has the labels; raise `ArgumentError` if the output cannot have such a column."""
    column = str(options.get("cell_eval_column") or controls.condition_key or "target_gene")
    if column in ("control_cell", options["groupby"], *controls.annotation.obs) or not is_storable(column):
        raise ArgumentError(
            f"the column of labels would be {column!r}, which the output has already or cannot have",
            options=[UseOption("cell_eval_column", "choose another name")],
        )
    return column


def n_own_rows(run: Run) -> int:
    """Return how many rows hold the control cells' own values, which come first; none unless cell-eval needs them."""
    return run.controls.n_obs if run.label_column is not None and run.perturbations[0].target_genes else 0


def table(run: Run, uns: Mapping[str, Any], column: str) -> TableSpec:
    """Describe the table: control cells first, own or predicted ones, then the predicted cells.

    `column` of obs, cell-eval's ``pert_col``, has the labels that the input gives control cells.
    """
    controls, schedule, source = run.controls, run.schedule, run.controls.annotation
    perturbations, counts, first_cells = schedule.perturbations, schedule.counts, schedule.first_cells
    if n_own_rows(run):
        perturbations = (_NO_GENES, *perturbations)
        counts, first_cells = np.append(controls.n_obs, counts), np.append(0, first_cells)
    labels = [perturbation.label for perturbation in perturbations]
    control_labels = source.control_labels or [CONTROL_LABELS[-1]] * controls.n_obs
    names = pd.Index(dict.fromkeys([*control_labels, *labels]), dtype=object)
    of_controls = np.array([not perturbation.target_genes for perturbation in perturbations])

    def position(perturbations: Positions, cells: Positions) -> Positions:
        return np.where(of_controls[perturbations], cells, len(control_labels) + perturbations)

    columns = {column: (pd.Categorical([*control_labels, *labels], categories=names), position)}
    cell_names = [str(name) for name in controls.obs_names]
    obs = CellRows(columns, labels, cell_names, source.obs, counts, first_cells)
    predicted = np.isin(np.arange(len(source.var_names)), controls.match.columns)
    var = pd.DataFrame({"predicted": predicted}, index=pd.Index(source.var_names, dtype=object))
    entries = {CELL_EVAL_COLUMN: column, CONTROL_LABEL: controls.control_label or CONTROL_LABELS[-1]}
    return TableSpec("cells", obs, var, (), {**uns, **entries, "clipped_at_zero": True}, clip_at_zero=True)
