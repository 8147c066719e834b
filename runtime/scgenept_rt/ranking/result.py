"""Perturbations in order, and the ranks that their errors support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError
from scgenept_rt.predictor.moments import standard_error
from scgenept_rt.ranking.scores import Score

Values = NDArray[np.float64]

N_ERRORS = 2
"""Standard errors by which a perturbation must be better to rank before another."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Perturbations, the best first.

    Attributes
    ----------
    table
        One row per perturbation: `rank`; `best_rank` and `worst_rank`, which differ where the errors do not tell
        perturbations apart (a tie); `perturbation`; `score` and its standard error `error`; `n_controls`, the control
        cells that it was predicted from. Perturbations without a score come last, without a rank.
    score
        Name of the score: "effect size", "signature", "cosine", "pearson" or "distance".
    description
        What the score is, in one line.
    name
        Name of the predictions.
    synthetic
        Whether the weights are synthetic.
    notices
        Warning messages.
    """

    table: pd.DataFrame
    score: str
    description: str
    name: str
    synthetic: bool
    notices: tuple[str, ...]

    @property
    def supported_ranks(self) -> list[str]:
        """The ranks that each perturbation may have: "3", or "2-5" for a tie; "-" without a score."""
        ranges = zip(self.table["best_rank"], self.table["worst_rank"], strict=True)
        return ["-" if pd.isna(best) else f"{best}" if best == worst else f"{best}-{worst}" for best, worst in ranges]


def ranked(
    score: Score,
    rows: Sequence[tuple[str, float, float, int]],
    by_part: Sequence[Values],
    of_differences: Values | None = None,
    n_best: int = 0,
) -> pd.DataFrame:
    """Return the table of a `Ranking`.

    Parameters
    ----------
    rows
        Perturbation, score, error and number of control cells; the best first, those without a score last.
    by_part
        `Score.by_part` of each.
    of_differences
        [n, n], standard errors of the differences between the first n where these are known.
    n_best
        How many of those are known to be ahead of all that come after the n.
    """
    table = pd.DataFrame(rows, columns=["perturbation", "score", "error", "n_controls"])
    parts = np.array(by_part)
    n_scored = int(table["score"].notna().sum())
    if len(table) and not n_scored:
        raise ArgumentError(
            f"no perturbation has a score ({score.description}): each targets all the genes, or changes none",
            "Choose other genes",
        )
    scored = table[:n_scored]
    values, errors = score.sign * scored["score"].to_numpy(), scored["error"].fillna(0.0).to_numpy()
    best, worst = rank_ranges(values, errors, parts[:n_scored], of_differences, n_best)
    ranks = {"rank": np.arange(1, n_scored + 1), "best_rank": best, "worst_rank": worst}
    columns = pd.DataFrame(ranks).reindex(table.index).astype("Int64")
    return pd.concat([columns, table.assign(error=np.hypot(table["error"], error_of(parts)))], axis=1)


def rank_ranges(
    scores: Values, errors: Values, by_part: Values, of_differences: Values | None = None, n_best: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the best and the worst rank of each entry that its error allows, from 1; high scores are better.

    An entry ranks behind those that are better by more than `N_ERRORS` errors of the difference, and before those that
    are worse by as much. Errors are independent between entries, but for what all share, `by_part`.
    """
    ahead, behind = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
    known = 0 if of_differences is None else len(of_differences)
    for index, (score, error) in enumerate(zip(scores, errors, strict=True)):
        differences, of_both = scores - score, np.hypot(errors, error)
        if of_differences is not None and index < known:
            of_both[:known] = of_differences[index]
        margins = N_ERRORS * np.hypot(of_both, error_of(by_part - by_part[index]))
        ahead[index] = np.count_nonzero(differences > margins)
        behind[index] = np.count_nonzero(differences < -margins)
    best, worst = ahead + 1, len(scores) - behind
    if known:
        best[known:] = np.maximum(best[known:], n_best + 1)
        worst[:n_best] = np.minimum(worst[:n_best], known)
    return best, worst


def error_of(by_part: Values) -> Values:
    """Return the standard error of the mean over the last axis, 0 where it is empty; see `Score.by_part`."""
    n = by_part.shape[-1]
    return standard_error(by_part.var(axis=-1, ddof=1), n) if n else np.zeros(by_part.shape[:-1])
