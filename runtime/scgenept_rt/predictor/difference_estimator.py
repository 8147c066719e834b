"""Means over all control cells from predictions for few of them: the difference estimator of survey sampling.

What a perturbation changes varies far less between cells than the prediction itself, so that a few cells show it:
the mean prediction is that without a perturbation over all N cells, which serves the whole run, plus the mean change
over n of them. Cochran, Sampling Techniques, chapter 7.
"""

from __future__ import annotations

import math
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.expression import ControlCells
from scgenept_rt.expression.stored_rows import SPILL_BYTES
from scgenept_rt.perturbation import Perturbation
from scgenept_rt.predictor.batches import Batch, BatchLoop, Part, Schedule
from scgenept_rt.predictor.moments import (
    CellMoments,
    Layers,
    OwnValues,
    RunningMoments,
    Values,
    floor_of,
    mean_of_all,
    mean_of_some,
    standard_error,
)

FEWEST_CELLS = 8
"""Fewest control cells that a perturbation is predicted from; larger numbers are multiples of it."""

_MARGIN = 1.25
"""Factor by which more cells may be needed in the end than the first ones suggest, when costs are compared."""

_CONTROL = Perturbation("ctrl", (), ())

Rows = NDArray[np.float32]


def cells_needed(effect_sem: float, n: int, n_cells: int, max_error: float) -> int:
    """Return how many of `n_cells` cells bring the sampling error to `max_error`, from a standard error with `n`."""
    var = effect_sem**2 * n
    needed = math.ceil(var / (max_error**2 + var / n_cells))
    return min(-(-needed // FEWEST_CELLS) * FEWEST_CELLS, n_cells)


def block_size(batch_size: int) -> int:
    """Return how many perturbations are predicted together."""
    return 2 * batch_size


class DifferenceEstimator:
    """Estimates the means of perturbations over the control cells `start` up to `stop`, which lie in random order.

    All perturbations use the same cells, from `start` on. They are predicted in blocks, which depend on the batch size
    alone: a run that begins at a later perturbation forms the same batches.

    Each perturbation takes as many cells as its entry of `limits` says, or only those that bring the sampling error of
    every gene to `max_error`. `on_predicted` is called after each batch with the number of its rows.
    """

    def __init__(
        self,
        loop: BatchLoop,
        controls: ControlCells,
        start: int,
        stop: int,
        perturbations: Sequence[Perturbation],
        limits: Sequence[int],
        max_error: float | None,
        on_predicted: Callable[[int], None],
    ) -> None:
        self._loop, self._controls, self._start, self._n_cells = loop, controls, start, stop - start
        self._perturbations, self._max_error = perturbations, max_error
        self._limits = dict(zip(perturbations, limits, strict=True))
        self._size = block_size(loop.batch_size)
        self._own = OwnValues.of(self._n_cells, *controls.values.totals(start, stop))
        self._unperturbed: Rows = np.empty((0, controls.values.n_genes), np.float32)  # until all cells are predicted
        self._of_all = CellMoments()
        self._found: dict[Perturbation, CellMoments] = {}  # of the blocks that were begun
        self._incomplete: dict[int, Iterator[Batch | None]] = {}  # their batches, by the first perturbation
        self._on_predicted = on_predicted
        self._over_first = lru_cache(maxsize=16)(self._unperturbed_over_first)

    @property
    def samples(self) -> bool:
        """Whether some cells stand for all, once that is decided; otherwise all are predicted."""
        return len(self._unperturbed) > 0

    def estimates(self, first: int, stop: int) -> Iterator[tuple[int, Layers]]:
        """Yield numbers of cells and means of the perturbations from `first` up to `stop`."""
        self._begin()
        begin = first - first % self._size
        with closing(self._completed(range(begin, stop, self._size))) as blocks:
            perturbations = chain.from_iterable(map(self._block, blocks))
            for perturbation in islice(perturbations, first - begin, stop - begin):
                moments = self._found.pop(perturbation)
                if moments.n == self._n_cells:
                    yield moments.n, mean_of_all(moments, self._own)
                else:
                    yield moments.n, mean_of_some(moments, self._over_first(moments.n), self._of_all, self._own)

    def effects(self, indices: Sequence[int], begin: int, end: int) -> Iterator[tuple[int, Rows]]:
        """Yield the effects of the perturbations at `indices` on the cells `begin` up to `end`, batch by batch."""
        if not self.samples:
            self._predict_unperturbed()
        n = len(indices)
        schedule = Schedule([self._perturbations[i] for i in indices], [end - begin] * n, [self._start + begin] * n)
        for part, _, predicted in self._run(schedule):
            yield indices[part.index], predicted - self._unperturbed_rows(part.first_cell, len(predicted))

    def effect_var(self, effects: RunningMoments) -> Values:
        """Return variances of effects on the first cells, as large as sparse expression makes plausible."""
        floor = floor_of(self._over_first(effects.n).predicted, self._of_all.predicted, self._own)
        return floor.under(effects.var())

    # --- how many cells ---

    def _begin(self) -> None:
        """Predict all cells without a perturbation if that pays, which a few cells of the first block may show."""
        asked_for = not all(perturbation.columns for perturbation in self._perturbations)
        limits = list(self._limits.values())
        if asked_for or (self._max_error is None and self._pays(limits)):
            self._predict_unperturbed()
            return
        if self._max_error is None or not self._pays([FEWEST_CELLS] * len(limits)):
            return
        block = self._block(0)
        pilot = [
            np.empty((min(FEWEST_CELLS, self._limits[each]), self._controls.values.n_genes), np.float32)
            for each in block
        ]
        for part, _, predicted in self._run(Schedule(block, list(map(len, pilot)), self._start)):
            pilot[part.index][part.first_cell - self._start :][: len(predicted)] = predicted
        # Compared with each other: where even that takes too many cells, no prediction is wasted.
        # Their mean stands for what is predicted without one: variances are 1 - 1/k of those of k effects.
        # What these save has to be worth it, since what later ones need is not known.
        shared, k = min(map(len, pilot)), len(pilot)
        middle = np.mean([rows[:shared] for rows in pilot], axis=0)
        scale = np.sqrt(k / max(k - 1, 1))
        if self._pays([_MARGIN * self._first_guess(scale * (rows[:shared] - middle)) for rows in pilot]):
            self._predict_unperturbed()
        for perturbation, rows in zip(block, pilot, strict=True):
            values = self._controls.values.dense(self._start, self._start + len(rows))
            moments = self._found[perturbation] = CellMoments()
            moments.add(values, rows, self._unperturbed_rows(self._start, len(rows)))

    def _pays(self, n_cells: Sequence[float]) -> bool:
        """Return whether this many cells of some perturbations, and all unperturbed, cost less than all of each."""
        return bool(self._n_cells + np.minimum(n_cells, self._n_cells).sum() < len(n_cells) * self._n_cells)

    def _first_guess(self, effects: Rows) -> int:
        n = len(effects)
        if n < 2 or self._max_error is None:
            return n
        errors = standard_error(effects.var(axis=0, ddof=1, dtype=np.float64), n)
        return cells_needed(float(errors.max()), n, self._n_cells, self._max_error)

    def _block(self, begin: int) -> Sequence[Perturbation]:
        return self._perturbations[begin : begin + self._size]

    def _completed(self, begins: range) -> Generator[int]:
        """Predict control cells until every perturbation has as many as it needs; yield the blocks in order.

        While the last batches of a block run, after which it is known what it needs further, others go on.
        """
        waiting, begun = iter(begins), deque[int]()

        def batches() -> Iterator[Batch | None]:
            while True:
                of_blocks = (next(of_block, None) for of_block in list(self._incomplete.values()))
                batch = next(filter(None, of_blocks), None)
                if batch is not None:
                    yield batch
                elif len(self._incomplete) <= self._loop.n_devices and (begin := next(waiting, None)) is not None:
                    begun.append(begin)
                    self._incomplete[begin] = self._batches(begin)
                elif self._incomplete:
                    yield None
                else:
                    return

        with closing(self._loop.run(batches())) as results:
            for batch, predicted in results:
                for part in batch.parts:
                    rows = predicted[part.rows]
                    unperturbed = self._unperturbed_rows(part.first_cell, len(rows))
                    self._found[part.perturbation].add(batch.values[part.rows], rows, unperturbed)
                self._on_predicted(len(predicted))
                while begun and begun[0] not in self._incomplete:
                    yield begun.popleft()
        yield from begun

    def _batches(self, begin: int) -> Iterator[Batch | None]:
        """Yield the batches of a block until it is complete; None while those run that show what it needs further."""
        block = self._block(begin)
        for perturbation in block:
            # complete where there is no perturbation, once that is predicted
            known = self._of_all if self.samples and not perturbation.columns else CellMoments()
            self._found.setdefault(perturbation, known)
        found = [self._found[perturbation] for perturbation in block]
        while True:
            done = [moments.n for moments in found]
            wanted = [self._wanted(self._limits[each], moments) for each, moments in zip(block, found, strict=True)]
            if wanted == done:
                del self._incomplete[begin]
                return
            schedule = Schedule(block, np.subtract(wanted, done), np.add(self._start, done))
            yield from self._loop.full_batches(schedule)
            while [moments.n for moments in found] != wanted:
                yield None

    def _wanted(self, limit: int, moments: CellMoments) -> int:
        if not self.samples:
            return self._n_cells
        if moments.n >= limit:
            return moments.n
        if self._max_error is None:
            return limit
        if moments.n < FEWEST_CELLS:
            return min(FEWEST_CELLS, limit)
        effect_sem = standard_error(self.effect_var(moments.effects), moments.n).max()
        if effect_sem * np.sqrt(1 - moments.n / self._n_cells) <= self._max_error:
            return moments.n
        needed = cells_needed(float(effect_sem), moments.n, self._n_cells, self._max_error)
        return min(max(needed, moments.n + FEWEST_CELLS), limit)

    # --- predictions ---

    def _run(self, schedule: Schedule) -> Iterator[tuple[Part, Rows, Rows]]:
        """Yield the parts of a schedule with own values and predictions."""
        with closing(self._loop.run(self._loop.full_batches(schedule))) as results:
            for batch, predicted in results:
                for part in batch.parts:
                    yield part, batch.values[part.rows], predicted[part.rows]
                self._on_predicted(len(predicted))

    def _predict_unperturbed(self) -> None:
        shape = self._n_cells, self._controls.values.n_genes
        found: Rows
        if 4 * math.prod(shape) <= SPILL_BYTES:
            found = np.empty(shape, np.float32)
        else:
            with tempfile.TemporaryFile() as file:  # the mapping keeps it
                found = np.memmap(file, np.float32, "w+", shape=shape)
        for part, values, predicted in self._run(Schedule([_CONTROL], [self._n_cells], [self._start])):
            found[part.first_cell - self._start :][: len(predicted)] = predicted
            self._of_all.add(values, predicted, predicted)
        self._unperturbed = found

    def _unperturbed_rows(self, first_cell: int, n: int) -> Rows:
        """Return what is predicted of cells without a perturbation; no rows where it is not predicted."""
        return self._unperturbed[first_cell - self._start :][:n]

    def _unperturbed_over_first(self, n: int) -> CellMoments:
        moments = CellMoments()
        moments.add(self._controls.values.dense(self._start, self._start + n), self._unperturbed_rows(self._start, n))
        return moments
