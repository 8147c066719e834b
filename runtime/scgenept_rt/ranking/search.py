"""The best perturbations of a screen for a fraction of its cost: passes are spent where they decide.

All candidates are predicted from a few control cells, then those that may still be among the best from twice as many,
and so on (successive halving: Karnin, Koren, Somekh 2013; Jamieson, Talwalkar 2016). All use the same cells, so that
errors of two candidates largely cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import cast

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, PerturbationError, warn_caller
from scgenept_rt.options import PredictOptions, ReadOptions, SampleOptions, resolve
from scgenept_rt.perturbation import Perturbation, PerturbationRequest
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.predictor.difference_estimator import FEWEST_CELLS, DifferenceEstimator
from scgenept_rt.predictor.moments import RunningMoments, Values, standard_error
from scgenept_rt.predictor.run import Run
from scgenept_rt.ranking.question import RankBy, open_question
from scgenept_rt.ranking.scores import N_ERRORS, Ranking, Score, ranked
from scgenept_rt.wording import pluralize

_N_ERRORS_OUT = 3
"""Standard errors by which a candidate must be worse to be dropped: chance makes one in 700 seem so."""

_ROWS_AT_ONCE = 256
_MOST_COMPARED = 200


class _Candidate:
    """A perturbation, its effects on the first `n` cells, and its score."""

    def __init__(self, index: int, perturbation: Perturbation) -> None:
        self.index, self.perturbation = index, perturbation
        self.n, self.value = 0, np.nan  # negative where the lowest score is best
        self.error = np.nan  # of the value for all cells like these
        self.per_cell: Values = np.empty(0)  # what each cell adds to the value, along its gradient
        # What sparse genes, and genes that respond otherwise in cells of another kind, may add to the variance of that.
        self.unseen_var = 0.0
        self.by_part: Values = np.empty(0)
        self.is_out = False  # surely not among the best
        self._effects: RunningMoments | None = None

    def add(self, effects: NDArray[np.float32], score: Score, estimator: DifferenceEstimator, n_cells: int) -> None:
        """Add the effects on further ones of `n_cells` cells."""
        moments = self._effects = self._effects or RunningMoments()
        moments.add(effects)
        self.n, var = moments.n, np.nan_to_num(moments.var())
        found, gradient = score.of(moments.mean, self.perturbation.columns, var * (1 / self.n - 1 / n_cells))
        self.value = score.sign * found
        self.per_cell = np.concatenate([self.per_cell, effects @ gradient])
        unseen = np.nan_to_num(estimator.effect_var(moments) - var) + 2 * np.square(moments.mean) / (self.n + 1)
        self.unseen_var = float(np.square(gradient) @ unseen)
        self.error = _error(self.per_cell, self.unseen_var)
        self.by_part = score.by_part(moments.mean, self.perturbation.columns)

    def drop(self) -> None:
        """Take it out and free the effects."""
        self.is_out, self._effects = True, None


class Search:
    """A search for the `top` best perturbations over an input's control cells; `close` it in the end."""

    def __init__(
        self,
        predictor: Predictor,
        cells: str | Path | AnnData,
        perturbations: str | Sequence[str | PerturbationRequest],
        by: RankBy,
        *,
        top: int,
        sample: SampleOptions,
        read: ReadOptions | None,
        on_notice: Callable[[str], None] | None,
    ) -> None:
        if top < 1:
            raise ArgumentError(f"top is {top}, expected 1 or more")
        self._predictor, self._top = predictor, top
        self._score, self._notices = open_question(predictor.panel, by, read)
        options = resolve(PredictOptions, {**sample, "n_controls_per_perturbation": FEWEST_CELLS})
        self._run = Run.prepare(predictor, cells, perturbations, options, read=read, on_notice=on_notice)
        chosen = [entry for entry in self._run.perturbations if entry.columns]
        if not chosen:
            self.close()
            raise PerturbationError("there is no perturbation to rank but the control", "Name some that target genes")
        if any(entry.n_controls is not None for entry in chosen):
            self._notices.append(
                "The n_controls of single perturbations are not used: the search decides how many cells each takes."
            )
        warn_caller(self._notices, on_notice)
        self._candidates = [_Candidate(index, entry) for index, entry in enumerate(chosen)]
        self._left = self._candidates
        n = self._n_cells = self._run.controls.n_obs
        self._n_passes, self._n_expected = 0, n  # without a perturbation, all cells are predicted
        self._progress: Progress | None = None
        self._estimator = DifferenceEstimator(
            self._run.batch_loop(), self._run.controls, 0, n, chosen, [n] * len(chosen), None, self._count
        )

    def close(self) -> None:
        """Close the cells."""
        self._run.controls.close()

    def run(self, progress: Progress | None = None) -> None:
        """Predict until the best are known; go on for their order while that costs no more than finding them did.

        `progress` is called with the (perturbation, control cell) pairs that are predicted, and those to the end of a
        round.
        """
        self._progress = progress
        n, cost, most = 0, 0, np.inf
        end = min(FEWEST_CELLS, self._n_cells)
        while end > n and cost + (end - n) * len(self._left) <= most:
            cost += (end - n) * len(self._left)
            self._n_expected = self._n_cells + cost
            self._predict(n, end)
            n, end = end, min(2 * end, self._n_cells)
            self._drop_worse()
            if len(self._left) <= self._top:
                most = min(most, 2 * cost)
                if all(_is_better(*pair, N_ERRORS) for pair in pairwise(self._best())):
                    return

    def ranking(self) -> Ranking:
        """Return what is known by now."""
        compared = self._compared()
        others = [candidate for candidate in self._candidates if candidate.n and candidate not in compared]
        entries = [*compared, *_sorted(others)]
        of_differences = np.array([[_error_of_difference(first, second) for second in compared] for first in compared])
        table = ranked(
            self._score,
            [(entry.perturbation.label, self._score.sign * entry.value, entry.error, entry.n) for entry in entries],
            [entry.by_part for entry in entries],
            of_differences,
            min(self._top, len(self._left)),
        )
        n_cells = pluralize(self._n_cells, "control cell")
        return Ranking(
            table,
            self._score.name,
            f"{self._score.description}; effects on {n_cells}, without the targets",
            self._predictor.variant,
            self._predictor.bundle.manifest.synthetic,
            (*self._run.notices, *self._notices),
        )

    @property
    def progress_made(self) -> str:
        """How far the search came, in words."""
        n_candidates = len(self._candidates)
        return (
            f"{len(self._left):,} of {pluralize(n_candidates, 'candidate')} left after {self._n_passes:,} passes "
            f"(the full screen: {(n_candidates + 1) * self._n_cells:,})"
        )

    def _count(self, n_rows: int) -> None:
        self._n_passes += n_rows
        if self._progress is not None:
            self._progress(self._n_passes, self._n_expected)

    def _compared(self) -> list[_Candidate]:
        """Return those that are left and the next ones from as many cells, in order; none while cells differ."""
        n = max(candidate.n for candidate in self._candidates)
        compared = _sorted([candidate for candidate in self._candidates if candidate.n == n > 0])[:_MOST_COMPARED]
        return compared if all(candidate in compared for candidate in self._left) else []

    def _predict(self, begin: int, end: int) -> None:
        """Predict further cells for the candidates that are left."""
        bounds: list[float] = []  # of the best: what their values are at least
        effects = self._estimator.effects([candidate.index for candidate in self._left], begin, end)
        n_parts = -(-_ROWS_AT_ONCE // cast("int", self._run.options["batch_size"]))
        for index, parts in groupby(effects, key=itemgetter(0)):
            candidate = self._candidates[index]
            while rows := [part for _, part in islice(parts, n_parts)]:
                candidate.add(np.concatenate(rows), self._score, self._estimator, self._n_cells)
            # Most of many candidates are out at once, and need not be kept for comparison.
            margin = _N_ERRORS_OUT * candidate.error * self._sampled(candidate.n)
            if np.isnan(candidate.value) or (len(bounds) == self._top and candidate.value + margin < bounds[-1]):
                candidate.drop()
            elif not np.isnan(margin):
                bounds = sorted([*bounds, candidate.value - margin], reverse=True)[: self._top]

    def _drop_worse(self) -> None:
        """Drop the candidates that are surely worse than each of the best so far."""
        best = self._best()
        for candidate in self._left:
            n_errors = _N_ERRORS_OUT * self._sampled(candidate.n)
            if not candidate.is_out and all(_is_better(other, candidate, n_errors) for other in best):
                candidate.drop()
        self._left = [candidate for candidate in self._left if not candidate.is_out]

    def _best(self) -> list[_Candidate]:
        return _sorted([candidate for candidate in self._left if not candidate.is_out])[: self._top]

    def _sampled(self, n: int) -> float:
        """Return by how much a mean over `n` cells is nearer to that over all of these than to any like them."""
        return float(np.sqrt(1 - n / self._n_cells))


def _sorted(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    return sorted(candidates, key=lambda candidate: -np.nan_to_num(candidate.value, nan=-np.inf))


def _is_better(first: _Candidate, second: _Candidate, n_errors: float) -> bool:
    return first.value - second.value > n_errors * _error_of_difference(first, second)


def _error_of_difference(first: _Candidate, second: _Candidate) -> float:
    """Return the standard error of the difference between two candidates on the same cells."""
    return _error(first.per_cell - second.per_cell, first.unseen_var + second.unseen_var)


def _error(per_cell: Values, unseen_var: float) -> float:
    """Return the standard error of a mean over cells.

    Two more count, in which the perturbation does nothing and twice as much: a few cells may all be of one kind, and
    show no spread. This hardly blurs comparisons, as both perturbations change in such cells.
    """
    n = len(per_cell)
    var = per_cell.var(ddof=1) + 2 * per_cell.mean() ** 2 / (n + 1) + unseen_var if n > 1 else np.nan
    return float(standard_error(np.array(var), n))
