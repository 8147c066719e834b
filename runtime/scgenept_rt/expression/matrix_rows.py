"""Rows of an expression matrix, wherever it lies, in batches of bounded size.

Each layout (compressed rows, compressed columns, dense) works on anything that slices like an HDF5 dataset: h5py, zarr
and NumPy arrays alike. Batches are canonical: model gene order, float32, sorted columns, no stored zeros, so that equal
matrices give equal batches whatever their layout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import CellsFormatError, Notice
from scgenept_rt.expression.stored_element import absent_notices, reading

# Values read at once. Unwanted values between wanted ones are read along when that saves a call.
_READ_VALUES = 1 << 20
_READ_DENSE_VALUES = 1 << 22
_GAP_VALUES = 1 << 16
# What one pass over compressed columns may keep; more selected rows take several passes.
_BAND_BYTES = 128 * 2**20
_BYTES_PER_VALUE = 12
_ARRAYS = {"data", "indices", "indptr"}


class MatrixRows(ABC):
    """Cells x genes, readable by rows."""

    notices: Sequence[Notice] = ()
    kept: NDArray[np.int64] | None = None  # the stored rows that are cells, None for all

    def __init__(self, shape: tuple[int, int], where: str) -> None:
        self.shape = shape
        self._where = where

    def batches(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Iterator[Any]:
        """Yield `csr_array` batches that stack up to the matrix at `rows` (sorted, without repeats) and `columns`.

        Columns are those of the matrix for each gene, -1 for one that it lacks (which stays zero).
        """
        remaining = self._batches(rows if self.kept is None else self.kept[rows], columns)
        while True:
            with reading(self._where, "its expression values"):  # but not what the caller does with them
                batch = next(remaining, None)
            if batch is None:
                return
            yield batch

    @abstractmethod
    def _batches(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Iterator[Any]:
        """Yield what `batches` yields."""


class _Compressed(MatrixRows):
    """A compressed matrix; neighbouring lines (rows or columns) are read as one slice."""

    def __init__(self, arrays: Mapping[str, Any], shape: tuple[int, int], where: str) -> None:
        super().__init__(shape, where)
        self._arrays = arrays

    def _lines(
        self, begins: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[Any], NDArray[np.float32]]]:
        """Yield which lines are read together, how many values each has, and their indices and values."""
        data, indices = self._arrays["data"], self._arrays["indices"]
        for first, last in _runs(begins, ends, _READ_VALUES):
            begin, end = int(begins[first]), int(ends[last - 1])
            lengths = ends[first:last] - begins[first:last]
            wanted = _ranges(begins[first:last] - begin, lengths, end - begin)
            values = _float32(np.asarray(data[begin:end])[wanted])
            yield slice(first, last), lengths, np.asarray(indices[begin:end])[wanted], values


class CompressedRows(_Compressed):
    """A CSR matrix, read by rows."""

    def _batches(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Iterator[Any]:
        gene_of_column = _position_of(columns, self.shape[1])
        indptr = _indptr(self._arrays, self.shape[0])
        for _, lengths, indices, values in self._lines(indptr[rows], indptr[rows + 1]):
            genes = _at(gene_of_column, indices)
            known = genes >= 0
            places = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
            yield _csr(values[known], places[known], genes[known], (len(lengths), len(columns)))


class CompressedColumns(_Compressed):
    """A CSC matrix, read by columns in as many passes as memory requires."""

    def _batches(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Iterator[Any]:
        gene_of_column = _position_of(columns, self.shape[1])
        used = np.flatnonzero(gene_of_column >= 0)
        indptr = _indptr(self._arrays, self.shape[1])
        begins, ends = indptr[used], indptr[used + 1]
        kept_bytes = _BYTES_PER_VALUE * int((ends - begins).sum()) * len(rows) / max(self.shape[0], 1)
        n_bands = min(max(1, int(np.ceil(kept_bytes / _BAND_BYTES))), max(len(rows), 1))
        for band in np.array_split(rows, n_bands):
            yield self._band(band, begins, ends, gene_of_column[used], len(columns))

    def _band(
        self,
        rows: NDArray[np.int64],
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
        genes_of_used: NDArray[np.int32],
        n_genes: int,
    ) -> Any:
        position_of_row = _position_of(rows, self.shape[0])
        # Lists of parts, each dropped as soon as it is joined: they are the most that a pass holds.
        kept, positions, genes = [np.empty(0, np.float32)], [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        for lines, lengths, indices, values in self._lines(begins, ends):
            places = _at(position_of_row, indices)
            here = places >= 0
            positions.append(places[here])
            kept.append(values[here])
            genes.append(np.repeat(genes_of_used[lines], lengths)[here])
        return _csr(_joined(kept), _joined(positions), _joined(genes), (len(rows), n_genes))


class DenseRows(MatrixRows):
    """A dense matrix: runs of selected rows are read as one slice each."""

    def __init__(self, array: Any, where: str) -> None:
        super().__init__((int(array.shape[0]), int(array.shape[1])), where)
        self.notices = absent_notices(array, "its matrix")
        self._array = array

    def _batches(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Iterator[Any]:
        genes = np.flatnonzero(columns >= 0)
        n_vars = self.shape[1]
        for first, last in _runs(rows * n_vars, (rows + 1) * n_vars, _READ_DENSE_VALUES):
            begin, end = int(rows[first]), int(rows[last - 1]) + 1
            dense = np.asarray(self._array[begin:end])[rows[first:last] - begin]
            values = _float32(dense[:, columns[genes]])
            at, places = np.nonzero(values)
            yield _csr(values[at, places], at, genes[places], (len(values), len(columns)))


_COMPRESSED: Mapping[str, type[_Compressed]] = {"csr": CompressedRows, "csc": CompressedColumns}


def matrix_rows(matrix: Any, where: str) -> MatrixRows:
    """Return the rows of a matrix in anndata's layouts: on disk (h5py, zarr), backed, or in memory.

    Raises `CellsFormatError` if its layout is unknown, or it does not hold real numbers.
    """
    matrix = getattr(matrix, "group", matrix) if hasattr(matrix, "backend") else matrix  # of a backed AnnData
    kind: type[_Compressed] | None = None
    if hasattr(matrix, "indptr"):  # SciPy
        kind, shape = _COMPRESSED.get(matrix.format), matrix.shape
        matrix = {name: getattr(matrix, name) for name in _ARRAYS} if kind else matrix
    elif hasattr(matrix, "attrs") and hasattr(matrix, "keys") and set(matrix) >= _ARRAYS:
        attrs: dict[str, Any] = dict(matrix.attrs)
        # Files without encoding-type have the attributes of anndata before 0.7.
        kind = _COMPRESSED.get(str(attrs.get("encoding-type", attrs.get("h5sparse_format"))).removesuffix("_matrix"))
        shape = tuple(int(length) for length in attrs["shape" if "shape" in attrs else "h5sparse_shape"])
    is_array = isinstance(matrix, np.ndarray) or type(matrix).__module__.partition(".")[0] in ("h5py", "zarr")
    if kind is None and (not is_array or len(getattr(matrix, "shape", ())) != 2):
        problem = f"its matrix is of an unknown kind ({type(matrix).__name__}), expected a CSR, CSC or dense matrix"
        remedy = "Load it: `adata = adata.to_memory()`" if hasattr(matrix, "compute") else ""
        raise CellsFormatError(problem, remedy, where=where)
    dtype = np.dtype(matrix["data"].dtype if kind else matrix.dtype)
    if dtype.kind not in "iuf":
        problem = f"its matrix has dtype {dtype}, expected integers or floating point numbers"
        raise CellsFormatError(problem, where=where)
    return kind(matrix, shape, where) if kind else DenseRows(matrix, where)


def _indptr(arrays: Mapping[str, Any], n_lines: int) -> NDArray[np.int64]:
    """Return where each row (or column) begins, and the last one ends, or raise ValueError."""
    stored, n_values = arrays["indptr"], min(arrays[name].shape[0] for name in ("data", "indices"))
    if stored.shape != (n_lines + 1,):
        raise ValueError(f"its indptr has the shape {stored.shape}, expected {(n_lines + 1,)}")
    indptr = np.asarray(stored[:], dtype=np.int64)
    if indptr[0] < 0 or np.any(np.diff(indptr) < 0) or indptr[-1] > n_values:
        raise ValueError(f"its indptr does not ascend from 0 to at most {n_values:,}")
    return indptr


def _at(table: NDArray[np.int32], indices: NDArray[Any]) -> NDArray[np.int32]:
    """Return ``table[indices]``, where NumPy alone would count a negative index from the end."""
    if indices.size and (lowest := indices.min()) < 0:
        raise IndexError(f"index {lowest} is out of bounds for size {len(table)}")
    taken: NDArray[np.int32] = table[indices]
    return taken


def _position_of(lines: NDArray[np.int64], n_lines: int) -> NDArray[np.int32]:
    """Return where each row (or column) of a matrix stands among `lines`, -1 for one that does not."""
    positions = np.flatnonzero(lines >= 0)
    position_of = np.full(n_lines, -1, dtype=np.int32)
    position_of[lines[positions]] = positions
    return position_of


def _runs(begins: NDArray[np.int64], ends: NDArray[np.int64], budget: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of neighbours that are worth reading as one slice of at most `budget` values (or one item)."""
    first = 0
    for item in range(1, len(begins) + 1):
        if item == len(begins) or begins[item] - ends[item - 1] > _GAP_VALUES or ends[item] - begins[first] > budget:
            yield first, item
            first = item


def _ranges(begins: NDArray[np.int64], lengths: NDArray[np.int64], total: int) -> slice | NDArray[np.int64]:
    """Return the positions begin .. begin + length of every range, as a slice if they cover `total` values."""
    count = int(lengths.sum())
    if count == total:
        return slice(None)
    offsets = np.cumsum(lengths) - lengths
    positions: NDArray[np.int64] = np.arange(count, dtype=np.int64) + np.repeat(begins - offsets, lengths)
    return positions


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is reported by the scale check
        return values.astype(np.float32, copy=False)


def _csr(values: NDArray[np.float32], rows: NDArray[Any], genes: NDArray[Any], shape: tuple[int, int]) -> Any:
    """Return values as a canonical `csr_array`."""
    from scipy.sparse import coo_array

    batch = coo_array((values, (rows, genes)), shape=shape).tocsr()
    batch.sum_duplicates()
    batch.eliminate_zeros()
    return batch


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    whole = np.concatenate(parts)
    parts.clear()
    return whole
