"""Scores of predicted changes, each with its gradient, from which its error follows.

The genes that a perturbation targets are left out of its own score: they change by definition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.options import Metric
from scgenept_rt.wording import pluralize

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


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
    sizes too.

    Parameters
    ----------
    target
        The measured change [n_genes].
    genes
        bool [n_genes], the genes that were measured.
    parts
        The changes [n_parts, n_genes] that parts of the measured cells show; none if their error is not known.
    states
        The two states, in words.
    """

    def __init__(self, target: Values, genes: Mask, metric: Metric, parts: Values, states: str) -> None:
        self.target, self.genes, self.parts, self.name = target, genes, parts, metric
        self.sign = -1 if metric == "distance" else 1
        if metric == "distance":
            closeness = f"distance from the measured change (of no change: {np.linalg.norm(target[genes]):.4g})"
        else:
            closeness = f"{'cosine' if metric == 'cosine' else 'Pearson correlation'} with the measured change"
        self.description = f"{closeness}, {states}"
        # What errors add to the squared length of the target.
        self._noise = (
            float(self._centred(parts[:, genes]).var(axis=0, ddof=1).sum()) / len(parts) if len(parts) else 0.0
        )

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
        return value, (other / length - value * one / size) / size  # sums to 0 where both are centred

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
