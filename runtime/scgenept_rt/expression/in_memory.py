"""An AnnData object: in memory, backed by a file, or a view of either."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import CellsFormatError
from scgenept_rt.expression.annotation import Annotation, LoadedAnnotation
from scgenept_rt.expression.matrix_rows import MatrixRows, TakenRows, matrix_rows

if TYPE_CHECKING:
    from anndata import AnnData

IN_MEMORY = "AnnData object"


class LoadedCells:
    """A `CellsSource` that is an AnnData object."""

    def __init__(self, adata: AnnData) -> None:
        import pandas as pd

        if not isinstance(adata.obs, pd.DataFrame):  # an xarray data set
            raise CellsFormatError(
                "it is lazy (anndata.experimental.read_lazy)", "Load it: `adata = adata.to_memory()`", where=IN_MEMORY
            )
        self.where = f"{IN_MEMORY} backed by {adata.filename}" if adata.isbacked else IN_MEMORY
        self.obs: Annotation = LoadedAnnotation(adata.obs)
        self.layer_names = tuple(sorted(str(name) for name in adata.layers if name is not None))  # 0.13: None is X
        self.has_x = not _lacks_x(adata)
        self.has_raw = adata.raw is not None
        self.uns: Mapping[str, Any] = adata.uns
        self._adata = adata

    def var(self, *, use_raw: bool) -> Annotation:
        """Return var, or that of raw."""
        return LoadedAnnotation(self._adata.raw.var if use_raw else self._adata.var)

    def matrix(self, layer: str | None, *, use_raw: bool) -> MatrixRows:
        """Return a layer, X, or X of raw; the caller has checked that it is there."""
        adata = self._adata
        if use_raw:
            return matrix_rows(adata.raw.X, self.where)

        def matrix_of(cells: AnnData) -> Any:
            return cells.X if layer is None else cells.layers[layer]

        if not adata.is_view:
            return matrix_rows(matrix_of(adata), self.where)
        # anndata makes no view of a view of a backed object, so its rows are loaded at once, as `.X` does.
        if adata.isbacked:
            return matrix_rows(_backed_view(adata, matrix_of), self.where)

        # A view's matrix is a copy of all its rows; taking rows from the view copies no more than those.
        def take(rows: NDArray[np.int64]) -> Any:
            # SciPy takes no rows of a sparse matrix together with a reversed range of columns: it raises, and before
            # 1.13 returns something else.
            with suppress(ValueError):
                taken = matrix_of(adata[rows])
                if taken.shape == (len(rows), adata.n_vars):
                    return taken
            return matrix_of(adata)[rows]

        return TakenRows(take, (adata.n_obs, adata.n_vars), self.where)


def _backed_view(view: AnnData, matrix_of: Callable[[AnnData], Any]) -> Any:
    """Return the matrix of a view of a backed object, reversed ones too."""
    # What a view shows of which object is in no public attribute.
    shown, indices = view._adata_ref, (view._oidx, view._vidx)
    # h5py takes no slice with a negative step, and anndata gives an error or too little for one of a sparse matrix.
    if not any(isinstance(index, slice) and (index.step or 1) < 0 for index in indices):
        return matrix_of(view)
    rows, columns = (np.arange(length)[index] for length, index in zip(shown.shape, indices, strict=True))
    ascending, places = np.unique(rows, return_inverse=True)
    return matrix_of(shown[ascending])[places][:, columns]


def _lacks_x(adata: AnnData) -> bool:
    if adata.isbacked:
        return (adata._adata_ref if adata.is_view else adata).X is None
    if not adata.is_view:
        return adata.X is None
    with suppress(ValueError):  # raised for some reversed views, which have an X
        return adata[:0].X is None
    return False
