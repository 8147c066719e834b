"""A table that is filled row by row, and the one that stays in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from scgenept_rt.output.cell_rows import unique_names
from scgenept_rt.output.table_spec import COUNTS, TableSpec


class RowWriter(ABC):
    """A table that is filled row by row, in order.

    Of its `n_rows`, `n_written` are written so far, and `n_committed` survive the end of this process at any moment.
    """

    def __init__(self, spec: TableSpec) -> None:
        self._spec = spec
        self.n_rows = spec.n_rows
        self.n_written = self.n_committed = 0

    def write(
        self,
        X: NDArray[Any],
        layers: Mapping[str, NDArray[Any]] | None = None,
        n_controls: NDArray[Any] | None = None,
    ) -> None:
        """Append rows: predicted expression and layers, (rows, n_genes) float32.

        `n_controls`, (rows,), are the numbers of control cells of means. ValueError if rows do not fit.
        """
        row, end, types = self.n_written, self.n_written + len(X), self._spec.arrays
        if end > self.n_rows:
            raise ValueError(f"rows {row} to {end} do not fit in a table of {self.n_rows} rows")
        given = {"X": X, COUNTS: n_controls, **{f"layers/{name}": values for name, values in (layers or {}).items()}}
        arrays = {name: np.ascontiguousarray(given[name], dtype.base) for name, dtype in types.items()}
        for name, dtype in types.items():
            if arrays[name].shape != (len(X), *dtype.shape):
                raise ValueError(f"{name} has shape {arrays[name].shape}, expected {(len(X), *dtype.shape)}")
        if self._spec.clip_at_zero:
            arrays["X"] = np.maximum(arrays["X"], np.float32(0))
        self._put(row, arrays)
        self.n_written = end

    @abstractmethod
    def _put(self, row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write rows from `row` on."""

    def rewind(self, row: int) -> None:
        """Go back to `row`, at most `n_committed`, to write the rows from there on again.

        A table with all rows committed may be finished on disk already: call `finish` alone then.
        """
        if not 0 <= row <= self.n_committed:
            raise ValueError(f"cannot rewind to row {row}: {self.n_committed} rows are committed")
        self.n_written = row

    def commit(self) -> None:
        """Make all rows written so far durable."""
        self.n_committed = self.n_written

    def _check_complete(self) -> None:
        """Raise RuntimeError if rows are missing."""
        if self.n_written != self.n_rows:
            raise RuntimeError(f"only {self.n_written} of {self.n_rows} rows were written")


class MemoryTable(RowWriter):
    """A `RowWriter` that stays in memory."""

    def __init__(self, spec: TableSpec) -> None:
        super().__init__(spec)
        self._arrays = {name: np.empty(spec.n_rows, dtype) for name, dtype in spec.arrays.items()}

    def _put(self, row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            self._arrays[name][row : row + len(array)] = array

    def finish(self) -> AnnData:
        """Return the table."""
        self._check_complete()
        obs, names = self._spec.obs_rows(), self._spec.var.index
        if COUNTS in self._arrays:
            obs = obs.assign(n_controls=self._arrays[COUNTS])
        # anndata warns of repeated gene names on construction; these are the model's own and stay
        adata = AnnData(
            X=self._arrays["X"],
            obs=obs,
            var=self._spec.var.set_axis(unique_names(names), axis="index"),
            layers={name: self._arrays[f"layers/{name}"] for name in self._spec.layers},
            uns=self._spec.stored_uns(),
        )
        adata.var.index = names
        return adata
