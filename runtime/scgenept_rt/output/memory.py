"""A table in memory, for callers who want an AnnData back."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from scgenept_rt.output.table_spec import N_CONTROLS, TableSpec, unique_names


class MemoryTable:
    """A `RowWriter` whose `finish` returns an `anndata.AnnData`."""

    def __init__(self, spec: TableSpec) -> None:
        self._spec = spec
        self._layout = spec.layout
        shape = (spec.n_rows, spec.n_vars)
        self._arrays = {name: np.empty(shape, dtype=np.float32) for name in self._layout.array_names}
        if spec.kind == "mean":
            self._n_controls = spec.obs[N_CONTROLS].to_numpy(dtype=np.int64, copy=True)
        self._n_written = 0

    @property
    def n_rows(self) -> int:
        """Number of rows that the finished table has."""
        return self._layout.n_rows

    @property
    def n_written(self) -> int:
        """Number of rows written so far."""
        return self._n_written

    @property
    def n_committed(self) -> int:
        """Number of rows written so far: nothing in memory is more durable than that."""
        return self._n_written

    def rewind(self, row: int) -> None:
        """Go back to `row`: rows from there on are to be written again."""
        if not 0 <= row <= self._n_written:
            raise ValueError(f"cannot rewind to row {row}: {self._n_written} rows are written")
        self._n_written = row

    def write(
        self,
        X: NDArray[Any],
        layers: Mapping[str, NDArray[Any]] | None = None,
        n_controls: NDArray[Any] | None = None,
    ) -> None:
        """Append a block of rows."""
        block = self._layout.block(self._n_written, X, layers, n_controls)
        rows = slice(self._n_written, self._n_written + block.n_rows)
        for name, array in block.arrays.items():
            self._arrays[name][rows] = array
        if block.n_controls is not None:
            self._n_controls[rows] = block.n_controls
        self._n_written += block.n_rows

    def commit(self) -> None:
        """Do nothing."""

    def finish(self) -> AnnData:
        """Return the table.

        Raises
        ------
        RuntimeError
            If rows are missing.
        """
        if self._n_written != self.n_rows:
            raise RuntimeError(f"only {self._n_written} of {self.n_rows} rows were written")
        obs = self._spec.obs
        if self._layout.kind == "mean":
            obs = obs.assign(**{N_CONTROLS: self._n_controls})
        names = self._spec.var.index
        # anndata warns of repeated gene names while it is constructed; here they are the model's own and stay
        unique = self._spec.var.set_axis(unique_names(names), axis="index")
        adata = AnnData(
            X=self._arrays["X"],
            obs=obs,
            var=unique,
            layers={name: self._arrays[name] for name in self._layout.layers},
            uns=self._spec.stored_uns(),
        )
        adata.var.index = names
        return adata

    def close(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Let go of the rows."""
        self._arrays = {}

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the writer."""
        self.close()
