"""What a file of cells holds, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from scgenept_rt.compatibility.finding import Finding, Findings
from scgenept_rt.compatibility.label_check import control_findings
from scgenept_rt.compatibility.value_check import Values, check_values
from scgenept_rt.expression import OpenedCells
from scgenept_rt.expression.groups import group_columns
from scgenept_rt.expression.label_columns import label_columns
from scgenept_rt.expression.labels import ControlRows
from scgenept_rt.expression.matrix_rows import CompressedColumns

_N_EXAMPLES = 3


@dataclass(frozen=True)
class ObsColumn:
    """A column of obs.

    Attributes
    ----------
    role
        What it seems to be: "control" (it tells control cells), "perturbation", "group", or "".
    n_values
        Number of different values of a column of text, None of others.
    examples
        The most frequent values, with their numbers of cells.
    controls
        Labels that mark control cells.
    """

    name: str
    role: str
    n_values: int | None = None
    examples: Mapping[str, int] = field(default_factory=dict)
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellsSummary:
    """What cells hold; `findings` are those of `check` that need no model."""

    path: str
    n_obs: int
    n_vars: int
    layers: tuple[str, ...]
    has_raw: bool
    gene_names: Mapping[str, tuple[str, ...]]
    obs: tuple[ObsColumn, ...]
    condition_key: str | None
    control_labels: tuple[str, ...]
    n_control_cells: int | None
    labels: tuple[str, ...]
    values: Values | None
    findings: Findings


def summarize_cells(cells: OpenedCells) -> CellsSummary:
    """Summarize opened cells; of X a sample of rows is read."""
    findings = Findings()
    control: ControlRows | None = None
    values: Values | None = None
    with findings.problems("labels"):
        control = cells.find_control_cells()
        findings += control_findings(control, cells.n_obs)
    with findings.problems("file"):
        if isinstance(cells.matrix, CompressedColumns):
            text = (
                "Values are stored by gene (CSC), of which no few cells can be read; `scgenept-rt check` looks at them"
            )
            findings.append(Finding("scale", "note", text))
        else:
            candidates = np.arange(cells.n_obs) if control is None else control.rows
            values, _ = check_values(cells, candidates, findings)
    known = control.labels.counts() if control is not None and control.labels is not None else {}
    controls = control.control_labels if control is not None else ()
    return CellsSummary(
        path=cells.where,
        n_obs=cells.n_obs,
        n_vars=cells.var.n_rows,
        layers=cells.layer_names,
        has_raw=cells.has_raw,
        gene_names={source: tuple(names[:_N_EXAMPLES]) for source, names in cells.gene_names.items()},
        obs=tuple(_columns(cells, control)),
        condition_key=None if control is None else control.condition_key,
        control_labels=controls,
        n_control_cells=None if control is None else len(control.rows),
        labels=tuple(label for label in known if label not in controls),
        values=values,
        findings=findings,
    )


def _columns(cells: OpenedCells, control: ControlRows | None) -> Iterator[ObsColumn]:
    labelled = {column.name: column for column in label_columns(cells.obs, None)}
    groups = group_columns(cells.obs)
    for name in cells.obs.columns:
        column = labelled.get(name)
        if column is None:
            yield ObsColumn(name, "")
            continue
        role, controls = "group" if name in groups and len(column.counts) > 1 else "", tuple[str, ...]()
        if control is not None and name == control.condition_key:
            role, controls = "control", control.control_labels
        elif column.names_perturbations:
            role, controls = "perturbation", column.controls
        examples = dict(list(column.counts.items())[:_N_EXAMPLES])
        yield ObsColumn(name, role, len(column.counts), examples, controls)
