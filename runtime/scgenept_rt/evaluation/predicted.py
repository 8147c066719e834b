"""Mean predictions by perturbation: from a file that `predict` wrote, or from a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import check_argument, join_limited
from scgenept_rt.evaluation.errors import NotPredictionsError, PerturbationNotPredictedError, PredictionFileError
from scgenept_rt.evaluation.observed import canonical_label
from scgenept_rt.expression import OpenedCells, ReadOptions, Sampling, open_cells, read_control_cells
from scgenept_rt.expression.annotation import as_text
from scgenept_rt.genes import GenePanel, ensembl_id
from scgenept_rt.perturbation import CONTROL_LABELS
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.predictor.moments import RunningMoments

if TYPE_CHECKING:
    from anndata import AnnData

_LABEL_COLUMNS = ("condition", "perturbation", "target_gene", "gene")
_PREDICTION_COLUMNS = ("n_controls", "control_cell")
"""Columns of obs that predictions have and measured cells do not."""


@dataclass(frozen=True, eq=False)
class PredictedMeans:
    """Mean predictions, one row a perturbation.

    Attributes
    ----------
    name
        What they are called in tables and legends.
    panel
        The genes of the columns.
    labels
        The perturbations, as the predictions spell them.
    means
        (n_perturbations, n_genes) float32, log1p scale.
    deltas
        The same minus the mean of the very control cells that were predicted from, None where that is not known.
    sems
        Standard errors over control cells, None where not known.
    n_controls
        Control cells that each mean is over.
    provenance
        What ``uns["scgenept_rt"]`` says of the run, empty where nothing.
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

    def find(self, label: str) -> int | None:
        """Return the row of a perturbation, by its text or else by its genes; None if it was not predicted."""
        if label in self.labels:
            return self.labels.index(label)
        wanted = canonical_label(label, self.panel)
        if wanted is None:
            return None
        return self._row_of_canonical().get(wanted)

    def row(self, label: str) -> int:
        """Return the row of a perturbation.

        Raises
        ------
        PerturbationNotPredictedError
            If it was not predicted.
        """
        found = self.find(label)
        if found is None:
            raise PerturbationNotPredictedError(self.where, label, self.labels)
        return found

    def delta(self, label: str, control: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the predicted change (n_genes,): against the run's own control cells, else against `control`.

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
                self.where, "it has no layer delta", "Give a file of means as `scgenept-rt predict` writes it."
            )
        delta: NDArray[np.float64] = self.means[row].astype(np.float64) - control
        return delta

    def _row_of_canonical(self) -> dict[str, int]:
        rows: dict[str, int] = {}
        for row, label in enumerate(self.labels):
            canonical = canonical_label(label, self.panel)
            if canonical is not None:
                rows.setdefault(canonical, row)
        return rows


def read_predictions(source: str | Path | AnnData, *, name: str | None = None) -> PredictedMeans:
    """Read a prediction file, of means or of cells, or the AnnData that `Predictor.predict` returned.

    Cells are averaged by perturbation while they are read; control cells among them (as in the form for cell-eval) give
    the deltas.

    Raises
    ------
    NotPredictionsError
        If it has neither ``uns["scgenept_rt"]`` nor a column of obs that only predictions have.
    PredictionFileError
        If it has no column of perturbations, or no perturbation.
    CellsError
        If it cannot be read.
    """
    with open_cells(source) as cells:
        provenance = dict(cells.uns.get("scgenept_rt", {}))
        if not provenance and not any(column in cells.obs.columns for column in _PREDICTION_COLUMNS):
            raise NotPredictionsError(cells.where)
        panel = _panel(cells)
        key = next((column for column in _LABEL_COLUMNS if column in cells.obs.columns), None)
        if key is None:
            raise PredictionFileError(
                cells.where,
                f"obs has no column {' or '.join(_LABEL_COLUMNS[:2])} "
                f"(it has: {join_limited(cells.obs.columns, 12) or 'none'})",
                "Give a file that `scgenept-rt predict` wrote.",
            )
        labels = [str(label) for label in as_text(cells.obs.column(key))]
        counts = np.asarray(cells.obs.column("n_controls")) if "n_controls" in cells.obs.columns else None
        if not labels:
            raise PredictionFileError(cells.where, "it has no rows", "Predict again.")
        columns = np.arange(len(panel), dtype=np.int64)
        shown = name or _name(cells.where, provenance)
        if counts is not None:
            means, deltas, sems = (_rows(cells, layer, columns) for layer in (None, "delta", "sem"))
            assert means is not None
            return PredictedMeans(
                shown, cells.where, panel, tuple(labels), means, deltas, sems, counts.astype(np.int64), provenance
            )
        return _averaged(cells, panel, labels, shown, provenance)


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
    kept: list[str] = []
    rows: dict[str, list[NDArray[np.float32]]] = {"X": [], "delta": [], "sem": []}
    counts: list[int] = []
    check_argument("predictor", predictor, (Predictor,), "a loaded bundle: `load(PATH)`")
    labels = [labels] if isinstance(labels, str) else labels
    for predicted in predictor.iter_predict(
        cells, labels, n_controls=n_controls, seed=seed, read=read, on_notice=on_notice
    ):
        kept.append(predicted.perturbation.label)
        rows["X"].append(predicted.X)
        for layer in ("delta", "sem"):
            rows[layer].append(predicted.layers[layer])
        counts.append(predicted.n_controls)
        if progress is not None:
            progress(len(kept), len(labels))
    means, deltas, sems = (np.concatenate(rows[key]) for key in ("X", "delta", "sem"))
    return PredictedMeans(
        name or predictor.variant,
        str(predictor.bundle.directory),
        predictor.panel,
        tuple(kept),
        means,
        deltas,
        sems,
        np.array(counts, dtype=np.int64),
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
    """Predict as the publication's evaluation does: for every test cell from one control cell drawn at random.

    Parameters
    ----------
    n_cells
        Number of test cells of each label; each label is drawn for, and predicted, on its own.
    seed
        Seed of the draws.

    Returns
    -------
    PredictedMeans
        Without deltas: metrics are against all control cells.
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


def _rows(cells: OpenedCells, layer: str | None, columns: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return a whole matrix of a file of means; None if it lacks the layer."""
    matrix = cells.matrix if layer is None else cells.layer(layer)
    if matrix is None:
        return None
    parts = [piece.toarray() for piece in matrix.pieces(np.arange(cells.n_obs, dtype=np.int64), columns)]
    return np.concatenate(parts).astype(np.float32)


def _averaged(
    cells: OpenedCells, panel: GenePanel, labels: Sequence[str], name: str, provenance: Mapping[str, Any]
) -> PredictedMeans:
    distinct = list(dict.fromkeys(label for label in labels if label))
    code_of = {label: code for code, label in enumerate(distinct)}
    codes = np.array([code_of.get(label, -1) for label in labels], dtype=np.int64)
    moments = [RunningMoments(len(panel)) for _ in distinct]
    rows = np.flatnonzero(codes >= 0).astype(np.int64)
    done = 0
    for piece in cells.matrix.pieces(rows, np.arange(len(panel), dtype=np.int64)):
        here = codes[rows[done : done + piece.shape[0]]]
        for code in np.unique(here):
            moments[code].add(piece[np.flatnonzero(here == code)].toarray())
        done += piece.shape[0]
    control = next((label for label in distinct if label in CONTROL_LABELS), None)
    kept = [label for label in distinct if label != control]
    if not kept:
        raise PredictionFileError(cells.where, "it holds no perturbation", "Predict again.")
    means = np.stack([moments[code_of[label]].mean for label in kept])
    deltas = None
    if control is not None:
        deltas = (means - moments[code_of[control]].mean).astype(np.float32)
    return PredictedMeans(
        name,
        cells.where,
        panel,
        tuple(kept),
        means.astype(np.float32),
        deltas,
        np.stack([moments[code_of[label]].sem() for label in kept]).astype(np.float32),
        np.array([moments[code_of[label]].n for label in kept], dtype=np.int64),
        provenance,
    )


def _name(where: str, provenance: Mapping[str, Any]) -> str:
    return str(provenance.get("variant") or Path(where).stem)
