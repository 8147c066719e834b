"""Mode collapse: whether a model predicts nearly the same change for every perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLLAPSED_FROM = 0.95
"""Median correlation between changes predicted for different perturbations from which a model counts as collapsed."""


MAX_COMPARED = 1000
"""Most perturbations compared, evenly spaced among all: pairs of 10,000 would take gigabytes."""


@dataclass(frozen=True)
class ProfileSimilarity:
    """Correlations over genes between the changes by different perturbations, over all pairs of perturbations.

    Attributes
    ----------
    median, p10, p90
        Quantiles over pairs; NaN for fewer than two perturbations with a change that varies.
    n_perturbations
        Number of perturbations compared.
    """

    median: float
    p10: float
    p90: float
    n_perturbations: int

    @property
    def collapsed(self) -> bool:
        """Whether the median reaches `COLLAPSED_FROM`."""
        return self.median >= COLLAPSED_FROM


def at_most_compared(deltas: NDArray[Any]) -> NDArray[Any]:
    """Return `MAX_COMPARED` rows or fewer, evenly spaced."""
    return deltas[:: -(-len(deltas) // MAX_COMPARED) or 1]


def profile_correlations(deltas: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return correlations (n, n) between changes (n, n_genes), 0 for a change that does not vary."""
    rows = np.asarray(deltas, dtype=np.float64)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    product: NDArray[np.float64] = rows @ rows.T
    return product


def profile_similarity(deltas: NDArray[np.floating]) -> ProfileSimilarity:
    """Return the similarity of changes (n_perturbations, n_genes), without those that do not vary."""
    varying = at_most_compared(np.asarray(deltas)[np.ptp(deltas, axis=1) > 0])
    if len(varying) < 2:
        return ProfileSimilarity(float("nan"), float("nan"), float("nan"), len(varying))
    pairs = profile_correlations(varying)[np.triu_indices(len(varying), 1)]
    p10, median, p90 = np.quantile(pairs, (0.1, 0.5, 0.9))
    return ProfileSimilarity(float(median), float(p10), float(p90), len(varying))


def collapse_finding(model: str, predicted: ProfileSimilarity, measured: ProfileSimilarity) -> list[str]:
    """Return a sentence on mode collapse, none for fewer than two perturbations."""
    if predicted.n_perturbations < 2:
        return []
    numbers = (
        f"the median correlation between the changes predicted for {predicted.n_perturbations:,} different "
        f"perturbations is {predicted.median:.2f}; between the measured changes it is {measured.median:.2f}"
    )
    if predicted.collapsed:
        return [
            f"Mode collapse: {model} predicts nearly the same change for every perturbation ({numbers}; "
            f"{COLLAPSED_FROM} or more counts as mode collapse)."
        ]
    return [f"No mode collapse: {numbers} ({COLLAPSED_FROM} or more would count as mode collapse)."]
