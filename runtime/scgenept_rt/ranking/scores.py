"""Scores of predicted changes, each with its gradient, from which its error follows.

The genes that a perturbation targets are left out of its own score: that they change is no finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class EffectSize:
    """Length of the change: root of the sum of squares over genes."""

    name = "effect size"
    description = "root of the sum of squared changes"
    higher_is_better = True

    def of(self, change: Values, targets: Sequence[int], var: Values) -> tuple[float, Values]:
        """Return score and gradient."""
        return _length(_without(change, targets), _without(var, targets))


@dataclass(frozen=True, eq=False)
class SignatureScore:
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
class TowardState:
    """How near a change comes to the change [n_genes] that leads to a state, over the genes that were measured there.

    `genes` is bool [n_genes]. The cosine and Pearson's correlation compare directions alone, the distance (root of the
    sum of squared differences) sizes too.
    """

    target: Values
    genes: NDArray[np.bool_]
    metric: Metric = "cosine"

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
        used = self.genes.copy()
        used[list(targets)] = False
        ours, theirs, noise = change[used], self.target[used], float(var[used].sum())
        gradient = np.zeros_like(change)
        if self.metric == "distance":
            value, gradient[used] = _length(ours - theirs, var[used])
            return value, gradient
        if self.metric == "pearson":
            ours, theirs = ours - ours.mean(), theirs - theirs.mean()
        square, length = float(ours @ ours), float(np.linalg.norm(theirs))
        if not square or not length:
            return np.nan, gradient
        size = np.sqrt(max(square - noise, noise))
        value = float(ours @ theirs) / (size * length)
        gradient[used] = (theirs / length - value * ours / size) / size  # sums to 0 where both are centred
        return value, gradient


def _without(values: Values, targets: Sequence[int]) -> Values:
    kept = values.copy()
    kept[list(targets)] = 0.0
    return kept


def _length(values: Values, var: Values) -> tuple[float, Values]:
    """Return the length of values without what their errors add to it, and its gradient."""
    square, noise = float(values @ values), float(var.sum())
    length = np.sqrt(max(square - noise, noise))  # not 0 where there is noise alone: its error is not infinite
    return float(np.sqrt(max(square - noise, 0.0))), values / length if length else np.zeros_like(values)
