"""Prediction files: what `predict` wrote, of means or of cells, read by the rows that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import LabelNotFoundError, PredictionFileError, UseOption
from scgenept_rt.evaluation.predicted import PredictedLabels, PredictedMeans
from scgenept_rt.expression.annotation import as_text
from scgenept_rt.expression.matrix_rows import MatrixRows
from scgenept_rt.expression.opened_cells import OpenedCells, open_cells
from scgenept_rt.expression.stored_element import REWRITE, reading
from scgenept_rt.genes import GenePanel, ensembl_id
from scgenept_rt.predictor.moments import RunningMoments
from scgenept_rt.wording import describe, join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData

_LABEL_COLUMNS = ("condition", "perturbation", "target_gene", "gene")
_PREDICTION_COLUMNS = ("n_controls", "control_cell")
"""Columns of obs that only predictions have."""

_SCALARS = (str, bool, int, float, np.generic)
_ENTRY_KINDS = {
    **dict.fromkeys(("variant", "groupby", "synthetic"), _SCALARS),
    **dict.fromkeys(("versions", "shard"), (dict,)),
    "notices": (np.ndarray, list),
}
"""Types that entries of uns may have."""

_ROWS_AT_ONCE = 256


def read_predictions(
    source: str | Path | AnnData | PredictedMeans,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    in_group: str | None = None,
    effects: bool = False,
) -> PredictedMeans:
    """Read a prediction file, of means or of cells, or the AnnData that `Predictor.predict` returned.

    Cells are averaged by perturbation while they are read; control cells among them (as in the cell-eval format) give
    the deltas.

    Parameters
    ----------
    source
        The file or AnnData; predictions that were read already are returned as they are.
    labels
        Perturbations to read, all by default; the values of others stay unread.
    in_group
        The group of control cells, where `predict` was given `groupby`.
    effects
        Take `effect` and its errors for the deltas, where a file of means has them for all that is read.

    Raises
    ------
    PredictionFileError
        If nothing shows that it holds predictions, it has no perturbations, or the group has to be named.
    LabelNotFoundError
        If one of `labels`, or the group, was not predicted.
    CellsError
        If it cannot be read.
    """
    if isinstance(source, PredictedMeans):
        return source
    with open_cells(source) as cells:
        predicted, rows, label_of_row = _selected(cells, name, labels, in_group)
        if not _of_means(cells):
            return _averaged(cells, rows, label_of_row, predicted)
        counts = read_n_controls(cells)[rows]
        deltas, sems = (_layer(cells, name, rows) for name in ("effect", "effect_sem")) if effects else (None, None)
        from_effects = deltas is not None and not np.isnan(deltas).any()
        if not from_effects:
            deltas, sems = (_layer(cells, name, rows) for name in ("delta", "delta_sem"))
        return PredictedMeans(
            predicted.name,
            cells.where,
            predicted.panel,
            tuple(label_of_row),
            _dense(_whole(cells.matrix, cells.where), rows),
            deltas,
            sems,
            counts,
            from_effects,
            group=predicted.group,
            provenance=predicted.provenance,
        )


Row = tuple[str, Mapping[str, NDArray[np.float32] | None]]
"""Label and layers of one perturbation, (n_genes,) each; None for those that are not there."""


@contextmanager
def open_rows(
    source: str | Path | AnnData | PredictedMeans,
    labels: Sequence[str] | None,
    layers: Sequence[str],
    *,
    in_group: str | None = None,
) -> Iterator[tuple[PredictedLabels, Iterator[Row]]]:
    """Open predictions, of which only these layers are read (`X` is one of them), and by the rows that are taken."""
    if isinstance(source, PredictedMeans):
        yield source, _mean_rows(source, layers)
        return
    with open_cells(source) as cells:
        predicted, rows, label_of_row = _selected(cells, None, labels, in_group)
        if _of_means(cells):
            yield predicted, _stored_rows(cells, predicted, rows, label_of_row, layers)
        else:
            means = _averaged(cells, rows, label_of_row, predicted)
            yield means, _mean_rows(means, layers)


def _mean_rows(means: PredictedMeans, layers: Sequence[str]) -> Iterator[Row]:
    for row, label in enumerate(means.labels):
        known = {"X": means.means[row], "delta": None if means.deltas is None else means.deltas[row]}
        yield label, {name: known.get(name) for name in layers}


def _stored_rows(
    cells: OpenedCells,
    predicted: PredictedLabels,
    rows: NDArray[np.int64],
    labels: NDArray[np.object_],
    layers: Sequence[str],
) -> Iterator[Row]:
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        read = {name: _layer(cells, name, rows[part]) for name in layers}
        for name in ("X", "delta"):  # errors and effects may be undefined
            if (values := read.get(name)) is not None:
                predicted.check_finite(values, labels[part])
        for at, label in enumerate(labels[part]):
            yield label, {name: None if values is None else values[at] for name, values in read.items()}


def read_groups(source: str | Path | AnnData) -> list[PredictedMeans]:
    """Read a prediction file as `read_predictions` does, group by group; without groups there is one entry."""
    return [read_predictions(source, in_group=name) for name in group_names(source)]


def group_names(source: str | Path | AnnData) -> list[str | None]:
    """Return the groups of control cells that predictions were made for; ``[None]`` without `groupby`."""
    with open_cells(source) as cells:
        column = read_provenance(cells).get("groupby")
        return list(dict.fromkeys(as_text(cells.obs.column(column)))) if column in cells.obs.columns else [None]


def change_sizes(
    source: str | Path | AnnData | PredictedMeans,
    genes: Sequence[str] | None = None,
    *,
    in_group: str | None = None,
    without_targets: bool = False,
) -> dict[str, float]:
    """Return how much each perturbation changes (root of the sum of squares), reading a file of means by rows.

    Parameters
    ----------
    genes
        Genes to sum over, all by default.
    in_group
        As in `read_predictions`.
    without_targets
        Leave out the genes that a perturbation targets.

    Raises
    ------
    UnknownGeneError
        If one of `genes` was not predicted.
    ScgeneptError
        As `read_predictions`, and if the predictions hold no change.
    """
    sizes: dict[str, float] = {}
    with open_rows(source, None, ["delta"], in_group=in_group) as (predicted, rows):
        columns = slice(None) if genes is None else [predicted.panel.position(gene) for gene in genes]
        for label, layers in rows:
            change = predicted.change(layers["delta"])
            if without_targets:
                change[predicted.targets(label)] = 0.0
            sizes[label] = float(np.linalg.norm(change[columns]))
    return sizes


def _of_means(cells: OpenedCells) -> bool:
    return "n_controls" in cells.obs.columns


def _selected(
    cells: OpenedCells, name: str | None, labels: Sequence[str] | None, in_group: str | None
) -> tuple[PredictedLabels, NDArray[np.int64], NDArray[np.object_]]:
    """Return what opened predictions hold, and rows and their labels: those of `labels`, and control cells."""
    if not holds_predictions(cells):
        raise PredictionFileError(
            "nothing shows that it holds predictions (uns has no scgenept_rt, obs neither n_controls nor "
            "control_cell): these may be measured cells",
            "Give a file that `scgenept-rt predict` wrote",
            where=cells.where,
        )
    provenance = read_provenance(cells)
    label_of_row = read_labels(cells)
    group, rows = _group(cells, provenance.get("groupby"), in_group)
    label_of_row = label_of_row[rows]
    distinct = tuple(label for label in dict.fromkeys(label_of_row) if label)
    name = name or str(provenance.get("variant") or Path(cells.where).stem)
    predicted = PredictedLabels(name, cells.where, _panel(cells), distinct, group=group, provenance=provenance)
    wanted = set(distinct if labels is None else (distinct[predicted.row(label)] for label in labels))
    if not _of_means(cells):
        wanted.update(filter(predicted.is_control, distinct))
    chosen = np.flatnonzero([label in wanted for label in label_of_row])
    rows, label_of_row = rows[chosen], label_of_row[chosen]
    if _of_means(cells) and len(wanted) < len(rows):
        label = next(label for label in label_of_row if np.count_nonzero(label_of_row == label) > 1)
        raise PredictionFileError(
            f"it has several rows for {label}, and nothing says which to take",
            "Keep one of each",
            where=cells.where,
        )
    return predicted, rows, label_of_row


def holds_predictions(cells: OpenedCells) -> bool:
    """Return whether opened cells are predictions."""
    return bool(read_provenance(cells)) or any(column in cells.obs.columns for column in _PREDICTION_COLUMNS)


def read_labels(cells: OpenedCells) -> NDArray[np.object_]:
    """Return the perturbation of each row of opened predictions."""
    key = next((column for column in _LABEL_COLUMNS if column in cells.obs.columns), None)
    if key is None:
        raise PredictionFileError(
            f"obs has no column {' or '.join(_LABEL_COLUMNS[:2])} "
            f"(it has: {join_limited(cells.obs.columns, 12) or 'none'})",
            "Give a file that `scgenept-rt predict` wrote",
            where=cells.where,
        )
    labels = as_text(cells.obs.column(key))
    if n_without := sum(not label for label in labels):
        rows = pluralize(n_without, "row has", "rows have")
        raise PredictionFileError(f"{rows} no label in obs column {key!r}", REWRITE, where=cells.where)
    return labels


def read_n_controls(cells: OpenedCells) -> NDArray[np.int64]:
    """Return the number of control cells of each row of opened means."""
    with reading(cells.where, "obs column 'n_controls'"):
        counts = np.asarray(cells.obs.column("n_controls")).astype(np.int64)
        if (counts < 1).any():
            raise ValueError("it has means over no cell")
    return counts


def read_provenance(cells: OpenedCells) -> dict[str, Any]:
    """Return a copy of ``uns["scgenept_rt"]``, empty if there is none."""
    recorded = cells.uns.get("scgenept_rt")
    provenance = _as_dict(recorded) if isinstance(recorded, Mapping) else {}
    with reading(cells.where, "uns['scgenept_rt']"):
        for name, value in provenance.items():
            kinds = _ENTRY_KINDS.get(name, (*_SCALARS, np.ndarray, dict))
            if not isinstance(value, kinds):
                raise ValueError(f"its entry {name} is {describe(value)}")
    return provenance


def _group(
    cells: OpenedCells, column: str | None, in_group: str | None
) -> tuple[tuple[str, str] | None, NDArray[np.int64]]:
    """Return column and name of the group to read, and its rows."""
    if column is None or column not in cells.obs.columns:
        if in_group is not None:
            raise PredictionFileError("it holds no groups", "Leave the group out", where=cells.where)
        return None, np.arange(cells.n_obs, dtype=np.int64)
    values = as_text(cells.obs.column(column))
    names = list(dict.fromkeys(values))
    if in_group is None and len(names) > 1:
        raise PredictionFileError(
            f"it holds predictions for each {column}: {join_limited(names)}",
            options=[UseOption("in_group", "choose one", names[0])],
            where=cells.where,
        )
    name = names[0] if in_group is None else in_group
    if name not in names:
        raise LabelNotFoundError(
            f"there are no predictions for {column} = {name} (there are: {join_limited(names)})",
            options=[UseOption("in_group", "choose one of these")],
            where=cells.where,
        )
    return (column, name), np.flatnonzero(values == name).astype(np.int64)


def _panel(cells: OpenedCells) -> GenePanel:
    named = cells.var.column("gene_name") if "gene_name" in cells.var.columns else cells.var.index()
    names = tuple(as_text(named))
    if not all(names):
        raise PredictionFileError("it has genes without a name", REWRITE, where=cells.where)
    ids: tuple[str | None, ...]
    if "gene_id" in cells.var.columns:
        ids = tuple(gene_id or None for gene_id in as_text(cells.var.column("gene_id")))
    else:
        ids = tuple(ensembl_id(name) for name in names)
    return GenePanel(names, ids, np.ones(len(names), dtype=np.bool_))


def _layer(cells: OpenedCells, name: str, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
    matrix = cells.matrix if name == "X" else cells.layer(name)
    return None if matrix is None else _dense(_whole(matrix, cells.where), rows)


def _whole(matrix: MatrixRows, where: str) -> MatrixRows:
    """Return the matrix; raise `PredictionFileError` if chunks have no file: predictions are not zero everywhere."""
    for notice in matrix.notices:
        raise PredictionFileError(notice.problem, REWRITE, where=where)
    return matrix


def _dense(matrix: MatrixRows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    batches = matrix.batches(rows, np.arange(matrix.shape[1], dtype=np.int64))
    return np.concatenate([batch.toarray() for batch in batches]).astype(np.float32)


def _averaged(
    cells: OpenedCells,
    rows: NDArray[np.int64],
    label_of_row: NDArray[np.object_],
    predicted: PredictedLabels,
) -> PredictedMeans:
    distinct = list(dict.fromkeys(label_of_row))
    control = next((label for label in distinct if predicted.is_control(label)), None)
    kept = [label for label in distinct if label != control]
    if not kept:
        raise PredictionFileError("it holds no perturbation", "Predict again", where=cells.where)
    n_genes = len(predicted.panel)
    moments = {label: RunningMoments() for label in distinct}
    done = 0
    for batch in _whole(cells.matrix, cells.where).batches(rows, np.arange(n_genes, dtype=np.int64)):
        here = label_of_row[done : done + batch.shape[0]]
        with np.errstate(invalid="ignore"):  # what is not finite is refused below, by name
            for label in dict.fromkeys(here):
                moments[label].add(batch[np.flatnonzero(here == label)].toarray())
        done += batch.shape[0]
    means = np.stack([moments[label].mean for label in kept])
    return PredictedMeans(
        predicted.name,
        cells.where,
        predicted.panel,
        tuple(kept),
        means.astype(np.float32),
        None if control is None else (means - moments[control].mean).astype(np.float32),
        None,  # control cells would show how far predictions of sparse genes vary
        np.array([moments[label].n for label in kept], dtype=np.int64),
        group=predicted.group,
        provenance=predicted.provenance,
    )


def _as_dict(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of uns that outlives the open file."""
    return {key: _as_dict(value) if isinstance(value, Mapping) else value for key, value in mapping.items()}
