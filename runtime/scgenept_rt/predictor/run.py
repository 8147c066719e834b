"""What a run predicts: control cells and perturbations in, rows out."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, pluralize, warn_caller
from scgenept_rt.expression import ControlCells, Sampling, read_control_cells
from scgenept_rt.options import PredictOptions, ReadOptions, resolve
from scgenept_rt.perturbation import (
    CONTROL_LABELS,
    Perturbation,
    PerturbationRequest,
    parse_perturbations,
    unmeasured_target_notices,
)
from scgenept_rt.predictor.batches import Batch, BatchLoop, OnNotice, Part, Progress, Schedule
from scgenept_rt.predictor.moments import RunningMoments

if TYPE_CHECKING:
    from anndata import AnnData

    from scgenept_rt.predictor.predictor import Predictor

MIN_CONTROLS = 32
"""Fewest control cells from which a standard error is trusted to stop a perturbation early."""


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
    first_cell
        Position of the first row's control cell among those of the run; 0 for a mean.
    n_controls
        Control cells of a mean; the number of rows for cells.
    layers
        For a mean: `delta` (minus the mean of the same control cells) and `sem`, each shaped like X.
    """

    aggregate: str
    perturbation: Perturbation
    X: NDArray[np.float32]
    first_cell: int
    n_controls: int
    layers: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Everything that the rows of a run depend on, read and checked; as a context manager it drops the cells."""

    predictor: Predictor
    controls: ControlCells
    schedule: Schedule
    options: PredictOptions
    batch_size: int
    notices: tuple[str, ...]
    on_notice: OnNotice | None

    @classmethod
    def prepare(
        cls,
        predictor: Predictor,
        cells: str | Path | AnnData,
        perturbations: str | Sequence[str | PerturbationRequest],
        options: PredictOptions,
        *,
        batch_size: int,
        read: ReadOptions | None,
        on_notice: OnNotice | None,
    ) -> Run:
        """Parse the perturbations and read the control cells; see `Predictor.predict`."""
        read = resolve(ReadOptions, read)
        given = read["control_label"] or []
        control_labels = (*CONTROL_LABELS, *([given] if isinstance(given, str) else given))
        parsed, notices = parse_perturbations(perturbations, predictor.panel, control_labels)
        if options["max_error"] is not None and options["sampling"] == "all":
            # The first cells must be a random sample of all: the order of a file may follow batches or clusters.
            options = {**options, "sampling": "random"}
            notices.append(f"With max_error, control cells are added in random order (seed {options['seed']}).")
        sampling = Sampling(options["sampling"], options["n_controls"], options["seed"])
        controls = read_control_cells(cells, predictor.panel, options=read, sampling=sampling)
        for perturbation in parsed:
            if perturbation.n_controls is not None and not 1 <= perturbation.n_controls <= controls.n_obs:
                controls.close()
                raise ArgumentError(
                    f"perturbation {perturbation.label} asks for n_controls = {perturbation.n_controls:,}, expected 1 "
                    f"to the {pluralize(controls.n_obs, 'control cell')} of the run"
                )
        unmeasured = unmeasured_target_notices(parsed, controls.match.columns)
        notices = [*_full_coverage(controls), *controls.notices, *notices, *unmeasured]
        warn_caller(notices)
        if on_notice is not None:
            for notice in notices:
                on_notice(notice)
        schedule = Schedule(parsed, controls.n_obs)
        return cls(predictor, controls, schedule, options, batch_size, tuple(notices), on_notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.controls.close()

    def rows(self, progress: Progress | None = None, first_row: int = 0) -> Generator[PredictedRows, None, None]:
        """Predict from a row of the schedule on; the mean of a perturbation follows its last cells.

        With means, that row must be the first of a perturbation.
        """
        schedule, controls, aggregate = self.schedule, self.controls, self.options["aggregate"]
        adaptive = self.options["max_error"] is not None
        loop = BatchLoop(
            self.predictor.session,
            self.predictor.panel,
            schedule,
            # With max_error, all cells of a batch are of one perturbation.
            n_rows=int(schedule.counts.max()) if adaptive else schedule.n_rows,
            batch_size=self.batch_size,
            read_cells=controls.dense,
            cell_name=lambda cell: str(controls.obs_names[cell]),
        )
        mean = _RunningMean(controls, schedule, self.options["max_error"], schedule.perturbation_at(first_row))
        batches = mean.batches(loop) if adaptive else loop.full_batches(first_row)
        # Closed with this generator and not some time later, so that no batch runs on once the caller has left.
        with closing(loop.run(batches, more=mean.add if adaptive else None)) as results:
            for batch, predicted in results:
                for part in batch.parts:
                    perturbation, start = schedule.perturbations[part.index], int(schedule.starts[part.index])
                    skipped = max(first_row - start - part.first_cell, 0)
                    rows = predicted[part.rows][skipped:]
                    if not len(rows):
                        continue
                    done = start + part.first_cell + skipped + len(rows)
                    if aggregate != "mean":
                        yield PredictedRows("cells", perturbation, rows, part.first_cell + skipped, len(rows))
                    if aggregate != "cells":
                        if not adaptive:
                            mean.add(rows)
                        if mean.ended:
                            yield mean.take()
                            done = int(schedule.starts[part.index + 1])
                    if progress is not None:
                        progress(done, schedule.n_rows)


class _RunningMean:
    """Mean over the control cells of one perturbation after the other, from that at `index` on."""

    def __init__(self, controls: ControlCells, schedule: Schedule, max_error: float | None, index: int) -> None:
        self._schedule, self._max_error, self._index = schedule, max_error, index
        self._moments = RunningMoments(controls.n_genes)
        self._control_mean = lru_cache(maxsize=1)(controls.mean)

    def batches(self, loop: BatchLoop) -> Iterator[Batch]:
        """Fill batches of one perturbation after the other, each until its mean has ended."""
        counts = self._schedule.counts.tolist()
        for index in range(self._index, len(counts)):
            for begin in range(0, counts[index], loop.batch_size):
                if index < self._index:
                    break
                yield loop.batch([Part(index, begin, slice(0, min(loop.batch_size, counts[index] - begin)))])

    def add(self, rows: NDArray[np.float32]) -> bool:
        """Add predicted cells; return whether the mean needs more."""
        self._moments.add(rows)
        return not self.ended

    @property
    def ended(self) -> bool:
        """Whether all control cells were added, or enough for the error that was asked for."""
        n = self._moments.n
        if self._max_error is not None and n >= MIN_CONTROLS and self._moments.sem().max() <= self._max_error:
            return True
        return n == int(self._schedule.counts[self._index])

    def take(self) -> PredictedRows:
        """Return the row of the perturbation and go on to the next one."""
        moments, perturbation = self._moments, self._schedule.perturbations[self._index]
        X, delta, sem = (
            values[None].astype(np.float32)
            for values in (moments.mean, moments.mean - self._control_mean(moments.n), moments.sem())
        )
        self._moments, self._index = RunningMoments(len(moments.mean)), self._index + 1
        return PredictedRows("mean", perturbation, X, 0, moments.n, {"delta": delta, "sem": sem})


def _full_coverage(controls: ControlCells) -> list[str]:
    match = controls.match
    if match.missing:
        return []
    known = pluralize(match.n_found_in_vocab, "of them is", "of them are")
    return [f"All {match.n_found:,} genes of the model were found in the input; {known} in its vocabulary."]
