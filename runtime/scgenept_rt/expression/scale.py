"""Whether values are log1p-normalised expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scgenept_rt.errors import ExpressionValueError, UseOption

# log1p of a count stays below 20 up to 485 million counts of one gene in a cell.
MAX_LOG1P = 20.0
# Whole numbers up to 2 may be a small or binary sample; counts of real cells go further.
MIN_RAW_COUNT = 3.0
_NORMALIZE = "`sc.pp.normalize_total(adata); sc.pp.log1p(adata)`"


class ScaleCheck:
    """Checks cells in batches as they are read.

    Parameters
    ----------
    where
        The input, named in errors.
    gene_names
        The gene of each column.
    cell_name
        Returns the name of a cell by its position among those checked.
    allow_unnormalized
        Report negative, raw and not log-transformed values as notices. NaN and infinity are always errors.
    other_matrices
        Options that read other matrices of the input.
    """

    def __init__(
        self,
        where: str,
        gene_names: Sequence[str],
        cell_name: Callable[[int], str],
        *,
        allow_unnormalized: bool,
        other_matrices: Sequence[UseOption] = (),
    ) -> None:
        self._where = where
        self._gene_names = gene_names
        self._cell_name = cell_name
        self._allow_unnormalized = allow_unnormalized
        self._other_matrices = tuple(other_matrices)
        self._n_cells = 0
        self._n_empty = 0
        self._all_whole = True
        self._maximum = 0.0
        self._maximum_at = ""
        self._minimum = 0.0

    def check(self, batch: Any) -> None:
        """Check the next cells, a `csr_array` [n_cells, n_genes] without stored zeros.

        Raises
        ------
        ExpressionValueError
            If a value is NaN, infinite or negative; the first in the order of cells is named.
        """
        data = batch.data
        if data.size:
            low, high = float(data.min()), float(data.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                at = int(np.flatnonzero(~np.isfinite(data))[0])
                raise ExpressionValueError(
                    f"the value of {self._place(batch, at)} is {data[at]}, expected finite log1p-normalised expression",
                    "Remove or fill such values",
                    self._other_matrices,
                    where=self._where,
                )
            if low < 0 and not self._allow_unnormalized:
                at = int(np.flatnonzero(data < 0)[0])
                raise self._not_normalized(
                    f"the value of {self._place(batch, at)} is negative ({data[at]:g}), expected log1p-normalised "
                    "expression, not scaled or centred values"
                )
            self._minimum = min(self._minimum, low)
            if high > self._maximum:
                self._maximum, self._maximum_at = high, self._place(batch, int(data.argmax()))
            self._all_whole = self._all_whole and bool(np.all(data == np.rint(data)))
        self._n_cells += batch.shape[0]
        self._n_empty += int(np.count_nonzero(np.diff(batch.indptr) == 0))

    def finish(self) -> list[str]:
        """Judge all cells that were checked and return notices.

        Raises
        ------
        ExpressionValueError
            If every value is a whole number and the largest is 3 or more, or if the largest value is above 20.
        """
        notices = []
        raw_counts = self._all_whole and self._maximum >= MIN_RAW_COUNT
        too_large = self._maximum > MAX_LOG1P
        if not self._allow_unnormalized:
            if raw_counts:
                raise self._not_normalized(
                    f"all values are whole numbers up to {self._maximum:,g} ({self._maximum_at}): these are raw counts",
                    f"Normalise them: {_NORMALIZE}",
                )
            if too_large:
                raise self._not_normalized(
                    f"the largest value is {self._maximum:,g} ({self._maximum_at}), expected less than {MAX_LOG1P:g}",
                    f"Normalise and transform them: {_NORMALIZE}",
                )
        elif raw_counts or too_large or self._minimum < 0:
            kind = "raw counts" if raw_counts else "not log1p"
            notices.append(
                f"Values from {self._minimum:,g} to {self._maximum:,g} look like {kind}; the model was trained on "
                "log1p-normalised expression, so its predictions may mean nothing here."
            )
        if self._n_empty == self._n_cells:
            notices.append("All values of the control cells are zero.")
        elif self._n_empty:
            express = "expresses" if self._n_empty == 1 else "express"
            notices.append(f"{self._n_empty:,} of {self._n_cells:,} control cells {express} none of the model's genes.")
        elif self._all_whole and not raw_counts:
            notices.append("All values are whole numbers; if these are counts, normalise them first.")
        return notices

    def _not_normalized(self, problem: str, remedy: str = "") -> ExpressionValueError:
        accept = UseOption("allow_unnormalized", "accept the values as they are", True)
        return ExpressionValueError(problem, remedy, [*self._other_matrices, accept], where=self._where)

    def _place(self, batch: Any, at: int) -> str:
        """Return the cell and the gene of a stored value."""
        row = int(np.searchsorted(batch.indptr, at, side="right")) - 1
        return f"cell {self._cell_name(self._n_cells + row)!r}, gene {self._gene_names[int(batch.indices[at])]!r}"
