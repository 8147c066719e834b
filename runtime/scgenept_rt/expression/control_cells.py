"""The control cells of a run: their expression, in model gene order, and what outputs keep of their annotation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import CellsFormatError
from scgenept_rt.expression.annotation import as_text, is_storable, text_of
from scgenept_rt.expression.groups import Groups, Sampling, draw_groups, mixed_notices
from scgenept_rt.expression.label_columns import LabelColumn, label_columns
from scgenept_rt.expression.labels import ControlRows, find_control_rows
from scgenept_rt.expression.missing_genes import accept_blanked
from scgenept_rt.expression.opened_cells import OpenedCells, open_cells
from scgenept_rt.expression.stored_rows import StoredRows, store_rows
from scgenept_rt.genes import GeneMatch, GenePanel
from scgenept_rt.options import ReadOptions

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class InputAnnotation:
    """Names and annotation of an input; `var_names` alone unless the rest was asked for."""

    var_names: NDArray[np.object_]
    # Columns of the control cells in use, without the column of labels and those left out:
    obs: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[str] = ()  # columns that tell control cells from others, as predicted cells are none
    control_labels: Sequence[str] = ()  # of each control cell in use, as the input writes it
    labels: Sequence[str] = ()  # of all cells, each once


@dataclass(eq=False)
class ControlCells:
    """Log-normalised expression of the control cells of a run, in model gene order.

    A context manager: leaving it drops the values and their temporary file, if there is one.
    """

    values: StoredRows
    obs_names: NDArray[np.object_]
    n_available: int  # control cells in the input
    groups: Groups
    mixed: Sequence[str]  # without groups, the notice that the cells are of several types, donors or batches
    match: GeneMatch
    condition_key: str | None  # None, as the label, if all rows were taken
    control_label: str | None
    notices: Sequence[str]
    annotation: InputAnnotation
    others: StoredRows | None = None  # all genes of the input but the model's, in its columns, if they were asked for

    @property
    def n_obs(self) -> int:
        """How many cells the run uses; one drawn twice counts as two."""
        return len(self.obs_names)

    def __enter__(self) -> ControlCells:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the values."""
        self.values.close()
        if self.others is not None:
            self.others.close()

    def over_input(self, first: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return rows [n_cells, n_genes] of the cells from `first` on over all genes of the input.

        The genes that the model lacks keep the values of the cells.
        """
        assert self.others is not None, "these were asked for"
        complete = self.others.dense(first, first + len(rows))
        found = self.match.columns >= 0
        complete[:, self.match.columns[found]] = rows[:, found]
        return complete

    @property
    def fingerprint(self) -> str:
        """sha256 of values, order and names: the same for the same control cells in any layout of the input."""
        digest = hashlib.sha256(self.values.digest)
        if self.others is not None:
            digest.update(self.others.digest)
        digest.update(str(self.values.n_genes).encode())
        digest.update(self.values.order.tobytes())
        digest.update(json.dumps(self.obs_names.tolist()).encode())
        return digest.hexdigest()


def read_control_cells(
    source: str | Path | AnnData,
    panel: GenePanel,
    *,
    options: ReadOptions | None = None,
    sampling: Sampling | None = None,
    groupby: str | None = None,
    annotated: bool = False,
    all_genes: bool = False,
) -> ControlCells:
    """Read the control cells that a run uses, by default each once; many of them go to a temporary file.

    With `groupby`, a column of obs, they are drawn within each group, and lie one group after the other. `annotated`
    reads obs and labels too, `all_genes` the values of the input's other genes.

    Raises a `CellsError` if the input cannot be read or lacks what an option names, its control cells cannot be
    identified or are too few, its genes do not match the model's, or values in use are not log1p-normalised expression.
    """
    with open_cells(source, options) as cells:
        cells.matrix  # noqa: B018  raises if there is none, before genes and labels are looked at
        match = cells.require_genes(panel)
        control = find_control_rows(cells, panel)
        groups, drawn, of_groups = draw_groups(cells, control.rows, groupby, sampling or Sampling())
        notices: list[str] = []
        stored, order = np.unique(drawn, return_inverse=True)
        rows = control.rows[stored]
        values = store_rows(cells.values(match, rows, notices), order, len(panel))
        match = accept_blanked(cells, match, rows, values.expressed)
        others: StoredRows | None = None
        if all_genes:  # the columns of the model's genes stay empty
            columns = np.arange(cells.var.n_rows, dtype=np.int64)
            columns[match.columns[match.columns >= 0]] = -1
            others = store_rows(cells.matrix.batches(rows, columns), order, cells.var.n_rows)
        annotation = InputAnnotation(cells.var.index)
        if annotated:
            annotation = _annotation(cells, panel, control, rows[order])
        return ControlCells(
            values,
            obs_names=cells.obs.index[rows[order]],
            n_available=len(control.rows),
            groups=groups,
            mixed=mixed_notices(cells.obs, rows) if groupby is None else [],
            match=match,
            condition_key=control.condition_key,
            control_label=control.control_label,
            notices=[*match.notices, *control.notices, *of_groups, *notices],
            annotation=annotation,
            others=others,
        )


def _annotation(cells: OpenedCells, panel: GenePanel, control: ControlRows, rows: NDArray[np.int64]) -> InputAnnotation:
    """Return names and the columns that describe a cell whatever perturbs it; `rows` are the control cells in use."""
    obs, key = cells.obs, control.condition_key
    of_perturbations = {column.name for column in label_columns(obs, panel) if column.names_perturbations}
    kept, left_out = {}, []
    for name in dict.fromkeys(obs.columns):
        if name == key or not is_storable(name):
            continue
        with suppress(CellsFormatError):  # nobody asked for this column; lists and the like
            values = obs.column(name)
            if name in of_perturbations or _tells_controls(LabelColumn(name, values), control.rows):
                left_out.append(name)
            else:
                kept[name] = _storable(values, rows)
    labels = np.empty(0, object) if key is None else as_text(obs.column(key))
    of_controls = labels[rows].tolist() if len(labels) else ()
    return InputAnnotation(cells.var.index, kept, left_out, of_controls, tuple(dict.fromkeys(labels)))


def _tells_controls(column: LabelColumn, control_rows: NDArray[np.int64]) -> bool:
    """Return whether all control cells have one value that no other cell has."""
    found = column.counts_in(control_rows)
    apart = len(control_rows) < len(column.codes) and found.items() <= column.counts.items()
    return apart and list(found.values()) == [len(control_rows)]


def _storable(values: Any, rows: NDArray[np.int64]) -> Any:
    """Return values at rows as numbers, or else as a categorical of text: every format of anndata stores these."""
    import pandas as pd

    series = pd.Series(values).iloc[rows]
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series.array
    return pd.Categorical(series.astype(object).map(text_of, na_action="ignore"))
