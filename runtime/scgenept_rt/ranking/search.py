"""The best perturbations of a screen for a fraction of its cost: passes are spent where they decide.

All candidates are predicted from a few control cells, then those that may still be among the best from twice as many,
and so on (successive halving: Karnin, Koren, Somekh 2013; Jamieson, Talwalkar 2016). All use the same cells, so that
errors of two candidates largely cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.perturbation import Perturbation
from scgenept_rt.predictor.difference_estimator import FEWEST_CELLS, DifferenceEstimator
from scgenept_rt.predictor.moments import RunningMoments
from scgenept_rt.predictor.standard_errors import standard_error
from scgenept_rt.ranking.errors import N_ERRORS
from scgenept_rt.ranking.scores import Score

Values = NDArray[np.float64]

_N_ERRORS_OUT = 3
"""Standard errors by which a candidate must be worse to be dropped: chance makes one in 700 seem so."""

_ROWS_AT_ONCE = 256
_MOST_COMPARED = 200


class _Candidate:
    """A perturbation, its effects on the first cells, and its score.

    Attributes
    ----------
    n
        Number of cells that the score is from.
    value
        The score, negative where the lowest is best.
    per_cell
        float64 [n]: what each cell adds to the value, along its gradient.
    unseen_var
        What sparse genes, and genes that respond otherwise in cells of another kind, may add to the variance of that.
    by_part
        See `Score.by_part`.
    is_out
        Whether it is surely not among the best.
    """

    def __init__(self, index: int, perturbation: Perturbation) -> None:
        self.index, self.perturbation = index, perturbation
        self.n, self.value = 0, np.nan
        self.per_cell: Values = np.empty(0)
        self.unseen_var = 0.0
        self.by_part: Values = np.empty(0)
        self.is_out = False
        self._effects: RunningMoments | None = None

    def add(self, effects: NDArray[np.float32], score: Score, estimator: DifferenceEstimator, n_cells: int) -> None:
        """Add the effects on further ones of `n_cells` cells."""
        moments = self._effects = self._effects or RunningMoments()
        moments.add(effects)
        self.n, var = moments.n, np.nan_to_num(moments.var())
        found, gradient = score.of(moments.mean, self.perturbation.columns, var * (1 / self.n - 1 / n_cells))
        self.value = found if score.higher_is_better else -found
        self.per_cell = np.concatenate([self.per_cell, effects @ gradient])
        unseen = np.nan_to_num(estimator.effect_var(moments) - var) + 2 * np.square(moments.mean) / (self.n + 1)
        self.unseen_var = float(np.square(gradient) @ unseen)
        self.by_part = score.by_part(moments.mean, self.perturbation.columns)

    @property
    def error(self) -> float:
        """Standard error of the value for all cells like these."""
        return _error(self.per_cell, self.unseen_var)

    def drop(self) -> None:
        """Take it out and free the effects."""
        self.is_out, self._effects = True, None


class Search:
    """Finds the `top` best perturbations over `n_cells` control cells.

    Parameters
    ----------
    estimator
        Of these perturbations over these cells, which lie in random order.
    """

    def __init__(
        self,
        estimator: DifferenceEstimator,
        perturbations: Sequence[Perturbation],
        score: Score,
        *,
        top: int,
        n_cells: int,
    ) -> None:
        self._estimator, self._score, self._top, self._n_cells = estimator, score, top, n_cells
        self._candidates = [_Candidate(index, entry) for index, entry in enumerate(perturbations)]
        self._left = self._candidates

    @property
    def n_left(self) -> int:
        """Candidates that may be among the best."""
        return len(self._left)

    def run(self, on_round: Callable[[int], None]) -> None:
        """Predict until the best are known, and their order as far as that costs no more than finding them.

        Parameters
        ----------
        on_round
            Called before each round with the number of predictions that it takes.
        """
        n, cost, most = 0, 0, np.inf
        end = min(FEWEST_CELLS, self._n_cells)
        while end > n and cost + (end - n) * len(self._left) <= most:
            on_round((end - n) * len(self._left))
            cost += (end - n) * len(self._left)
            self._predict(n, end)
            n, end = end, min(2 * end, self._n_cells)
            self._left = self._possible()
            if len(self._left) <= self._top:
                most = min(most, 2 * cost)
                if all(_is_better(*pair, N_ERRORS) for pair in pairwise(self._best())):
                    return

    def table(self) -> tuple[pd.DataFrame, Values]:
        """Return perturbation, score, error and n_controls of what was predicted, the best first, and its `by_part`."""
        sign = 1.0 if self._score.higher_is_better else -1.0
        compared = self._compared()
        others = [candidate for candidate in self._candidates if candidate.n and candidate not in compared]
        entries = [*compared, *_sorted(others)]
        rows = [(entry.perturbation.label, sign * entry.value, entry.error, entry.n) for entry in entries]
        table = pd.DataFrame(rows, columns=["perturbation", "score", "error", "n_controls"])
        return table, np.array([entry.by_part for entry in entries]).reshape(len(entries), -1)

    def errors_of_differences(self) -> Values:
        """Return the standard errors of the differences between the first n of the table, [n, n]."""
        compared = self._compared()
        return np.array([[_error_of_difference(first, second) for second in compared] for first in compared])

    def _compared(self) -> list[_Candidate]:
        """Return those that are left and the next ones from as many cells, in order; none while cells differ."""
        n = max(candidate.n for candidate in self._candidates)
        compared = _sorted([candidate for candidate in self._candidates if candidate.n == n > 0])[:_MOST_COMPARED]
        return compared if all(candidate in compared for candidate in self._left) else []

    def _predict(self, begin: int, end: int) -> None:
        """Predict further cells for the candidates that are left."""
        bounds: list[float] = []  # of the best: what their values are at least
        effects = self._estimator.effects([candidate.index for candidate in self._left], begin, end)
        for index, parts in groupby(effects, key=itemgetter(0)):
            candidate = self._candidates[index]
            for rows in _joined(part for _, part in parts):
                candidate.add(rows, self._score, self._estimator, self._n_cells)
            # Most of many candidates are out at once, and need not be kept for comparison.
            margin = _N_ERRORS_OUT * candidate.error * self._sampled(candidate.n)
            if np.isnan(candidate.value) or (len(bounds) == self._top and candidate.value + margin < bounds[-1]):
                candidate.drop()
            elif not np.isnan(margin):
                bounds = sorted([*bounds, candidate.value - margin], reverse=True)[: self._top]

    def _possible(self) -> list[_Candidate]:
        """Return the candidates that are not surely worse than each of the best so far."""
        best = self._best()
        for candidate in self._left:
            n_errors = _N_ERRORS_OUT * self._sampled(candidate.n)
            if not candidate.is_out and all(_is_better(other, candidate, n_errors) for other in best):
                candidate.drop()
        return [candidate for candidate in self._left if not candidate.is_out]

    def _best(self) -> list[_Candidate]:
        return _sorted([candidate for candidate in self._left if candidate.n and not candidate.is_out])[: self._top]

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


def _joined(parts: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Join rows to arrays of `_ROWS_AT_ONCE` or a few more."""
    held: list[NDArray[np.float32]] = []
    for rows in parts:
        held.append(rows)
        if sum(map(len, held)) >= _ROWS_AT_ONCE:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)
