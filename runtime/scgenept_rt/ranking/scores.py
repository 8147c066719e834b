"""Scores of predicted changes, each with its gradient, from which its error follows; and the ranks that errors support.

The genes that a perturbation targets are left out of its own score: they change by definition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError
from scgenept_rt.options import Metric
from scgenept_rt.predictor.moments import Values, standard_error
from scgenept_rt.wording import pluralize

Mask = NDArray[np.bool_]

N_ERRORS = 2
"""Standard errors by which a perturbation must be better to rank before another."""


class Score(ABC):
    """A number for the change that a perturbation makes; NaN where it is not defined.

    Attributes
    ----------
    name, description
        Its name in tables, and what it is in words.
    sign
        1 if the highest score ranks first, -1 if the lowest.
    genes
        bool [n_genes], the genes that count; None for all.
    """

    name: str
    description: str
    sign = 1
    genes: Mask | None = None

    def of(self, change: Values, targets: Sequence[int], var: Values | None = None) -> tuple[float, Values]:
        """Return the score of a change [n_genes] and its gradient, which is 0 at the columns of the targets.

        Errors lengthen a change: `var` [n_genes], their squares, are taken off its squared length.
        """
        used = self._used(change, targets)
        gradient = np.zeros_like(change)
        value, gradient[used] = self._of(change[used], used, 0.0 if var is None else float(var[used].sum()))
        return value, gradient

    def by_part(self, change: Values, targets: Sequence[int]) -> Values:  # noqa: ARG002
        """Return what each part of the measured cells adds to the score, [n_parts]; their spread is its error.

        Empty where no cells were measured.
        """
        return np.empty(0)

    def _used(self, change: Values, targets: Sequence[int]) -> Mask:
        used = np.ones(len(change), bool) if self.genes is None else self.genes.copy()
        used[list(targets)] = False
        return used

    @abstractmethod
    def _of(self, change: Values, used: Mask, noise: float) -> tuple[float, Values]:
        """Return score and gradient of the changes of the genes that are used."""


class EffectSize(Score):
    """Length of the change: root of the sum of squares over genes."""

    name = "effect size"
    description = "root of the sum of squared changes"

    def _of(self, change: Values, used: Mask, noise: float) -> tuple[float, Values]:  # noqa: ARG002
        return _length(change, noise)


class SignatureScore(Score):
    """Weighted mean change of the genes with positive weights minus that of the genes with negative ones.

    `weights` is [n_genes], 0 for genes that are not in the signature. NaN if a perturbation targets all of the others.
    """

    name = "signature"

    def __init__(self, weights: Values) -> None:
        self.weights = weights
        sides = {"up": int(np.count_nonzero(weights > 0)), "down": int(np.count_nonzero(weights < 0))}
        named = [f"{pluralize(n, 'gene')} {side}" for side, n in sides.items() if n]
        self.description = f"{'' if sides['up'] else 'minus the '}mean change of {' minus that of '.join(named)}"

    def _of(self, change: Values, used: Mask, noise: float) -> tuple[float, Values]:  # noqa: ARG002
        weights = self.weights[used]
        gradient = np.zeros_like(weights)
        for side in (weights > 0, weights < 0):
            if side.any():
                gradient[side] = weights[side] / np.abs(weights[side]).sum()
        return float(gradient @ change) if gradient.any() else np.nan, gradient


class TowardState(Score):
    """How close a change is to the one that leads from one state of measured cells to another.

    The cosine and Pearson's correlation compare directions alone, the distance (root of the sum of squared differences)
    sizes too. `target` [n_genes] is the measured change of the `genes` that were measured, `parts` [n_parts, n_genes]
    the changes of parts of the measured cells, none if their error is not known, and `states` the two states in words.
    """

    def __init__(self, target: Values, genes: Mask, metric: Metric, parts: Values, states: str) -> None:
        self.target, self.genes, self.parts, self.name = target, genes, parts, metric
        self.sign = -1 if metric == "distance" else 1
        # What errors add to the squared length of the target.
        self._noise = (
            float(self._centred(parts[:, genes]).var(axis=0, ddof=1).sum()) / len(parts) if len(parts) else 0.0
        )
        if metric == "distance":
            of_none, _ = _length(target[genes], self._noise)
            closeness = f"distance from the measured change (of no change: {of_none:.4g})"
        else:
            closeness = f"{'cosine' if metric == 'cosine' else 'Pearson correlation'} with the measured change"
        self.description = f"{closeness}, {states}{', without what its errors add' if self._noise else ''}"

    def by_part(self, change: Values, targets: Sequence[int]) -> Values:
        """Return what each part of the measured cells adds, along the gradient by the target."""
        used = self._used(change, targets)
        ours, theirs = self._centred(change[used]), self._centred(self.target[used])
        found: Values = self.parts[:, used] @ self._closeness(theirs, ours, self._noise, 0.0)[1]
        return found

    def _of(self, change: Values, used: Mask, noise: float) -> tuple[float, Values]:
        return self._closeness(self._centred(change), self._centred(self.target[used]), noise, self._noise)

    def _closeness(self, one: Values, other: Values, noise: float, other_noise: float) -> tuple[float, Values]:
        """Return the score of two changes, whose errors add noise to their squared lengths, and its gradient by one."""
        if self.name == "distance":
            return _length(one - other, noise + other_noise)
        size, length = _size(one, noise), _size(other, other_noise)
        if not size or not length:
            return np.nan, np.zeros_like(one)
        value = float(one @ other) / (size * length)
        gradient = (other / length - value * one / size) / size  # sums to 0 where both are centred
        return float(np.clip(value, -1, 1)), gradient

    def _centred(self, changes: Values) -> Values:
        return changes - changes.mean(axis=-1, keepdims=True) if self.name == "pearson" else changes


def _size(values: Values, noise: float) -> float:
    """Return the length of values without what their errors add to it.

    Not 0 if there is only noise: its error is not infinite.
    """
    square = float(values @ values)
    return float(np.sqrt(max(square - noise, noise)))


def _length(values: Values, noise: float) -> tuple[float, Values]:
    """Return the length of values without what their errors add to it, and its gradient."""
    length = _size(values, noise)
    value = float(np.sqrt(max(float(values @ values) - noise, 0.0)))
    return value, values / length if length else np.zeros_like(values)


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

    `rows` are perturbation, score, error and number of control cells, the best first, those without a score last;
    `by_part` is `Score.by_part` of each. Of the first n the standard errors of their differences may be known,
    `of_differences` [n, n]; `n_best` of them are known to be ahead of all that come after the n.
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
