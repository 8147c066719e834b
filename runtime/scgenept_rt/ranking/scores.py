"""Scores of predicted changes, each with its gradient, from which its error follows.

The genes that a perturbation targets are left out of its own score: they change by definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.options import Metric

Values = NDArray[np.float64]


class Score(Protocol):
    """A number for the change that a perturbation makes; NaN where it is not defined."""

    @property
    def name(self) -> str:
        """Name of the score."""
        ...

    @property
    def description(self) -> str:
        """The score in words."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether the highest score ranks first."""
        ...

    def of(self, change: Values, targets: Sequence[int], var: Values) -> tuple[float, Values]:
        """Return the score of a change and its gradient, which is 0 at the columns of the targets.

        `change`, `var` and the gradient are [n_genes]. Errors lengthen a change: `var`, their squares, are taken off
        its squared length.
        """
        ...

    def by_part(self, change: Values, targets: Sequence[int]) -> Values:  # noqa: ARG002
        """Return what each part of the measured cells adds to the score, [n_parts]; their spread is its error.

        Empty where no cells were measured.
        """
        return np.empty(0)


@dataclass(frozen=True)
class EffectSize(Score):
    """Length of the change: root of the sum of squares over genes."""

    name = "effect size"
    description = "root of the sum of squared changes"
    higher_is_better = True

    def of(self, change: Values, targets: Sequence[int], var: Values) -> tuple[float, Values]:
        """Return score and gradient."""
        return _length(_without(change, targets), float(_without(var, targets).sum()))


@dataclass(frozen=True, eq=False)
class SignatureScore(Score):
    """Weighted mean change of the genes with positive weights minus that of the genes with negative ones.

    `weights` is [n_genes], 0 for genes that are not in the signature.
    """

    weights: Values
    name = "signature"
    higher_is_better = True

    @property
    def n_genes(self) -> str:
        """The number of genes up and down, in words."""
        up, down = np.count_nonzero(self.weights > 0), np.count_nonzero(self.weights < 0)
        return ", ".join(f"{n:,} {word}" for n, word in ((up, "up"), (down, "down")) if n)

    @property
    def description(self) -> str:
        """The score in words."""
        sides = [word for word, side in (("up", self.weights > 0), ("down", self.weights < 0)) if side.any()]
        if len(sides) == 2:
            return "mean change of the up genes minus that of the down genes"
        return f"mean change of the genes{'' if sides == ['up'] else ', downwards'}"

    def of(self, change: Values, targets: Sequence[int], var: Values) -> tuple[float, Values]:  # noqa: ARG002
        """Return score and gradient; NaN if a perturbation targets all genes of the signature."""
        weights = _without(self.weights, targets)
        gradient = np.zeros_like(weights)
        for side in (weights > 0, weights < 0):
            if side.any():
                gradient[side] = weights[side] / np.abs(weights[side]).sum()
        return float(gradient @ change) if gradient.any() else np.nan, gradient


@dataclass(frozen=True, eq=False)
class TowardState(Score):
    """How close a change is to the change [n_genes] that leads to a state, over the genes measured there.

    `genes` is bool [n_genes]; `parts` are the changes [n_parts, n_genes] that parts of the measured cells show. The
    cosine and Pearson's correlation compare directions alone, the distance (root of the sum of squared differences)
    sizes too.
    """

    target: Values
    genes: NDArray[np.bool_]
    metric: Metric = "cosine"
    parts: Values = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def name(self) -> str:
        """Name of the metric."""
        return self.metric

    @property
    def description(self) -> str:
        """The score in words."""
        if self.metric == "distance":
            size = np.linalg.norm(self.target[self.genes])
            return f"distance from the measured change (of no change: {size:.4g})"
        return f"{'cosine' if self.metric == 'cosine' else 'Pearson correlation'} with the measured change"

    @property
    def higher_is_better(self) -> bool:
        """False for the distance."""
        return self.metric != "distance"

    def of(self, change: Values, targets: Sequence[int], var: Values) -> tuple[float, Values]:
        """Return score and gradient."""
        used, ours, theirs = self._compared(change, targets)
        gradient = np.zeros_like(change)
        value, gradient[used] = self._closeness(ours, theirs, float(var[used].sum()), self._noise)
        return value, gradient

    def by_part(self, change: Values, targets: Sequence[int]) -> Values:
        """Return what each part of the measured cells adds, along the gradient by the target."""
        used, ours, theirs = self._compared(change, targets)
        if not len(self.parts):
            return np.empty(0)
        _, gradient = self._closeness(theirs, ours, self._noise, 0.0)
        found: Values = self.parts[:, used] @ gradient
        return found

    def _closeness(self, one: Values, other: Values, noise: float, other_noise: float) -> tuple[float, Values]:
        """Return the score of two changes, whose errors add noise to their squared lengths, and its gradient by one."""
        if self.metric == "distance":
            return _length(one - other, noise + other_noise)
        size, length = _size(one, noise), _size(other, other_noise)
        if not size or not length:
            return np.nan, np.zeros_like(one)
        value = float(one @ other) / (size * length)
        return value, (other / length - value * one / size) / size  # sums to 0 where both are centred

    def _compared(self, change: Values, targets: Sequence[int]) -> tuple[NDArray[np.bool_], Values, Values]:
        """Return which genes count, and the two changes of these."""
        used = self.genes.copy()
        used[list(targets)] = False
        ours, theirs = change[used], self.target[used]
        if self.metric == "pearson":
            ours, theirs = ours - ours.mean(), theirs - theirs.mean()
        return used, ours, theirs

    @cached_property
    def _noise(self) -> float:
        """What its errors add to the squared length of the target."""
        n = len(self.parts)
        if not n:
            return 0.0
        parts = self.parts[:, self.genes]
        if self.metric == "pearson":
            parts = parts - parts.mean(axis=1, keepdims=True)
        return float(parts.var(axis=0, ddof=1).sum()) / n


def _without(values: Values, targets: Sequence[int]) -> Values:
    kept = values.copy()
    kept[list(targets)] = 0.0
    return kept


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
