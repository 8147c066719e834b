"""An AnnData object: in memory, backed by a file, or a view of either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scgenept_rt.errors import CellsFormatError
from scgenept_rt.expression.annotation import Annotation
from scgenept_rt.expression.matrix_rows import MatrixRows, matrix_rows
from scgenept_rt.expression.opened_cells import OpenedCells
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.options import ReadOptions

if TYPE_CHECKING:
    from anndata import AnnData

_WHERE = "AnnData object"
_LOAD = "Load it: `adata = adata.to_memory()`"


class LoadedCells(OpenedCells):
    """Cells of an AnnData object."""

    def __init__(self, adata: AnnData, options: ReadOptions) -> None:
        import pandas as pd

        if not isinstance(adata.obs, pd.DataFrame):  # an xarray data set
            raise CellsFormatError("it is lazy (anndata.experimental.read_lazy)", _LOAD, where=_WHERE)
        self._adata = adata
        super().__init__(
            f"{_WHERE} backed by {adata.filename}" if adata.isbacked else _WHERE,
            options,
            Annotation.of(adata.obs),
            adata.uns,
            tuple(sorted(str(name) for name in adata.layers if name is not None)),  # anndata 0.13: None is X
            # X of a view would be copied. The object that it shows is in no public attribute.
            has_x=(adata._adata_ref if adata.is_view else adata).X is not None,
            has_raw=adata.raw is not None,
        )

    def _read_var(self, *, use_raw: bool) -> Annotation:
        return Annotation.of(self._adata.raw.var if use_raw else self._adata.var)

    def _read_matrix(self, layer: str | None, *, use_raw: bool) -> MatrixRows:
        with failed_reads(CellsFormatError, self.where, "its matrix", _LOAD):
            adata = self._adata
            matrix = adata.raw.X if use_raw else adata.X if layer is None else adata.layers[layer]
        return matrix_rows(matrix, self.where)
