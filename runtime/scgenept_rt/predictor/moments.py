"""Moments over control cells, the means that they give, and standard errors that hold also for sparse genes.

Of a few cells often none expresses a gene. Their sample variance is then far too small, and so is the standard error
that follows from it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Layers = dict[str, Values]
"""The row of a mean: "X" and its layers, [n_genes] each."""

_EXPRESSING = 2
"""Cells that standard errors take to express a gene where fewer do, as the sample then shows no spread."""


class RunningMoments:
    """Mean and squared deviation of every gene, merged batch by batch in float64 (Chan et al. 1983).

    Unlike sums of squares, this stays exact where the spread is small against the mean.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean: Values = np.zeros(())
        self._squares: Values = np.zeros(())

    def add(self, batch: NDArray[Any]) -> None:
        """Add the rows of a batch (n_rows, n_genes)."""
        rows = batch.astype(np.float64)
        n_rows = len(rows)
        batch_mean = rows.sum(axis=0) / n_rows
        rows -= batch_mean
        np.square(rows, out=rows)
        shift = batch_mean - self.mean
        total = self.n + n_rows
        self._squares = self._squares + rows.sum(axis=0) + np.square(shift) * (self.n * n_rows / total)
        self.mean = self.mean + shift * (n_rows / total)
        self.n = total

    def var(self) -> Values:
        """Return the sample variance of each gene; NaN for a single row."""
        return self._squares / (self.n - 1) if self.n > 1 else np.full_like(self.mean, np.nan)


class CellMoments:
    """Moments of predictions, of predictions minus own values, and of predictions minus those without a perturbation.

    The last ones stay empty where nothing was predicted without a perturbation.
    """

    def __init__(self) -> None:
        self.predicted, self.changes, self.effects = RunningMoments(), RunningMoments(), RunningMoments()

    @property
    def n(self) -> int:
        """Number of cells."""
        return self.predicted.n

    def add(self, values: NDArray[Any], predicted: NDArray[Any], unperturbed: NDArray[Any] | None = None) -> None:
        """Add cells: their own values and what is predicted of them with and, if known, without a perturbation."""
        self.predicted.add(predicted)
        self.changes.add(predicted - values)
        if unperturbed is not None and len(unperturbed):
            self.effects.add(predicted - unperturbed)


class Floor(NamedTuple):
    """The smallest variances that sparse expression makes plausible, `var`, of genes that vary by `total` together."""

    total: float
    var: Values | float

    def under(self, var: Values) -> Values:
        """Return variances over the same cells, none below the floor times the ratio of the sums over all genes."""
        ratio = var.sum() / self.total if self.total != 0 else 0.0
        found: Values = np.maximum(var, ratio * self.var)
        return found


class OwnValues(NamedTuple):
    """The control cells' own expression: its mean [n_genes], and the floor that it sets."""

    mean: Values
    floor: Floor

    @classmethod
    def of(cls, n: int, expressing: Values, total: Values, squares: Values) -> OwnValues:
        """Return them for `n` cells from the totals of `StoredRows.totals`.

        The floor is the variance of a gene that two of the cells express, as strongly as cells express genes that most
        of them lack.
        """
        mean = total / n
        var = np.maximum(squares - n * np.square(mean), 0.0) / (n - 1) if n > 1 else np.full(len(mean), np.nan)
        sparse = expressing <= n / 2
        square = squares[sparse].sum() / max(expressing[sparse].sum(), 1)
        return cls(mean, Floor(var.sum(), _EXPRESSING * square / n))


def floor_of(some: RunningMoments, every: RunningMoments, own: OwnValues) -> Floor:
    """Return the floor of variances over some cells, from predictions without a perturbation for them and for all."""
    return Floor(some.var().sum(), own.floor.under(every.var()))


def standard_error(var: Values, n: int) -> Values:
    """Return standard errors of means over `n` cells; NaN for a single one.

    Widened for small n as Student's t demands: two of them cover 95.4%, as two standard deviations of a normal
    distribution do.
    """
    error: Values = _widened(n) * np.sqrt(var / n)
    return error


@lru_cache
def _widened(n: int) -> float:
    from scipy.special import ndtr, stdtrit  # not where single arrays are predicted

    return float(stdtrit(n - 1, ndtr(2))) / 2 if n > 1 else np.nan


def mean_of_all(moments: CellMoments, own: OwnValues) -> Layers:
    """Return the mean over all control cells of a run, after all were predicted."""

    def error(found: RunningMoments) -> Values:
        if found.n < moments.n:  # effects, where nothing was predicted without a perturbation
            return np.full_like(own.mean, np.nan)
        return standard_error(own.floor.under(found.var()), moments.n)

    return {
        "X": moments.predicted.mean,
        "delta": moments.predicted.mean - own.mean,
        "sem": error(moments.predicted),
        "delta_sem": error(moments.changes),
        "sampling_error": np.zeros_like(own.mean),
        "effect": moments.effects.mean if moments.effects.n == moments.n else np.full_like(own.mean, np.nan),
        "effect_sem": error(moments.effects),
    }


def mean_of_some(moments: CellMoments, some: CellMoments, every: CellMoments, own: OwnValues) -> Layers:
    """Return the mean over all N control cells of a run from n of them, drawn at random: the difference estimator.

    `moments` are of a perturbation, `some` without one over the same n cells, `every` over all.
    """
    n, share = moments.n, moments.n / every.n
    of_predicted = floor_of(some.predicted, every.predicted, own)
    of_changes = floor_of(some.changes, every.changes, own)
    mean = every.predicted.mean + moments.effects.mean
    effect_var = of_predicted.under(moments.effects.var())
    effect_sem = standard_error(effect_var, n)

    def error(var: Values) -> Values:
        # The N cells are a sample too: their mean is as far from that of all cells like them as their spread makes it.
        return standard_error((1 - share) * effect_var + share * var, n)

    return {
        "X": mean,
        "delta": mean - own.mean,
        "sem": error(of_predicted.under(moments.predicted.var())),
        "delta_sem": error(of_changes.under(moments.changes.var())),
        "sampling_error": effect_sem * np.sqrt(1 - share),
        "effect": moments.effects.mean,
        "effect_sem": effect_sem,
    }
