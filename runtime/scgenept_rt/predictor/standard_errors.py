"""Standard errors of means over cells that hold also where few cells, or none, express a gene.

Expression is sparse: of a few cells often none expresses a gene. Their sample variance is then far too small, and so is
the standard error that follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.predictor.moments import CellMoments, RunningMoments

Values = NDArray[np.float64]

_EXPRESSING = 2
"""Cells that standard errors take to express a gene where fewer do, as the sample then shows no spread."""


@dataclass(frozen=True)
class Floor:
    """The smallest variances that sparse expression makes plausible, `var`, of genes that vary by `total` together."""

    total: float
    var: Values | float

    def under(self, var: Values) -> Values:
        """Return variances over the same cells, none below the floor times the ratio of the sums over all genes."""
        ratio = var.sum() / self.total if self.total != 0 else 0.0
        found: Values = np.maximum(var, ratio * self.var)
        return found


@dataclass(frozen=True)
class OwnValues:
    """The control cells' own expression: its mean [n_genes], and what their predictions are compared with."""

    mean: Values
    floor: Floor

    @classmethod
    def of(cls, n: int, expressing: Values, total: Values, squares: Values) -> OwnValues:
        """Return them for `n` cells from the totals of `ControlCells.totals`.

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


@dataclass(frozen=True)
class MeanEstimate:
    """The mean of a perturbation, estimated from `n` control cells, and its layers; each [n_genes]."""

    n: int
    mean: Values
    layers: Mapping[str, Values]


def mean_of_all(moments: CellMoments, own: OwnValues) -> MeanEstimate:
    """Return the mean over all control cells of a run, all of which were predicted."""

    def error(found: RunningMoments) -> Values:
        return standard_error(own.floor.under(found.var()), moments.n)

    unknown = np.full(len(own.mean), np.nan)
    has_effects = moments.effects.n == moments.n
    layers = {
        "delta": moments.predicted.mean - own.mean,
        "sem": error(moments.predicted),
        "delta_sem": error(moments.changes),
        "sampling_error": np.zeros(len(own.mean)),
        "effect": moments.effects.mean if has_effects else unknown,
        "effect_sem": error(moments.effects) if has_effects else unknown,
    }
    return MeanEstimate(moments.n, moments.predicted.mean, layers)


def mean_of_some(moments: CellMoments, some: CellMoments, every: CellMoments, own: OwnValues) -> MeanEstimate:
    """Return the mean over all N control cells of a run from n of them: the difference estimator.

    Parameters
    ----------
    moments
        Of a perturbation, over n cells drawn at random.
    some, every
        Without a perturbation, over the same n cells and over all.
    own
        Of all cells.
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

    layers = {
        "delta": mean - own.mean,
        "sem": error(of_predicted.under(moments.predicted.var())),
        "delta_sem": error(of_changes.under(moments.changes.var())),
        "sampling_error": effect_sem * np.sqrt(1 - share),
        "effect": moments.effects.mean,
        "effect_sem": effect_sem,
    }
    return MeanEstimate(n, mean, layers)
