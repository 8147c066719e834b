"""Prediction files: what `predict` wrote, of means or of cells, read by the rows that are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.errors import LabelNotFoundError, PredictionFileError, UseOption
from scgenept_rt.evaluation.measured import sum_by_group
from scgenept_rt.evaluation.predicted import PredictedMeans
from scgenept_rt.expression.annotation import as_text
from scgenept_rt.expression.matrix_rows import MatrixRows
from scgenept_rt.expression.opened_cells import OpenedCells, open_cells
from scgenept_rt.expression.stored_element import REWRITE, reading
from scgenept_rt.genes import GenePanel, ensembl_id
from scgenept_rt.wording import describe, join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData

_LABEL_COLUMNS = ("condition", "perturbation", "target_gene", "gene")
_SCALARS = (str, bool, int, float, np.generic)
_ENTRY_KINDS = {
    **dict.fromkeys(("variant", "groupby", "synthetic"), _SCALARS),
    **dict.fromkeys(("versions", "shard"), (dict,)),
    "notices": (np.ndarray, list),
}
"""Types that entries of uns may have."""

_DELTAS = ("delta", "delta_sem")
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
        Take changes and their errors from `effect`, where a file of means has it for all that is read.

    Raises
    ------
    PredictionFileError
        If nothing shows that it holds predictions, it has no perturbations, or the group has to be named.
    LabelNotFoundError
        If one of `labels`, or the group, was not predicted.
    CellsError
        If it cannot be read.
    """
    layers = (*_DELTAS, "effect", "effect_sem") if effects else _DELTAS
    (means,) = read_parts(source, labels, name=name, in_group=in_group, layers=layers, n_rows=None)
    if effects and "effect" in means.layers and not np.isnan(means.layers["effect"]).any():
        return replace(means, from_effects=True)
    return means


def read_parts(
    source: str | Path | AnnData | PredictedMeans,
    labels: Sequence[str] | None = None,
    *,
    name: str | None = None,
    in_group: str | None = None,
    layers: Sequence[str] = _DELTAS,
    n_rows: int | None = _ROWS_AT_ONCE,
) -> Iterator[PredictedMeans]:
    """Read predictions as `read_predictions` does; yield means of at most `n_rows` perturbations with some layers."""
    if isinstance(source, PredictedMeans):
        yield source
        return
    with open_cells(source) as cells:
        predicted, rows, label_of_row = _selected(cells, name, labels, in_group)
        if not _of_means(cells):
            yield _averaged(cells, rows, label_of_row, predicted)
            return
        counts = _n_controls(cells)[rows]
        n_rows = n_rows or len(rows)
        for part in (slice(begin, begin + n_rows) for begin in range(0, len(rows), n_rows)):
            stored = {layer: cells.layer(layer) for layer in layers}
            yield replace(
                predicted,
                labels=tuple(label_of_row[part]),
                means=_dense(cells, cells.matrix, rows[part]),
                n_controls=counts[part],
                layers={layer: _dense(cells, X, rows[part]) for layer, X in stored.items() if X is not None},
            )


def read_groups(source: str | Path | AnnData) -> list[PredictedMeans]:
    """Read a prediction file as `read_predictions` does, group by group; without groups there is one entry."""
    return [read_predictions(source, in_group=name) for name in group_names(source)]


def group_names(source: str | Path | AnnData) -> list[str | None]:
    """Return the groups of control cells that predictions were made for; ``[None]`` without `groupby`."""
    with open_cells(source) as cells:
        _, groups = _group_column(cells)
    return list(dict.fromkeys(groups)) or [None]


def summarize_predictions(cells: OpenedCells) -> dict[str, Any]:
    """Return what opened predictions hold, and how they were made, as plain values; of X nothing is read.

    `aggregate` is "mean" (one row per perturbation and group) or "cells" (one per perturbation and control cell),
    `perturbations` the control cells that each was predicted from, over all groups, `settings` ``uns["scgenept_rt"]``
    but for what has its own place.
    """
    settings = _provenance(cells)
    perturbations: Counter[str] = Counter()
    for label, count in zip(_labels(cells), _n_controls(cells).tolist(), strict=True):
        perturbations[label] += count
    groupby, groups = _group_column(cells)
    shard = settings.pop("shard", None)
    return {
        "path": cells.where,
        "aggregate": "mean" if _of_means(cells) else "cells",
        "n_rows": cells.n_obs,
        "n_genes": cells.var.n_rows,
        "layers": cells.layer_names,
        "perturbations": dict(perturbations),
        "groupby": groupby,
        "groups": tuple(dict.fromkeys(groups)),
        "synthetic": bool(settings.pop("synthetic", False)),
        "settings": settings,
        "notices": tuple(map(str, settings.pop("notices", ()))),
        "shard": shard and {name: int(shard[name]) for name in ("number", "count")},
    }


def _of_means(cells: OpenedCells) -> bool:
    return "n_controls" in cells.obs.columns


def _selected(
    cells: OpenedCells, name: str | None, labels: Sequence[str] | None, in_group: str | None
) -> tuple[PredictedMeans, NDArray[np.int64], NDArray[np.object_]]:
    """Return opened predictions without values, and rows and their labels: those of `labels`, and control cells."""
    if not holds_predictions(cells):
        raise PredictionFileError(
            "nothing shows that it holds predictions (uns has no scgenept_rt, obs neither n_controls nor "
            "control_cell): these may be measured cells",
            "Give a file that `scgenept-rt predict` wrote",
            where=cells.where,
        )
    provenance = _provenance(cells)
    group, rows = _group(cells, in_group)
    label_of_row = _labels(cells)[rows]
    distinct = tuple(dict.fromkeys(label_of_row))
    name = name or str(provenance.get("variant") or Path(cells.where).stem)
    panel, none = _panel(cells), np.array([])
    predicted = PredictedMeans(name, cells.where, panel, distinct, none, none, {}, group, provenance)
    wanted = {distinct[predicted.row(label)] for label in (distinct if labels is None else labels)}
    if not _of_means(cells):
        wanted.update(filter(predicted.is_control, distinct))
    chosen = pd.Index(label_of_row).isin(wanted)
    rows, label_of_row = rows[chosen], label_of_row[chosen]
    repeated = label_of_row[pd.Index(label_of_row).duplicated()]
    if _of_means(cells) and len(repeated):
        raise PredictionFileError(
            f"it has several rows for {repeated[0]}, and nothing says which to take",
            "Keep one of each",
            where=cells.where,
        )
    return predicted, rows, label_of_row


def holds_predictions(cells: OpenedCells) -> bool:
    """Return whether opened cells are predictions."""
    return bool(_provenance(cells)) or not {"n_controls", "control_cell"}.isdisjoint(cells.obs.columns)


def _labels(cells: OpenedCells) -> NDArray[np.object_]:
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


def _n_controls(cells: OpenedCells) -> NDArray[np.int64]:
    """Return the number of control cells of each row of opened predictions: one for each cell, several for means."""
    if not _of_means(cells):
        return np.ones(cells.n_obs, np.int64)
    with reading(cells.where, "obs column 'n_controls'"):
        counts = np.asarray(cells.obs.column("n_controls")).astype(np.int64)
        if (counts < 1).any():
            raise ValueError("it has means over no cell")
    return counts


def _provenance(cells: OpenedCells) -> dict[str, Any]:
    """Return a copy of ``uns["scgenept_rt"]``, empty if there is none."""
    recorded = cells.uns.get("scgenept_rt")
    provenance = _as_dict(recorded) if isinstance(recorded, Mapping) else {}
    with reading(cells.where, "uns['scgenept_rt']"):
        for name, value in provenance.items():
            kinds = _ENTRY_KINDS.get(name, (*_SCALARS, np.ndarray, dict))
            if not isinstance(value, kinds):
                raise ValueError(f"its entry {name} is {describe(value)}")
    return provenance


def _group_column(cells: OpenedCells) -> tuple[str | None, NDArray[np.object_]]:
    """Return the obs column of the groups of control cells, and its values; None and nothing without groups."""
    column = _provenance(cells).get("groupby")
    if column not in cells.obs.columns:
        return None, np.array([], dtype=object)
    return column, as_text(cells.obs.column(column))


def _group(cells: OpenedCells, in_group: str | None) -> tuple[tuple[str, str] | None, NDArray[np.int64]]:
    """Return column and name of the group to read, and its rows."""
    column, values = _group_column(cells)
    if column is None:
        if in_group is not None:
            raise PredictionFileError("it holds no groups", "Leave the group out", where=cells.where)
        return None, np.arange(cells.n_obs, dtype=np.int64)
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
    named = cells.var.column("gene_name") if "gene_name" in cells.var.columns else cells.var.index
    names = tuple(as_text(named))
    if not all(names):
        raise PredictionFileError("it has genes without a name", REWRITE, where=cells.where)
    ids = as_text(cells.var.column("gene_id")) if "gene_id" in cells.var.columns else map(ensembl_id, names)
    return GenePanel(names, tuple(gene_id or None for gene_id in ids), np.ones(len(names), dtype=np.bool_))


def _batches(cells: OpenedCells, matrix: MatrixRows, rows: NDArray[np.int64]) -> Iterator[Any]:
    """Yield sparse batches of rows; raise `PredictionFileError` if chunks have no file: predictions are not zeros."""
    for notice in matrix.notices:
        raise PredictionFileError(notice.problem, REWRITE, where=cells.where)
    yield from matrix.batches(rows, np.arange(matrix.shape[1], dtype=np.int64))


def _dense(cells: OpenedCells, matrix: MatrixRows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.concatenate([batch.toarray() for batch in _batches(cells, matrix, rows)]).astype(np.float32)


def _averaged(
    cells: OpenedCells, rows: NDArray[np.int64], label_of_row: NDArray[np.object_], predicted: PredictedMeans
) -> PredictedMeans:
    """Return means over predicted cells, and if control cells are among them deltas."""
    codes, labels = pd.factorize(label_of_row)
    sums, done = np.zeros((len(labels), len(predicted.panel))), 0
    for batch in _batches(cells, cells.matrix, rows):
        sum_by_group(batch, codes[done : done + batch.shape[0]], sums)
        done += batch.shape[0]
    counts = np.bincount(codes)
    means = sums / counts[:, None]
    control = np.array([predicted.is_control(label) for label in labels])
    if control.all():
        raise PredictionFileError("it holds no perturbation", "Predict again", where=cells.where)
    layers = {}
    if control.any():  # they would show how far predictions of sparse genes vary
        layers["delta"] = (means[~control] - means[control][0]).astype(np.float32)
    own = {"means": means[~control].astype(np.float32), "n_controls": counts[~control], "layers": layers}
    return replace(predicted, labels=tuple(labels[~control]), **own)


def _as_dict(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of uns that outlives the open file."""
    return {key: _as_dict(value) if isinstance(value, Mapping) else value for key, value in mapping.items()}
