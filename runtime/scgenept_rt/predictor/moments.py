"""Mean and standard error over control cells, one batch after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RunningMoments:
    """Mean and squared deviation of every gene, merged batch by batch in float64 (Chan et al. 1983).

    Unlike sums of squares this loses no digits when the spread is small against the mean.
    """

    def __init__(self, n_genes: int) -> None:
        self.n = 0
        self.mean: NDArray[np.float64] = np.zeros(n_genes)
        self._squares: NDArray[np.float64] = np.zeros(n_genes)

    def add(self, block: NDArray[Any]) -> None:
        """Add the rows of a block (n_rows, n_genes)."""
        rows = block.astype(np.float64)
        n_rows = len(rows)
        block_mean = rows.mean(axis=0)
        shift = block_mean - self.mean
        total = self.n + n_rows
        self._squares += np.square(rows - block_mean).sum(axis=0) + np.square(shift) * (self.n * n_rows / total)
        self.mean = self.mean + shift * (n_rows / total)
        self.n = total

    def sem(self) -> NDArray[np.float64]:
        """Return the standard error of each mean (sample standard deviation over root n); NaN for a single row."""
        if self.n < 2:
            return np.full(len(self.mean), np.nan)
        sem: NDArray[np.float64] = np.sqrt(self._squares / (self.n - 1) / self.n)
        return sem
