"""Prediction files: what `predict` wrote, of means or of cells, read by the rows that are asked for."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
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
_ENTRY_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("variant", "groupby", "synthetic"), _SCALARS),
    **{"versions": (dict,), "shard": (dict,), "notices": (np.ndarray, list)},
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
    (means,) = read_parts(source, labels, name=name, in_group=in_group, layers=layers, n_rows=sys.maxsize)
    if effects and "effect" in means.layers and not np.isnan(means.layers["effect"]).any():
        return replace(means, changes="effect")
    return means


def read_parts(
    source: str | Path | AnnData | PredictedMeans,
    labels: Sequence[str] | None = None,
    *,
    name: str | None = None,
    in_group: str | None = None,
    layers: Sequence[str] = _DELTAS,
    n_rows: int = _ROWS_AT_ONCE,
) -> Iterator[PredictedMeans]:
    """Read predictions as `read_predictions` does; yield means of at most `n_rows` perturbations with some layers."""
    if isinstance(source, PredictedMeans):
        yield source
        return
    with open_cells(source) as cells:
        stored = _Stored(cells)
        if not stored.are_predictions:
            raise stored.error(
                "nothing shows that it holds predictions (uns has no scgenept_rt, obs neither n_controls nor "
                "control_cell): these may be measured cells",
                "Give a file that `scgenept-rt predict` wrote",
            )
        if not cells.n_obs:
            raise stored.error("it holds no perturbation")
        group, rows = stored.group(in_group)
        label_of_row = stored.labels[rows]
        name = name or str(stored.provenance.get("variant") or Path(cells.where).stem)
        distinct, unread = tuple(dict.fromkeys(label_of_row)), np.array([])
        means = PredictedMeans(
            name, cells.where, stored.panel(), distinct, unread, unread, {}, group, stored.provenance
        )
        wanted = {distinct[means.row(label)] for label in (distinct if labels is None else labels)}
        if not stored.are_means:
            wanted.update(filter(means.is_control, distinct))
        chosen = pd.Index(label_of_row).isin(wanted)
        rows, label_of_row = rows[chosen], label_of_row[chosen]
        if not stored.are_means:
            yield stored.averaged(rows, label_of_row, means)
            return
        repeated = label_of_row[pd.Index(label_of_row).duplicated()]
        if len(repeated):
            raise stored.error(
                f"it has several rows for {repeated[0]}, and nothing says which to take", "Keep one of each"
            )
        for part in (slice(begin, begin + n_rows) for begin in range(0, len(rows), n_rows)):
            matrices = {layer: cells.layer(layer) for layer in layers}
            yield replace(
                means,
                labels=tuple(label_of_row[part]),
                means=stored.dense(cells.matrix, rows[part]),
                n_controls=stored.n_controls[rows[part]],
                layers={layer: stored.dense(X, rows[part]) for layer, X in matrices.items() if X is not None},
            )


def read_groups(source: str | Path | AnnData) -> list[PredictedMeans]:
    """Read a prediction file as `read_predictions` does, group by group; without groups there is one entry."""
    return [read_predictions(source, in_group=name) for name in group_names(source)]


def group_names(source: str | Path | AnnData) -> list[str | None]:
    """Return the groups of control cells that predictions were made for; ``[None]`` without `groupby`."""
    with open_cells(source) as cells:
        return list(_Stored(cells).groups) or [None]


def holds_predictions(cells: OpenedCells) -> bool:
    """Return whether opened cells are predictions."""
    return _Stored(cells).are_predictions


def summarize_predictions(cells: OpenedCells) -> dict[str, Any]:
    """Return what opened predictions hold, and how they were made, as plain values; of X nothing is read.

    `aggregate` is "mean" (one row per perturbation and group) or "cells" (one per perturbation and control cell),
    `perturbations` the control cells that each was predicted from, over all groups, `settings` ``uns["scgenept_rt"]``
    but for what has its own place.
    """
    stored = _Stored(cells)
    perturbations: Counter[str] = Counter()
    for label, count in zip(stored.labels, stored.n_controls.tolist(), strict=True):
        perturbations[label] += count
    settings = stored.provenance
    shard = settings.pop("shard", None)
    return {
        "path": cells.where,
        "aggregate": "mean" if stored.are_means else "cells",
        "n_rows": cells.n_obs,
        "n_genes": cells.var.n_rows,
        "layers": cells.layer_names,
        "perturbations": dict(perturbations),
        "groupby": stored.groupby,
        "groups": stored.groups,
        "synthetic": bool(settings.pop("synthetic", False)),
        "settings": settings,
        "notices": tuple(map(str, settings.pop("notices", ()))),
        "shard": shard and {name: int(shard[name]) for name in ("number", "count")},
    }


class _Stored:
    """Opened predictions: a row per perturbation and group, or one per perturbation and control cell.

    `provenance` is a copy of ``uns["scgenept_rt"]``, empty if there is none; `groups` are empty without `groupby`.
    """

    def __init__(self, cells: OpenedCells) -> None:
        self._cells, self.are_means = cells, "n_controls" in cells.obs.columns
        recorded = cells.uns.get("scgenept_rt")
        self.provenance = _as_dict(recorded) if isinstance(recorded, Mapping) else {}
        with reading(cells.where, "uns['scgenept_rt']"):
            for name, value in self.provenance.items():
                if not isinstance(value, _ENTRY_KINDS.get(name, (*_SCALARS, np.ndarray, dict))):
                    raise ValueError(f"its entry {name} is {describe(value)}")
        self.are_predictions = bool(self.provenance) or self.are_means or "control_cell" in cells.obs.columns
        groupby = self.provenance.get("groupby")
        self.groupby = groupby if groupby in cells.obs.columns else None
        self._group_of_row = as_text([] if self.groupby is None else cells.obs.column(self.groupby))
        self.groups = tuple(dict.fromkeys(self._group_of_row))

    def error(self, problem: str, remedy: str = "", *options: UseOption) -> PredictionFileError:
        return PredictionFileError(problem, remedy, options, where=self._cells.where)

    @cached_property
    def labels(self) -> NDArray[np.object_]:
        """The perturbation of each row."""
        columns = self._cells.obs.columns
        key = next((column for column in _LABEL_COLUMNS if column in columns), None)
        if key is None:
            problem = f"obs has no column condition (it has: {join_limited(columns, 12) or 'none'})"
            raise self.error(problem, "Give a file that `scgenept-rt predict` wrote")
        labels = as_text(self._cells.obs.column(key))
        if n_without := sum(not label for label in labels):
            rows = pluralize(n_without, "row has", "rows have")
            raise self.error(f"{rows} no label in obs column {key!r}", REWRITE)
        return labels

    @cached_property
    def n_controls(self) -> NDArray[np.int64]:
        """The number of control cells of each row."""
        if not self.are_means:
            return np.ones(self._cells.n_obs, np.int64)
        with reading(self._cells.where, "obs column 'n_controls'"):
            counts = np.asarray(self._cells.obs.column("n_controls")).astype(np.int64)
            if (counts < 1).any():
                raise ValueError("it has means over no cell")
        return counts

    def group(self, in_group: str | None) -> tuple[tuple[str, str] | None, NDArray[np.int64]]:
        """Return column and name of the group to read, and its rows."""
        names = self.groups
        if in_group is None and len(names) > 1:
            choose = UseOption("in_group", "choose one", names[0])
            raise self.error(f"it holds predictions for each {self.groupby}: {join_limited(names)}", "", choose)
        if in_group is not None and in_group not in names:
            raise LabelNotFoundError(
                f"there are no predictions for the group {in_group} (there are: {join_limited(names) or 'none'})",
                "" if names else "Leave the group out",
                [UseOption("in_group", "choose one of these")] if names else [],
                where=self._cells.where,
            )
        if self.groupby is None:
            return None, np.arange(self._cells.n_obs, dtype=np.int64)
        name = names[0] if in_group is None else in_group
        return (self.groupby, name), np.flatnonzero(self._group_of_row == name).astype(np.int64)

    def panel(self) -> GenePanel:
        var = self._cells.var
        names = tuple(as_text(var.column("gene_name") if "gene_name" in var.columns else var.index))
        if not all(names):
            raise self.error("it has genes without a name", REWRITE)
        ids = as_text(var.column("gene_id")) if "gene_id" in var.columns else map(ensembl_id, names)
        return GenePanel(names, tuple(gene_id or None for gene_id in ids), np.ones(len(names), dtype=np.bool_))

    def _batches(self, matrix: MatrixRows, rows: NDArray[np.int64]) -> Iterator[Any]:
        """Yield sparse batches of rows; raise if chunks have no file, as predictions are not zeros."""
        for notice in matrix.notices:
            raise self.error(notice.problem, REWRITE)
        yield from matrix.batches(rows, np.arange(matrix.shape[1], dtype=np.int64))

    def dense(self, matrix: MatrixRows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.concatenate([batch.toarray() for batch in self._batches(matrix, rows)]).astype(np.float32)

    def averaged(
        self, rows: NDArray[np.int64], label_of_row: NDArray[np.object_], means: PredictedMeans
    ) -> PredictedMeans:
        """Return means over predicted cells, and if control cells are among them deltas."""
        codes, labels = pd.factorize(label_of_row)
        sums, done = np.zeros((len(labels), len(means.panel))), 0
        for batch in self._batches(self._cells.matrix, rows):
            sum_by_group(batch, codes[done : done + batch.shape[0]], sums)
            done += batch.shape[0]
        counts = np.bincount(codes)
        sums /= counts[:, None]
        control = np.array([means.is_control(label) for label in labels])
        if control.all():
            raise self.error("it holds no perturbation", "Predict again")
        layers = {}
        if control.any():  # they would show how far predictions of sparse genes vary
            layers["delta"] = (sums[~control] - sums[control][0]).astype(np.float32)
        own = {"means": sums[~control].astype(np.float32), "n_controls": counts[~control], "layers": layers}
        return replace(means, labels=tuple(labels[~control]), **own)


def _as_dict(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of uns that outlives the open file."""
    return {key: _as_dict(value) if isinstance(value, Mapping) else value for key, value in mapping.items()}
