"""Mean predictions by perturbation: from a file that `predict` wrote, or from a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import LabelNotFoundError, PredictionFileError, join_limited
from scgenept_rt.expression.annotation import as_text
from scgenept_rt.expression.label_matching import LabelReader, did_you_mean
from scgenept_rt.expression.matrix_rows import MatrixRows
from scgenept_rt.expression.opened_cells import OpenedCells, open_cells
from scgenept_rt.expression.reading import read_control_cells
from scgenept_rt.expression.sampling import Sampling
from scgenept_rt.genes import GenePanel, ensembl_id
from scgenept_rt.options import ReadOptions
from scgenept_rt.perturbation import is_control_word
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.predictor.moments import RunningMoments

if TYPE_CHECKING:
    from anndata import AnnData

_LABEL_COLUMNS = ("condition", "perturbation", "target_gene", "gene")
_PREDICTION_COLUMNS = ("n_controls", "control_cell")
"""Columns of obs that only predictions have."""


@dataclass(frozen=True, eq=False)
class PredictedMeans:
    """Mean predictions, one row per perturbation.

    Attributes
    ----------
    name
        Name in tables and legends.
    where
        The file or bundle, for messages.
    panel
        The genes of the columns.
    labels
        The perturbations, as the predictions spell them.
    means
        (n_perturbations, n_genes) float32, log1p scale.
    deltas
        The same minus the mean of the control cells that were predicted from, None if that is not known.
    sems
        Standard errors of the deltas, or of the means where there are no deltas; None if not known.
    n_controls
        int64 (n_perturbations,), control cells per mean.
    provenance
        The run's ``uns["scgenept_rt"]``, empty if there is none.
    from_effects
        Whether the deltas are effects: against predictions without a perturbation for the same cells.
    """

    name: str
    where: str
    panel: GenePanel
    labels: tuple[str, ...]
    means: NDArray[np.float32]
    deltas: NDArray[np.float32] | None
    sems: NDArray[np.float32] | None
    n_controls: NDArray[np.int64]
    provenance: Mapping[str, Any]
    from_effects: bool = False

    def __post_init__(self) -> None:
        for values in (self.means, self.deltas):
            if values is None or np.isfinite(values).all():
                continue
            row, column = np.argwhere(~np.isfinite(values))[0]
            gene = self.panel.names[column]
            raise PredictionFileError(
                f"the prediction of {self.labels[row]} is {values[row, column]} for {gene}, expected finite numbers",
                "Predict it again",
                where=self.where,
            )

    @cached_property
    def reader(self) -> LabelReader:
        """Reads labels as genes."""
        return LabelReader(self.panel)

    def find(self, label: str) -> int | None:
        """Return the row of a perturbation, by its text or else by its genes; None if it was not predicted."""
        row = self._rows.get(label)
        return row if row is not None else self._rows_by_genes.get(self.reader.genes(label))

    def row(self, label: str) -> int:
        """Return the row of a perturbation.

        Raises
        ------
        LabelNotFoundError
            If it was not predicted.
        """
        found = self.find(label)
        if found is None:
            raise LabelNotFoundError(
                f"there is no prediction of {label} (there are: {join_limited(self.labels) or 'none'})",
                did_you_mean(label, self.labels, self.reader) or "Predict it with `scgenept-rt predict`",
                where=self.where,
            )
        return found

    def delta(self, label: str, control: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the predicted change (n_genes,) against the control cells of the run, else against `control`.

        Raises
        ------
        PredictionFileError
            If neither is known.
        """
        row = self.row(label)
        if self.deltas is not None:
            own: NDArray[np.float64] = self.deltas[row].astype(np.float64)
            return own
        if control is None:
            raise PredictionFileError(
                "it has no layer delta", "Give a file of means that `scgenept-rt predict` wrote", where=self.where
            )
        delta: NDArray[np.float64] = self.means[row].astype(np.float64) - control
        return delta

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {label: row for row, label in enumerate(self.labels)}

    @cached_property
    def _rows_by_genes(self) -> Mapping[tuple[str, ...] | None, int]:
        rows = {self.reader.genes(label): row for row, label in reversed(list(enumerate(self.labels)))}
        return {genes: row for genes, row in rows.items() if genes is not None}


def read_predictions(source: str | Path | AnnData, *, name: str | None = None, effects: bool = False) -> PredictedMeans:
    """Read a prediction file, of means or of cells, or the AnnData that `Predictor.predict` returned.

    Cells are averaged by perturbation while they are read; control cells among them (as in the cell-eval format) give
    the deltas. With `effects`, the layer `effect` does where a file has it for every perturbation.

    Raises
    ------
    PredictionFileError
        If nothing shows that it holds predictions, or it has no perturbations.
    CellsError
        If it cannot be read.
    """
    with open_cells(source) as cells:
        recorded = cells.uns.get("scgenept_rt")
        provenance = _as_dict(recorded) if isinstance(recorded, Mapping) else {}
        if not provenance and not any(column in cells.obs.columns for column in _PREDICTION_COLUMNS):
            raise PredictionFileError(
                "nothing shows that it holds predictions (uns has no scgenept_rt, obs neither n_controls nor "
                "control_cell): these may be measured cells",
                "Give a file that `scgenept-rt predict` wrote",
                where=cells.where,
            )
        key = next((column for column in _LABEL_COLUMNS if column in cells.obs.columns), None)
        if key is None:
            raise PredictionFileError(
                f"obs has no column {' or '.join(_LABEL_COLUMNS[:2])} "
                f"(it has: {join_limited(cells.obs.columns, 12) or 'none'})",
                "Give a file that `scgenept-rt predict` wrote",
                where=cells.where,
            )
        labels = [str(label) for label in as_text(cells.obs.column(key))]
        panel = _panel(cells)
        name = name or str(provenance.get("variant") or Path(cells.where).stem)
        if "n_controls" not in cells.obs.columns:
            return _averaged(cells, panel, labels, name, provenance)
        counts = np.asarray(cells.obs.column("n_controls")).astype(np.int64)
        changes, errors = (_layer(cells, layer) for layer in ("effect", "effect_sem")) if effects else (None, None)
        from_effects = changes is not None and not np.isnan(changes).any()
        if not from_effects:
            changes, errors = (_layer(cells, layer) for layer in ("delta", "delta_sem"))
        means = PredictedMeans(
            name,
            cells.where,
            panel,
            tuple(labels),
            _dense(cells.matrix),
            changes,
            errors,
            counts,
            provenance,
            from_effects,
        )
        return means if len(set(labels)) == len(labels) else _pooled(means)


def predict_means(
    predictor: Predictor,
    cells: str | Path | AnnData,
    labels: Sequence[str],
    *,
    n_controls: int | None = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    name: str | None = None,
    progress: Progress | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> PredictedMeans:
    """Predict means over control cells: all of them, or `n_controls` drawn at random, the same for every label.

    Raises
    ------
    ScgeneptError
        As `Predictor.predict`.
    """
    kept = []
    labels = [labels] if isinstance(labels, str) else labels
    for predicted in predictor.iter_predict(
        cells, labels, n_controls=n_controls, seed=seed, read=read, on_notice=on_notice
    ):
        kept.append(predicted)
        if progress is not None:
            progress(len(kept), len(labels))
    return PredictedMeans(
        name or predictor.variant,
        str(predictor.bundle.directory),
        predictor.panel,
        tuple(predicted.perturbation.label for predicted in kept),
        np.concatenate([predicted.X for predicted in kept]),
        np.concatenate([predicted.layers["delta"] for predicted in kept]),
        np.concatenate([predicted.layers["delta_sem"] for predicted in kept]),
        np.array([predicted.n_controls for predicted in kept], dtype=np.int64),
        predictor.provenance(),
    )


def predict_published_protocol(
    predictor: Predictor,
    cells: str | Path | AnnData,
    n_cells: Mapping[str, int],
    *,
    seed: int = 0,
    read: ReadOptions | None = None,
    name: str | None = None,
    progress: Progress | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> PredictedMeans:
    """Predict as in the publication's evaluation: for every test cell from one control cell drawn at random.

    Parameters
    ----------
    n_cells
        Number of test cells of each label; control cells are drawn for each label on its own.
    seed
        Seed of the draws.

    Returns
    -------
    PredictedMeans
        Without deltas: metrics compare with all control cells.
    """
    rng = np.random.default_rng(seed)
    means, sems = [], []
    done, total = 0, sum(n_cells.values())
    step = predictor.automatic_batch_size()
    with read_control_cells(cells, predictor.panel, options=read, sampling=Sampling()) as controls:
        for notice in controls.notices:
            if on_notice is not None:
                on_notice(notice)
        for label, count in n_cells.items():
            drawn = rng.integers(0, controls.n_obs, count)
            moments = RunningMoments(controls.n_genes)
            for begin in range(0, count, step):
                values = controls.gather(drawn[begin : begin + step])
                moments.add(predictor.predict_array(values, label))
                done += len(values)
                if progress is not None:
                    progress(done, total)
            means.append(moments.mean.astype(np.float32))
            sems.append(moments.sem().astype(np.float32))
    return PredictedMeans(
        name or predictor.variant,
        str(predictor.bundle.directory),
        predictor.panel,
        tuple(n_cells),
        np.stack(means),
        None,
        np.stack(sems),
        np.array(list(n_cells.values()), dtype=np.int64),
        predictor.provenance(),
    )


def _panel(cells: OpenedCells) -> GenePanel:
    names = tuple(str(name) for name in cells.var.index())
    ids: tuple[str | None, ...]
    if "gene_id" in cells.var.columns:
        ids = tuple(gene_id or None for gene_id in as_text(cells.var.column("gene_id")))
    else:
        ids = tuple(ensembl_id(name) for name in names)
    return GenePanel(names, ids, np.ones(len(names), dtype=np.bool_))


def _layer(cells: OpenedCells, name: str) -> NDArray[np.float32] | None:
    matrix = cells.layer(name)
    return None if matrix is None else _dense(matrix)


def _dense(matrix: MatrixRows) -> NDArray[np.float32]:
    n_rows, n_columns = matrix.shape
    batches = matrix.batches(np.arange(n_rows, dtype=np.int64), np.arange(n_columns, dtype=np.int64))
    return np.concatenate([batch.toarray() for batch in batches]).astype(np.float32)


def _pooled(means: PredictedMeans) -> PredictedMeans:
    """Return the means over all control cells, where a file has one row per perturbation and group of cells."""
    labels = list(dict.fromkeys(means.labels))
    rows: dict[str, list[int]] = {label: [] for label in labels}
    for row, label in enumerate(means.labels):
        rows[label].append(row)

    def average(values: NDArray[np.float32]) -> NDArray[np.float32]:
        weights = means.n_controls
        return np.stack([np.average(values[found], axis=0, weights=weights[found]) for found in rows.values()]).astype(
            np.float32
        )

    return replace(
        means,
        labels=tuple(labels),
        means=average(means.means),
        deltas=None if means.deltas is None else average(means.deltas),
        sems=None,
        n_controls=np.array([means.n_controls[found].sum() for found in rows.values()], dtype=np.int64),
    )


def _averaged(
    cells: OpenedCells, panel: GenePanel, labels: Sequence[str], name: str, provenance: Mapping[str, Any]
) -> PredictedMeans:
    distinct = list(dict.fromkeys(label for label in labels if label))
    control = next((label for label in distinct if is_control_word(label)), None)
    kept = [label for label in distinct if label != control]
    if not kept:
        raise PredictionFileError("it holds no perturbation", "Predict again", where=cells.where)
    moments = {label: RunningMoments(len(panel)) for label in distinct}
    label_of_row = np.array(labels, dtype=object)
    rows = np.flatnonzero(label_of_row != "").astype(np.int64)
    done = 0
    for batch in cells.matrix.batches(rows, np.arange(len(panel), dtype=np.int64)):
        here = label_of_row[rows[done : done + batch.shape[0]]]
        with np.errstate(invalid="ignore"):  # what is not finite is refused below, by name
            for label in dict.fromkeys(here):
                moments[label].add(batch[np.flatnonzero(here == label)].toarray())
        done += batch.shape[0]
    means = np.stack([moments[label].mean for label in kept])
    return PredictedMeans(
        name,
        cells.where,
        panel,
        tuple(kept),
        means.astype(np.float32),
        None if control is None else (means - moments[control].mean).astype(np.float32),
        np.stack([moments[label].sem() for label in kept]).astype(np.float32),
        np.array([moments[label].n for label in kept], dtype=np.int64),
        provenance,
    )


def _as_dict(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of uns that outlives the open file."""
    return {key: _as_dict(value) if isinstance(value, Mapping) else value for key, value in mapping.items()}
