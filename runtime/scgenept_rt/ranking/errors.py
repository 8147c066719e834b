"""Errors of scores, and the ranks that they support."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.predictor.standard_errors import standard_error

Values = NDArray[np.float64]

N_ERRORS = 2
"""Standard errors by which a perturbation must be better to rank before another."""


def largest_error(gradient: Values, errors: Values) -> float:
    """Return the standard error of a score from those of its genes (delta method), however these move together.

    How the errors of genes correlate between cells is not known from a table of means. Were they independent, the root
    of the sum of squares would do; it is several times too small where a cell's depth or state moves many genes at
    once. The sum of absolute values holds for any correlation.
    """
    return float(np.abs(gradient) @ errors)


def error_of(by_part: Values) -> Values:
    """Return the standard error of the mean over the last axis, 0 where it is empty; see `Score.by_part`."""
    n = by_part.shape[-1]
    return standard_error(by_part.var(axis=-1, ddof=1), n) if n else np.zeros(by_part.shape[:-1])


def rank_ranges(
    scores: Values,
    errors: Values,
    of_differences: Values | None = None,
    n_best: int = 0,
    by_part: Values | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the best and the worst rank of each entry that its error allows; ranks begin at 1.

    An entry ranks behind those that are better by more than `N_ERRORS` errors of the difference, and before those that
    are worse by as much.

    Parameters
    ----------
    scores
        The higher, the better.
    errors
        Standard errors, taken as independent between entries; 0 where none is known.
    of_differences
        [n, n], standard errors of the differences between the first n entries where these are known.
    n_best
        How many of those are known to be ahead of all that come after the n.
    by_part
        [n_entries, n_parts], what all entries share; see `Score.by_part`.
    """
    ahead, behind = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
    known = 0 if of_differences is None else len(of_differences)
    for index, (score, error) in enumerate(zip(scores, errors, strict=True)):
        differences, of_both = scores - score, np.hypot(errors, error)
        if of_differences is not None and index < known:
            of_both[:known] = of_differences[index]
        margins = N_ERRORS * (of_both if by_part is None else np.hypot(of_both, error_of(by_part - by_part[index])))
        ahead[index] = np.count_nonzero(differences > margins)
        behind[index] = np.count_nonzero(differences < -margins)
    best, worst = ahead + 1, len(scores) - behind
    if known:
        best[known:] = np.maximum(best[known:], n_best + 1)
        worst[:n_best] = np.minimum(worst[:n_best], known)
    return best, worst
