"""Moments over control cells, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RunningMoments:
    """Mean and squared deviation of every gene, merged batch by batch in float64 (Chan et al. 1983).

    Unlike sums of squares, this stays exact where the spread is small against the mean.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean: NDArray[np.float64] = np.zeros(())
        self._squares: NDArray[np.float64] = np.zeros(())

    def add(self, batch: NDArray[Any]) -> None:
        """Add the rows of a batch (n_rows, n_genes)."""
        rows = batch.astype(np.float64)
        n_rows = len(rows)
        batch_mean = rows.sum(axis=0) / n_rows
        rows -= batch_mean
        np.square(rows, out=rows)
        shift = batch_mean - self.mean
        total = self.n + n_rows
        self._squares = self._squares + rows.sum(axis=0) + np.square(shift) * (self.n * n_rows / total)
        self.mean = self.mean + shift * (n_rows / total)
        self.n = total

    def var(self) -> NDArray[np.float64]:
        """Return the sample variance of each gene; NaN for a single row."""
        return self._squares / (self.n - 1) if self.n > 1 else np.full_like(self.mean, np.nan)


class CellMoments:
    """Moments of predictions, of predictions minus own values, and of predictions minus those without a perturbation.

    The last ones stay empty where nothing was predicted without a perturbation.
    """

    def __init__(self) -> None:
        self.predicted, self.changes, self.effects = RunningMoments(), RunningMoments(), RunningMoments()

    @property
    def n(self) -> int:
        """Number of cells."""
        return self.predicted.n

    def add(
        self,
        values: NDArray[np.float32],
        predicted: NDArray[np.float32],
        unperturbed: NDArray[np.float32] | None = None,
    ) -> None:
        """Add cells: their own values and what is predicted of them with and without a perturbation."""
        self.predicted.add(predicted)
        self.changes.add(predicted - values)
        if unperturbed is not None:
            self.effects.add(predicted - unperturbed)
