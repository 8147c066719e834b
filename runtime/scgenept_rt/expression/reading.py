"""Reading the control cells of an input for a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.expression.control_cells import ControlCells, StoredRows, store_rows
from scgenept_rt.expression.groups import draw_groups, mixed_notices
from scgenept_rt.expression.input_annotation import InputAnnotation, read_annotation
from scgenept_rt.expression.missing_genes import accept_blanked
from scgenept_rt.expression.opened_cells import OpenedCells, open_cells
from scgenept_rt.expression.sampling import Sampling
from scgenept_rt.genes import GeneMatch, GenePanel
from scgenept_rt.options import ReadOptions

if TYPE_CHECKING:
    from anndata import AnnData


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
    """Read the control cells that a run uses; only these are in memory, and many go to a temporary file.

    Parameters
    ----------
    source, options
        See `open_cells`. Of a view of a backed AnnData all rows are loaded.
    sampling
        Which control cells to use; by default each once.
    groupby
        obs column with groups of cells: they are drawn within each, and lie one group after the other.
    annotated, all_genes
        Read obs and labels too, and the values of the input's other genes.

    Raises
    ------
    CellsError
        If the input cannot be read or lacks what an option names, its control cells cannot be identified or are too
        few, its genes do not match the model's, or values in use are not log1p-normalised expression.
    """
    with open_cells(source, options) as cells:
        cells.matrix  # noqa: B018  raises if there is none, before genes and labels are looked at
        match = cells.require_genes(panel)
        control = cells.find_control_cells(panel)
        groups, drawn, of_groups = draw_groups(cells, control.rows, groupby, sampling or Sampling())
        notices: list[str] = []
        stored, order = np.unique(drawn, return_inverse=True)
        rows = control.rows[stored]
        values = store_rows(cells.values(match, rows, notices), order, len(panel))
        match = accept_blanked(cells, match, rows, values.expressed)
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
            annotation=read_annotation(cells, panel, control, rows[order])
            if annotated
            else InputAnnotation(cells.var.index),
            others=_other_genes(cells, match, rows, order) if all_genes else None,
        )


def _other_genes(cells: OpenedCells, match: GeneMatch, rows: NDArray[np.int64], order: NDArray[np.int64]) -> StoredRows:
    """Read the genes of the input that no gene of the model was found in; the columns of the others stay empty."""
    columns = np.arange(cells.var.n_rows, dtype=np.int64)
    columns[match.columns[match.columns >= 0]] = -1
    return store_rows(cells.matrix.batches(rows, columns), order, cells.var.n_rows)
