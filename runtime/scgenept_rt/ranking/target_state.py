"""The change that leads to a state of measured cells."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, Caution, LabelNotFoundError, UseOption
from scgenept_rt.evaluation.measured import measured_label
from scgenept_rt.expression.annotation import as_text, no_column
from scgenept_rt.expression.label_matching import LabelledRows
from scgenept_rt.expression.missing_genes import accept_missing, blanked_genes
from scgenept_rt.expression.opened_cells import OpenedCells, open_cells
from scgenept_rt.genes import GeneMatch, GenePanel
from scgenept_rt.options import ReadOptions
from scgenept_rt.wording import join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData

Rows = NDArray[np.int64]

_N_PARTS = 16
"""Parts of the measured cells: enough to show the error of their means, however genes vary together."""


@dataclass(frozen=True, eq=False)
class TargetState:
    """What leads from one group of measured cells to another.

    Attributes
    ----------
    change
        (n_genes,) difference of the mean expression of the two groups.
    genes
        bool (n_genes,), the genes that were measured.
    description
        The two groups, in words.
    parts
        [n_parts, n_genes], the same of parts of the cells: their spread shows the error of `change`.
    notices
        Warning messages.
    """

    change: NDArray[np.float64]
    genes: NDArray[np.bool_]
    description: str
    parts: NDArray[np.float64]
    notices: tuple[str, ...]


def read_target_state(
    data: str | Path | AnnData, panel: GenePanel, group: str, start: str | None, read: ReadOptions | None
) -> TargetState:
    """Read the means of two groups of cells: `group`, and `start` or else the control cells.

    A group is ``COLUMN=VALUE`` of obs, or the label of a perturbation. Without a label of control cells, all cells but
    the group take their place.
    """
    with open_cells(data, read) as cells:
        cells.matrix  # noqa: B018  raises if there is none, before genes and labels are looked at
        match = cells.match_genes(panel)
        if not match.n_found:
            accept_missing(cells, match)  # raises
        notices = list(match.notices)
        chosen = _rows(cells, panel, group, "group", notices)
        if start is not None:
            first, name = _rows(cells, panel, start, "start", notices), start
        else:
            control = cells.find_control_cells(panel)
            first, name = control.rows, "control cells"
            if control.labels is None:
                first, name = np.setdiff1d(first, chosen), "all other cells"
                notices.append(
                    Caution(
                        "No column of obs labels control cells: the state is compared with all other cells of the data."
                    )
                )
        if np.array_equal(first, chosen) or not len(first):
            raise ArgumentError(
                f"the cells of {group} are compared with themselves",
                options=[UseOption("start", "name the cells to start from, as COLUMN=VALUE")],
            )
        n_parts = min(_N_PARTS, len(chosen), len(first))
        means, parts, measured = [], [], match.columns >= 0
        for rows in (chosen, first):
            of_parts, blanked = _means(cells, panel, match, rows, n_parts, notices)
            means.append(np.bincount(np.arange(len(rows)) % n_parts) @ of_parts / len(rows))
            parts.append(of_parts)
            measured &= ~blanked
    if n_parts == 1:
        notices.append(Caution("A group of a single measured cell shows no error: the state is taken as exact."))
    n_missing = int(np.count_nonzero(~measured))
    if n_missing:
        lacking = join_limited([panel.names[position] for position in np.flatnonzero(~measured)])
        notices.append(
            f"{pluralize(n_missing, 'predicted gene is', 'predicted genes are')} not measured in the data and left "
            f"out of the comparison: {lacking}."
        )
    counts = pluralize(len(chosen), "cell"), pluralize(len(first), "cell")
    description = f"{group} ({counts[0]}) minus {name} ({counts[1]})"
    spread = (parts[0] - parts[1])[: n_parts if n_parts > 1 else 0]
    return TargetState(means[0] - means[1], measured, description, spread, tuple(dict.fromkeys(notices)))


def _means(
    cells: OpenedCells, panel: GenePanel, match: GeneMatch, rows: Rows, n_parts: int, notices: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean expression of each of `n_parts` parts of cells, and the genes whose values were blanked."""
    from scipy.sparse import csr_array

    totals, n_read = np.zeros((n_parts, len(panel))), 0
    for batch in cells.values(match, rows, notices):
        n = batch.shape[0]
        part = np.arange(n_read, n_read + n) % n_parts
        totals += (csr_array((np.ones(n), (part, np.arange(n))), shape=(n_parts, n)) @ batch).toarray()
        n_read += n
    blanked = blanked_genes(cells, match, rows, np.any(totals, axis=0))
    return totals / np.bincount(np.arange(len(rows)) % n_parts)[:, None], blanked


def _rows(cells: OpenedCells, panel: GenePanel, group: str, option: str, notices: list[str]) -> Rows:
    """Return the rows of a group, sorted; notices are appended."""
    column, equals, value = (part.strip() for part in group.partition("="))
    if not equals:
        return _labelled(cells, panel, group)
    choose = UseOption(option, "name a group of cells, as COLUMN=VALUE")
    if column not in cells.obs.columns:
        raise no_column("obs", column, cells.obs.columns, choose, cells.where)
    values = as_text(cells.obs.column(column))
    notices += cells.obs.notices(column)
    rows = np.flatnonzero(values == value).astype(np.int64)
    if not len(rows):
        held = [name for name in dict.fromkeys(values.tolist()) if name]
        near = get_close_matches(value, held, n=3)
        raise LabelNotFoundError(
            f"no cell has {value!r} in obs column {column!r} (it holds: {join_limited(held, 12) or 'nothing'})",
            f"Did you mean {' or '.join(near)}?" if near else "",
            [choose],
            where=cells.where,
        )
    return rows


def _labelled(cells: OpenedCells, panel: GenePanel, label: str) -> Rows:
    labels = LabelledRows.of(cells, panel)
    found = measured_label(labels, label, cells.where)
    return np.flatnonzero(labels.group_of_rows([found]) == 0).astype(np.int64)
