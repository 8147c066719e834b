"""Perturbations in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError
from scgenept_rt.ranking.errors import error_of, rank_ranges
from scgenept_rt.ranking.question import Question


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
    question: Question,
    table: pd.DataFrame,
    by_part: NDArray[np.float64],
    of_differences: NDArray[np.float64] | None = None,
    n_best: int = 0,
) -> pd.DataFrame:
    """Return a table of scores, which are in order, as that of a `Ranking`; for the others see `rank_ranges`."""
    sign = 1.0 if question.score.higher_is_better else -1.0
    n_scored = int(table["score"].notna().sum())
    if len(table) and not n_scored:
        raise ArgumentError(
            f"no perturbation has a score ({question.description}): each targets all the genes, or changes none",
            "Choose other genes",
        )
    scored = table[:n_scored]
    scores, errors = sign * scored["score"].to_numpy(), scored["error"].fillna(0.0).to_numpy()
    best, worst = rank_ranges(scores, errors, of_differences, n_best, by_part[:n_scored])
    ranks = {"rank": np.arange(1, n_scored + 1), "best_rank": best, "worst_rank": worst}
    columns = pd.DataFrame(ranks).reindex(table.index).astype("Int64")
    return pd.concat([columns, table.assign(error=np.hypot(table["error"], error_of(by_part)))], axis=1)
