"""A table that is filled row by row, and the one that stays in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from scgenept_rt.output.cell_rows import unique_names
from scgenept_rt.output.table_spec import N_CONTROLS, Rows, TableSpec


class RowWriter(ABC):
    """A table that is filled row by row, in order.

    As a context manager it closes itself: committed rows stay and can be continued.
    """

    def __init__(self, spec: TableSpec, n_written: int = 0) -> None:
        self._spec = spec
        self._n_written = n_written

    @property
    def n_rows(self) -> int:
        """Number of rows of the finished table."""
        return self._spec.n_rows

    @property
    def n_written(self) -> int:
        """Number of rows written so far: the next ones start here."""
        return self._n_written

    @property
    @abstractmethod
    def n_committed(self) -> int:
        """Number of rows that survive the end of this process at any moment."""

    def write(
        self,
        X: NDArray[Any],
        layers: Mapping[str, NDArray[Any]] | None = None,
        n_controls: NDArray[Any] | None = None,
    ) -> None:
        """Append rows.

        Parameters
        ----------
        X
            Predicted expression, shape (rows, n_genes), float32, log1p scale.
        layers
            One array of the same shape per layer of the table.
        n_controls
            Number of control cells of each row, shape (rows,), where it was not known before.
        """
        rows = self._spec.checked(self._n_written, X, layers, n_controls)
        if rows.n_rows:
            self._put(self._n_written, rows)
            self._n_written += rows.n_rows

    @abstractmethod
    def _put(self, row: int, rows: Rows) -> None:
        """Write rows from `row` on."""

    @abstractmethod
    def rewind(self, row: int) -> None:
        """Go back to `row`, at most `n_committed`, to write the rows from there on again.

        A table with all rows committed may be finished on disk already: call `finish` alone then.
        """

    @abstractmethod
    def commit(self) -> None:
        """Make all rows written so far durable."""

    @abstractmethod
    def finish(self) -> Path | AnnData:
        """Complete the table and return its path, or the table itself; raise RuntimeError if rows are missing."""

    @abstractmethod
    def close(self) -> None:
        """Stop; committed rows stay and can be continued. Without any, nothing is left behind."""

    @abstractmethod
    def abort(self) -> None:
        """Stop and leave nothing behind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_complete(self) -> None:
        if self._n_written != self.n_rows:
            raise RuntimeError(f"only {self._n_written} of {self.n_rows} rows were written")


class MemoryTable(RowWriter):
    """A `RowWriter` whose `finish` returns an `anndata.AnnData`."""

    def __init__(self, spec: TableSpec) -> None:
        super().__init__(spec)
        shape = (spec.n_rows, spec.n_vars)
        self._arrays = {name: np.empty(shape, dtype=np.float32) for name in self._spec.array_names}
        self._n_controls = np.array(spec.obs_rows()[N_CONTROLS] if spec.kind == "mean" else [], dtype=np.int64)

    @property
    def n_committed(self) -> int:
        """Number of rows written so far."""
        return self._n_written

    def rewind(self, row: int) -> None:
        """Go back to `row`."""
        if not 0 <= row <= self._n_written:
            raise ValueError(f"cannot rewind to row {row}: {self._n_written} rows are written")
        self._n_written = row

    def _put(self, row: int, rows: Rows) -> None:
        place = slice(row, row + rows.n_rows)
        for name, array in rows.arrays.items():
            self._arrays[name][place] = array
        if rows.n_controls is not None:
            self._n_controls[place] = rows.n_controls

    def commit(self) -> None:
        """Do nothing."""

    def finish(self) -> AnnData:
        """Return the table."""
        self._check_complete()
        obs, names = self._spec.obs_rows(), self._spec.var.index
        # anndata warns of repeated gene names on construction; these are the model's own and stay
        adata = AnnData(
            X=self._arrays["X"],
            obs=obs.assign(**{N_CONTROLS: self._n_controls}) if self._spec.kind == "mean" else obs,
            var=self._spec.var.set_axis(unique_names(names), axis="index"),
            layers={name: self._arrays[name] for name in self._spec.layers},
            uns=self._spec.stored_uns(),
        )
        adata.var.index = names
        return adata

    def close(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Free the rows."""
        self._arrays = {}
