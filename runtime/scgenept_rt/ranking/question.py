"""What perturbations are ranked by: the size of their effect, a signature of genes, or a state of measured cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, get_args

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, Caution, UseOption
from scgenept_rt.evaluation.measured import measured_label, sum_by_group
from scgenept_rt.expression.groups import rows_with
from scgenept_rt.expression.label_matching import LabelledRows
from scgenept_rt.expression.labels import find_control_rows
from scgenept_rt.expression.missing_genes import accept_missing, blanked_genes
from scgenept_rt.expression.opened_cells import OpenedCells, open_cells
from scgenept_rt.genes import GeneMatch, GenePanel
from scgenept_rt.options import Metric, ReadOptions
from scgenept_rt.ranking.scores import EffectSize, Score, SignatureScore, TowardState
from scgenept_rt.wording import describe, join_limited, pluralize

Rows = NDArray[np.int64]

_N_PARTS = 16
"""Parts of the measured cells: enough to show the error of their means, however genes vary together."""


class RankBy(TypedDict, total=False):
    """What perturbations are ranked by; the size of their effect if nothing is given."""

    up: Sequence[str] | None
    down: Sequence[str] | None
    weights: Mapping[str, float] | None
    toward: str | Path | AnnData | None
    group: str | None
    start: str | None
    metric: Metric | None


def open_question(panel: GenePanel, by: RankBy, read: ReadOptions | None) -> tuple[Score, list[str]]:
    """Return the score to rank by, matched to the genes of predictions, and notices.

    Raises `ArgumentError` if options exclude each other or a signature cannot be used.
    """
    given = {name: value for name, value in by.items() if value is not None}
    signature = [name for name in ("up", "down", "weights") if name in given]
    state = [name for name in ("toward", "group", "start", "metric") if name in given]
    if signature and state:
        raise ArgumentError(
            f"both a signature ({', '.join(signature)}) and a state ({', '.join(state)}) were given", "Choose one"
        )
    if signature:
        return _signature(panel, by.get("up") or (), by.get("down") or (), by.get("weights") or {})
    if not state:
        return EffectSize(), []
    toward, group, metric = by.get("toward"), by.get("group"), by.get("metric") or "cosine"
    if toward is None:
        raise ArgumentError(
            f"{state[0]} is given without measured cells", options=[UseOption("toward", "name their file")]
        )
    if group is None:
        raise ArgumentError(
            "toward is given without a group of its cells",
            options=[UseOption("group", "name one, as COLUMN=VALUE or as the label of a perturbation")],
        )
    if metric not in get_args(Metric):
        raise ArgumentError(f"metric is {describe(metric)}, expected one of {', '.join(get_args(Metric))}")
    return _target_state(toward, panel, group, by.get("start"), metric, read)


def _signature(
    panel: GenePanel, up: Sequence[str], down: Sequence[str], weights: Mapping[str, float]
) -> tuple[SignatureScore, list[str]]:
    """Return the score and notices; genes are found by symbol, Ensembl id, or another symbol that HGNC lists."""
    if weights and (up or down):
        raise ArgumentError("a signature is given as weights and as genes up or down", "Choose one: weights have signs")
    named = [*((gene, 1.0) for gene in up), *((gene, -1.0) for gene in down), *weights.items()]
    if not named:
        raise ArgumentError("the signature holds no gene, expected one or more")
    found: dict[int, float] = {}
    missing: list[str] = []
    renamed: list[str] = []
    for gene, weight in named:
        if not np.isfinite(weight):
            raise ArgumentError(f"the weight of {gene} in the signature is {weight}, expected a finite number")
        if gene not in panel:
            missing.append(gene)
            continue
        position = panel.position(gene)
        name = panel.names[position]
        before = found.setdefault(position, weight)
        if before != weight:
            raise ArgumentError(
                f"{gene} is in the signature with two weights, {before:g} and {weight:g}",
                "Leave it out, or give it one weight",
            )
        if gene != name and panel.position_by_id.get(gene.partition(".")[0]) != position:
            renamed.append(f"{gene} is {name}")
    if not found:
        raise panel.unknown_genes_error(missing)
    if not any(found.values()):
        raise ArgumentError("all weights of the signature are 0, expected some that are not")
    values = np.zeros(len(panel))
    values[list(found)] = list(found.values())
    notices: list[str] = []
    if missing:
        missing = list(dict.fromkeys(missing))
        notices.append(
            Caution(
                f"{len(missing):,} of {pluralize(len(missing) + len(found), 'gene')} of the signature are not among "
                f"the predictions and are left out: {join_limited(missing)}."
            )
        )
    if renamed:
        notices.append(f"Genes of the signature were found by another name: {join_limited(renamed)}.")
    return SignatureScore(values), notices


def _target_state(
    data: str | Path | AnnData,
    panel: GenePanel,
    group: str,
    start: str | None,
    metric: Metric,
    read: ReadOptions | None,
) -> tuple[TowardState, list[str]]:
    """Return the score of closeness to the change between the means of two groups of cells, and notices.

    It leads to `group` from `start`, or else from the control cells; each is ``COLUMN=VALUE`` of obs, or the label of a
    perturbation. Without a label of control cells, all cells but the group take their place.
    """
    with open_cells(data, read) as cells:
        match = cells.match_genes(panel)
        if not match.n_found:
            accept_missing(cells, match)  # raises
        notices = list(match.notices)
        chosen = _rows(cells, panel, group, "group", notices)
        if start is not None:
            first, name = _rows(cells, panel, start, "start", notices), start
        else:
            control = find_control_rows(cells, panel)
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
        to, to_parts, blanked = _means(cells, match, chosen, n_parts, notices)
        origin, origin_parts, also_blanked = _means(cells, match, first, n_parts, notices)
    measured = (match.columns >= 0) & ~blanked & ~also_blanked
    if n_parts == 1:
        notices.append(Caution("A group of a single measured cell shows no error: the state is taken as exact."))
    if not measured.all():
        lacking = [panel.names[position] for position in np.flatnonzero(~measured)]
        notices.append(
            f"{pluralize(len(lacking), 'predicted gene is', 'predicted genes are')} not measured in the data and left "
            f"out of the comparison: {join_limited(lacking)}."
        )
    states = f"{group} ({pluralize(len(chosen), 'cell')}) minus {name} ({pluralize(len(first), 'cell')})"
    parts = (to_parts - origin_parts)[: n_parts if n_parts > 1 else 0]
    return TowardState(to - origin, measured, metric, parts, states), list(dict.fromkeys(notices))


def _means(
    cells: OpenedCells, match: GeneMatch, rows: Rows, n_parts: int, notices: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean expression of cells and of each of `n_parts` parts, and the genes whose values were blanked."""
    part = np.arange(len(rows)) % n_parts
    totals, n_read = np.zeros((n_parts, len(match.columns))), 0
    for batch in cells.values(match, rows, notices):
        sum_by_group(batch, part[n_read : n_read + batch.shape[0]], totals)
        n_read += batch.shape[0]
    blanked = blanked_genes(cells, match, rows, np.any(totals, axis=0))
    return totals.sum(axis=0) / len(rows), totals / np.bincount(part)[:, None], blanked


def _rows(cells: OpenedCells, panel: GenePanel, group: str, option: str, notices: list[str]) -> Rows:
    """Return the rows of a group, sorted; notices are appended."""
    column, equals, value = (part.strip() for part in group.partition("="))
    if not equals:
        labels = LabelledRows.of(cells, panel)
        label = measured_label(labels, group, cells.where)
        return np.flatnonzero(labels.group_of_rows([label]) == 0).astype(np.int64)
    rows, of_column = rows_with(cells, column, value, UseOption(option, "name a group of cells, as COLUMN=VALUE"))
    notices += of_column
    return rows
