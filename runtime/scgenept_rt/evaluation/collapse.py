"""Whether a model predicts nearly the same change for every perturbation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLLAPSED_FROM = 0.95
"""Median correlation between changes predicted for different perturbations from which they count as nearly the same."""


@dataclass(frozen=True)
class Similarity:
    """How alike the changes of different perturbations are: correlations over genes, of all pairs of perturbations.

    Attributes
    ----------
    median, p10, p90
        Quantiles over pairs; NaN for fewer than two perturbations with a change that varies.
    n_perturbations
        How many took part.
    """

    median: float
    p10: float
    p90: float
    n_perturbations: int

    @property
    def collapsed(self) -> bool:
        """True if the median reaches `COLLAPSED_FROM`."""
        return self.median >= COLLAPSED_FROM


def similarity(deltas: NDArray[np.floating]) -> Similarity:
    """Return how alike changes (n_perturbations, n_genes) are; rows without a change that varies are left out."""
    rows = np.asarray(deltas, dtype=np.float64)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows[lengths > 0] / lengths[lengths > 0, None]
    n_rows = len(rows)
    if n_rows < 2:
        return Similarity(float("nan"), float("nan"), float("nan"), n_rows)
    pairs = (rows @ rows.T)[np.triu_indices(n_rows, 1)]
    p10, median, p90 = np.quantile(pairs, (0.1, 0.5, 0.9))
    return Similarity(float(median), float(p10), float(p90), n_rows)
