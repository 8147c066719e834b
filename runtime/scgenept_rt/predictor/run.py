"""What a run predicts: control cells and perturbations in, rows out."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, warn_caller
from scgenept_rt.expression import ControlCells, Sampling, read_control_cells
from scgenept_rt.expression.annotation import is_storable
from scgenept_rt.options import PredictOptions, ReadOptions, resolve
from scgenept_rt.perturbation import CONTROL_LABELS, Perturbation, PerturbationRequest, parse_perturbations
from scgenept_rt.perturbation.labels import unmeasured_target_notices
from scgenept_rt.predictor.batches import BatchLoop, OnNotice, Progress, Schedule
from scgenept_rt.predictor.difference_estimator import FEWEST_CELLS, DifferenceEstimator, block_size
from scgenept_rt.predictor.moments import CellMoments, Layers, OwnValues, mean_of_all
from scgenept_rt.wording import join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData

    from scgenept_rt.output.shards import Shard
    from scgenept_rt.predictor.predictor import Predictor

MEAN_LAYERS = ("delta", "sem", "delta_sem")
ESTIMATE_LAYERS = ("sampling_error", "effect", "effect_sem")
"""Further layers, where some control cells stand for all."""
_OWN_COLUMNS = ("condition", "target_genes", "n_controls", "control_cell")


@dataclass(frozen=True)
class PredictedRows:
    """Predicted rows of one perturbation.

    Attributes
    ----------
    aggregate
        "mean": one row, the mean over control cells; "cells": one row per control cell.
    perturbation
        What was perturbed.
    X
        (n_rows, n_genes) float32 in model gene order, log1p scale, not clipped.
    group
        The group of the control cells; empty without `groupby`.
    first_cell
        Position of the first row's control cell among those of the run; 0 for a mean.
    n_controls
        Control cells that a mean was predicted from; the number of rows for cells.
    layers
        For a mean, each shaped like X: `delta` (minus the mean of the control cells), `sem` and `delta_sem`, and with
        `max_error` or `n_controls_per_perturbation` also `sampling_error`, `effect` and `effect_sem`.
    """

    aggregate: str
    perturbation: Perturbation
    group: str
    X: NDArray[np.float32]
    first_cell: int
    n_controls: int
    layers: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Everything that the rows of a run depend on, read and checked; `with run.controls` drops the cells in the end."""

    predictor: Predictor
    controls: ControlCells
    perturbations: tuple[Perturbation, ...]
    schedule: Schedule
    options: PredictOptions
    notices: tuple[str, ...]
    on_notice: OnNotice | None
    label_column: str | None
    """The column of obs that has the labels in the cell-eval format; None in the usual one."""

    @classmethod
    def prepare(
        cls,
        predictor: Predictor,
        cells: str | Path | AnnData,
        perturbations: str | Sequence[str | PerturbationRequest],
        options: PredictOptions,
        *,
        read: ReadOptions | None,
        on_notice: OnNotice | None,
    ) -> Run:
        """Parse the perturbations and read the control cells; see `Predictor.predict_file`."""
        read, panel, groupby = resolve(ReadOptions, read), predictor.panel, options["groupby"]
        if groupby is not None and (groupby in _OWN_COLUMNS or not is_storable(groupby)):
            raise ArgumentError(
                f"groupby is {groupby!r}, which predictions cannot have as a column of groups",
                "Rename the column of the cells",
            )
        given = read["control_label"] or []
        control_labels = (*CONTROL_LABELS, *([given] if isinstance(given, str) else given))
        parsed, of_labels = parse_perturbations(perturbations, panel, control_labels)
        if _estimated(options) and options["sampling"] == "all":
            # The first cells must be a random sample of all: the order of a file may follow batches or clusters.
            options = {**options, "sampling": "random"}
        if options["batch_size"] == "auto":
            options = {**options, "batch_size": predictor.automatic_batch_size()}
        for_cell_eval, label_column = bool(options.get("for_cell_eval")), None
        controls = read_control_cells(
            cells,
            panel,
            options=read,
            sampling=Sampling(options["sampling"], options["n_controls"], options["seed"]),
            groupby=groupby,
            annotated=options["aggregate"] != "mean",
            all_genes=for_cell_eval,
        )
        with ExitStack() as on_error:
            on_error.callback(controls.close)
            if for_cell_eval:
                from scgenept_rt.predictor import cell_eval  # needs pandas, which embedders lack

                parsed, of_format = cell_eval.as_measured(parsed, controls, panel, read, options)
                label_column = cell_eval.label_column(controls, options)
                of_labels += of_format
            sizes = np.diff(controls.groups.bounds).tolist()
            for perturbation in parsed:
                if perturbation.n_controls is not None and not 1 <= perturbation.n_controls <= max(sizes):
                    among = "run" if groupby is None else "largest group"
                    raise ArgumentError(
                        f"perturbation {perturbation.label} asks for n_controls = {perturbation.n_controls:,}, "
                        f"expected 1 to the {pluralize(max(sizes), 'control cell')} of the {among}"
                    )
            notices = [
                *_notices(controls),
                *([] if options["aggregate"] == "cells" else controls.mixed),
                *of_labels,
                *unmeasured_target_notices(parsed, controls.match.columns),
            ]
            warn_caller(notices, on_notice)
            on_error.pop_all()
        most = options["n_controls_per_perturbation"]
        counts = [
            min(perturbation.n_controls or n_cells, most or n_cells, n_cells)
            for n_cells in sizes
            for perturbation in parsed
        ]
        # Group by group, so that what is computed once per group is needed for one at a time.
        schedule = Schedule(parsed * len(sizes), counts, np.repeat(controls.groups.bounds[:-1], len(parsed)))
        return cls(predictor, controls, tuple(parsed), schedule, options, tuple(notices), on_notice, label_column)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of means."""
        return MEAN_LAYERS + ESTIMATE_LAYERS if _estimated(self.options) else MEAN_LAYERS

    def group(self, index: int) -> str:
        """Return the group at `index` of the schedule."""
        return self.controls.groups.names[index // len(self.perturbations)]

    def means(self, shard: Shard | None = None) -> range:
        """Return which entries of the schedule belong to a part; all without one."""
        n_means = len(self.schedule.perturbations)
        if shard is None:
            return range(n_means)
        bounds = np.arange(n_means + 1)
        if _estimated(self.options):
            # of whole blocks, which are predicted together
            n, size = len(self.perturbations), block_size(self.batch_loop().batch_size)
            bounds = np.append(bounds[:-1][bounds[:-1] % n % size == 0], n_means)
        return shard.means(self.schedule.starts, bounds)

    def rows(
        self, progress: Progress | None = None, first_row: int = 0, means: range | None = None
    ) -> Generator[PredictedRows, None, None]:
        """Predict from a row of the schedule on; the mean of a perturbation follows its last cells.

        With means, that row must be the first of a perturbation. `means` are the entries of the schedule to which the
        row belongs, all by default: nothing is predicted for later ones.
        """
        rows = self._estimated_rows if _estimated(self.options) else self._rows
        return rows(progress or (lambda *_: None), first_row, self.means() if means is None else means)

    def batch_loop(self) -> BatchLoop:
        """Return the loop that runs batches of these control cells."""
        return BatchLoop(
            self.predictor,
            n_rows=self.schedule.n_rows,
            batch_size=cast("int", self.options["batch_size"]),
            read_cells=lru_cache(maxsize=1)(self.controls.values.dense),  # several perturbations may take the same ones
            cell_name=lambda cell: str(self.controls.obs_names[cell]),
        )

    def _rows(self, progress: Progress, first_row: int, means: range) -> Generator[PredictedRows, None, None]:
        loop, schedule, controls, aggregate = self.batch_loop(), self.schedule, self.controls, self.options["aggregate"]
        begin_row, end_row = (int(schedule.starts[index]) for index in (means.start, means.stop))
        n_done, n_rows, moments = first_row - begin_row, end_row - begin_row, CellMoments()
        own_values = lru_cache(maxsize=1)(lambda start, n: OwnValues.of(n, *controls.values.totals(start, start + n)))
        progress(n_done, n_rows)
        # Closed with this generator and not some time later, so that no batch runs on once the caller has left.
        with closing(loop.run(loop.full_batches(schedule, first_row, end_row))) as results:
            for batch, predicted in results:
                for part in batch.parts:
                    rows = predicted[part.rows]
                    n_done += len(rows)
                    if aggregate != "mean":
                        group = self.group(part.index)
                        yield PredictedRows("cells", part.perturbation, group, rows, part.first_cell, len(rows))
                    if aggregate != "cells":
                        moments.add(batch.values[part.rows], rows)
                        if moments.n == schedule.counts[part.index]:
                            own = own_values(int(schedule.first_cells[part.index]), moments.n)
                            yield self._mean(part.index, moments.n, mean_of_all(moments, own))
                            moments = CellMoments()
                progress(n_done, n_rows)

    def _estimated_rows(self, progress: Progress, first_row: int, means: range) -> Generator[PredictedRows, None, None]:
        loop, first = self.batch_loop(), self.schedule.perturbation_at(first_row)
        n_predicted, n_ended, n_used = 0, 0, 0
        counts = self.schedule.counts[first : means.stop]
        fewest = counts if self.options["max_error"] is None else np.minimum(counts, FEWEST_CELLS)

        def count(n_rows: int) -> None:
            nonlocal n_predicted
            n_predicted += n_rows
            per_mean = n_used / n_ended if n_ended else fewest.mean()
            progress(n_predicted, max(n_predicted, self.controls.n_obs + round(per_mean * len(counts))))

        count(0)
        n, groups, whole = len(self.perturbations), self.controls.groups, []
        for group in range(first // n, -(-means.stop // n)):
            estimator = DifferenceEstimator(
                loop,
                self.controls,
                *groups.ranges()[group],
                self.perturbations,
                self.schedule.counts[group * n : (group + 1) * n].tolist(),
                self.options["max_error"],
                count,
            )
            for n_cells, mean in estimator.estimates(first + n_ended - group * n, min(means.stop - group * n, n)):
                yield self._mean(first + n_ended, n_cells, mean)
                n_ended, n_used = n_ended + 1, n_used + n_cells
            if not estimator.samples:
                whole.append(group)
        progress(n_predicted, n_predicted)
        if whole and self.on_notice is not None:
            n_controls = np.diff(groups.bounds)[whole].sum()
            of = "" if groups.column is None else f" of {join_limited([groups.names[group] for group in whole])}"
            self.on_notice(
                f"All {pluralize(n_controls, 'control cell')}{of} were predicted for every perturbation: together with "
                "predictions without a perturbation, fewer would have cost more. Without these, effect is NaN; add the "
                f"perturbation {CONTROL_LABELS[0]} to have it."
            )

    def _mean(self, index: int, n_cells: int, values: Layers) -> PredictedRows:
        layers = {name: values[name][None].astype(np.float32) for name in ("X", *self.layers)}
        perturbation, group = self.schedule.perturbations[index], self.group(index)
        return PredictedRows("mean", perturbation, group, layers.pop("X"), 0, n_cells, layers)


def _estimated(options: PredictOptions) -> bool:
    """Return whether some control cells stand for all."""
    return options["max_error"] is not None or options["n_controls_per_perturbation"] is not None


def _notices(controls: ControlCells) -> Iterator[str]:
    match, left_out = controls.match, controls.annotation.left_out
    if not match.missing:
        known = pluralize(match.n_found_in_vocab, "of them is", "of them are")
        yield f"All {match.n_found:,} genes of the model were found in the input; {known} in its vocabulary."
    yield from controls.notices
    if left_out:
        columns = join_limited(left_out)
        yield f"Columns of obs that tell control cells from others are left out of the output: {columns}."
