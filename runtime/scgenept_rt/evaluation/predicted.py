"""Mean predictions by perturbation: of a file that `predict` wrote, or of a loaded bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, LabelNotFoundError, PredictionFileError, warn_caller
from scgenept_rt.expression.control_cells import read_control_cells
from scgenept_rt.expression.groups import Sampling
from scgenept_rt.expression.label_matching import LabelReader, did_you_mean
from scgenept_rt.genes import GenePanel
from scgenept_rt.options import ReadOptions, SampleOptions
from scgenept_rt.perturbation.labels import unmeasured_target_notices
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.predictor.moments import RunningMoments
from scgenept_rt.wording import join_limited

if TYPE_CHECKING:
    from anndata import AnnData


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
    n_controls
        int64 (n_perturbations,), control cells per mean.
    layers
        Those that are known of `delta` (means minus the mean of the control cells that were predicted from), `effect`
        (means minus predictions without a perturbation for the same cells), and their standard errors `delta_sem` and
        `effect_sem`.
    group
        The obs column and the value of the control cells that were predicted from, None for all.
    provenance
        The run's ``uns["scgenept_rt"]``, empty if there is none.
    changes
        The layer that changes are taken from, `delta` or `effect`.
    """

    name: str
    where: str
    panel: GenePanel
    labels: tuple[str, ...]
    means: NDArray[np.float32]
    n_controls: NDArray[np.int64]
    layers: Mapping[str, NDArray[np.float32]]
    group: tuple[str, str] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    changes: str = "delta"

    def __post_init__(self) -> None:
        for values in (self.means, self.layers.get(self.changes)):
            if values is not None and not np.isfinite(values).all():
                row, column = np.argwhere(~np.isfinite(values))[0]
                raise PredictionFileError(
                    f"the prediction of {self.labels[row]} is {values[row, column]} for {self.panel.names[column]}, "
                    "expected finite numbers",
                    "Predict it again",
                    where=self.where,
                )

    @property
    def synthetic(self) -> bool:
        """Whether the weights were synthetic."""
        return bool(self.provenance.get("synthetic"))

    @cached_property
    def reader(self) -> LabelReader:
        """Reads labels as genes."""
        return LabelReader(self.panel)

    def find(self, label: str) -> int | None:
        """Return the row of a perturbation, by its text or else by its genes; None if it was not predicted."""
        row = self._rows.get(label)
        return row if row is not None else self._rows_by_genes.get(self.reader.genes(label))

    def row(self, label: str) -> int:
        """Return the row of a perturbation; raise `LabelNotFoundError` if it was not predicted."""
        if (found := self.find(label)) is not None:
            return found
        raise LabelNotFoundError(
            f"there is no prediction of {label} (there are: {join_limited(self.labels) or 'none'})",
            did_you_mean(label, self.labels, self.reader) or "Predict it with `scgenept-rt predict`",
            where=self.where,
        )

    def is_control(self, label: str) -> bool:
        """Return whether a label is that of control cells, and not a gene of such a name (WT1)."""
        return self.reader.genes(label) == ()

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {label: row for row, label in enumerate(self.labels)}

    @cached_property
    def _rows_by_genes(self) -> Mapping[tuple[str, ...] | None, int]:
        rows = {self.reader.genes(label): row for row, label in reversed(list(enumerate(self.labels)))}
        return {genes: row for genes, row in rows.items() if genes is not None}

    def errors(self, label: str) -> NDArray[np.float32] | None:
        """Return the standard errors (n_genes,) of the predicted change, None if they are not known."""
        row, errors = self.row(label), self.layers.get(f"{self.changes}_sem")
        return None if errors is None or not np.isfinite(errors[row]).all() else errors[row]

    def delta(self, label: str, control: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the predicted change (n_genes,) against the control cells of the run, else against `control`."""
        row, changes = self.row(label), self.layers.get(self.changes)
        if changes is not None:
            return np.array(changes[row], dtype=np.float64)
        if control is not None:
            return np.array(self.means[row] - control, dtype=np.float64)
        remedy = "Give a file of means that `scgenept-rt predict` wrote"
        raise PredictionFileError("it has no layer delta", remedy, where=self.where)

    def targets(self, label: str) -> list[int]:
        """Return the columns of those genes that a label perturbs and that were predicted."""
        genes = self.reader.genes(label)
        if genes is None:
            genes = tuple(part for part in map(str.strip, label.split("+")) if part in self.panel)
        return [self.panel.position(gene) for gene in genes]


def predict_means(
    predictor: Predictor,
    cells: str | Path | AnnData,
    labels: Sequence[str],
    *,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
    on_notice: Callable[[str], None] | None = None,
    **sample: Unpack[SampleOptions],
) -> PredictedMeans:
    """Predict means over control cells: all of them, or `n_controls` drawn at random, the same for every label.

    Raises as `Predictor.predict`.
    """
    kept = list(predictor.iter_predict(cells, labels, read=read, progress=progress, on_notice=on_notice, **sample))
    return _means(
        predictor,
        {predicted.perturbation.label: predicted.n_controls for predicted in kept},
        np.concatenate([predicted.X for predicted in kept]),
        {layer: np.concatenate([rows.layers[layer] for rows in kept]) for layer in ("delta", "delta_sem")},
    )


def predict_published_protocol(
    predictor: Predictor,
    cells: str | Path | AnnData,
    n_cells: Mapping[str, int],
    *,
    seed: int,
    read: ReadOptions | None,
    progress: Progress | None,
    on_notice: Callable[[str], None],
) -> PredictedMeans:
    """Predict as in the publication's evaluation: for every test cell from one control cell drawn at random.

    `n_cells` is the number of test cells of each label. There are no deltas: metrics compare with all control cells.
    """
    rng = np.random.default_rng(seed)
    means: list[NDArray[np.float32]] = []
    done, total = 0, sum(n_cells.values())
    step = predictor.automatic_batch_size()
    with read_control_cells(cells, predictor.panel, options=read, sampling=Sampling()) as controls:
        parsed, of_labels = predictor.parse(list(n_cells))
        cautions = [notice for notice in of_labels if isinstance(notice, Caution)]  # A+B and B+A are both predicted
        cautions += unmeasured_target_notices(parsed, controls.match.columns)
        warn_caller([*controls.notices, *cautions], on_notice)
        for label, count in n_cells.items():
            drawn = rng.integers(0, controls.n_obs, count)
            moments = RunningMoments()
            for begin in range(0, count, step):
                values = controls.values.gather(drawn[begin : begin + step])
                moments.add(predictor.predict_array(values, label))
                done += len(values)
                if progress is not None:
                    progress(done, total)
            means.append(moments.mean.astype(np.float32))
    return _means(predictor, n_cells, np.stack(means), {})


def _means(
    predictor: Predictor,
    n_controls: Mapping[str, int],
    means: NDArray[np.float32],
    layers: Mapping[str, NDArray[np.float32]],
) -> PredictedMeans:
    labels, counts = tuple(n_controls), np.array(list(n_controls.values()), dtype=np.int64)
    where, recorded = str(predictor.bundle.directory), predictor.provenance()
    return PredictedMeans(predictor.variant, where, predictor.panel, labels, means, counts, layers, provenance=recorded)
