"""What a file of cells holds, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scgenept_rt.compatibility.checks import Findings, check_controls, check_values
from scgenept_rt.expression import OpenedCells
from scgenept_rt.expression.groups import group_columns
from scgenept_rt.expression.label_columns import label_columns
from scgenept_rt.expression.labels import ControlRows
from scgenept_rt.expression.matrix_rows import CompressedColumns

_N_EXAMPLES = 3


def summarize_cells(cells: OpenedCells) -> dict[str, Any]:
    """Return what opened cells hold as plain values, and the `findings` of `check` that need no model.

    Of X a sample of rows is read. Columns of `obs` have a `role`, what they seem to be: "control" (tells control
    cells), "perturbation", "group" or ""; those of text have the number of values, and the most frequent ones.
    """
    findings = Findings()
    control: ControlRows | None = None
    values: dict[str, Any] | None = None
    with findings.problems("labels"):
        control = cells.find_control_cells()
        check_controls(control, cells.n_obs, findings)
    with findings.problems("file"):
        if isinstance(cells.matrix, CompressedColumns):
            by_gene = "Values are stored by gene (CSC), so that a few cells cannot be read alone"
            findings.add("scale", f"{by_gene}; `scgenept-rt check` looks at them", note=True)
        else:
            candidates = np.arange(cells.n_obs) if control is None else control.rows
            values, *_ = check_values(cells, candidates, findings)
    known = control.labels.counts if control is not None and control.labels is not None else {}
    controls = control.control_labels if control is not None else ()
    return {
        "path": cells.where,
        "n_obs": cells.n_obs,
        "n_vars": cells.var.n_rows,
        "layers": cells.layer_names,
        "has_raw": cells.has_raw,
        "gene_names": {source: list(names[:_N_EXAMPLES]) for source, names in cells.gene_names.items()},
        "obs": list(_columns(cells, control)),
        "condition_key": None if control is None else control.condition_key,
        "control_labels": controls,
        "n_control_cells": None if control is None else len(control.rows),
        "labels": [label for label in known if label not in controls],
        "values": values,
        "findings": findings,
    }


def _columns(cells: OpenedCells, control: ControlRows | None) -> Iterator[dict[str, Any]]:
    labelled = {column.name: column for column in label_columns(cells.obs, None)}
    groups = group_columns(cells.obs)
    for name in cells.obs.columns:
        column = labelled.get(name)
        if column is None:
            yield {"name": name, "role": "", "n_values": None, "examples": {}, "controls": ()}
            continue
        role, controls = "group" if name in groups and len(column.counts) > 1 else "", tuple[str, ...]()
        if control is not None and name == control.condition_key:
            role, controls = "control", control.control_labels
        elif column.names_perturbations:
            role, controls = "perturbation", column.controls
        examples, n_values = dict(list(column.counts.items())[:_N_EXAMPLES]), len(column.counts)
        yield {"name": name, "role": role, "n_values": n_values, "examples": examples, "controls": controls}
