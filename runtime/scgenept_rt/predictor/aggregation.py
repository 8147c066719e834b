"""From predicted cells to the rows that are handed out or written: cells as they are, or their mean."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import pluralize
from scgenept_rt.expression import ControlCells
from scgenept_rt.perturbation import Perturbation
from scgenept_rt.predictor.moments import RunningMoments
from scgenept_rt.predictor.schedule import BatchRunner, Progress, Schedule

Aggregate = Literal["mean", "cells", "both"]

MIN_CONTROLS = 32
"""Fewest control cells from which a standard error is trusted to stop a perturbation early."""


@dataclass(frozen=True)
class PredictedRows:
    """Predicted rows of one perturbation.

    Attributes
    ----------
    aggregate
        "mean": one row, the mean over control cells; "cells": one row a control cell.
    perturbation
        What was perturbed.
    X
        (n_rows, n_genes) float32 in model gene order, log1p scale, not clipped.
    first_cell
        Position of the first row's control cell among those of the run; 0 for a mean.
    n_controls
        Control cells that a mean is over; the number of rows for cells.
    layers
        For a mean: `delta` (minus the mean of the same control cells) and `sem`, each shaped like X.
    """

    aggregate: str
    perturbation: Perturbation
    X: NDArray[np.float32]
    first_cell: int
    n_controls: int
    layers: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class ControlMeans:
    """Mean expression of the first n control cells, kept for the n asked for last: runs mostly use one."""

    def __init__(self, controls: ControlCells) -> None:
        self._controls = controls
        self._n = 0
        self._mean: NDArray[np.float64] = np.empty(0)

    def of(self, n_cells: int) -> NDArray[np.float64]:
        """Return the mean (n_genes,) float64 of the first `n_cells` control cells."""
        if n_cells != self._n:
            self._n, self._mean = n_cells, self._controls.mean(n_cells)
        return self._mean


def mean_row(perturbation: Perturbation, moments: RunningMoments, means: ControlMeans) -> PredictedRows:
    """Return the row of a perturbation whose control cells are all in `moments`."""
    layers = {"delta": moments.mean - means.of(moments.n), "sem": moments.sem()}
    return PredictedRows(
        "mean",
        perturbation,
        moments.mean[None].astype(np.float32),
        0,
        moments.n,
        {name: values[None].astype(np.float32) for name, values in layers.items()},
    )


def predicted_rows(
    runner: BatchRunner,
    schedule: Schedule,
    controls: ControlCells,
    *,
    mean: bool,
    cells: bool,
    first_row: int = 0,
    progress: Progress | None = None,
) -> Generator[PredictedRows, None, None]:
    """Predict a schedule from `first_row` on; the mean of a perturbation follows its last cells.

    With `mean`, `first_row` must be the first row of a perturbation.
    """
    means, moments = ControlMeans(controls), RunningMoments(controls.n_genes)
    done = first_row
    # Closed with this generator, not some time later: then no batch runs on once the caller has left.
    with closing(runner.segments(schedule, first_row)) as segments:
        for segment in segments:
            perturbation = schedule.perturbations[segment.perturbation]
            if cells:
                yield PredictedRows(
                    "cells", perturbation, segment.predicted, segment.first_cell, len(segment.predicted)
                )
            if mean:
                moments.add(segment.predicted)
                if moments.n == schedule.counts[segment.perturbation]:
                    yield mean_row(perturbation, moments, means)
                    moments = RunningMoments(controls.n_genes)
            done += len(segment.predicted)
            if progress is not None:
                progress(done, schedule.n_rows)


def means_to_tolerance(
    runner: BatchRunner,
    schedule: Schedule,
    controls: ControlCells,
    tolerance: float,
    *,
    first_perturbation: int = 0,
    progress: Progress | None = None,
) -> Generator[PredictedRows, None, None]:
    """Predict means, adding control cells until the standard error of every gene is at most `tolerance`.

    Stops at no fewer than `MIN_CONTROLS` cells, and when all are used. The cells must be in random order.
    """
    means, moments = ControlMeans(controls), RunningMoments(controls.n_genes)

    def block_at(index: int, begin: int) -> _Block | None:
        if index == len(schedule.perturbations):
            return None
        return _Block(index, begin, min(begin + runner.batch_size, int(schedule.counts[index])))

    with runner.pipeline() as pipeline:

        def fill(block: _Block | None) -> None:
            if block is not None:
                perturbation = schedule.perturbations[block.perturbation]
                runner.place(pipeline.buffers, perturbation, block.begin, slice(0, block.n_cells))

        block = block_at(first_perturbation, 0)
        fill(block)
        if block is not None:
            pipeline.start(block.n_cells)
        while block is not None:
            index, perturbation = block.perturbation, schedule.perturbations[block.perturbation]
            limit = int(schedule.counts[index])
            # Mostly more cells of the perturbation follow, so those are prepared meanwhile. They run only if needed.
            prepared = block_at(index, block.end) if block.end < limit else block_at(index + 1, 0)
            fill(prepared)
            predicted = pipeline.result()
            runner.check_finite(perturbation, block.begin, predicted)
            moments.add(predicted)
            ended = moments.n == limit or (moments.n >= MIN_CONTROLS and bool(moments.sem().max() <= tolerance))
            following = block_at(index + 1, 0) if ended else prepared
            if following != prepared:
                fill(following)
            if following is not None:
                pipeline.start(following.n_cells)
            if progress is not None:
                progress(int(schedule.starts[index]) + moments.n, schedule.n_rows)
            if ended:
                yield mean_row(perturbation, moments, means)
                moments = RunningMoments(controls.n_genes)
                if progress is not None:
                    progress(int(schedule.starts[index + 1]), schedule.n_rows)
            block = following


def tolerance_notice(
    tolerance: float,
    sems: Iterable[NDArray[np.float32]],
    labels: Sequence[str],
    genes: Sequence[str],
    *,
    next_step: str,
) -> str | None:
    """Say which means stayed above the tolerance, None if none did.

    Parameters
    ----------
    sems
        Blocks (n_rows, n_genes) of the layer `sem` as stored, in the order of `labels`.
    """
    # Rounded as the layer is: a standard error that was reached exactly must not count as missed.
    bound = np.float32(tolerance)
    row, n_missed = 0, 0
    worst, worst_row, worst_gene = bound, 0, 0
    for block in sems:
        largest = block.max(axis=1)
        missed = ~(largest <= bound)  # so that NaN, which a single cell gives, counts as missed
        n_missed += int(missed.sum())
        for index in np.flatnonzero(missed & (largest > worst)):
            if largest[index] > worst:
                worst, worst_row, worst_gene = largest[index], row + int(index), int(block[index].argmax())
        row += len(block)
    if not n_missed:
        return None
    if worst > bound:
        found = f"The largest standard error is {worst:.3g}, of {genes[worst_gene]} for {labels[worst_row]}."
    else:
        found = "A single control cell gives no standard error."
    return (
        f"{n_missed:,} of {pluralize(len(labels), 'perturbation')} did not reach the tolerance of {tolerance:g} with all "
        f"of the control cells. {found} {next_step}"
    )


@dataclass(frozen=True)
class _Block:
    """A batch of one perturbation: its control cells `begin` up to `end`."""

    perturbation: int
    begin: int
    end: int

    @property
    def n_cells(self) -> int:
        return self.end - self.begin
