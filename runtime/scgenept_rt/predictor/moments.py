"""Mean and standard error over control cells, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RunningMoments:
    """Mean and squared deviation of every gene, merged batch by batch in float64 (Chan et al. 1983).

    Unlike sums of squares, this stays exact where the spread is small against the mean.
    """

    def __init__(self, n_genes: int) -> None:
        self.n = 0
        self.mean: NDArray[np.float64] = np.zeros(n_genes)
        self._squares: NDArray[np.float64] = np.zeros(n_genes)

    def add(self, batch: NDArray[Any]) -> None:
        """Add the rows of a batch (n_rows, n_genes)."""
        rows = batch.astype(np.float64)
        n_rows = len(rows)
        batch_mean = rows.mean(axis=0)
        shift = batch_mean - self.mean
        total = self.n + n_rows
        self._squares += np.square(rows - batch_mean).sum(axis=0) + np.square(shift) * (self.n * n_rows / total)
        self.mean = self.mean + shift * (n_rows / total)
        self.n = total

    def sem(self) -> NDArray[np.float64]:
        """Return the standard error of each mean (sample standard deviation over root n); NaN for a single row."""
        if self.n < 2:
            return np.full(len(self.mean), np.nan)
        sem: NDArray[np.float64] = np.sqrt(self._squares / (self.n - 1) / self.n)
        return sem
