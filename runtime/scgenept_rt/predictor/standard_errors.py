"""Standard errors of means over cells that hold also where few cells, or none, express a gene.

Expression is sparse: of a few cells often none expresses a gene. Their sample variance is then far too small, and so is
the standard error that follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.predictor.moments import CellMoments, RunningMoments

Values = NDArray[np.float64]

_EXPRESSING = 2
"""Cells that standard errors take to express a gene where fewer do, as the sample then shows no spread."""


@dataclass(frozen=True)
class OwnValues:
    """The control cells' own expression: what the standard errors of their predictions are compared with.

    Attributes
    ----------
    mean, var
        Mean and sample variance of every gene, [n_genes].
    sparse_var
        Variance of a gene that two of the cells express, as strongly as cells express genes that most of them lack.
    """

    mean: Values
    var: Values
    sparse_var: float

    @classmethod
    def of(cls, n: int, expressing: Values, total: Values, squares: Values) -> OwnValues:
        """Return them for `n` cells from the totals of `ControlCells.totals`."""
        mean = total / n
        var = np.maximum(squares - n * np.square(mean), 0.0) / (n - 1) if n > 1 else np.full(len(mean), np.nan)
        sparse = expressing <= n / 2
        square = squares[sparse].sum() / max(expressing[sparse].sum(), 1)
        return cls(mean, var, _EXPRESSING * square / n)


def floored(var: Values, compared: Values, floor: Values | float) -> Values:
    """Return variances of predictions over some cells, none smaller than `floor` makes plausible.

    Parameters
    ----------
    var
        Sample variance of every gene.
    compared
        Sample variance of something else over the same cells. Over all genes, predictions vary by the ratio of the
        sums as much; so does `floor`.
    floor
        Smallest variance of what is compared.
    """
    total = compared.sum()
    ratio = var.sum() / total if total != 0 else 0.0
    found: Values = np.maximum(var, ratio * floor)
    return found


def var_of_some(found: RunningMoments, some: RunningMoments, every: RunningMoments, own: OwnValues) -> Values:
    """Return variances over some cells, none smaller than what is predicted without a perturbation makes plausible.

    Parameters
    ----------
    found
        Of a perturbation, over n cells drawn at random.
    some, every
        Predictions without a perturbation, over the same n cells and over all N.
    own
        Of all N cells.
    """
    return floored(found.var(), some.var(), floored(every.var(), own.var, own.sparse_var))


def standard_error(var: Values, n: int) -> Values:
    """Return standard errors of means over `n` cells; NaN for a single one.

    They are widened for small n as Student's t demands, so that two of them cover as much as two standard deviations of
    a normal distribution: 95.4%.
    """
    from scipy.special import ndtr, stdtrit  # not where single arrays are predicted

    widened = float(stdtrit(n - 1, ndtr(2))) / 2 if n > 1 else np.nan
    error: Values = widened * np.sqrt(var / n)
    return error


@dataclass(frozen=True)
class MeanEstimate:
    """The mean of a perturbation, estimated from `n` control cells, and its layers; each [n_genes]."""

    n: int
    mean: Values
    layers: Mapping[str, Values]


def mean_of_all(moments: CellMoments, own: OwnValues) -> MeanEstimate:
    """Return the mean over all control cells of a run, all of which were predicted."""

    def error(found: RunningMoments) -> Values:
        return standard_error(floored(found.var(), own.var, own.sparse_var), moments.n)

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


def mean_of_some(
    moments: CellMoments, unperturbed: CellMoments, all_unperturbed: CellMoments, own: OwnValues
) -> MeanEstimate:
    """Return the mean over all control cells of a run, some of which were predicted: the difference estimator.

    Parameters
    ----------
    moments
        Of a perturbation, over n cells drawn at random.
    unperturbed, all_unperturbed
        Without a perturbation, over the same n cells and over all N.
    own
        Of all N cells.
    """
    n, n_cells = moments.n, all_unperturbed.n

    def error(found: RunningMoments, some: RunningMoments, every: RunningMoments) -> Values:
        return standard_error(var_of_some(found, some, every, own), n)

    mean = all_unperturbed.predicted.mean + moments.effects.mean
    effect_sem = error(moments.effects, unperturbed.predicted, all_unperturbed.predicted)
    sampling_error = effect_sem * np.sqrt(1 - n / n_cells)

    def with_spread(found: Values) -> Values:
        # The N cells are a sample too: their mean is as far from that of all cells like them as their spread makes it.
        error: Values = np.sqrt(np.square(sampling_error) + n / n_cells * np.square(found))
        return error

    layers = {
        "delta": mean - own.mean,
        "sem": with_spread(error(moments.predicted, unperturbed.predicted, all_unperturbed.predicted)),
        "delta_sem": with_spread(error(moments.changes, unperturbed.changes, all_unperturbed.changes)),
        "sampling_error": sampling_error,
        "effect": moments.effects.mean,
        "effect_sem": effect_sem,
    }
    return MeanEstimate(n, mean, layers)
