"""An AnnData object: in memory, backed by a file, or a view of either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scgenept_rt.errors import CellsFormatError
from scgenept_rt.expression.annotation import Annotation, LoadedAnnotation
from scgenept_rt.expression.matrix_rows import MatrixRows, matrix_rows
from scgenept_rt.files.failures import failed_reads

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
        # X of a view would be copied. The object that it shows is in no public attribute.
        self.has_x = (adata._adata_ref if adata.is_view else adata).X is not None
        self.has_raw = adata.raw is not None
        self.uns: Mapping[str, Any] = adata.uns
        self._adata = adata

    def var(self, *, use_raw: bool) -> Annotation:
        """Return var, or that of raw."""
        return LoadedAnnotation(self._adata.raw.var if use_raw else self._adata.var)

    def matrix(self, layer: str | None, *, use_raw: bool) -> MatrixRows:
        """Return a layer, X, or X of raw; the caller has checked that it is there."""
        with failed_reads(CellsFormatError, self.where, "its matrix", "Load it: `adata = adata.to_memory()`"):
            adata = self._adata
            matrix = adata.raw.X if use_raw else adata.X if layer is None else adata.layers[layer]
        return matrix_rows(matrix, self.where)
